// Package worker is the tier that runs strangers' pages. It asks the leader
// for leases, renders each on a seat of its own, stores the artifact through a
// presigned URL and reports the end.
//
// It promises:
//
//  1. It offers the leader never more than its free seats, and a seat holds
//     one job at a time.
//  2. A page is aborted before the leader may give its job to another worker:
//     two seconds before the lease ends, counted from the sending of the last
//     beat that was answered.
//  3. A report is kept, and repeated on every stream, until the leader calls
//     it committed or stale. A job that was dropped reports nothing.
//  4. No attempt outlives its wall budget, whatever the page, the bucket or
//     the leader do, and a panic costs one attempt.
//  5. It holds no credentials but the worker token: a spec and a URL that takes
//     one object are all it gets (invariant I16).
//
// It leaves to others: what a seat is (seat.go, worker/browser and
// worker/capture), who gets which job, and whether a failed attempt is followed
// by another (the scheduler).
//
// The files: worker.go is its life, session.go one stream to the leader,
// leases.go what it holds and owes, execute.go one job from lease to report,
// bucket.go the presigned transfers.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/capture"
)

const (
	// defaultDrain is a little over the default plan's wall budget, so that an
	// unhurried stop interrupts no job of that plan.
	defaultDrain = 70 * time.Second

	// flushLimit bounds how long a worker that hands its jobs back waits for a
	// stream to say so. Without one the leases end by themselves.
	flushLimit = 2 * time.Second

	// seatGrace is how long a cancelled render may take to return before its
	// browser is killed under it.
	seatGrace = 5 * time.Second
)

// errDrainLimit is the cause when a drain takes too long.
var errDrainLimit = errors.New("the drain limit is over")

// A Renderer is one seat: it renders one job at a time.
type Renderer interface {
	// Run keeps the seat ready until ctx ends and leaves nothing behind. It
	// returns early only with an error that no new attempt would cure.
	Run(ctx context.Context) error
	// Ready is closed while the seat can take a job.
	Ready() <-chan struct{}
	// Render makes one attempt and returns soon after ctx ends at the latest;
	// the deadline of ctx is the end of its budget.
	Render(ctx context.Context, id job.ID, spec *job.Spec) capture.Outcome
}

// Config is what New needs.
type Config struct {
	// Name is the worker's, stable over restarts and unique in the farm: the
	// leader takes back the leases of an earlier process of the same name.
	// Required.
	Name string

	// Schedulers are gRPC targets, "unix:///path" or "host:port". One of them
	// leads; the others tell who does. At least one.
	Schedulers []string

	// Token opens the Work service. Empty sends none.
	Token string

	// Credentials are for the connection to the schedulers. Nil means plain
	// text, which suits a unix socket and loopback.
	Credentials credentials.TransportCredentials

	// Log receives the worker's log. Nil discards it.
	Log *slog.Logger

	// Metrics receives the worker's metrics. Nil keeps them unregistered.
	Metrics prometheus.Registerer

	// DrainLimit is how long Run waits for the jobs it holds once intake has
	// ended. Zero means 70 s.
	DrainLimit time.Duration

	// HTTP stores artifacts and fetches large specs. Nil means a client of the
	// worker's own, without proxy and redirects.
	HTTP *http.Client
}

// Worker is one worker process' side of the Work protocol.
type Worker struct {
	cfg     Config
	log     *slog.Logger
	boot    string // of this process
	seats   []*seat
	leases  *leases
	bucket  bucket
	metrics *workerMetrics

	welcome atomic.Bool // there is a stream to the leader
}

// A seat is a Renderer and the place where its next lease is put.
type seat struct {
	Renderer
	work chan *lease // holds one; filled only while the seat is idle
}

// New checks cfg and makes a worker of the given seats. Errors name the field.
func New(cfg Config, seats []Renderer) (*Worker, error) {
	switch {
	case cfg.Name == "":
		return nil, errors.New("worker: no name")
	case len(cfg.Schedulers) == 0 || slices.Contains(cfg.Schedulers, ""):
		return nil, errors.New("worker: no scheduler address, or an empty one among them")
	case len(seats) == 0:
		return nil, errors.New("worker: no seats")
	case cfg.DrainLimit < 0:
		return nil, fmt.Errorf("worker: drain limit of %s is negative", cfg.DrainLimit)
	}
	if cfg.DrainLimit == 0 {
		cfg.DrainLimit = defaultDrain
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{
		cfg:    cfg,
		log:    cfg.Log.With("worker", cfg.Name),
		boot:   uuid.NewString(),
		leases: newLeases(),
		bucket: bucket{http: cfg.HTTP},
	}
	if w.bucket.http == nil {
		w.bucket.http = newHTTP(len(seats))
	}
	for _, r := range seats {
		w.seats = append(w.seats, &seat{Renderer: r, work: make(chan *lease, 1)})
	}
	var err error
	if w.metrics, err = newWorkerMetrics(cfg.Metrics, w.leases); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	return w, nil
}

// Connected is why no leader can give this worker a job.
func (w *Worker) Connected() error {
	if !w.welcome.Load() {
		return errors.New("no stream to the leader")
	}
	return nil
}

// Renders is why no seat of this worker can take a job, now or once it has
// ended the one that it holds.
func (w *Worker) Renders() error {
	w.leases.mu.Lock()
	defer w.leases.mu.Unlock()
	if len(w.leases.idle)+w.leases.busy == 0 {
		return errors.New("no seat is ready")
	}
	return nil
}

// Isolated is why a seat's browser is not kept off the network by the kernel;
// nil also of seats that know nothing of it.
func (w *Worker) Isolated() error {
	for _, s := range w.seats {
		if r, ok := s.Renderer.(interface{ Isolated() error }); ok {
			if err := r.Isolated(); err != nil {
				return err
			}
		}
	}
	return nil
}

// newHTTP is the client for presigned URLs. It follows no redirect, since the
// signature is for one host, and reads no proxy from the environment, since the
// bucket is the farm's own.
func newHTTP(seats int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			MaxIdleConnsPerHost:   seats + 2,
			IdleConnTimeout:       60 * time.Second,
			DisableCompression:    true,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run asks for leases until intake ends, then finishes the jobs it holds.
// If work ends too, it hands them back: an interrupted attempt is not counted.
//
// A drain that takes longer than Config.DrainLimit ends like work. A seat that
// fails for good ends Run with its error, after the jobs were handed back. Run
// may be called once.
func (w *Worker) Run(intake, work context.Context) error {
	// Neither is a child of work: a render that was cancelled before its lease
	// is handed back would report a failure of its own.
	open, closeSeats := context.WithCancel(context.Background())
	defer closeSeats()
	link, hangUp := context.WithCancel(context.Background())
	defer hangUp()
	end, endNow := context.WithCancelCause(work)
	defer endNow(nil)

	var browsers, loops, session sync.WaitGroup
	stop := make(chan struct{})
	failures := make(chan error, len(w.seats))
	for _, s := range w.seats {
		browsers.Go(func() {
			if err := runSeat(open, s); err != nil {
				failures <- err
				endNow(err)
			}
		})
		loops.Go(func() { w.serve(s, stop) })
	}
	session.Go(func() { w.keepConnected(link) })

	w.untilDrained(intake, end)
	hangUp()
	session.Wait()
	close(stop)

	rendered := make(chan struct{})
	go func() { loops.Wait(); close(rendered) }()
	grace := time.NewTimer(seatGrace)
	defer grace.Stop()
	select {
	case <-rendered:
	case <-grace.C:
		w.log.Error("a cancelled render did not return; its browser is killed")
	}
	closeSeats()
	<-rendered
	browsers.Wait()
	if w.cfg.HTTP == nil {
		w.bucket.http.CloseIdleConnections()
	}
	close(failures)
	var err error
	for e := range failures {
		err = errors.Join(err, e)
	}
	return err
}

// runSeat runs s until ctx ends. Any earlier end is an error.
func runSeat(ctx context.Context, s *seat) error {
	err := s.Run(ctx)
	switch {
	case ctx.Err() == nil && err == nil:
		return errors.New("worker: a seat ended by itself")
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil
	case err != nil:
		return fmt.Errorf("worker: seat: %w", err)
	}
	return nil
}

// untilDrained returns once the worker holds nothing: after intake has ended
// and every report was answered, or, when end or the drain limit comes first,
// after the rest was handed back.
func (w *Worker) untilDrained(intake, end context.Context) {
	select {
	case <-intake.Done():
	case <-end.Done():
	}
	w.leases.drain()
	w.log.Info("draining", "leases", w.leases.count())

	limit, cancel := context.WithTimeoutCause(end, w.cfg.DrainLimit, errDrainLimit)
	defer cancel()
	if !w.leases.until(limit, (*leases).empty) {
		n := w.leases.handBack()
		w.log.Info("leases handed back", "leases", n, "err", context.Cause(limit))
	}
	flush, cancelFlush := context.WithTimeout(context.Background(), flushLimit)
	defer cancelFlush()
	if !w.leases.until(flush, (*leases).flushed) {
		w.log.Warn("stopped before the leader could be told; its leases end by themselves")
	}
}

// serve gives s one lease after the other until stop is closed.
func (w *Worker) serve(s *seat, stop <-chan struct{}) {
	for {
		select {
		case <-s.Ready():
		case <-stop:
			return
		}
		w.leases.free(s)
		select {
		case l := <-s.work:
			w.execute(l, s)
		case <-stop:
			return
		}
		w.leases.rest()
	}
}
