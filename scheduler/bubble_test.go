package scheduler

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// bubble is a farm whose clock stands still while anybody has something to do:
// streams and archive in memory, and the scheduler as it is.
type bubble struct {
	t       *testing.T
	streams *memory
	archive *shelf
	over    map[string]Archive // what a scheduler of that name has in its place
	ctx     context.Context
	wg      sync.WaitGroup
}

// inBubble runs a test in a bubble.
func inBubble(t *testing.T, test func(t *testing.T, b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		b := &bubble{t: t, streams: newMemory(), archive: new(shelf), ctx: ctx}
		defer b.wg.Wait()
		defer cancel()
		test(t, b)
	})
}

// shelf is an archive that holds how far it has got, what ended and what was
// charged. It has every account.
type shelf struct {
	mu      sync.Mutex
	at      store.Projection
	ends    []store.Ended
	charges map[string]store.Charge // by id
	reached []store.QuotaReached
	plans   map[string]string // by account; "test" where it says nothing
	away    bool              // nobody can read accounts
	billing int               // day of the accounts' periods; 0: the first of the month
}

func (s *shelf) Tenants(_ context.Context, ids []string, _ time.Time) ([]store.Tenant, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("away")
	}
	var out []store.Tenant
	for _, id := range ids {
		x := store.Tenant{ID: id, Account: &account.Account{ID: id, Name: id, Plan: cmp.Or(s.plans[id], "test"), BillingDay: max(s.billing, 1)}, Seq: s.at.Seq}
		sums := map[time.Time]int64{}
		for _, c := range s.charges {
			if c.Account == id {
				sums[c.Period] += c.Units
			}
		}
		for begins, units := range sums {
			p := store.Period{Begins: begins, Units: units}
			for _, q := range s.reached {
				if q.Account == id && q.Period.Equal(begins) {
					p.Reached = append(p.Reached, q.Percent)
				}
			}
			x.Periods = append(x.Periods, p)
		}
		out = append(out, x)
	}
	return out, nil
}

func (s *shelf) Projection(context.Context) (store.Projection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, nil
}

func (s *shelf) Project(_ context.Context, _, to store.Projection, filing store.Filing) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.charges == nil {
		s.charges = map[string]store.Charge{}
	}
	charges := filing.Charges
	for _, e := range filing.Ends {
		charges = append(charges, store.Charge{ID: string(e.Job.ID), Account: e.Job.Account, Period: e.Period, Units: e.Units, Reason: "render", Happened: e.Job.FinishedAt})
	}
	for _, c := range charges {
		if _, twice := s.charges[c.ID]; !twice && c.Units != 0 {
			s.charges[c.ID] = c
		}
	}
	s.at, s.ends, s.reached = to, append(s.ends, filing.Ends...), append(s.reached, filing.Reached...)
	return 0, nil
}

func (s *shelf) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *shelf) charge(id string) store.Charge {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.charges[id]
}

// testPlan is what accounts in a bubble have.
func testPlan(quota account.Quota) account.Plan {
	return account.Plan{
		Name: "test", Threads: 2, OverThreads: account.OverThreads{Backlog: 10_000}, Wall: time.Minute, Retention: time.Hour, Quota: quota,
	}
}

// start runs a scheduler; kill ends it at once: it says nothing more.
func (b *bubble) start(name string, cfg Config) (s *Scheduler, kill func()) {
	b.t.Helper()
	s, _, kill = b.run(name, cfg)
	return s, kill
}

// run is start for a scheduler that is also stopped as SIGTERM does.
func (b *bubble) run(name string, cfg Config) (s *Scheduler, stop, kill func()) {
	b.t.Helper()
	cfg.Address = name
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Policy == nil && cfg.Plans == nil {
		cfg.Plans = []account.Plan{bubblePlan()}
	}
	var archive Archive = b.archive
	if a := b.over[name]; a != nil {
		archive = a
	}
	s, err := New(cfg, b.streams, archive, presigner{})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	asked, ask := context.WithCancel(context.Background())
	done := make(chan struct{})
	b.wg.Go(func() {
		defer close(done)
		if err := s.Run(asked, ctx); err != nil {
			b.t.Errorf("scheduler %s: %v", name, err)
		}
	})
	return s, func() { ask(); <-done }, func() { cancel(); <-done }
}

// bubblePlan is what every account of a bubble has, unless its test says
// otherwise.
func bubblePlan() account.Plan { return testPlan(account.Quota{}) }

// leading waits until a scheduler leads.
func (b *bubble) leading(s *Scheduler) {
	for !s.Leading() {
		time.Sleep(time.Millisecond)
	}
}

// pipe is a gRPC stream without a network.
type pipe[Up, Down any] struct {
	grpc.ServerStream
	ctx  context.Context
	up   chan *Up
	down chan *Down
}

func (p *pipe[Up, Down]) Context() context.Context { return p.ctx }

func (p *pipe[Up, Down]) Recv() (*Up, error) {
	select {
	case m := <-p.up:
		return m, nil
	case <-p.ctx.Done():
		return nil, io.EOF
	}
}

func (p *pipe[Up, Down]) Send(m *Down) error {
	select {
	case p.down <- m:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// uplink is its far end.
type uplink[Up any] struct {
	ctx context.Context
	up  chan *Up
}

func (u uplink[Up]) Send(m *Up) error {
	select {
	case u.up <- m:
		return nil
	case <-u.ctx.Done():
		return io.EOF
	}
}

// connect serves a stream until hang is called or the bubble ends. With no
// hello the caller sends its own.
func connect[Up, Down any](b *bubble, serve func(*pipe[Up, Down]) error, hello *Up) (p *peer[Up, Down], hang func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	s := &pipe[Up, Down]{ctx: ctx, up: make(chan *Up), down: make(chan *Down, 1000)}
	done := make(chan struct{})
	b.wg.Go(func() {
		defer close(done)
		defer cancel() // as gRPC does when the method returns
		serve(s)       //nolint:errcheck // the stream was hung up
	})
	p = &peer[Up, Down]{t: b.t, stream: uplink[Up]{ctx, s.up}, down: s.down}
	if hello != nil {
		p.send(hello)
	}
	return p, func() { cancel(); <-done }
}

func (b *bubble) front(s *Scheduler) *peer[pb.FrontUp, pb.FrontDown] {
	b.leading(s)
	p, _ := connect(b, func(p *pipe[pb.FrontUp, pb.FrontDown]) error { return frontService{s: s}.Connect(p) },
		&pb.FrontUp{Hello: &pb.FrontHello{Api: "api"}})
	synctest.Wait() // a decision that is made before the leader knows the stream goes down none
	return p
}

func (b *bubble) worker(s *Scheduler, boot string) (p *peer[pb.WorkUp, pb.WorkDown], hang func()) {
	b.leading(s)
	return connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) },
		&pb.WorkUp{Hello: hello(boot)})
}

// submit publishes a job; the account has two threads.
func (b *bubble) submit() string {
	return b.submitAs(&pb.Envelope{Account: "acc_acme"})
}

// submitAs is submit by whoever the envelope names.
func (b *bubble) submitAs(env *pb.Envelope) string {
	env.Id, env.Api, env.SentUs, env.ContentType = string(job.NewID()), "api", time.Now().UnixMicro(), "image/png"
	b.streams.publish(&pb.Record{Envelope: env, Body: &pb.Body{Spec: []byte(`{}`), CustomId: "mine"}})
	synctest.Wait()
	return env.Id
}

// look is the job as the leader knows it at this moment.
func (b *bubble) look(s *Scheduler, id string) *pb.Job {
	synctest.Wait()
	l := s.leader.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.board.check(); err != nil {
		b.t.Error(err)
	}
	return l.snapshot(l.board.entries[id])
}

func (b *bubble) want(s *Scheduler, when, id string, state job.State, attempts uint32) {
	b.t.Helper()
	if j := b.look(s, id); j.State != string(state) || j.Attempts != attempts {
		b.t.Errorf("%s: %s after %d attempts, want %s after %d", when, j.State, j.Attempts, state, attempts)
	}
}

// view is views of one account.
func (t *tenants) view(ctx context.Context, id string) tenantView {
	return t.views(ctx, []string{id})[id]
}
