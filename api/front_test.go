package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A decision that was made while no stream was up is asked for in the next
// hello, with the record's sequence.
func TestDecisionAfterReconnect(t *testing.T) {
	f := newFarm(t)
	<-f.leader.hellos
	f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
		f.leader.hangUp()
		return f.leader.store(rec), nil // decided with nobody to tell
	}
	done := make(chan answered)
	go func() { done <- f.do("POST", "/v1/jobs", `{"html":"x"}`) }()
	for f.server.front.connected() {
		<-time.After(time.Millisecond)
	}
	f.leader.listen()
	hello := <-f.leader.hellos
	if len(hello.Pending) != 1 || hello.Pending[0].JobsSeq != 1 || hello.Api != f.server.boot {
		t.Errorf("hello %v", hello)
	}
	if j := (<-done).job(t, http.StatusAccepted); j.Id != hello.Pending[0].Id {
		t.Errorf("%+v", j)
	}
}

// A record whose publish is in doubt is pending with sequence 0.
func TestPendingInDoubt(t *testing.T) {
	f := newFarm(t)
	<-f.leader.hellos
	open := make(chan struct{})
	f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
		f.leader.hangUp()
		f.leader.store(rec)
		close(open)
		return 0, stream.ErrOpen
	}
	done := make(chan answered)
	go func() { done <- f.do("POST", "/v1/jobs", `{"html":"x"}`) }()
	<-open
	f.leader.listen()
	if hello := <-f.leader.hellos; len(hello.Pending) != 1 || hello.Pending[0].JobsSeq != 0 {
		t.Errorf("hello %v", hello)
	}
	(<-done).job(t, http.StatusAccepted)
	// What is decided is not asked for again.
	f.leader.hangUp()
	f.leader.listen()
	if hello := <-f.leader.hellos; len(hello.Pending) != 0 {
		t.Errorf("hello %v", hello)
	}
}

// connected reports whether a stream is welcomed.
func (f *front) connected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.session != nil && f.session.epoch != 0
}

// While a new leader is coming, submissions wait for it and are published
// once, to it.
func TestSubmitDuringATakeover(t *testing.T) {
	f := newFarm(t)
	f.leader.hangUp()
	for f.server.front.connected() {
		<-time.After(time.Millisecond)
	}
	done := make(chan answered)
	go func() { done <- f.do("POST", "/v1/jobs", `{"html":"x"}`) }()
	f.leader.listen()
	(<-done).job(t, http.StatusAccepted)
	if len(f.leader.records) != 1 {
		t.Errorf("%d records", len(f.leader.records))
	}
}

// Without heartbeats everything that needs a leader is Unavailable soon.
func TestLeaderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newLonelyFarm(t)
		f.leader.listen()
		f.leader.beats <- &pb.Heartbeat{Epoch: 7, Address: "leader", TimeUs: time.Now().UnixMicro()}
		f.welcomed()
		id := f.submit(`{"html":"x"}`).Id
		synctest.Wait()
		for len(f.leader.looked) > 0 {
			<-f.leader.looked
		}
		f.leader.mute = true
		done := make(chan answered)
		began := time.Now()
		go func() { done <- f.do("GET", "/v1/jobs/"+id, "") }()
		<-f.leader.looked
		f.leader.hangUp()
		(<-done).problem(t, 503, "unavailable")
		if took := time.Since(began); took > beatWithin+giveUpEvery {
			t.Errorf("a look-up failed after %s", took)
		}
		began = time.Now()
		f.do("GET", "/v1/jobs/"+id, "").problem(t, 503, "unavailable")
		f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, 503, "unavailable")
		if took := time.Since(began); took != 0 {
			t.Errorf("waited %s for a leader that is known to be gone", took)
		}
	})
}

// A leader that beats but does not answer a question costs five seconds.
func TestSilentLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		id := f.submit(`{"html":"x"}`).Id
		f.leader.mu.Lock()
		f.leader.mute = true
		f.leader.mu.Unlock()
		began := time.Now()
		f.do("GET", "/v1/jobs/"+id, "").problem(t, 503, "unavailable")
		if took := time.Since(began); took != answerWithin {
			t.Errorf("answered after %s", took)
		}
	})
}

// A heartbeat of a later reign moves the replica even when the old leader's
// stream stays open, as a stopped process's does; an older reign's does not.
func TestNewReign(t *testing.T) {
	f := newFarm(t)
	<-f.leader.hellos
	f.leader.mu.Lock()
	f.leader.epoch = 8
	f.leader.mu.Unlock()
	<-f.leader.hellos
	f.leader.beats <- &pb.Heartbeat{Epoch: 7, Address: "elsewhere"}
	f.welcomed()
	if to, _ := f.server.front.leader(); to.address != "leader" {
		t.Errorf("follows %+v", to)
	}
	f.submit(`{"html":"x"}`)
}

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFront("api", nil, nil)
		if _, err := f.clock(); err == nil {
			t.Error("a clock without a heartbeat")
		}
		f.heard(&pb.Heartbeat{Epoch: 1, TimeUs: 1_000_000})
		time.Sleep(1234 * time.Millisecond)
		if us, err := f.clock(); err != nil || us != 2_234_000 {
			t.Errorf("%d %v", us, err)
		}
		time.Sleep(clockWithin)
		if _, err := f.clock(); err == nil {
			t.Error("a clock of a leader that is gone")
		}
	})
}

// notLeading answers that somebody else leads.
type notLeading struct {
	pb.UnimplementedFrontServer
	address string
}

func (n notLeading) Connect(s pb.Front_ConnectServer) error {
	return s.Send(&pb.FrontDown{NotLeader: &pb.NotLeader{Address: n.address}})
}

// tokens notes what a replica shows.
type tokens struct {
	*leader
	shown chan string
}

func (s tokens) Connect(stream pb.Front_ConnectServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	for _, v := range md.Get("authorization") {
		s.shown <- v
	}
	return s.leader.Connect(stream)
}

// Over real sockets, with the real dialer: the heartbeat's scheduler does not
// lead any more and names the one that does.
func TestFollowNotLeader(t *testing.T) {
	dir := t.TempDir()
	serve := func(name string, s pb.FrontServer) string {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer()
		pb.RegisterFrontServer(g, s)
		go g.Serve(l) //nolint:errcheck // ends with Stop
		t.Cleanup(g.Stop)
		return "unix://" + filepath.Join(dir, name)
	}
	f := newLonelyFarm(t)
	f.server.front.dial = dialer(nil)
	shown := make(chan string, 10)
	second := serve("2", tokens{f.leader, shown})
	first := serve("1", notLeading{address: second})
	f.leader.beats <- &pb.Heartbeat{Epoch: 7, Address: first, TimeUs: time.Now().UnixMicro(), FrontToken: "secret"}
	if got := <-shown; got != "Bearer secret" {
		t.Errorf("showed %q", got)
	}
	f.welcomed()
	f.submit(`{"html":"x"}`)
}

// A look-up is asked again on the next stream. A count is not: the leader may
// have charged it, and only its answer been lost.
func TestCountIsPutOnce(t *testing.T) {
	f := newFront("api", nil, slog.New(slog.DiscardHandler))
	count := &question{once: true, answer: make(chan *pb.Answer, 1), put: func(up *pb.FrontUp, call uint64) {
		up.Counts = append(up.Counts, &pb.Count{Call: call, Units: 120})
	}}
	look := &question{answer: make(chan *pb.Answer, 1), put: func(up *pb.FrontUp, call uint64) {
		up.Lookups = append(up.Lookups, &pb.Lookup{Call: call})
	}}
	f.asked[1], f.asked[2] = count, look
	f.open(new(session))
	if len(f.out.Counts) != 0 || len(f.out.Lookups) != 1 {
		t.Errorf("on the next stream: %v", f.out)
	}
	if _, ok := <-count.answer; ok || len(f.asked) != 1 {
		t.Error("whoever counted still waits")
	}
}
