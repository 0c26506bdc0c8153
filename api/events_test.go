package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tmaxmax/go-sse"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A job's stream begins with the job as it is, tells each change with the job as
// GET shows it, and ends with it.
func TestJobEvents(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"<p>secret</p>","custom_id":"mine","delay_ms":7}`).Id
	f.accepts(id)
	w := f.watch("/v1/jobs/" + id + "/events")
	if w.status != 200 || w.header.Get("Content-Type") != "text/event-stream" || w.header.Get("Cache-Control") != "no-store" || w.header.Get("X-Request-Id") == "" {
		t.Fatalf("%d %v", w.status, w.header)
	}
	first := w.want("job.queued", id)
	job := first.Data.Job
	options := job["options"].(map[string]any)
	if job["status"] != "queued" || job["waiting_for"] != "worker" || job["custom_id"] != "mine" || options["delay_ms"] != 7.0 || options["html"] != nil {
		t.Errorf("the first event: %v", job)
	}
	f.starts(id)
	running := w.want("job.running", id)
	if j := running.Data.Job; j["status"] != "running" || j["attempts"] != 1.0 || j["started_at"] == nil || j["finished_at"] != nil || j["result"] != nil {
		t.Errorf("while it runs: %v", j)
	}
	f.releases(id)
	if j := w.want("job.queued", id).Data.Job; j["waiting_for"] != "retry" || j["attempts"] != 1.0 {
		t.Errorf("after a lost attempt: %v", j)
	}
	f.starts(id)
	w.want("job.running", id)
	f.ends(id)
	last := w.want("job.succeeded", id)
	if rest := w.over(); len(rest) > 0 || !strings.HasSuffix(last.id, "-end") {
		t.Errorf("after the end, whose id is %s: %v", last.id, rest)
	}
	var got map[string]any
	f.do("GET", "/v1/jobs/"+id, "").json(t, &got)
	delete(got["options"].(map[string]any), "html")
	if diff := cmp.Diff(got, last.Data.Job); diff != "" {
		t.Errorf("the last event differs from GET (-GET +event):\n%s", diff)
	}
	if at := got["finished_at"].(string); last.Timestamp.Format("2006-01-02T15:04:05.000Z") != at {
		t.Errorf("timestamp %s of an end at %s", last.Timestamp, at)
	}
	// Whoever has seen the end is told not to come back, whoever has not is told
	// the end.
	if w := f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": last.id}); w.status != http.StatusNoContent || len(w.over()) > 0 {
		t.Errorf("after the end: %d %s", w.status, w.raw)
	}
	w = f.watch("/v1/jobs/" + id + "/events")
	w.want("job.succeeded", id)
	w.over()
}

// A stream that was broken goes on where it was, on any replica, also when all
// is over by then.
func TestEventsResume(t *testing.T) {
	f := newFarm(t)
	id, other := f.submit(`{"html":"x"}`).Id, f.submit(`{"html":"y"}`).Id
	f.accepts(id)
	f.accepts(other)
	w := f.watch("/v1/jobs/" + id + "/events")
	queued := w.want("job.queued", id)
	w.goAway()
	w.over()
	f.starts(other)
	f.starts(id)
	f.releases(id)
	f.starts(id)
	w = f.watch("/v1/jobs/" + id + "/events?last_event_id=" + queued.id)
	first := w.want("job.running", id)
	if j := first.Data.Job; j["attempts"] != 1.0 || j["status"] != "running" {
		t.Errorf("as it was when its first attempt began: %v", j)
	}
	w.want("job.queued", id)
	if j := w.want("job.running", id).Data.Job; j["attempts"] != 2.0 {
		t.Errorf("as it is: %v", j)
	}
	f.ends(other)
	f.ends(id)
	w.want("job.succeeded", id)
	w.over()

	// The header goes before the query, which EventSource repeats as it was.
	w = f.watch("/v1/jobs/"+id+"/events?last_event_id="+queued.id, header{"Last-Event-ID": first.id})
	w.want("job.queued", id)
	w.want("job.running", id)
	last := w.want("job.succeeded", id)
	w.over()
	// An id of another stream that is behind the end.
	w = f.watch("/v1/jobs/" + id + "/events?last_event_id=" + strings.TrimSuffix(last.id, "-end"))
	w.want("job.succeeded", id)
	w.over()

	account := f.watch("/v1/events?last_event_id=" + queued.id)
	for _, want := range []string{"running " + other, "running " + id, "queued " + id, "running " + id, "succeeded " + other, "succeeded " + id} {
		kind, of, _ := strings.Cut(want, " ")
		account.want("job."+kind, of)
	}
}

// What the ledger does not hold any more cannot be told: the stream says so and
// goes on with what is now. So does one whose id is of another ledger.
func TestEventsThatAreGone(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	f.accepts(id)
	w := f.watch("/v1/jobs/" + id + "/events")
	queued := w.want("job.queued", id)
	w.goAway()
	w.over()
	f.starts(id)
	for range 3 {
		f.ledger.add()
	}
	f.ledger.purge(3)
	for _, mark := range []string{queued.id, "0", "99999999", "18446744073709551615"} {
		for _, path := range []string{"/v1/jobs/" + id + "/events", "/v1/events"} {
			w := f.watch(path, header{"Last-Event-ID": mark})
			if got := w.want("reset", ""); got.Data.Reason != "too_old" {
				t.Errorf("%s from %s: %+v", path, mark, got)
			}
			if path == "/v1/events" {
				w.want("stream.opened", "")
				continue
			}
			w.want("job.running", id)
		}
	}
	f.ends(id)
	f.ledger.purge(6)
	w = f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": queued.id})
	w.want("reset", "")
	w.want("job.succeeded", id)
	w.over()

	for _, bad := range []string{"x", "-1", "1-", "1-end-end", "18446744073709551616", " 1"} {
		a := f.do("GET", "/v1/events", "", header{"Last-Event-ID": bad})
		if p := a.problem(t, 400, "invalid_input"); (*p.Errors)[0].Pointer != "Last-Event-ID" {
			t.Errorf("%q: %s", bad, a.Body)
		}
	}
	f.do("GET", "/v1/events?last_event_id=x", "").problem(t, 400, "invalid_input")
	f.do("GET", "/v1/events?batch_line_events=maybe", "").problem(t, 400, "invalid_input")
	f.do("GET", "/v1/jobs/job_x/events", "").problem(t, 404, "not_found")
}

// An account's stream has its own jobs alone, and lines of batches where it asks
// for them.
func TestAccountEvents(t *testing.T) {
	f := newFarm(t)
	own, line := f.submit(`{"html":"x"}`).Id, f.submit(`{"html":"y"}`).Id
	f.leader.change(line, func(j *pb.Job) { j.Batch, j.Line = "batch_1", 7 })
	mine := f.key
	var foreign string
	_, f.key = f.store.newAccount("other")
	foreign = f.submit(`{"html":"z"}`).Id
	f.key = mine
	plain, all := f.watch("/v1/events"), f.watch("/v1/events?batch_line_events=true")
	if got := plain.want("stream.opened", ""); got.Data.Jobs["waiting"] != 2 || got.id == "" {
		t.Errorf("%+v", got)
	}
	all.want("stream.opened", "")
	for _, id := range []string{foreign, line, own} {
		f.accepts(id)
		f.starts(id)
		f.ends(id)
	}
	for _, id := range []string{line, own} {
		for _, kind := range []string{"job.queued", "job.running", "job.succeeded"} {
			all.want(kind, id)
			if id == own {
				plain.want(kind, id)
			}
		}
	}
	f.ledger.mu.Lock()
	reads := f.ledger.reads
	f.ledger.mu.Unlock()
	if reads != 1 {
		t.Errorf("the ledger was read %d times for two streams", reads)
	}
}

// A hit of the cache has no queue to be in.
func TestCachedJobHasOneEvent(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	w := f.watch("/v1/events")
	w.want("stream.opened", "")
	f.succeed(id, []byte("png"))
	f.ledger.add(
		&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: f.acct.ID}, Place: pb.Place_PLACE_CACHED}}},
		&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: f.leaders(id)}}},
	)
	w.want("job.succeeded", id)
}

// A stream never shows an older state than an earlier answer did, however far the
// reading of the ledger is behind (I13).
func TestEventsAreNeverOlderThanAnswers(t *testing.T) {
	f := newFarm(t)
	first := f.submit(`{"html":"x"}`).Id
	keep := f.watch("/v1/events") // so that the ledger is read already
	keep.want("stream.opened", "")
	f.ledger.hold(4)
	f.accepts(first)
	f.starts(first)
	f.releases(first)
	f.starts(first)
	if j := f.do("GET", "/v1/jobs/"+first, "").job(t, 200); j.Status != "running" || j.Attempts != 2 {
		t.Fatalf("%+v", j)
	}
	one, all := f.watch("/v1/jobs/"+first+"/events"), f.watch("/v1/events")
	if j := one.want("job.running", first).Data.Job; j["attempts"] != 2.0 {
		t.Errorf("the first event: %v", j)
	}
	opened := all.want("stream.opened", "")
	// A replica that is further has sent this one's client what is still to come
	// here.
	ahead := f.watch("/v1/events", header{"Last-Event-ID": opened.id})
	f.ledger.hold(0)
	f.ends(first)
	one.want("job.succeeded", first)
	one.over()
	all.want("job.succeeded", first)
	ahead.want("job.succeeded", first)
	for _, kind := range []string{"job.queued", "job.running", "job.queued", "job.running", "job.succeeded"} {
		keep.want(kind, first) // which was open before, and is told all of it
	}
}

// A stream outlives its leader, and what came meanwhile is told once there is one.
func TestEventsAcrossLeaders(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	w := f.watch("/v1/events")
	w.want("stream.opened", "")
	f.leader.hangUp()
	f.lost()
	f.accepts(id)
	f.starts(id)
	f.leader.listen()
	w.want("job.queued", id)
	w.want("job.running", id)
	f.ends(id)
	w.want("job.succeeded", id)
}

// A ledger that cannot be read is no 500, and one that is lost in the middle ends
// streams in words; who comes back misses nothing.
func TestEventsWithoutALedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		id := f.submit(`{"html":"x"}`).Id
		f.accepts(id)
		f.ledger.setAway(errDown)
		for _, path := range []string{"/v1/jobs/" + id + "/events", "/v1/events", "/v1/events?last_event_id=65536"} {
			if p := f.do("GET", path, "").problem(t, 503, "unavailable"); !strings.Contains(p.Detail, "events") {
				t.Errorf("%s: %+v", path, p)
			}
		}
		f.ledger.setAway(nil)
		w := f.watch("/v1/jobs/" + id + "/events")
		queued := w.want("job.queued", id)
		f.ledger.setAway(errDown)
		if got := w.want("reset", ""); got.Data.Reason != "gap" || got.id != queued.id {
			t.Errorf("%+v after %s", got, queued.id)
		}
		w.over()
		f.starts(id)
		f.ledger.setAway(nil)
		f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": queued.id}).want("job.running", id)
	})
}

// A client that does not read is cut off, keeps nobody waiting, and misses
// nothing when it comes back.
func TestSlowReaderOfEvents(t *testing.T) {
	f := newFarm(t)
	r, _ := f.request("GET", "/v1/events")
	stuck := &stuckWriter{header: http.Header{}, blocked: make(chan struct{}), free: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		f.server.Handler().ServeHTTP(stuck, r)
	}()
	<-stuck.blocked
	quick := f.watch("/v1/events")
	quick.want("stream.opened", "")
	id := f.submit(`{"html":"x"}`).Id
	f.succeed(id, []byte("png"))
	end := &pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: f.leaders(id)}}}
	const frames, each = 41, 25 // one more than is kept
	for range frames {
		events := make([]*pb.Event, each)
		for i := range events {
			events[i] = end
		}
		f.ledger.add(events...)
		for range each { // the quick one keeps up
			quick.want("job.succeeded", id)
		}
	}
	close(stuck.free)
	<-served
	var events []sse.Event
	for ev, err := range sse.Read(strings.NewReader(stuck.text.String()), nil) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, ev)
	}
	last := events[len(events)-1]
	if last.Type != "reset" || !strings.Contains(last.Data, `"slow"`) || len(events) > 2 {
		t.Fatalf("%d events, the last is %+v", len(events), last)
	}
	back := f.watch("/v1/events", header{"Last-Event-ID": last.LastEventID})
	for range frames * each {
		back.want("job.succeeded", id)
	}
}

// stuckWriter is a connection that takes nothing from its first write on, until
// it is freed.
type stuckWriter struct {
	header  http.Header
	blocked chan struct{}
	free    chan struct{}
	writes  int
	text    strings.Builder
}

func (s *stuckWriter) Header() http.Header { return s.header }
func (s *stuckWriter) WriteHeader(int)     {}
func (s *stuckWriter) Flush()              {}

func (s *stuckWriter) Write(p []byte) (int, error) {
	if s.writes++; s.writes == 2 { // the first event
		close(s.blocked)
		<-s.free
	}
	return s.text.Write(p)
}

// So many streams may be open, and a place is free again once one is closed.
func TestStreamLimits(t *testing.T) {
	f := newFarm(t)
	var open []*watch
	for range streamsPerAccount {
		open = append(open, f.watch("/v1/events"))
	}
	a := f.do("GET", "/v1/events", "")
	if p := a.problem(t, 429, "concurrency_limit_exceeded"); !strings.Contains(p.Detail, "100") || a.Header().Get("Retry-After") == "" {
		t.Errorf("%+v", p)
	}
	mine := f.key
	_, f.key = f.store.newAccount("other")
	for range streamsPerAddress - streamsPerAccount {
		open = append(open, f.watch("/v1/events"))
	}
	_, f.key = f.store.newAccount("third")
	f.do("GET", "/v1/events", "").problem(t, 429, "concurrency_limit_exceeded")
	f.key = mine
	open[0].goAway()
	open[0].over()
	if w := f.watch("/v1/events"); w.status != 200 {
		t.Errorf("%d", w.status)
	}
}

// A stream on which nothing happens is kept open by comments, and is closed once
// its client may not read any more. The ledger is not read for nobody.
func TestQuietStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		k, revoked := f.newKey(nil)
		w, other := f.watch("/v1/events"), f.watch("/v1/events", revoked)
		time.Sleep(10*beatEvery + time.Second)
		if err := f.store.RevokeKey(t.Context(), f.acct.ID, k.ID); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		other.over()
		if took := time.Since(at); took > 5*time.Second {
			t.Errorf("a revoked key went on reading for %s", took)
		}
		w.goAway()
		w.over()
		if got := strings.Count(w.raw.String(), ": beat\n\n"); got != 10 {
			t.Errorf("%d comments in ten times %s: %q", got, beatEvery, w.raw)
		}
		synctest.Wait()
		if err := f.ledger.following(t.Context(), true); err != nil {
			t.Error(err)
		}
		time.Sleep(tailIdle + time.Second)
		if err := f.ledger.following(t.Context(), false); err != nil {
			t.Error(err)
		}
		w = f.watch("/v1/events")
		w.want("stream.opened", "")
		id := f.submit(`{"html":"x"}`).Id
		f.accepts(id)
		w.want("job.queued", id)
		// Who is banned reads no more.
		f.server.blocks.keep(account.Subject{Kind: account.SubjectAccount, ID: f.acct.ID}, time.Time{}, false)
		w.over()
	})
}

// A replica that stops ends its streams and tells their clients when to come
// back.
func TestEventsWhileDraining(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	one, all := f.watch("/v1/jobs/"+id+"/events"), f.watch("/v1/events")
	one.want("job.queued", id)
	all.want("stream.opened", "")
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*watch{one, all} {
		w.over()
		if got := strings.Count(w.raw.String(), "retry: "); got != 2 {
			t.Errorf("%d times when to come back: %q", got, w.raw)
		}
	}
	f.do("GET", "/v1/events", "").problem(t, 503, "unavailable")
}

// Over a real connection, whose server has its deadlines, a client that is not
// ours comes back by itself and sees each event once.
func TestEventsOverHTTP(t *testing.T) {
	f, _, l := newServed(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.Addr().String()+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bodies := make(chan *cutBody, 10)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := sse.Client{HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := transport.RoundTrip(r)
		if err == nil {
			body := &cutBody{ReadCloser: resp.Body}
			resp.Body = body
			bodies <- body
		}
		return resp, err
	})}, Backoff: sse.Backoff{InitialInterval: time.Millisecond, MaxRetries: 0}}
	conn := client.NewConnection(req.WithContext(ctx))
	got := make(chan string, 100)
	conn.SubscribeToAll(func(ev sse.Event) {
		var told toldEvent
		if err := json.Unmarshal([]byte(ev.Data), &told); err != nil {
			t.Error(err)
		}
		got <- fmt.Sprint(ev.Type, " ", told.Data.Job["id"])
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = conn.Connect() // ends with ctx
	}()
	defer func() { cancel(); <-done }()
	want := func(text string) {
		t.Helper()
		select {
		case is := <-got:
			if is != text {
				t.Fatalf("%q, want %q", is, text)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %q", text)
		}
	}
	want("stream.opened <nil>")
	id := f.submit(`{"html":"x"}`).Id
	f.accepts(id)
	want("job.queued " + id)
	_ = (<-bodies).Close() // the connection breaks
	f.starts(id)
	f.ends(id)
	want("job.running " + id)
	want("job.succeeded " + id)
}

// cutBody is the body of an answer.
type cutBody struct {
	io.ReadCloser
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A stream outlives the deadlines of the server's connections.
func TestEventsOutliveDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conns := make(chan net.Conn, 1)
		closed := make(chan struct{})
		f := newFarm(t, func(_ *Config, d *Deps) { d.Listener = &pipeListener{conns: conns, closed: closed} })
		here, there := net.Pipe()
		conns <- there
		go func() {
			_, _ = fmt.Fprintf(here, "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", f.key)
		}()
		resp, err := http.ReadResponse(bufio.NewReader(here), nil)
		if err != nil {
			t.Fatal(err)
		}
		events := make(chan sse.Event, 10)
		go func() {
			defer close(events)
			for ev, err := range sse.Read(resp.Body, nil) {
				if err == nil {
					events <- ev
				}
			}
		}()
		if ev := <-events; ev.Type != "stream.opened" {
			t.Errorf("%+v", ev)
		}
		time.Sleep(time.Hour)
		id := f.submit(`{"html":"x"}`).Id
		f.accepts(id)
		if ev := <-events; ev.Type != "job.queued" {
			t.Errorf("after an hour: %+v", ev)
		}
		if err := f.stop(); err != nil {
			t.Error(err)
		}
		if ev, open := <-events; open {
			t.Errorf("after the end: %+v", ev)
		}
		here.Close()
	})
}

// pipeListener hands out the connections that a test has made.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }
func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
