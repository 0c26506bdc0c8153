package farm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// gate is seats that render a page when the test lets them: one for each page,
// named after its host.
type gate struct {
	pngSeat
	open map[string]chan struct{}
}

func (g gate) Render(ctx context.Context, id job.ID, spec *job.Spec) capture.Outcome {
	u, err := url.Parse(spec.URL)
	if err != nil {
		return capture.Outcome{Failure: job.Fail(job.Internal, job.StageNavigate, "%v", err)}
	}
	select {
	case <-g.open[u.Hostname()]:
		return g.pngSeat.Render(ctx, id, spec)
	case <-ctx.Done():
		return capture.Outcome{Failure: job.Fail(job.Internal, job.StageCapture, "aborted")}
	}
}

// aFarm is two schedulers, two API replicas and a worker behind a gate.
type aFarm struct {
	t          *testing.T
	ctx        context.Context
	doors      [2]string
	key        string
	gate       gate
	stopLeader func()
}

func newAFarm(t *testing.T, pages ...string) *aFarm {
	t.Helper()
	needtest.Farm(t)
	noLeaks(t)
	stores := foreignStores(t)
	if err := process(t, "migrate").Migrate(t.Context(), config.Migrate{DatabaseURL: stores.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	f := &aFarm{t: t, ctx: ctx, gate: gate{pngSeat{make(chan struct{})}, map[string]chan struct{}{}}}
	close(f.gate.ready)
	for _, page := range pages {
		f.gate.open[page] = make(chan struct{})
	}
	first, second := freeAddress(t), freeAddress(t)
	schedule := func(address string) func(context.Context) error {
		p := process(t, "scheduler "+address)
		return func(ctx context.Context) error {
			return p.Scheduler(ctx, config.Scheduler{
				Cluster: config.Cluster{ClusterListen: address}, Join: config.Join{WorkerToken: "join"}, Sealing: testSealing, Backends: stores,
			})
		}
	}
	f.stopLeader = start(t, "first scheduler", schedule(first))
	drain := config.Drain{DrainLimit: 10 * time.Second}
	w := process(t, "worker")
	w.Seats = func(n int) []worker.Renderer {
		seats := make([]worker.Renderer, n)
		for i := range seats {
			seats[i] = f.gate
		}
		return seats
	}
	start(t, "worker", func(ctx context.Context) error {
		return w.Worker(ctx, config.Worker{
			Schedulers: []string{first, second}, Name: "w1", Join: config.Join{WorkerToken: "join"}, Render: config.Render{Seats: 4}, Drain: drain,
		})
	})
	for i := range f.doors {
		f.doors[i] = freeAddress(t)
		a := process(t, fmt.Sprint("api ", i))
		start(t, "api", func(ctx context.Context) error {
			return a.API(ctx, config.API{HTTP: config.HTTP{Listen: f.doors[i]}, Admin: config.Admin{AdminToken: "admin"}, Sealing: testSealing, Drain: drain, Backends: stores})
		})
	}
	for _, door := range f.doors {
		if err := ready(ctx, "http://"+door); err != nil {
			t.Fatal(err)
		}
	}
	made, err := clientOf(t, f.doors[0], "admin").CreateAccount(ctx, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	f.key = made.Key
	start(t, "second scheduler", schedule(second))
	return f
}

// call is a request with the account's key.
func (f *aFarm) call(ctx context.Context, method string, door int, path, body, lastID string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.doors[door]+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	return http.DefaultClient.Do(req)
}

// saw is an event as a client sees it.
type saw struct{ kind, job, id string }

// events opens a stream.
func (f *aFarm) events(door int, path, lastID string) <-chan saw {
	f.t.Helper()
	resp, err := f.call(f.ctx, "GET", door, path, "", lastID)
	if err != nil || resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %v, %v", path, resp, err)
	}
	events, done := make(chan saw, 100), make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		for ev, err := range sse.Read(resp.Body, nil) {
			var text struct {
				Data struct{ Job struct{ ID string } }
			}
			if err != nil || json.Unmarshal([]byte(ev.Data), &text) != nil {
				return // closed, by us or at the farm's end
			}
			events <- saw{ev.Type, text.Data.Job.ID, ev.LastEventID}
		}
	}()
	f.t.Cleanup(func() { resp.Body.Close(); <-done })
	return events
}

func (f *aFarm) want(events <-chan saw, kind, id string) saw {
	f.t.Helper()
	select {
	case got, open := <-events:
		if !open || got.kind != kind || id != "" && got.job != id {
			f.t.Fatalf("event %+v, want %s of %s", got, kind, id)
		}
		return got
	case <-f.ctx.Done():
		f.t.Fatalf("no %s of %s", kind, id)
	}
	return saw{}
}

// submit gives the id of a job that was accepted.
func (f *aFarm) submit(door int, body string) string {
	f.t.Helper()
	resp, err := f.call(f.ctx, "POST", door, "/v1/jobs", body, "")
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	var j struct{ ID string }
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusAccepted || json.Unmarshal(text, &j) != nil {
		f.t.Fatalf("%d %s, %v", resp.StatusCode, text, err)
	}
	return j.ID
}

// A stream at one replica tells what happens to a job that another one took in,
// while its scheduler is replaced by the next; and who comes back misses nothing.
func TestEventsOfAFarm(t *testing.T) {
	f := newAFarm(t, "one.test")
	account := f.events(1, "/v1/events", "")
	opened := f.want(account, "stream.opened", "")
	id := f.submit(0, `{"url":"https://one.test/"}`)
	queued := f.want(account, "job.queued", id)
	running := f.want(account, "job.running", id)
	if opened.id == queued.id || queued.id == running.id {
		t.Errorf("ids %s, %s, %s", opened.id, queued.id, running.id)
	}
	own := f.events(0, "/v1/jobs/"+id+"/events", "")
	f.want(own, "job.running", id)
	f.stopLeader()
	close(f.gate.open["one.test"])
	f.want(account, "job.succeeded", id)
	f.want(own, "job.succeeded", id)
	if rest, open := <-own; open {
		t.Errorf("after the end: %+v", rest)
	}
	for door := range f.doors {
		again := f.events(door, "/v1/events", queued.id)
		f.want(again, "job.running", id)
		f.want(again, "job.succeeded", id)
	}
}

// A client that leaves a call for bytes cancels its job, unless somebody else wants
// the same picture.
func TestAbandonedCalls(t *testing.T) {
	f := newAFarm(t, "lone.test", "shared.test")
	account := f.events(1, "/v1/events", "")
	f.want(account, "stream.opened", "")
	// shoot asks for bytes until it leaves; its job is what runs next.
	type answer struct {
		status int
		body   string
	}
	shoot := func(door int, page string) (leave func(), answered chan answer) {
		ctx, cancel := context.WithCancel(f.ctx)
		answered = make(chan answer, 1)
		go func() {
			resp, err := f.call(ctx, "GET", door, "/v1/screenshot?ttl_s=60&url=https://"+page+"/", "", "")
			if err != nil {
				answered <- answer{}
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			answered <- answer{resp.StatusCode, string(text)}
		}()
		t.Cleanup(cancel)
		return cancel, answered
	}
	begun := func() string {
		t.Helper()
		id := f.want(account, "job.queued", "").job
		f.want(account, "job.running", id)
		return id
	}

	leave, _ := shoot(0, "lone.test")
	lone := begun()
	leave()
	f.want(account, "job.canceled", lone)

	leave, _ = shoot(0, "shared.test")
	shared := begun()
	_, twin := shoot(1, "shared.test")
	follower := f.want(account, "job.queued", "").job
	leave()
	leave, _ = shoot(0, "lone.test") // by whose end the one before it was heard
	lone = begun()
	leave()
	f.want(account, "job.canceled", lone)
	close(f.gate.open["shared.test"])
	f.want(account, "job.succeeded", shared)
	f.want(account, "job.succeeded", follower)
	if got := <-twin; got.status != http.StatusOK || !strings.HasPrefix(got.body, "\x89PNG") {
		t.Errorf("who shared was told %+v", got)
	}
}
