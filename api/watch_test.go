package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A watch is a client of a stream of events, which a parser reads that is not
// ours. Its connection is a pipe, so that it works in a bubble.
type watch struct {
	t      testing.TB
	header http.Header
	status int
	events chan sse.Event
	raw    *strings.Builder // all that came; to be read after the end
	goAway context.CancelFunc
	done   chan struct{} // closed at the end of the answer
}

// piped is the far end of its connection.
type piped struct {
	header http.Header
	begun  chan int // takes the status
	once   sync.Once
	*io.PipeWriter
}

func (p *piped) Header() http.Header { return p.header }
func (p *piped) Flush()              {}

func (p *piped) WriteHeader(status int) { p.once.Do(func() { p.begun <- status }) }

func (p *piped) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.PipeWriter.Write(b)
}

// watch opens a stream with the account's key and returns when it was answered.
func (f *farm) watch(path string, headers ...header) *watch {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	r.RemoteAddr = "192.0.2.1:5000"
	r.Header.Set("Authorization", "Bearer "+f.key)
	for _, h := range headers {
		for k, v := range h {
			r.Header.Set(k, v)
		}
	}
	in, out := io.Pipe()
	p := &piped{header: http.Header{}, begun: make(chan int, 1), PipeWriter: out}
	w := &watch{t: f.t, header: p.header, events: make(chan sse.Event, 5000), raw: new(strings.Builder), goAway: cancel, done: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		f.server.Handler().ServeHTTP(p, r)
		p.WriteHeader(http.StatusOK) // as net/http does
		out.Close()
	})
	go func() {
		defer close(w.done)
		defer close(w.events)
		for ev, err := range sse.Read(io.TeeReader(in, w.raw), nil) {
			if err != nil {
				f.t.Errorf("the stream does not parse: %v", err)
				break
			}
			w.events <- ev
		}
		_, _ = io.Copy(w.raw, in)
		serving.Wait()
	}()
	f.t.Cleanup(func() { cancel(); <-w.done })
	w.status = <-p.begun
	return w
}

// told is what an event says.
type toldEvent struct {
	Type      string
	Timestamp time.Time
	Data      struct {
		Job    map[string]any
		Jobs   map[string]int
		Batch  *Batch
		Usage  map[string]any
		Reason string
	}
	id string
}

// next is the next event.
func (w *watch) next() toldEvent {
	w.t.Helper()
	select {
	case ev, open := <-w.events:
		if !open {
			w.t.Fatalf("the stream has ended (%d): %s", w.status, w.raw)
		}
		got := toldEvent{id: ev.LastEventID}
		if err := json.Unmarshal([]byte(ev.Data), &got); err != nil || got.Type != ev.Type {
			w.t.Fatalf("event %+v: %v", ev, err)
		}
		return got
	case <-time.After(20 * time.Second):
		w.t.Fatal("no event")
	}
	return toldEvent{}
}

// want is the next event, of this type and about this job.
func (w *watch) want(kind, id string) toldEvent {
	w.t.Helper()
	got := w.next()
	if got.Type != kind || id != "" && got.Data.Job["id"] != id {
		w.t.Fatalf("event %+v, want %s of %s", got, kind, id)
	}
	return got
}

// over waits for the end of the stream and gives the events that nobody has
// looked at.
func (w *watch) over() (rest []sse.Event) {
	w.t.Helper()
	for {
		select {
		case ev, open := <-w.events:
			if !open {
				<-w.done
				return rest
			}
			rest = append(rest, ev)
		case <-time.After(20 * time.Second):
			w.t.Fatal("the stream goes on")
		}
	}
}

// What the leader says, and writes into the ledger at the same moment.

func (f *farm) accepts(id string) (seq uint64) {
	j := f.leaders(id)
	return f.ledger.add(&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{
		Envelope: &pb.Envelope{Id: id, Account: j.Account, Batch: j.Batch, Line: j.Line}, Place: pb.Place_PLACE_QUEUE,
	}}})
}

func (f *farm) starts(id string) (seq uint64) {
	var of *pb.Of
	f.leader.change(id, func(j *pb.Job) {
		j.State, j.WaitingFor, j.Attempts, j.StartedUs = "running", "", j.Attempts+1, time.Now().UnixMicro()
		of = &pb.Of{Account: j.Account, Batch: j.Batch, Attempts: j.Attempts}
	})
	return f.ledger.add(&pb.Event{Fact: &pb.Event_Started{Started: &pb.Started{Id: id, Of: of}}})
}

func (f *farm) releases(id string) (seq uint64) {
	var of *pb.Of
	f.leader.change(id, func(j *pb.Job) {
		j.State, j.WaitingFor = "queued", "retry"
		of = &pb.Of{Account: j.Account, Batch: j.Batch, Attempts: j.Attempts, StartedUs: j.StartedUs}
	})
	return f.ledger.add(&pb.Event{Fact: &pb.Event_Released{Released: &pb.Released{Id: id, NotBeforeUs: time.Now().Add(time.Second).UnixMicro(), Of: of}}})
}

func (f *farm) ends(id string) (seq uint64) {
	f.succeed(id, []byte("png"))
	return f.ledger.add(&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: f.leaders(id)}}})
}

// leaders is a job as the leader has it.
func (f *farm) leaders(id string) *pb.Job {
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	return proto.CloneOf(f.leader.jobs[id])
}
