package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newServed is a replica that serves real sockets, and a client of it.
func newServed(t *testing.T) (*farm, *client.Client, net.Listener) {
	l := listen(t)
	f := newFarm(t, func(_ *Config, d *Deps) { d.Listener = l })
	c, err := client.New("http://"+l.Addr().String(), f.key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c, l
}

func TestClient(t *testing.T) {
	f, c, l := newServed(t)
	url, format := "https://example.com/", client.Format("png")
	j, err := c.Submit(t.Context(), client.JobRequest{Url: &url, Format: &format})
	if err != nil || j.Status != "queued" || j.Ended() {
		t.Fatalf("%+v %v", j, err)
	}
	go func() {
		for q := range f.leader.looked {
			if q.WaitMs > 0 {
				f.succeed(q.Id, []byte("png"))
				return
			}
		}
	}()
	var seen []string
	j, err = c.Wait(t.Context(), j.Id, func(j *client.Job) { seen = append(seen, string(j.Status)) })
	if err != nil || j.Status != "succeeded" || seen[len(seen)-1] != "succeeded" {
		t.Fatalf("%+v %v %q", j, err, seen)
	}
	body, err := c.Result(t.Context(), j.Id)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); err != nil || string(got) != "png" {
		t.Errorf("%q %v", got, err)
	}
	body.Close()

	_, err = c.Cancel(t.Context(), j.Id)
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != "already_finished" || p.Status != 409 || p.RequestID == "" {
		t.Errorf("%v", err)
	}
	bad := "file:///etc/passwd"
	_, err = c.Submit(t.Context(), client.JobRequest{Url: &bad})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Code != "invalid_url" || len(p.Errors) != 1 || !strings.Contains(err.Error(), "file") {
		t.Errorf("%v", err)
	}
	_, err = c.Result(t.Context(), string(job.NewID()))
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != 503 || p.RetryAfter < time.Second {
		t.Errorf("%v", err)
	}

	admin, err := client.New(l.Addr().String(), adminToken)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	made, err := admin.CreateAccount(t.Context(), "new", "")
	if err != nil {
		t.Fatal(err)
	}
	key, err := admin.CreateKey(t.Context(), made.Id, client.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := admin.ListKeys(t.Context(), made.Id); err != nil || len(keys) != 2 {
		t.Errorf("%v %v", keys, err)
	}
	if err := admin.RevokeKey(t.Context(), made.Id, key.Id); err != nil {
		t.Error(err)
	}
	if accounts, err := admin.ListAccounts(t.Context()); err != nil || len(accounts) != 2 {
		t.Errorf("%v %v", accounts, err)
	}
}

// A long poll outlives the read deadline of its connection only because its
// deadlines are moved; a client that goes away is still noticed.
func TestClientGoesAway(t *testing.T) {
	f, _, l := newServed(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+"/v1/screenshot?html=x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	failed := make(chan error)
	go func() {
		_, err := (&http.Client{Transport: transport}).Do(req) //nolint:bodyclose // it fails
		failed <- err
	}()
	q := <-f.leader.looked
	cancel()
	if err := <-failed; err == nil {
		t.Error("an answer")
	}
	if c := <-f.leader.canceled; c.Id != q.Id {
		t.Errorf("canceled %v", c)
	}
}

// A body that does not arrive in time is the client's doing, and it is still
// there to be told.
func TestSlowUpload(t *testing.T) {
	f := newFarm(t)
	srv := httptest.NewUnstartedServer(f.server.Handler())
	srv.Config.ReadHeaderTimeout, srv.Config.ReadTimeout = time.Minute, time.Millisecond
	srv.Start()
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+f.key+"\r\nContent-Length: 12\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 400 || p.Code != "invalid_input" || strings.Contains(p.Detail, "i/o") || !strings.Contains(p.Detail, "30s") {
		t.Errorf("%d %+v", resp.StatusCode, p)
	}
}

// A body that ends early: what the connection said of it stays inside.
func TestBrokenBody(t *testing.T) {
	f := newFarm(t)
	r, w := f.request("POST", "/v1/jobs")
	r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(errors.New("read tcp 10.0.0.1:80: reset"))), -1
	f.server.Handler().ServeHTTP(w, r)
	if p := (answered{w}).problem(t, 400, "malformed_json"); p.Detail != "the body did not arrive whole" {
		t.Errorf("%q", p.Detail)
	}
}

// Draining: not ready, long polls answer with what is there, a render in work
// is finished, and Run ends.
func TestDrain(t *testing.T) {
	l := listen(t)
	f := newFarm(t, func(_ *Config, d *Deps) { d.Listener = l })
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	get := func(path string) chan int {
		status := make(chan int, 1)
		go func() {
			req, err := http.NewRequest("GET", "http://"+l.Addr().String()+path, nil)
			if err != nil {
				panic(err)
			}
			req.Header.Set("Authorization", "Bearer "+f.key)
			resp, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				status <- 0
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			status <- resp.StatusCode
		}()
		return status
	}
	render := get("/v1/screenshot?html=x")
	rendered := (<-f.leader.looked).Id
	f.leader.change(rendered, func(j *pb.Job) { j.State, j.WaitingFor = "running", "" })
	id := f.submit(`{"html":"x"}`).Id
	poll := get("/v1/jobs/" + id + "?wait=60")
	for q := range f.leader.looked {
		if q.Id == id && q.WaitMs > 0 {
			break
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- f.stop() }()
	if got := <-poll; got != 200 {
		t.Errorf("long poll: %d", got)
	}
	if a := f.do("GET", "/readyz", ""); a.Code != 503 {
		t.Errorf("readyz while draining: %d", a.Code)
	}
	select {
	case err := <-ended:
		t.Fatalf("Run ended with a render in work: %v", err)
	default:
	}
	f.succeed(rendered, []byte("png"))
	if got := <-render; got != 200 {
		t.Errorf("render: %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A call whose job has not started when the drain begins is refused, and so is
// one whose job still runs at the limit; both jobs are canceled.
func TestDrainRefuses(t *testing.T) {
	for name, state := range map[string]job.State{"queued": job.Queued, "running": job.Running} {
		t.Run(name, func(t *testing.T) {
			limit := time.Hour
			if state == job.Running {
				limit = time.Millisecond
			}
			l := listen(t)
			f := newFarm(t, func(c *Config, d *Deps) { c.DrainWithin, d.Listener = limit, l })
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			type reply struct {
				status  int
				retry   string
				problem Problem
				err     error
			}
			replied := make(chan reply, 1)
			req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/v1/screenshot?html=x", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+f.key)
			go func() {
				resp, err := (&http.Client{Transport: transport}).Do(req)
				if err != nil {
					replied <- reply{err: err}
					return
				}
				defer resp.Body.Close()
				r := reply{status: resp.StatusCode, retry: resp.Header.Get("Retry-After")}
				r.err = json.NewDecoder(resp.Body).Decode(&r.problem)
				replied <- r
			}()
			id := (<-f.leader.looked).Id
			f.leader.change(id, func(j *pb.Job) { j.State = string(state) })
			if err := f.stop(); err != nil {
				t.Error(err)
			}
			r := <-replied
			if r.err != nil || r.status != 503 || r.retry == "" || r.problem.Code != "unavailable" || r.problem.JobId == nil || *r.problem.JobId != id {
				t.Errorf("%+v, want a 503 of %s", r, id)
			}
			if len(f.leader.canceled) != 1 || (<-f.leader.canceled).Id != id {
				t.Error("the job was not canceled, and it alone")
			}
		})
	}
}

func TestAdminListener(t *testing.T) {
	l, a := listen(t), listen(t)
	f := newFarm(t, func(_ *Config, d *Deps) { d.Listener, d.AdminListener = l, a })
	f.admin("GET", "/admin/v1/accounts", "").problem(t, 404, "not_found")
	f.admin("GET", "/metrics", "").problem(t, 404, "not_found")
	admin, err := client.New(a.Addr().String(), adminToken)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.ListAccounts(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := admin.Get(t.Context(), "job_x", 0); err == nil {
		t.Error("jobs on the admin's listener")
	}
}

func TestReady(t *testing.T) {
	nats, pg := errors.New("down"), errors.New("down")
	f := newFarm(t, func(_ *Config, d *Deps) {
		d.Checks = []Check{
			{Name: "nats", Needed: true, Ask: func(context.Context) error { return nats }},
			{Name: "postgres", Ask: func(context.Context) error { return pg }},
			{Name: "s3", Ask: func(context.Context) error { return nil }},
		}
	})
	ready := func(status int) (v Ready) {
		t.Helper()
		f.server.ready.at = time.Time{}
		a := f.do("GET", "/readyz", "", header{"Authorization": ""})
		if a.Code != status {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		a.json(t, &v)
		return v
	}
	if v := ready(503); v.Status != "unready" || v.Checks["nats"] != "failing" || v.Checks["s3"] != "ok" {
		t.Errorf("%+v", v)
	}
	nats = nil
	if v := ready(200); v.Status != "ready" || !slices.Equal(v.Degraded, []string{"worker", "postgres"}) {
		t.Errorf("without a worker: %+v", v)
	}
	f.leader.mu.Lock()
	f.leader.queue = &pb.Queue{Seats: 1}
	f.leader.mu.Unlock()
	<-time.After(queueFresh)
	if v := ready(200); v.Status != "ready" || len(v.Degraded) != 1 || v.Degraded[0] != "postgres" || v.Checks["leader"] != "ok" {
		t.Errorf("%+v", v)
	}
	pg = nil
	if v := ready(200); len(v.Degraded) != 0 {
		t.Errorf("%+v", v)
	}
	lonely := newLonelyFarm(t)
	if a := lonely.do("GET", "/readyz", ""); a.Code != 503 {
		t.Errorf("without a leader: %d", a.Code)
	}
}

func TestOpenRoutes(t *testing.T) {
	f := newFarm(t)
	for target, want := range map[string]string{"/": "/v1/screenshot", "/openapi.yaml": "openapi: 3.1", "/healthz": `"ok"`} {
		a := f.do("GET", target, "", header{"Authorization": ""})
		if a.Code != 200 || !strings.Contains(a.Body.String(), want) {
			t.Errorf("%s: %d", target, a.Code)
		}
	}
}

func TestNewNeedsItsDependencies(t *testing.T) {
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("a server out of nothing")
	}
}

// addrConn and addrListener pretend to come from elsewhere.
type addrConn struct {
	net.Conn
	addr net.Addr
}

func (c addrConn) RemoteAddr() net.Addr { return c.addr }

type addrListener struct{ conns chan net.Conn }

func (l addrListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (addrListener) Close() error                { return nil }
func (addrListener) Addr() net.Addr              { return &net.TCPAddr{} }

func TestConnectionsOfOneAddress(t *testing.T) {
	inner := addrListener{make(chan net.Conn, 1)}
	l := &limitedListener{Listener: inner, open: make(map[netip.Prefix]int), exempt: func() []netip.Prefix { return nil }}
	from := func(ip string) net.Conn {
		here, there := net.Pipe()
		t.Cleanup(func() { here.Close(); there.Close() })
		return addrConn{here, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
	}
	accept := func(c net.Conn) net.Conn {
		t.Helper()
		inner.conns <- c
		got, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	var last net.Conn
	for range connsPerAddress {
		last = accept(from("203.0.113.7"))
	}
	// One more is closed unheard; the next one, from another address, is let in.
	done := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		done <- c
	}()
	inner.conns <- from("::ffff:203.0.113.7")
	inner.conns <- from("203.0.113.8")
	if c := <-done; !strings.HasPrefix(c.RemoteAddr().String(), "203.0.113.8") {
		t.Errorf("accepted %s", c.RemoteAddr())
	}
	last.Close()
	last.Close()
	accept(from("203.0.113.7"))
	for range connsPerAddress + 1 {
		accept(from("127.0.0.1"))
	}
}
