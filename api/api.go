// Package api is the farm's only HTTP surface: it authenticates, checks and
// publishes submissions, answers with what the leader or the archive knows of
// a job, and hands out artifacts.
//
// It promises that
//  1. what a request may hold is what openapi.yaml says, and all that is wrong
//     with one is told at once, by name;
//  2. a 202 means that the job's acceptance is durable; a record is published
//     once and never again;
//  3. a job of another account looks like none, and an unknown id is a 404 only
//     when both the leader and the archive have said so and it is not fresh;
//  4. bytes of an artifact leave only if they are the ones that were recorded;
//  5. every error is a problem document with a stable code, every answer names
//     its request, and no cause of an error is shown.
//
// It holds nothing that matters: any replica can die at any moment. Who is
// admitted, who waits and what it costs is the scheduler's to decide.
package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/credentials"

	"github.com/tintype/tintype/api/outbox"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/seal"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Config is how a replica behaves. Its zero value is one that has no admin.
type Config struct {
	// AdminToken opens /admin, and /metrics from other machines. Empty: they
	// are closed.
	AdminToken string
	// PublicURL goes before the links of jobs, such as
	// https://shots.example.com. Empty: links are paths.
	PublicURL string
	// RedirectResults answers GET …/result with a redirect to a signed URL of
	// the object store. It is for stores that clients can reach.
	RedirectResults bool
	// Policy has the plans of accounts. It is to be the scheduler's. Nil: the
	// built-in one.
	Policy *account.Policy
	// Policies is Policy where that may change.
	Policies *account.Live
	// Secrets seals what jobs say to their pages' servers. It is to be the
	// scheduler's. Nil: a key of its own, for tests.
	Secrets *seal.Box
	// Front dials schedulers. Nil: plain connections, for tests.
	Front credentials.TransportCredentials
	// Egress is the way out of webhooks. Nil: public addresses alone.
	Egress *egress.Guard
	// WebhookAllowHTTP lets webhooks go to http addresses.
	WebhookAllowHTTP bool
	// WebhookRoots are whom certificates of receivers are to be signed by. Nil:
	// the system's.
	WebhookRoots *x509.CertPool
	// DrainWithin bounds how long Run waits for requests once its context has
	// ended. Zero: 30 seconds.
	DrainWithin time.Duration
}

// Deps is what a replica needs of others.
type Deps struct {
	Door       Door
	Heartbeats func(ctx context.Context, heard func(*pb.Heartbeat)) error
	Store      Store
	Bucket     Bucket
	Ledger     Ledger
	// Outbox is what Run sends webhooks from. Nil: it sends none.
	Outbox outbox.Store
	// Checks are asked by /readyz, beside the leader.
	Checks []Check
	// Metrics is served by /metrics. Nil: a registry of its own.
	Metrics *prometheus.Registry
	Log     *slog.Logger
	// Listener is served by Run. Nil: Handler is served by somebody else.
	Listener net.Listener
	// AdminListener, if there is one, has /admin and /metrics, and Listener
	// has not.
	AdminListener net.Listener
}

// A Door takes submissions. An error that is a fault means that nothing was
// stored; any other leaves that open.
type Door interface {
	Publish(ctx context.Context, rec *pb.Record) (seq uint64, err error)
}

// A Store is the archive: accounts, keys, finished jobs and usage. What it does not
// have is a fault of kind NotFound; any error that is no fault is its own
// trouble.
type Store interface {
	endpointStore
	deliveryStore

	Job(ctx context.Context, id job.ID) (*job.Job, error)
	Artifact(ctx context.Context, accountID string, cacheKey []byte) (*job.Artifact, error)
	JobByKey(ctx context.Context, accountID string, keyHash []byte) (j *job.Job, fingerprint []byte, err error)
	Jobs(ctx context.Context, accountID string, state job.State, before job.ID, limit int) ([]*job.Job, error)
	DropResult(ctx context.Context, accountID string, id job.ID) (object string, err error)
	Usage(ctx context.Context, accountID string, period time.Time) ([]account.UsageDay, error)
	UsageEvents(ctx context.Context, accountID string, period time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error)
	AllUsageEvents(ctx context.Context, of string, from, to time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error)
	Bills(ctx context.Context, from, to time.Time, after account.UsageCursor, limit int) ([]account.Bill, error)
	Standings(ctx context.Context, accounts []string, periods []time.Time) (map[string]account.Standing, error)
	JobCharge(ctx context.Context, accountID string, id job.ID) (account.JobCharge, error)
	Bans(ctx context.Context) ([]account.Ban, error)
	AuditLog(ctx context.Context, subject, before string, limit int) ([]account.Audit, error)
	CreateAccount(ctx context.Context, a account.Account, k account.Key) error
	Accounts(ctx context.Context, after string, limit int) ([]account.Account, error)
	Account(ctx context.Context, id string) (account.Account, error)
	UpdateAccount(ctx context.Context, id string, to account.Update) (account.Account, error)
	CreateKey(ctx context.Context, k account.Key) error
	Keys(ctx context.Context, accountID string) ([]account.Key, error)
	RevokeKey(ctx context.Context, accountID, keyID string) error
	Key(ctx context.Context, keyID string) (account.Key, account.Account, error)

	batchStore
	feedStore
	resultStore
	fileStore
	deletionStore
	watchStore
}

// A Bucket holds artifacts and large specs. A missing object is
// object.ErrNotFound.
type Bucket interface {
	Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error
	PutStream(ctx context.Context, key string, body io.Reader, contentType string) (int64, error)
	Get(ctx context.Context, key string) (io.ReadCloser, object.Info, error)
	Open(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error)
	Stat(ctx context.Context, key string) (object.Info, error)
	Delete(ctx context.Context, keys ...string) error
	PresignGet(key string, ttl time.Duration, disposition string) (string, error)
}

// Server is one API replica.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	boot    string // names this process to the leader
	node    string // names its machine to clients, in dialects that tell
	front   *front
	keys    *keyCache
	ready   readiness
	queue   queueView
	refused refusals
	sender  *outbox.Sender // nil: this replica sends no webhooks

	cacheRest rest // of asking the archive what is cached
	refreshes refreshes
	feeder    *feeder

	// What the door remembers of callers; see count.go.
	throttles throttles
	blocks    blocks
	local     localCounts
	proxied   sync.Once // a proxy that is not trusted was warned of

	jobFields *openapi3.Schema // of a request to POST /v1/jobs, and of a batch's line
	tail      *tail
	streams   openStreams
	replays   *semaphore.Weighted // of the ledger, for streams that were open before
	recent    recentBatches
	live      *eventMetrics

	metrics *metrics
	buffers *buffers
	dryRuns *semaphore.Weighted
	packers packers
	thumbs  *semaphore.Weighted // pictures that are decoded

	main, admin http.Handler // admin is nil where main has its routes too

	draining chan struct{} // closed when Run stops taking requests
	drains   context.Context
	drain    context.CancelFunc // ends drains, with draining
	late     chan struct{}      // closed when the drain is over and every wait answers
	active   sync.WaitGroup     // requests in work, and what they left behind
	inWork   atomic.Int64       // requests in work
	hard     context.Context
	stop     context.CancelFunc // ends hard: nothing is waited for any more
}

// New checks the configuration and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	for name, missing := range map[string]bool{
		"a door": deps.Door == nil, "heartbeats": deps.Heartbeats == nil, "a store": deps.Store == nil, "a bucket": deps.Bucket == nil,
		"a ledger": deps.Ledger == nil,
	} {
		if missing {
			return nil, fmt.Errorf("api: needs %s", name)
		}
	}
	if deps.AdminListener != nil && deps.Listener == nil {
		return nil, errors.New("api: an admin listener without a main one")
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Metrics == nil {
		deps.Metrics = prometheus.NewRegistry()
	}
	if cfg.Policy == nil {
		cfg.Policy = account.DefaultPolicy()
	}
	if cfg.Policies == nil {
		cfg.Policies = account.NewLive(cfg.Policy)
	}
	if cfg.Egress == nil {
		guard, err := egress.New(egress.Config{})
		if err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
		cfg.Egress = guard
	}
	if cfg.Secrets == nil {
		box, err := seal.Parse(seal.NewKey())
		if err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
		cfg.Secrets = box
	}
	cfg.Policy = nil // another one may be in force by the time somebody looks
	if cfg.DrainWithin == 0 {
		cfg.DrainWithin = 30 * time.Second
	}
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, boot: uuid.NewString(),
		keys: newKeyCache(deps.Store), buffers: newBuffers(), thumbs: semaphore.NewWeighted(maxThumbs), dryRuns: semaphore.NewWeighted(dryRunsAtOnce),
		draining: make(chan struct{}), late: make(chan struct{}),
	}
	if s.node, _ = os.Hostname(); s.node == "" {
		s.node = "api"
	}
	s.hard, s.stop = context.WithCancel(context.Background())
	s.drains, s.drain = context.WithCancel(context.Background())
	s.front = newFront(s.boot, dialer(cfg.Front), s.log)
	s.front.blocked, s.front.welcomed = s.blocked, func() { s.blocks.welcomed(time.Now()) }
	s.front.touched = s.keys.dropAccount
	s.metrics, s.live = newMetrics(deps.Metrics, s.front.led), newEventMetrics(deps.Metrics)
	s.tail, s.replays = newTail(deps.Ledger, s.log, s.live.late), semaphore.NewWeighted(replaysAtOnce)
	var err error
	if s.sender, err = s.newSender(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.feeder = newFeeder(s)
	ops, err := loadContract()
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.jobFields = ops["POST /v1/jobs"].body
	var main, admin []route
	for _, rt := range s.routes() {
		if rt.op = ops[rt.key()]; rt.op == nil {
			return nil, fmt.Errorf("api: openapi.yaml has no %s", rt.pattern)
		}
		if deps.AdminListener != nil && (rt.auth == byAdmin || rt.auth == byAdminOffHost) {
			admin = append(admin, rt)
		} else {
			main = append(main, rt)
		}
	}
	s.main = s.dispatch(main)
	if admin != nil {
		s.admin = s.dispatch(admin)
	}
	return s, nil
}

// class is what a route counts as for limits and metrics.
type class string

const (
	classAPI    class = "api"
	classMedia  class = "media"
	classWeb    class = "web"
	classExempt class = "exempt"
)

// need is whose credentials a route wants.
type need int

const (
	byNobody need = iota
	byKey
	byAdmin
	byAdminOffHost // the admin, unless the client is on this machine
)

// handler answers a request, or leaves the answer to the fault it returns.
type handler func(w http.ResponseWriter, r *http.Request, c *call) error

type route struct {
	pattern string
	class   class
	auth    need
	handle  handler
	asks    bool       // its handler asks the leader in any case, whose answer tells what is left
	op      *operation // from the contract
}

// submits reports a route whose requests become jobs.
func (rt *route) submits() bool {
	switch rt.pattern {
	case "POST /v1/jobs", "POST /v1/screenshot", "POST /v1/pdf":
		return true
	}
	return rt.op.renders()
}

// sends reports a route that sends the bytes of an artifact that was made
// before.
func (rt *route) sends() bool { return rt.pattern == "GET /v1/jobs/{id}/result" }

// routes is every route there is.
func (s *Server) routes() []route {
	return []route{
		{pattern: "POST /v1/jobs", class: classAPI, auth: byKey, handle: s.submitJob, asks: true},
		{pattern: "GET /v1/jobs", class: classAPI, auth: byKey, handle: s.listJobs},
		{pattern: "GET /v1/jobs/{id}", class: classAPI, auth: byKey, handle: s.getJob, asks: true},
		{pattern: "DELETE /v1/jobs/{id}", class: classAPI, auth: byKey, handle: s.cancelJob, asks: true},
		{pattern: "GET /v1/jobs/{id}/events", class: classAPI, auth: byKey, handle: s.jobEvents, asks: true},
		{pattern: "GET /v1/jobs/{id}/result", class: classMedia, auth: byKey, handle: s.getResult},
		{pattern: "HEAD /v1/jobs/{id}/result", class: classMedia, auth: byKey, handle: s.getResult},
		{pattern: "DELETE /v1/jobs/{id}/result", class: classMedia, auth: byKey, handle: s.deleteResult},

		{pattern: "POST /v1/batches", class: classAPI, auth: byKey, handle: s.createBatch},
		{pattern: "GET /v1/batches/{id}/errors", class: classAPI, auth: byKey, handle: s.getBatchErrors},
		{pattern: "DELETE /v1/batches/{id}", class: classAPI, auth: byKey, handle: s.deleteBatch},
		{pattern: "GET /v1/batches", class: classAPI, auth: byKey, handle: s.listBatches},
		{pattern: "GET /v1/batches/{id}", class: classAPI, auth: byKey, handle: s.getBatch},
		{pattern: "POST /v1/batches/{id}/cancel", class: classAPI, auth: byKey, handle: s.cancelBatch},
		{pattern: "POST /v1/batches/{id}/pause", class: classAPI, auth: byKey, handle: s.pauseBatch},
		{pattern: "POST /v1/batches/{id}/resume", class: classAPI, auth: byKey, handle: s.resumeBatch},
		{pattern: "POST /v1/batches/{id}/retry-failed", class: classAPI, auth: byKey, handle: s.retryBatch},
		{pattern: "GET /v1/batches/{id}/events", class: classAPI, auth: byKey, handle: s.batchEvents},
		{pattern: "GET /v1/batches/{id}/results", class: classAPI, auth: byKey, handle: s.getBatchResults},
		{pattern: "POST /v1/files", class: classAPI, auth: byKey, handle: s.createFile},
		{pattern: "GET /v1/files", class: classAPI, auth: byKey, handle: s.listFiles},
		{pattern: "GET /v1/files/{id}", class: classAPI, auth: byKey, handle: s.getFile},
		{pattern: "DELETE /v1/files/{id}", class: classAPI, auth: byKey, handle: s.deleteFile},

		{pattern: "GET /v1/deliveries", class: classAPI, auth: byKey, handle: s.listDeliveries},
		{pattern: "GET /v1/deliveries/{id}", class: classAPI, auth: byKey, handle: s.getDelivery},
		{pattern: "POST /v1/deliveries/{id}/replay", class: classAPI, auth: byKey, handle: s.replayDelivery},

		{pattern: "GET /v1/events", class: classAPI, auth: byKey, handle: s.accountEvents},
		{pattern: "GET /v1/devices", class: classAPI, auth: byKey, handle: s.listDevices},
		{pattern: "GET /v1/queue", class: classAPI, auth: byKey, handle: s.getQueue},
		{pattern: "GET /v1/usage", class: classAPI, auth: byKey, handle: s.getUsage},
		{pattern: "GET /v1/usage/events", class: classAPI, auth: byKey, handle: s.listUsageEvents},
		{pattern: "GET /v1/account", class: classAPI, auth: byKey, handle: s.getAccount},

		{pattern: "GET /v1/account/webhook-secret", class: classAPI, auth: byKey, handle: s.getWebhookSecret},
		{pattern: "POST /v1/account/webhook-secret/rotate", class: classAPI, auth: byKey, handle: s.rotateWebhookSecret},

		{pattern: "POST /v1/webhook-endpoints", class: classAPI, auth: byKey, handle: s.createEndpoint},
		{pattern: "GET /v1/webhook-endpoints", class: classAPI, auth: byKey, handle: s.listEndpoints},
		{pattern: "GET /v1/webhook-endpoints/{id}", class: classAPI, auth: byKey, handle: s.getEndpoint},
		{pattern: "PATCH /v1/webhook-endpoints/{id}", class: classAPI, auth: byKey, handle: s.updateEndpoint},
		{pattern: "DELETE /v1/webhook-endpoints/{id}", class: classAPI, auth: byKey, handle: s.deleteEndpoint},
		{pattern: "POST /v1/webhook-endpoints/{id}/rotate", class: classAPI, auth: byKey, handle: s.rotateEndpoint},
		{pattern: "POST /v1/webhook-endpoints/{id}/test", class: classAPI, auth: byKey, handle: s.testEndpoint},

		{pattern: "GET /v1/screenshot", class: classAPI, auth: byKey, handle: s.render(job.PNG), asks: true},
		{pattern: "POST /v1/screenshot", class: classAPI, auth: byKey, handle: s.render(job.PNG), asks: true},
		{pattern: "GET /v1/pdf", class: classAPI, auth: byKey, handle: s.render(job.PDF), asks: true},
		{pattern: "POST /v1/pdf", class: classAPI, auth: byKey, handle: s.render(job.PDF), asks: true},

		{pattern: "POST /admin/v1/accounts", class: classExempt, auth: byAdmin, handle: s.createAccount},
		{pattern: "GET /admin/v1/accounts", class: classExempt, auth: byAdmin, handle: s.listAccounts},
		{pattern: "GET /admin/v1/accounts/{id}", class: classExempt, auth: byAdmin, handle: s.readAccount},
		{pattern: "GET /admin/v1/usage", class: classExempt, auth: byAdmin, handle: s.listUsage},
		{pattern: "GET /admin/v1/usage/events", class: classExempt, auth: byAdmin, handle: s.listAllUsageEvents},
		{pattern: "PATCH /admin/v1/accounts/{id}", class: classExempt, auth: byAdmin, handle: s.updateAccount},
		{pattern: "GET /admin/v1/policy", class: classExempt, auth: byAdmin, handle: s.readPolicy},
		{pattern: "GET /admin/v1/bans", class: classExempt, auth: byAdmin, handle: s.listBans},
		{pattern: "POST /admin/v1/bans", class: classExempt, auth: byAdmin, handle: s.createBan},
		{pattern: "DELETE /admin/v1/bans", class: classExempt, auth: byAdmin, handle: s.liftBan},
		{pattern: "GET /admin/v1/audit", class: classExempt, auth: byAdmin, handle: s.listAudit},
		{pattern: "GET /admin/v1/plans", class: classExempt, auth: byAdmin, handle: s.listPlans},
		{pattern: "POST /admin/v1/accounts/{id}/keys", class: classExempt, auth: byAdmin, handle: s.createKey},
		{pattern: "GET /admin/v1/accounts/{id}/keys", class: classExempt, auth: byAdmin, handle: s.listKeys},
		{pattern: "DELETE /admin/v1/accounts/{id}/keys/{key_id}", class: classExempt, auth: byAdmin, handle: s.revokeKey},

		{pattern: "GET /healthz", class: classExempt, auth: byNobody, handle: s.healthz},
		{pattern: "GET /readyz", class: classExempt, auth: byNobody, handle: s.readyz},
		{pattern: "GET /pressure", class: classExempt, auth: byNobody, handle: s.pressure},
		{pattern: "GET /metrics", class: classExempt, auth: byAdminOffHost, handle: s.serveMetrics},
		{pattern: "GET /openapi.yaml", class: classWeb, auth: byNobody, handle: s.openapi},
		{pattern: "GET /openapi.json", class: classWeb, auth: byNobody, handle: s.openapiAsJSON},
		{pattern: "GET /docs", class: classWeb, auth: byNobody, handle: s.docs},
		{pattern: "GET /docs/start.js", class: classWeb, auth: byNobody, handle: s.docsStart},
		{pattern: "GET /docs/scalar.js", class: classWeb, auth: byNobody, handle: s.docsScalar},
		{pattern: "GET /{$}", class: classWeb, auth: byNobody, handle: s.index},
	}
}

// policy is the one in force. What asks more than once about one request takes
// it once.
func (s *Server) policy() *account.Policy { return s.cfg.Policies.Now() }

// Handler is the main listener's, for somebody else to serve.
func (s *Server) Handler() http.Handler { return s.main }

// Run follows the leader and serves the listeners until ctx ends, then drains:
// no new requests, long polls answer with what is there, calls whose job has
// not started are refused, and the others are waited for within
// Config.DrainWithin and then refused. It ends early only if the heartbeats cannot
// be subscribed to or a listener fails.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	// The line to the leader outlives intake: requests in work need it.
	lineCtx, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	line, lineCtx := errgroup.WithContext(lineCtx)
	line.Go(func() error { return s.front.run(lineCtx) })
	line.Go(func() error { return s.tellStrikes(lineCtx) })
	line.Go(func() error { return s.tail.run(lineCtx) })
	line.Go(func() error {
		if err := s.deps.Heartbeats(lineCtx, s.front.heard); lineCtx.Err() == nil {
			return fmt.Errorf("api: follow the leader: %w", err)
		}
		return nil
	})
	intake, noMore := context.WithCancel(ctx)
	defer noMore()
	var sending sync.WaitGroup
	sending.Go(func() { s.send(intake) })

	s.active.Go(func() { s.feeder.run(s.drains) })

	err := s.serve(ctx, lineCtx.Done())
	noMore() // also after a listener that failed
	sending.Wait()
	hangUp()
	if lost := line.Wait(); err == nil && !errors.Is(lost, context.Canceled) {
		err = lost
	}
	return err
}
