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

	"github.com/tmaxmax/go-sse"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

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
