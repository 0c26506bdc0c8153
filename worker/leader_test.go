package worker

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/worker/capture"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const testToken = "worker-token"

// A leader is a scripted scheduler: each stream of a worker becomes a link that
// the test reads and answers.
type leader struct {
	pb.UnimplementedWorkServer
	address string
	links   chan *link
}

func newLeader(t *testing.T) *leader {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l := &leader{address: "unix://" + path, links: make(chan *link, 100)}
	server := grpc.NewServer(grpc.StreamInterceptor(wire.RequireToken(func(string) string { return testToken })))
	pb.RegisterWorkServer(server, l)
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return l
}

// A link is one stream of a worker.
type link struct {
	stream grpc.BidiStreamingServer[pb.WorkUp, pb.WorkDown]
	ups    chan *pb.WorkUp // closed at the stream's end
	end    chan error      // what Connect returns
	mute   atomic.Bool     // beats get no answer
	mu     sync.Mutex      // guards sending
	given  uint32          // credit that until has read and credit has not asked for
}

func (l *leader) Connect(stream grpc.BidiStreamingServer[pb.WorkUp, pb.WorkDown]) error {
	k := &link{stream: stream, ups: make(chan *pb.WorkUp, 10_000), end: make(chan error, 1)}
	received := make(chan struct{})
	go func() {
		defer close(received)
		defer close(k.ups)
		for {
			up, err := stream.Recv()
			if err != nil {
				return
			}
			if up.Beat != nil && !k.mute.Load() {
				k.send(&pb.WorkDown{Beaten: &pb.Beaten{Number: up.Beat.Number}})
			}
			k.ups <- up
		}
	}()
	l.links <- k
	select {
	case err := <-k.end:
		return err
	case <-received:
		return nil
	}
}

func (k *link) send(down *pb.WorkDown) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.stream.Send(down) // a broken stream shows in what the worker does next
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("nothing came: %s", what)
		panic("unreachable")
	}
}

// next gives the next stream and its Hello, unanswered.
func (l *leader) next(t *testing.T) (*link, *pb.Hello) {
	t.Helper()
	k := within(t, l.links, "a stream")
	up := within(t, k.ups, "a hello")
	if up == nil || up.Hello == nil {
		t.Fatalf("the first message is no hello: %v", up)
	}
	return k, up.Hello
}

// accept welcomes the next stream, with beats and leases far longer than a test.
func (l *leader) accept(t *testing.T) (*link, *pb.Hello) {
	t.Helper()
	k, hello := l.next(t)
	k.send(&pb.WorkDown{Welcome: &pb.Welcome{Epoch: 1, BeatMs: 5_000, LeaseMs: 60_000}})
	return k, hello
}

// until reads messages up to one that the test wants.
func (k *link) until(t *testing.T, what string, want func(*pb.WorkUp) bool) *pb.WorkUp {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case up, open := <-k.ups:
			if !open {
				t.Fatalf("the stream ended before %s", what)
			}
			k.given += up.Credit
			if want(up) {
				return up
			}
		case <-deadline:
			t.Fatalf("nothing came: %s", what)
		}
	}
}

// credit waits for credit, which may have come together with something else.
func (k *link) credit(t *testing.T, want uint32) {
	t.Helper()
	for k.given < want { // seats may become ready one after the other
		k.until(t, "credit", func(up *pb.WorkUp) bool { return up.Credit > 0 })
	}
	if k.given != want {
		t.Fatalf("credit %d, want %d", k.given, want)
	}
	k.given = 0
}

func (k *link) done(t *testing.T, token uint64) *pb.Done {
	t.Helper()
	up := k.until(t, "done", func(up *pb.WorkUp) bool { return len(up.Done) > 0 })
	if len(up.Done) != 1 || up.Done[0].Token != token {
		t.Fatalf("done %v, want token %d alone", up.Done, token)
	}
	return up.Done[0]
}

func (k *link) failed(t *testing.T, token uint64) *pb.Failed {
	t.Helper()
	up := k.until(t, "failed", func(up *pb.WorkUp) bool { return len(up.Failed) > 0 })
	if len(up.Failed) != 1 || up.Failed[0].Token != token {
		t.Fatalf("failed %v, want token %d alone", up.Failed, token)
	}
	return up.Failed[0]
}

// ended waits for the worker's end of the stream.
func (k *link) ended(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, open := <-k.ups:
			if !open {
				return
			}
		case <-deadline:
			t.Fatal("the stream did not end")
		}
	}
}

// A fakeSeat renders what the test tells it to.
type fakeSeat struct {
	ready   chan struct{}
	renders chan *rendering
	broken  chan error
}

// A rendering is one call of Render in progress.
type rendering struct {
	ctx    context.Context
	id     job.ID
	spec   *job.Spec
	finish chan func() capture.Outcome
}

// newFakeSeat is a seat that is ready; its calls arrive in renders.
func newFakeSeat(renders chan *rendering) *fakeSeat {
	s := &fakeSeat{ready: make(chan struct{}), renders: renders, broken: make(chan error, 1)}
	close(s.ready)
	return s
}

func (s *fakeSeat) Ready() <-chan struct{} { return s.ready }

func (s *fakeSeat) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.broken:
		return err
	}
}

func (s *fakeSeat) Render(ctx context.Context, id job.ID, spec *job.Spec) capture.Outcome {
	r := &rendering{ctx, id, spec, make(chan func() capture.Outcome, 1)}
	s.renders <- r
	select {
	case f := <-r.finish:
		return f()
	case <-ctx.Done():
		return capture.Outcome{Failure: job.Fail(job.WallTimeout, job.StageCapture, "out of time")}
	}
}

func (r *rendering) succeed(body string) {
	r.finish <- func() capture.Outcome {
		return capture.Outcome{
			Artifact: &capture.Artifact{Body: []byte(body), Width: 640, Height: 480},
			Evidence: &job.Evidence{Title: "a\x00page", StatusCode: 200},
			Timings:  job.Timings{NavigateMS: 3, WaitMS: 4, CaptureMS: 5, QueueMS: 99},
		}
	}
}

// aborted waits for the end of the render's context and gives its cause.
func (r *rendering) aborted(t *testing.T) error {
	t.Helper()
	within(t, r.ctx.Done(), "the end of a render's context")
	return context.Cause(r.ctx)
}

// A farm is one worker that runs against a scripted leader.
type farm struct {
	*leader
	seats        []*fakeSeat
	renders      chan *rendering // of all seats
	worker       *Worker
	stop, cancel context.CancelFunc // end intake, end work
	result       chan error
}

// start runs a worker with n seats until the test ends.
func start(t *testing.T, n int, change func(*Config)) *farm {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) }) // the last of all clean-ups
	f := &farm{leader: newLeader(t), renders: make(chan *rendering, 100), result: make(chan error, 1)}
	var seats []Renderer
	for range n {
		s := newFakeSeat(f.renders)
		f.seats = append(f.seats, s)
		seats = append(seats, s)
	}
	cfg := Config{Name: "w1", Schedulers: []string{f.address}, Token: testToken}
	if change != nil {
		change(&cfg)
	}
	var err error
	if f.worker, err = New(cfg, seats); err != nil {
		t.Fatal(err)
	}
	intake, stop := context.WithCancel(context.Background())
	work, cancel := context.WithCancel(context.Background())
	f.stop, f.cancel = stop, cancel
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.result <- f.worker.Run(intake, work)
	}()
	t.Cleanup(func() { stop(); cancel(); within(t, ended, "the end of Run") })
	return f
}

// assignment is a lease of a small page to be stored at url.
func assignment(token uint64, url string) *pb.Assign {
	spec := job.Defaults()
	spec.HTML = "<p>hello"
	return &pb.Assign{
		Token: token, Job: string(job.NewID()), Account: "acme", Attempt: 1, Spec: spec.Marshal(),
		PutUrl: url, PutHeaders: map[string]string{"If-None-Match": "*", "Content-Type": "image/png"}, WallMs: 60_000,
	}
}

var errBroken = errors.New("broken on purpose")
