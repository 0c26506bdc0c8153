// Package outbox sends what the outbox holds: it claims lanes of it, signs
// messages, posts them to receivers and writes down what came of that.
//
// It promises that
//  1. a message is sent at least once, under one id, with one body, and only
//     after what it tells of has been committed: it is read from there;
//  2. no attempt takes longer than 10 seconds, reads more than 64 kB, follows a
//     redirect, uses a proxy of the environment, or reaches an address that the
//     egress guard refuses;
//  3. a receiver that hangs or is slow, and one with a long backlog, delays
//     nobody else: those that answered last time, those that took long for it,
//     those nobody has heard of yet and those that fail have places of their own,
//     and of each an account has its share;
//  4. a replica that dies holds nothing up for longer than its lease.
//
// When a message is tried again, and what signs it, is pkg/webhook's. Who is told
// of what is decided where that happens, in pkg/store.
package outbox

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/webhook"
)

// A Store is the outbox.
type Store interface {
	ClaimLanes(ctx context.Context, holder string, lease time.Duration, wants []webhook.Want) ([]webhook.Bout, error)
	Settle(ctx context.Context, holder string, outcomes []webhook.Outcome, released []webhook.Release) (off []webhook.Disabled, due bool, err error)
	TendLanes(ctx context.Context) (due, failing int64, err error)
	ListenOutbox(ctx context.Context, heard func()) error
	AccountSecrets(ctx context.Context, accountID string) (webhook.Secrets, error)
	OpenSecrets(secrets webhook.Secrets, as seal.Purpose, owner string, now time.Time) ([]webhook.Secret, error)
}

// Config is how a sender behaves.
type Config struct {
	// AllowHTTP lets messages go to http addresses.
	AllowHTTP bool
	// Roots are whom certificates of receivers are to be signed by. Nil: the
	// system's.
	Roots *x509.CertPool
}

// Deps is what a sender needs of others.
type Deps struct {
	Store Store
	// Dial is the way out: the egress guard's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Present is a job as GET shows it.
	Present func(*job.Job) (json.RawMessage, error)
	// Boot names this process.
	Boot    string
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

const (
	// lease is longer than a bout can take: claimed, started to the last, posted
	// and settled.
	lease = 30 * time.Second
	// boutWithin is how long a sender goes on starting attempts in a lane that
	// it holds.
	boutWithin = 5 * time.Second
	// poll is for what was not heard: another replica's lease that ended, a
	// message whose time has come.
	poll        = time.Second
	tendEvery   = 15 * time.Second
	storeWithin = 10 * time.Second
	rest        = time.Second // after an error of the archive
)

// rooms are how many lanes of each standing a sender holds at most, and how many
// of one account; and how many messages of each at a time, and side by side.
var rooms = map[webhook.Standing]struct {
	lanes, perAccount, deliveries, width int
}{
	webhook.Proven:  {lanes: 256, perAccount: 64, deliveries: 32, width: 4},
	webhook.New:     {lanes: 512, perAccount: 128, deliveries: 4, width: 1},
	webhook.Slow:    {lanes: 256, perAccount: 64, deliveries: 32, width: 4},
	webhook.Failing: {lanes: 256, perAccount: 64, deliveries: 1, width: 1},
}

// Sender is the sender of one replica.
type Sender struct {
	store   Store
	post    *poster
	present func(*job.Job) (json.RawMessage, error)
	boot    string
	log     *slog.Logger
	metrics *metrics

	wake    chan struct{} // holds one: look for work
	settled chan came

	mu   sync.Mutex
	held map[webhook.Standing]map[string]int // lanes by account; guarded by mu
}

// New makes a sender and starts nothing.
func New(cfg Config, deps Deps) (*Sender, error) {
	if deps.Store == nil || deps.Dial == nil || deps.Present == nil || deps.Boot == "" {
		return nil, errors.New("outbox: needs a store, a way out, a face for jobs and a name")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Metrics == nil {
		deps.Metrics = prometheus.NewRegistry()
	}
	s := &Sender{
		store: deps.Store, post: newPoster(cfg, deps.Dial), present: deps.Present, boot: deps.Boot, log: deps.Log,
		wake: make(chan struct{}, 1), settled: make(chan came), held: map[webhook.Standing]map[string]int{},
	}
	for _, standing := range webhook.Standings {
		s.held[standing] = map[string]int{}
	}
	s.metrics = newMetrics(deps.Metrics, s.holds)
	return s, nil
}

// Run sends until intake ends, then finishes what is on its way and gives its
// lanes back. If work ends too, it breaks that off: an interrupted attempt is
// not counted.
func (s *Sender) Run(intake, work context.Context) error {
	listening, deaf := context.WithCancel(intake)
	defer deaf()
	var ears sync.WaitGroup
	ears.Go(func() { s.listen(listening) })
	ears.Go(func() { s.tend(listening) })

	// What has come of attempts is written until the last bout is over, also
	// when they were broken off.
	writing, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		s.write(work, writing)
	}()
	var bouts sync.WaitGroup
	s.claim(intake, func(b webhook.Bout) { bouts.Go(func() { s.fight(intake, work, b) }) })
	bouts.Wait()
	close(writing)
	<-written
	ears.Wait()
	s.post.close()
	return intake.Err()
}

// look has the sender look for work.
func (s *Sender) look() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// claim looks for work when it is told to, and now and then, until ctx ends.
func (s *Sender) claim(ctx context.Context, start func(webhook.Bout)) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-again.C:
		}
		wait := poll
		for ctx.Err() == nil {
			wants := s.wants()
			if len(wants) == 0 {
				break // until a lane is given back
			}
			bouts, err := s.claimOnce(ctx, wants)
			if err != nil && ctx.Err() == nil {
				s.log.Warn("the outbox cannot be read", "err", err)
				wait = rest
				break
			}
			for _, b := range bouts {
				start(b)
			}
			if len(bouts) == 0 {
				break
			}
		}
		again.Reset(wait)
	}
}

func (s *Sender) claimOnce(ctx context.Context, wants []webhook.Want) ([]webhook.Bout, error) {
	// What was claimed is to be known of, also when the replica is told to go
	// down meanwhile: else nobody would give it back.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), storeWithin, errors.New("claiming lanes"))
	defer cancel()
	bouts, err := s.store.ClaimLanes(ctx, s.boot, lease, wants)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bouts {
		s.held[b.Health.Standing][b.Account]++
	}
	return bouts, nil
}

// wants is what there is room for.
func (s *Sender) wants() []webhook.Want {
	s.mu.Lock()
	defer s.mu.Unlock()
	var wants []webhook.Want
	for _, standing := range webhook.Standings {
		room, held, n := rooms[standing], map[string]int{}, 0
		for id, lanes := range s.held[standing] {
			held[id] = lanes
			n += lanes
		}
		if n < room.lanes {
			wants = append(wants, webhook.Want{
				Standing: standing, Lanes: room.lanes - n, PerAccount: room.perAccount, Held: held, Deliveries: room.deliveries,
			})
		}
	}
	return wants
}

// gaveBack makes room again for a lane that was claimed with this standing.
func (s *Sender) gaveBack(standing webhook.Standing, account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[standing]
	if held[account]--; held[account] <= 0 {
		delete(held, account)
	}
}

// holds is how many lanes of a standing it has.
func (s *Sender) holds(standing webhook.Standing) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, lanes := range s.held[standing] {
		n += lanes
	}
	return float64(n)
}

// listen wakes the sender when something is written. While it does not hear it
// polls.
func (s *Sender) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.store.ListenOutbox(ctx, s.look)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("the outbox is not heard; it is looked at every second", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(rest):
		}
	}
}

// tend keeps the outbox in order.
func (s *Sender) tend(ctx context.Context) {
	every := time.NewTicker(tendEvery)
	defer every.Stop()
	for {
		asking, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("tending lanes"))
		due, failing, err := s.store.TendLanes(asking)
		cancel()
		switch {
		case err == nil:
			s.metrics.backlog(due, failing)
		case ctx.Err() == nil:
			s.log.Warn("the outbox is not tended", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}
