package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/worker/capture"
)

// held is a worker that renders token on its only seat.
func held(t *testing.T, token uint64, change func(*Config)) (*farm, *link, *rendering, *fakeStore) {
	t.Helper()
	f, s := start(t, 1, change), newStore(t)
	k, _ := f.accept(t)
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(token, s.URL+"/r/a")}})
	return f, k, within(t, f.renders, "a render"), s
}

func (f *farm) ended(t *testing.T) error {
	t.Helper()
	return within(t, f.result, "the end of Run")
}

func TestNewRefuses(t *testing.T) {
	good := Config{Name: "w", Schedulers: []string{"unix:///x"}}
	seats := []Renderer{newFakeSeat(nil)}
	registry := prometheus.NewRegistry()
	for name, make := range map[string]func() (*Worker, error){
		"name":      func() (*Worker, error) { c := good; c.Name = ""; return New(c, seats) },
		"scheduler": func() (*Worker, error) { c := good; c.Schedulers = []string{"a", ""}; return New(c, seats) },
		"seats":     func() (*Worker, error) { return New(good, nil) },
		"drain":     func() (*Worker, error) { c := good; c.DrainLimit = -1; return New(c, seats) },
		"duplicate metrics": func() (*Worker, error) {
			c := good
			c.Metrics = registry
			if _, err := New(c, seats); err != nil {
				t.Fatal(err)
			}
			return New(c, seats)
		},
	} {
		if _, err := make(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names it", name, err)
		}
	}
}

func TestNotLeaderIsFollowed(t *testing.T) {
	other := newLeader(t)
	f := start(t, 1, nil)
	k, hello := f.next(t)
	k.send(&pb.WorkDown{NotLeader: &pb.NotLeader{Address: other.address}})
	next, again := other.accept(t)
	if again.Boot != hello.Boot || again.Worker != "w1" || again.Seats != 1 {
		t.Errorf("hello %v, then %v", hello, again)
	}
	next.credit(t, 1)

	// The second one steps down without knowing who leads now.
	next.send(&pb.WorkDown{NotLeader: &pb.NotLeader{}})
	k, _ = f.accept(t)
	k.credit(t, 1)
}

func TestSchedulersAreTriedInTurn(t *testing.T) {
	f := start(t, 1, func(c *Config) {
		c.Schedulers = append([]string{"unix:///nonexistent/scheduler"}, c.Schedulers...)
	})
	k, _ := f.accept(t)
	k.credit(t, 1)
}

// A worker whose token is refused says so and goes on trying.
func TestTokenIsNeeded(t *testing.T) {
	log := &lines{found: make(chan struct{}), want: "bearer token"}
	f := start(t, 1, func(c *Config) {
		c.Token = "wrong"
		c.Log = slog.New(slog.NewTextHandler(log, nil))
	})
	within(t, log.found, "a line about the token")
	f.stop()
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
	if len(f.links) != 0 {
		t.Error("a stream was opened with a wrong token")
	}
}

// lines is a log that closes found at the first line that holds want.
type lines struct {
	want  string
	found chan struct{}
	once  sync.Once
}

func (l *lines) Write(line []byte) (int, error) {
	if strings.Contains(string(line), l.want) {
		l.once.Do(func() { close(l.found) })
	}
	return len(line), nil
}

// A worker whose name another process has says so once, and asks again now and
// then.
func TestNamesake(t *testing.T) {
	log := new(bytes.Buffer) // a handler writes one line at a time
	f := start(t, 1, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	taken := wire.FaultStatus(fault.New(fault.Conflict, "another process is connected"))
	k, _ := f.accept(t)
	k.credit(t, 1)
	k.end <- nil // displaced
	began := time.Now()
	for range 2 {
		k, _ = f.next(t)
		k.end <- taken
	}
	k, _ = f.accept(t)
	if took := time.Since(began); took < 2*retryMax {
		t.Errorf("asked again after %v, want pauses of %v", took, retryMax)
	}
	k.credit(t, 1)
	f.stop()
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "another process is connected") {
		t.Errorf("%d errors, want one that says why:\n%s", n, log)
	}
}

// A page goes on across a lost stream, and its report arrives on the next.
func TestRenderSurvivesALostStream(t *testing.T) {
	f, k, r, _ := held(t, 7, nil)
	k.end <- errBroken
	k, hello := f.accept(t)
	if len(hello.Held) != 1 || hello.Held[0].Token != 7 || hello.Held[0].Job != string(r.id) {
		t.Fatalf("the hello lists %v, want token 7", hello.Held)
	}
	beat := k.until(t, "a beat", func(up *pb.WorkUp) bool { return up.Beat != nil })
	if len(beat.Beat.Tokens) != 1 || beat.Beat.Tokens[0] != 7 {
		t.Errorf("beat %v, want token 7", beat.Beat)
	}
	if beat.Credit != 0 {
		t.Errorf("credit %d while the seat is busy", beat.Credit)
	}
	r.succeed("picture")
	k.done(t, 7)
}

// A report is repeated on every stream until it is committed, with the same
// boot id all along.
func TestReportIsRepeated(t *testing.T) {
	f, k, r, s := held(t, 7, nil)
	boot := f.worker.boot
	r.succeed("picture")
	first := k.done(t, 7)
	for range 2 {
		k.end <- errBroken
		var hello *pb.Hello
		k, hello = f.accept(t)
		if hello.Boot != boot {
			t.Errorf("boot %s, want %s", hello.Boot, boot)
		}
		if len(hello.Held) != 1 || hello.Held[0].Token != 7 {
			t.Errorf("the hello lists %v, want token 7", hello.Held)
		}
		if again := k.done(t, 7); string(again.Result.Sha256) != string(first.Result.Sha256) {
			t.Error("the repeated report differs")
		}
	}
	if s.puts() != 1 {
		t.Errorf("%d PUTs, want 1", s.puts())
	}
	k.send(&pb.WorkDown{Committed: []uint64{7}})
	k.end <- errBroken // after the commit, which the worker reads first
	if _, hello := f.accept(t); len(hello.Held) != 0 {
		t.Errorf("the hello lists %v after the commit", hello.Held)
	}
}

func TestStaleReportIsForgotten(t *testing.T) {
	f, k, r, _ := held(t, 7, nil)
	r.succeed("picture")
	k.done(t, 7)
	k.send(&pb.WorkDown{Stale: []uint64{7}})
	k.end <- errBroken
	if _, hello := f.accept(t); len(hello.Held) != 0 {
		t.Errorf("the hello lists %v", hello.Held)
	}
}

func TestRevokeAndStaleAbort(t *testing.T) {
	for _, tt := range []struct {
		down *pb.WorkDown
		want drop
	}{
		{&pb.WorkDown{Revoke: []uint64{7, 99}}, dropRevoked},
		{&pb.WorkDown{Stale: []uint64{7, 99}}, dropStale},
	} {
		t.Run(string(tt.want), func(t *testing.T) {
			_, k, r, s := held(t, 7, nil)
			k.send(tt.down)
			if cause := r.aborted(t); !errors.Is(cause, tt.want) {
				t.Errorf("cause %v, want %v", cause, tt.want)
			}
			up := k.until(t, "credit for the free seat", func(up *pb.WorkUp) bool {
				if len(up.Done)+len(up.Failed)+len(up.Returned) > 0 {
					t.Errorf("reported %v", up)
				}
				return up.Credit > 0
			})
			if up.Credit != 1 || s.puts() != 0 {
				t.Errorf("credit %d, %d PUTs", up.Credit, s.puts())
			}
		})
	}
}

// An assignment that comes twice is one render; one without a free seat goes
// back.
func TestUnaskedAssignments(t *testing.T) {
	f, k, r, s := held(t, 7, nil)
	again, other := assignment(7, s.URL+"/r/a"), assignment(8, s.URL+"/r/b")
	k.send(&pb.WorkDown{Assign: []*pb.Assign{again, other}})
	up := k.until(t, "the token back", func(up *pb.WorkUp) bool { return len(up.Returned) > 0 })
	if len(up.Returned) != 1 || up.Returned[0] != 8 {
		t.Errorf("returned %v, want 8", up.Returned)
	}
	r.succeed("picture")
	k.done(t, 7)
	k.credit(t, 1)
	if n := len(f.renders); n != 0 {
		t.Errorf("%d more renders", n)
	}
}

// An assignment and its revocation may be gathered into one message.
func TestRevokedInTheSameMessage(t *testing.T) {
	f, s := start(t, 1, nil), newStore(t)
	k, _ := f.accept(t)
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(7, s.URL+"/r/a")}, Revoke: []uint64{7}})
	k.credit(t, 1)
	select {
	case r := <-f.renders: // the seat was faster than the rest of the message
		if cause := r.aborted(t); !errors.Is(cause, dropRevoked) {
			t.Errorf("cause %v, want %v", cause, dropRevoked)
		}
	default:
	}
	k.end <- errBroken
	if _, hello := f.accept(t); len(hello.Held) != 0 {
		t.Errorf("the hello lists %v", hello.Held)
	}
}

// A leader that answers no beats is left, and its pages are aborted while no
// other welcomes the worker.
func TestUnansweredBeatsAbort(t *testing.T) {
	f, s := start(t, 1, nil), newStore(t)
	k, _ := f.next(t)
	k.mute.Store(true)
	k.send(&pb.WorkDown{Welcome: &pb.Welcome{BeatMs: 100, LeaseMs: 5_000}}) // abort after 3 s
	k.credit(t, 1)
	begin := time.Now()
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(7, s.URL+"/r/a")}})
	r := within(t, f.renders, "a render")
	k.ended(t) // after three beats
	if left, hello := f.next(t); len(hello.Held) != 1 {
		t.Errorf("the hello lists %v, want token 7", hello.Held)
	} else {
		if cause := r.aborted(t); !errors.Is(cause, dropUnanswered) {
			t.Errorf("cause %v, want %v", cause, dropUnanswered)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("aborted after %s", took)
		}
		left.end <- errBroken
	}
	k, hello := f.accept(t)
	if len(hello.Held) != 0 {
		t.Errorf("the hello lists %v", hello.Held)
	}
	k.credit(t, 1)
}

// Intake ends: no credit, the job is finished, and Run waits for its commit.
func TestDrainFinishes(t *testing.T) {
	f, k, r, s := held(t, 7, nil)
	f.stop()
	k.until(t, "draining", func(up *pb.WorkUp) bool { return up.Draining })
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(8, s.URL+"/r/b")}}) // crossed with it
	up := k.until(t, "the token back", func(up *pb.WorkUp) bool { return len(up.Returned) > 0 })
	if up.Returned[0] != 8 {
		t.Errorf("returned %v, want 8", up.Returned)
	}
	r.succeed("picture")
	k.until(t, "done", func(up *pb.WorkUp) bool {
		if up.Credit > 0 {
			t.Errorf("credit %d in a drain", up.Credit)
		}
		return len(up.Done) > 0
	})
	select {
	case err := <-f.result:
		t.Fatalf("run ended before the commit: %v", err)
	default:
	}
	k.send(&pb.WorkDown{Committed: []uint64{7}})
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
	k.ended(t)
}

// A browser that dies in a drain had the worker's signal: its job goes back
// uncounted. Any other failure is reported as ever.
func TestCrashInADrainIsHandedBack(t *testing.T) {
	for code, back := range map[job.Code]bool{job.BrowserCrashed: true, job.PageCrashed: true, job.LoadTimeout: false} {
		t.Run(string(code), func(t *testing.T) {
			f, k, r, _ := held(t, 7, nil)
			f.stop()
			k.until(t, "draining", func(up *pb.WorkUp) bool { return up.Draining })
			r.finish <- func() capture.Outcome {
				return capture.Outcome{Failure: job.Fail(code, job.StageNavigate, "died")}
			}
			up := k.until(t, "the end", func(up *pb.WorkUp) bool { return len(up.Returned)+len(up.Failed) > 0 })
			if got := len(up.Returned) == 1 && up.Returned[0] == 7 && len(up.Failed) == 0; got != back {
				t.Errorf("said %v", up)
			}
			if !back {
				k.send(&pb.WorkDown{Committed: []uint64{7}})
			}
			if err := f.ended(t); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
}

// A worker that drains says so on a new stream as well.
func TestDrainAcrossALostStream(t *testing.T) {
	f, k, r, _ := held(t, 7, nil)
	f.stop()
	k.until(t, "draining", func(up *pb.WorkUp) bool { return up.Draining })
	k.end <- errBroken
	k, _ = f.accept(t)
	k.until(t, "draining", func(up *pb.WorkUp) bool { return up.Draining })
	r.succeed("picture")
	k.done(t, 7)
	k.send(&pb.WorkDown{Committed: []uint64{7}})
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestInterruptedJobsAreHandedBack(t *testing.T) {
	for name, interrupt := range map[string]func(*farm){
		"work ends":      func(f *farm) { f.cancel() },
		"both end":       func(f *farm) { f.stop(); f.cancel() },
		"drain limit":    func(f *farm) { f.stop() },
		"a seat is lost": func(f *farm) { f.seats[0].broken <- errBroken },
	} {
		t.Run(name, func(t *testing.T) {
			limit := time.Hour
			if name == "drain limit" {
				limit = time.Millisecond
			}
			f, k, r, s := held(t, 7, func(c *Config) { c.DrainLimit = limit })
			interrupt(f)
			up := k.until(t, "the token back", func(up *pb.WorkUp) bool { return len(up.Returned) > 0 })
			if len(up.Returned) != 1 || up.Returned[0] != 7 {
				t.Errorf("returned %v, want 7", up.Returned)
			}
			if cause := r.aborted(t); !errors.Is(cause, dropReturned) {
				t.Errorf("cause %v, want %v", cause, dropReturned)
			}
			var want error
			if name == "a seat is lost" {
				want = errBroken
			}
			if err := f.ended(t); !errors.Is(err, want) {
				t.Errorf("run: %v, want %v", err, want)
			}
			if s.puts() != 0 {
				t.Errorf("%d PUTs", s.puts())
			}
			for up := range k.ups { // to the stream's orderly end
				if len(up.Done)+len(up.Failed) > 0 {
					t.Errorf("reported %v", up)
				}
			}
		})
	}
}

// A report that is not yet committed is not handed back: its work is done.
func TestReportIsNotHandedBack(t *testing.T) {
	f, k, r, _ := held(t, 7, nil)
	r.succeed("picture")
	k.done(t, 7)
	f.cancel()
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
	for up := range k.ups {
		if len(up.Returned) > 0 {
			t.Errorf("returned %v", up.Returned)
		}
	}
}

// With no leader to tell, a stop is bounded all the same.
func TestStopWithoutALeader(t *testing.T) {
	f, k, r, _ := held(t, 7, nil)
	k.end <- errBroken
	f.next(t) // nobody answers its hello
	f.cancel()
	if cause := r.aborted(t); !errors.Is(cause, dropReturned) {
		t.Errorf("cause %v, want %v", cause, dropReturned)
	}
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
}

// A seat that is not ready gives no credit.
func TestSeatsThatAreNotReady(t *testing.T) {
	cold := newFakeSeat(nil)
	cold.ready = make(chan struct{})
	l := newLeader(t)
	w, err := New(Config{Name: "w1", Schedulers: []string{l.address}, Token: testToken}, []Renderer{newFakeSeat(nil), cold})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx, ctx) }()
	k, hello := l.accept(t)
	if hello.Seats != 2 {
		t.Errorf("%d seats, want 2", hello.Seats)
	}
	k.credit(t, 1)
	close(cold.ready)
	k.credit(t, 1)
	cancel()
	if err := within(t, result, "the end of Run"); err != nil {
		t.Errorf("run: %v", err)
	}
}

// Under load the leader, giving leases as fast as it gets credit, never sees
// more credit and open renders together than there are seats, and every job is
// done once.
func TestCreditNeverExceedsFreeSeats(t *testing.T) {
	const seats, jobs = 3, 200
	f, s := start(t, seats, nil), newStore(t)
	go func() {
		for range jobs {
			select {
			case r := <-f.renders:
				r.finish <- func() capture.Outcome {
					return capture.Outcome{Failure: job.Fail(job.TLSError, job.StageNavigate, "bad certificate")}
				}
			case <-t.Context().Done():
				return
			}
		}
	}()
	k, _ := f.accept(t)
	var token uint64
	credit, open, reported := 0, map[uint64]bool{}, 0
	for reported < jobs {
		up := k.until(t, "progress", func(*pb.WorkUp) bool { return true })
		for _, failed := range up.Failed {
			if !open[failed.Token] {
				t.Fatalf("token %d reported twice", failed.Token)
			}
			delete(open, failed.Token)
			reported++
			k.send(&pb.WorkDown{Committed: []uint64{failed.Token}})
		}
		credit += int(up.Credit)
		if credit+len(open) > seats {
			t.Fatalf("credit %d and %d leases on %d seats", credit, len(open), seats)
		}
		for ; credit > 0 && int(token) < jobs; credit-- {
			token++
			open[token] = true
			k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(token, s.URL+"/r/a")}})
		}
	}
}
