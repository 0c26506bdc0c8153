// Package scheduler is the one place that decides who is admitted, who waits
// and who runs, and the only writer of the ledger.
//
// It promises that
//   - nothing is told to an API replica or a worker before the frame that makes
//     it true is durable;
//   - records of JOBS are decided in stream order, each once;
//   - a job has one open lease at most, and one end;
//   - a process that may not lead can append nothing, and so can do no harm;
//   - the archive gets every end and every charge once.
//
// Every scheduler folds the ledger all the time; the one that could append
// EpochOpened leads. The steps of a job's life are in decide.go, dispatch.go,
// work.go, finish.go, expire.go and project.go; board.go says who waits and who
// runs, over the tiers of tier.go and the slots of parking.go and holder.go; rate.go,
// quota.go and count.go hold what a plan allows, bill.go and charge.go what it
// costs, abuse.go and bans.go keep out who does not heed it; leader.go holds
// the frames, lead.go the reigns, handover.go their planned end, whereto.go
// tells peers who leads; cache.go answers with what was rendered before, twin.go with what is being
// rendered; carry.go
// and purge.go keep the streams short, janitor.go ends what is past its retention.
package scheduler

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Config is what an operator chooses.
type Config struct {
	// Address is where other tiers reach this process's gRPC: it is announced
	// to them when it leads.
	Address string
	// Alone says that no other scheduler can be there, as on embedded back
	// ends: it leads as soon as it has read the ledger, without listening for
	// another leader's heartbeat first.
	Alone bool
	Queue Queue
	// Disk says how many bytes are free where the streams are kept, of how many;
	// size 0: nobody knows. Nil: nobody knows, ever.
	Disk func(ctx context.Context) (free, size uint64, err error)
	// Plans are those of the policy; the first is that of accounts whose own is
	// not among them. Empty: the built-in policy's.
	Plans []account.Plan
	// Policy is Queue and Plans where these may change. Nil: they do not.
	Policy *account.Live
	// Bans keeps whom the abuse ladder keeps out. Nil: nobody does, and the next
	// leader begins with none.
	Bans Bans
	// Secrets opens what jobs say to their pages' servers, as the API sealed it.
	// Nil: attempts of jobs that have such fail.
	Secrets *seal.Box
	// Janitor cleans up while this process leads. Nil: nobody does.
	Janitor *Janitor
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Queue is what the policy says of everybody's waiting.
type Queue struct {
	// Length is L: how many jobs may wait at a tier and above for their first
	// start. 0 is 10,000.
	Length int
	// CountRunning counts running jobs against Length too.
	CountRunning bool
	// Strict gives every seat to the highest tier that waits, always. Without it
	// the lower tiers keep moving however busy the higher ones are.
	Strict bool
	// WaitLimit is how long after its acceptance a job that no worker holds
	// expires. 0: never.
	WaitLimit time.Duration
	// PerHost is how many slots an account's jobs to one target host may have at
	// the same time. 0: all of the account's.
	PerHost int
}

// Streams is what the scheduler needs of JOBS, of LEDGER and of the farm's
// heartbeats, as *stream.Streams has it.
type Streams interface {
	Tail(ctx context.Context, seq uint64, fn func([]stream.Submitted)) error
	Record(ctx context.Context, seq uint64) (*pb.Record, error)
	JobsState(ctx context.Context) (stream.State, error)
	PurgeJobs(ctx context.Context, seq uint64) error

	Append(f stream.Sealed) (jetstream.PubAckFuture, error)
	Settle(ctx context.Context, f stream.Sealed, ack jetstream.PubAckFuture) error
	Follow(ctx context.Context, seq uint64, chain stream.Chain, fn func([]stream.Link) error) error
	LedgerState(ctx context.Context) (stream.State, error)
	ChainAt(ctx context.Context, seq uint64) (c stream.Chain, ok bool, err error)
	Frame(ctx context.Context, seq uint64) (*pb.Frame, error)
	PurgeLedger(ctx context.Context, seq uint64) error

	Beat(hb *pb.Heartbeat) error
	Heartbeats(ctx context.Context, fn func(*pb.Heartbeat)) error
}

// Archive is what the scheduler needs of Postgres.
type Archive interface {
	Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error)
	Projection(ctx context.Context) (store.Projection, error)
	Project(ctx context.Context, from, to store.Projection, filing store.Filing) (stripped int, err error)
}

// Bucket is what the scheduler needs of the object store: addresses for one
// upload or download each. It touches no object.
type Bucket interface {
	PresignPut(key, contentType string, ttl time.Duration) (url string, header http.Header, err error)
	PresignGet(key string, ttl time.Duration, disposition string) (url string, err error)
}

// Scheduler is one candidate for leadership.
type Scheduler struct {
	cfg     Config
	streams Streams
	archive Archive
	bucket  Bucket
	log     *slog.Logger
	metrics *metrics
	policy  *account.Live
	tenants *tenants
	bans    knownBans

	boot       string
	frontToken string
	leader     atomic.Pointer[leader] // nil while another one leads, or none
	hot        atomic.Bool            // it follows, and has read the ledger nearly to its end
	projected  atomic.Uint64          // last frame in the archive, as far as this process knows
	filed      filed                  // how far projected was a while ago
	landed     landed                 // when projected came to be what it is
	carriers   carriers

	mu      sync.Mutex
	heard   heard         // guarded by mu, as all below
	stopped bool          // this process will never lead again
	changed chan struct{} // closed, and made anew, when somebody else leads than a moment ago
}

// New checks its configuration and starts nothing.
func New(cfg Config, streams Streams, archive Archive, bucket Bucket) (*Scheduler, error) {
	if cfg.Address == "" {
		return nil, errors.New("scheduler: no address to announce")
	}
	policy := cfg.policy()
	s := &Scheduler{
		cfg: cfg, streams: streams, archive: archive, bucket: bucket, log: cfg.Log,
		policy: policy, tenants: newTenants(policy, archive, cfg.Log),
		boot: rand.Text(), frontToken: rand.Text(), changed: make(chan struct{}),
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, s); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	return s, nil
}

type (
	frontService struct {
		pb.UnimplementedFrontServer
		s *Scheduler
	}
	workService struct {
		pb.UnimplementedWorkServer
		s *Scheduler
	}
)

// RegisterFront serves API replicas on r. Who may call it is the server's to
// check: see FrontToken.
func (s *Scheduler) RegisterFront(r grpc.ServiceRegistrar) {
	pb.RegisterFrontServer(r, frontService{s: s})
}

// RegisterWork serves workers on r.
func (s *Scheduler) RegisterWork(r grpc.ServiceRegistrar) {
	pb.RegisterWorkServer(r, workService{s: s})
}

// FrontToken is what this process's heartbeats tell API replicas to show.
func (s *Scheduler) FrontToken() string { return s.frontToken }

// Leading reports whether this process leads.
func (s *Scheduler) Leading() bool { return s.leader.Load() != nil }

// Ready is why this process does not do its part: it does not lead, and could
// not take over at once or hears of no leader.
func (s *Scheduler) Ready() error {
	if s.Leading() {
		return nil
	}
	if !s.hot.Load() {
		return errors.New("the ledger is still being read")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.heard.at) > silence+silenceJitter {
		return errors.New("no leader is heard")
	}
	return nil
}

// Seats is how many seats the connected workers have; 0 while another process
// leads.
func (s *Scheduler) Seats() int {
	l := s.leader.Load()
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seats()
}
