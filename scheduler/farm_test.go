package scheduler

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// farm is a real NATS and a real Postgres, with as many schedulers as a test
// starts. The test itself plays API replicas and workers, over gRPC.
type farm struct {
	t       *testing.T
	streams *stream.Streams
	nats    *natsgo.Conn
	store   *store.Store
	url     string  // of the store
	archive Archive // of schedulers that are started: the store, unless a test has put something before it
	pub     *stream.Publisher
	account string
}

func newFarm(t *testing.T) *farm {
	t.Helper()
	return newFarmOf(t, stream.Config{JobsMaxBytes: 64 << 20, LedgerMaxBytes: 64 << 20})
}

// newFarmOf is a farm whose streams have bounds of their own.
func newFarmOf(t *testing.T, cfg stream.Config) *farm {
	t.Helper()
	url := storetest.URL(t)
	archive := storetest.Connect(t, url)
	srv, err := nats.New(nats.Config{Dir: t.TempDir(), MaxStore: 256 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	nc, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	streams, err := stream.Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{t: t, nats: nc, streams: streams, store: archive, url: url, archive: archive, pub: streams.Publisher(), account: "acc_acme"}
	f.background(f.pub.Run)
	f.newAccount(f.account, "default")
	return f
}

func (f *farm) newAccount(id, plan string) {
	f.t.Helper()
	k, _ := account.NewKey(id, "")
	if err := f.store.CreateAccount(f.t.Context(), account.Account{ID: id, Name: id, Plan: plan}, k); err != nil {
		f.t.Fatal(err)
	}
}

// deleteFrame takes one frame out of the middle, as no part of the farm does.
func (f *farm) deleteFrame(seq uint64) error {
	js, err := jetstream.New(f.nats)
	if err != nil {
		return err
	}
	ledger, err := js.Stream(f.t.Context(), stream.LedgerName)
	if err != nil {
		return err
	}
	return ledger.DeleteMsg(f.t.Context(), seq)
}

// background runs something until the test ends, or until stop is called.
func (f *farm) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("background: %v", err)
		}
	}
	f.t.Cleanup(stop)
	return stop
}

// node is one scheduler and its gRPC server.
type node struct {
	*Scheduler
	conn *grpc.ClientConn
	stop func() // as SIGTERM does
	kill func() // it says nothing more
}

// presigner signs nothing; what the worker does with a URL is not this tier's.
type presigner struct{}

func (presigner) PresignPut(key, _ string, _ time.Duration) (string, http.Header, error) {
	return "http://bucket.test/" + key, http.Header{"If-None-Match": {"*"}}, nil
}

func (presigner) PresignGet(key string, _ time.Duration, _ string) (string, error) {
	return "http://bucket.test/" + key, nil
}

func (f *farm) start(name string, cfg Config) *node {
	f.t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Address, cfg.Metrics = name, prometheus.NewRegistry()
	s, err := New(cfg, f.streams, f.archive, presigner{})
	if err != nil {
		f.t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	s.RegisterFront(srv)
	s.RegisterWork(srv)
	go srv.Serve(lis) //nolint:errcheck // ends with Stop
	conn, err := grpc.NewClient("passthrough:"+name, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		f.t.Fatal(err)
	}
	stop, handOver := context.WithCancel(context.Background())
	ended := make(chan struct{})
	drop := f.background(func(ctx context.Context) error {
		defer close(ended)
		return s.Run(stop, ctx)
	})
	n := &node{Scheduler: s, conn: conn}
	n.stop = func() { handOver(); <-ended; srv.GracefulStop() }
	n.kill = func() { srv.Stop(); drop() }
	f.t.Cleanup(func() { conn.Close(); srv.Stop(); handOver() })
	return n
}

// front opens an API replica's stream once the node leads.
func (n *node) front(t *testing.T, hello *pb.FrontHello) *peer[pb.FrontUp, pb.FrontDown] {
	t.Helper()
	return dial(t, func(ctx context.Context) (grpc.BidiStreamingClient[pb.FrontUp, pb.FrontDown], error) {
		return pb.NewFrontClient(n.conn).Connect(ctx)
	}, &pb.FrontUp{Hello: hello}, func(m *pb.FrontDown) bool { return m.Welcome != nil })
}

// worker opens a worker's stream once the node leads.
func (n *node) worker(t *testing.T, hello *pb.Hello) *peer[pb.WorkUp, pb.WorkDown] {
	t.Helper()
	return dial(t, func(ctx context.Context) (grpc.BidiStreamingClient[pb.WorkUp, pb.WorkDown], error) {
		return pb.NewWorkClient(n.conn).Connect(ctx)
	}, &pb.WorkUp{Hello: hello}, func(m *pb.WorkDown) bool { return m.Welcome != nil })
}

// peer is the far end of a stream, played by the test.
type peer[Up, Down any] struct {
	t      *testing.T
	stream interface{ Send(*Up) error }
	down   chan *Down
	seen   []*Down // received and not yet wholly picked over
}

// dial opens a stream, again and again until it is welcome.
func dial[Up, Down any](t *testing.T, open func(context.Context) (grpc.BidiStreamingClient[Up, Down], error), hello *Up, welcome func(*Down) bool) *peer[Up, Down] {
	t.Helper()
	for t.Context().Err() == nil {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := open(ctx)
		if err == nil {
			err = s.Send(hello)
		}
		var m *Down
		if err == nil {
			m, err = s.Recv()
		}
		if err != nil || !welcome(m) {
			cancel()
			continue
		}
		p := &peer[Up, Down]{t: t, stream: s, down: make(chan *Down, 1000)}
		p.down <- m
		go func() {
			defer close(p.down)
			for {
				m, err := s.Recv()
				if err != nil {
					return
				}
				p.down <- m
			}
		}()
		t.Cleanup(cancel)
		return p
	}
	t.Fatal("the test ended before the stream was welcome")
	return nil
}

func (p *peer[Up, Down]) send(m *Up) {
	p.t.Helper()
	if err := p.stream.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// await looks through what came and what comes until pick finds what it looks
// for; pick takes it out of the message.
func await[Up, Down, T any](p *peer[Up, Down], what string, pick func(*Down) (T, bool)) T {
	p.t.Helper()
	for _, m := range p.seen {
		if v, ok := pick(m); ok {
			return v
		}
	}
	timeout := time.After(20 * time.Second)
	for {
		select {
		case m, open := <-p.down:
			if !open {
				p.t.Fatalf("the stream ended before %s", what)
			}
			p.seen = append(p.seen, m)
			if v, ok := pick(m); ok {
				return v
			}
		case <-timeout:
			p.t.Fatalf("no %s", what)
		}
	}
}

// take removes the first element that matches.
func take[T any](from *[]T, match func(T) bool) (T, bool) {
	if i := slices.IndexFunc(*from, match); i >= 0 {
		v := (*from)[i]
		*from = slices.Delete(*from, i, i+1)
		return v, true
	}
	var none T
	return none, false
}

func decision(p *peer[pb.FrontUp, pb.FrontDown], id string) *pb.Decision {
	p.t.Helper()
	return await(p, "decision", func(m *pb.FrontDown) (*pb.Decision, bool) {
		return take(&m.Decisions, func(d *pb.Decision) bool { return d.Id == id })
	})
}

func answer(p *peer[pb.FrontUp, pb.FrontDown], call uint64) *pb.Answer {
	p.t.Helper()
	return await(p, "answer", func(m *pb.FrontDown) (*pb.Answer, bool) {
		return take(&m.Answers, func(a *pb.Answer) bool { return a.Call == call })
	})
}

func assigned(p *peer[pb.WorkUp, pb.WorkDown]) *pb.Assign {
	p.t.Helper()
	return await(p, "assignment", func(m *pb.WorkDown) (*pb.Assign, bool) {
		return take(&m.Assign, func(*pb.Assign) bool { return true })
	})
}

func committed(p *peer[pb.WorkUp, pb.WorkDown], tok uint64) {
	p.t.Helper()
	await(p, "commit", func(m *pb.WorkDown) (uint64, bool) {
		return take(&m.Committed, func(c uint64) bool { return c == tok })
	})
}

func stale(p *peer[pb.WorkUp, pb.WorkDown], tok uint64) {
	p.t.Helper()
	await(p, "stale", func(m *pb.WorkDown) (uint64, bool) {
		return take(&m.Stale, func(c uint64) bool { return c == tok })
	})
}

// record is a submission of the farm's account by the API replica "api".
func (f *farm) record() *pb.Record {
	return &pb.Record{
		Envelope: &pb.Envelope{
			Id: string(job.NewID()), Account: f.account, Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png",
		},
		Body: &pb.Body{Spec: []byte(`{"url":"http://example.com/"}`), CustomId: "mine"},
	}
}

func (f *farm) publish(rec *pb.Record) {
	f.t.Helper()
	if _, err := f.pub.Publish(f.t.Context(), rec); err != nil {
		f.t.Fatal(err)
	}
}

// accepted publishes a submission and waits for its acceptance.
func (f *farm) accepted(api *peer[pb.FrontUp, pb.FrontDown]) *pb.Record {
	f.t.Helper()
	rec := f.record()
	f.publish(rec)
	if d := decision(api, rec.Envelope.Id); d.GetAccepted() == nil {
		f.t.Fatalf("the submission was decided as %v", d)
	}
	return rec
}

func done(a *pb.Assign) *pb.WorkUp {
	return &pb.WorkUp{Done: []*pb.Done{{
		Token: a.Token, Job: a.Job, Result: &pb.Result{SizeBytes: 3, Sha256: make([]byte, 32), Width: 1, Height: 1}, Timings: &pb.Timings{TotalMs: 5},
	}}}
}

// archived waits until the job is in the archive.
func (f *farm) archived(s *Scheduler, id string) *job.Job {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		j, err := f.store.Job(f.t.Context(), job.ID(id))
		if err == nil {
			return j
		}
		select {
		case <-deadline:
			f.t.Fatalf("job %s is not in the archive: %v (projected %d)", id, err, s.projected.Load())
		default:
		}
	}
}
