package farm

import (
	"bytes"
	"context"
	"encoding/json"
	"image"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// blankSeat renders one white pixel, without a browser.
type blankSeat struct{ picture []byte }

func blankSeats(n int) []worker.Renderer {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic(err)
	}
	seats := make([]worker.Renderer, n)
	for i := range seats {
		seats[i] = blankSeat{b.Bytes()}
	}
	return seats
}

func (blankSeat) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (blankSeat) Ready() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

func (s blankSeat) Render(context.Context, job.ID, *job.Spec) capture.Outcome {
	return capture.Outcome{Artifact: &capture.Artifact{Body: s.picture, Width: 1, Height: 1}, Evidence: &job.Evidence{Title: "blank"}}
}

// database is a Postgres that can be stopped and started again.
type database struct {
	t       *testing.T
	dir     string
	running *postgres.Server
}

func newDatabase(t *testing.T) *database {
	t.Helper()
	d := &database{t: t, dir: openDir(t)}
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *database) start() {
	d.t.Helper()
	srv, err := postgres.New(postgres.Config{Dir: filepath.Join(d.dir, "data"), SocketDir: filepath.Join(d.dir, "socket")})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := srv.Start(ctx); err != nil {
		d.t.Fatal(err)
	}
	d.running = srv
}

func (d *database) stop() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := d.running.Stop(ctx); err != nil {
		d.t.Error(err)
	}
}

// load submits jobs and waits for each, two at a time, until it is told to
// stop. Every one must be accepted at once and succeed.
type load struct {
	t    *testing.T
	c    *client.Client
	quit chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex
	ids  []string      // guarded by mu
	more chan struct{} // closed and made anew with each further id; guarded by mu
}

func newLoad(t *testing.T, ctx context.Context, c *client.Client) *load {
	l := &load{t: t, c: c, quit: make(chan struct{}), more: make(chan struct{})}
	for range 2 {
		l.wg.Go(func() {
			for l.one(ctx) {
				select {
				case <-l.quit:
					return
				default:
				}
			}
		})
	}
	return l
}

func (l *load) one(ctx context.Context) bool {
	html := "<p>x"
	j, err := l.c.Submit(ctx, client.JobRequest{Html: &html})
	if err != nil {
		l.t.Errorf("a submission: %v", err)
		return false
	}
	if _, err := l.c.Get(ctx, j.Id, 0); err != nil { // whatever its state
		l.t.Errorf("a poll of %s: %v", j.Id, err)
		return false
	}
	if j, err = l.c.Get(ctx, j.Id, 30*time.Second); err != nil || j.Status != "succeeded" {
		l.t.Errorf("the end of a job: %+v, %v", j, err)
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = append(l.ids, j.Id)
	close(l.more)
	l.more = make(chan struct{})
	return true
}

// wait returns once n further jobs have ended.
func (l *load) wait(ctx context.Context, n int) {
	l.t.Helper()
	l.mu.Lock()
	until := len(l.ids) + n
	for len(l.ids) < until {
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			l.t.Fatal("the load stands still")
		}
		l.mu.Lock()
	}
	l.mu.Unlock()
}

func (l *load) stop() []string {
	close(l.quit)
	l.wg.Wait()
	return l.ids
}

// submitted is what a submission under an Idempotency-Key was answered with.
type submitted struct {
	code       int
	retryAfter string
	ID         string
	Code       string // of a problem
}

func submitKeyed(t *testing.T, door, key, idempotency string) submitted {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+door+"/v1/jobs", strings.NewReader(`{"html": "keyed"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if idempotency != "" {
		req.Header.Set("Idempotency-Key", idempotency)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s := submitted{code: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// metric is the sum of a metric of a process.
func metric(t *testing.T, p *Process, name string) (sum float64) {
	t.Helper()
	families, err := p.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// Postgres goes away under load and comes back: jobs are submitted, rendered,
// polled and fetched meanwhile, and every end is filed and billed once (I7).
func TestPostgresAway(t *testing.T) {
	needtest.Farm(t)
	noLeaks(t)
	db := newDatabase(t)
	stores := config.Backends{NATSURL: foreignNATS(t), DatabaseURL: db.running.URL(), S3: foreignS3(t)}
	if err := process(t, "migrate").Migrate(t.Context(), config.Migrate{DatabaseURL: stores.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	grpc, door := freeAddress(t), freeAddress(t)
	s, a, w := process(t, "scheduler"), process(t, "api"), process(t, "worker")
	w.Seats = blankSeats
	drain := config.Drain{DrainLimit: 10 * time.Second}
	start(t, "scheduler", func(ctx context.Context) error {
		return s.Scheduler(ctx, config.Scheduler{Cluster: config.Cluster{ClusterListen: grpc}, Join: config.Join{WorkerToken: "join"}, Sealing: testSealing, Backends: stores})
	})
	start(t, "api", func(ctx context.Context) error {
		return a.API(ctx, config.API{HTTP: config.HTTP{Listen: door}, Admin: config.Admin{AdminToken: "admin"}, Sealing: testSealing, Drain: drain, Backends: stores})
	})
	start(t, "worker", func(ctx context.Context) error {
		return w.Worker(ctx, config.Worker{
			Schedulers: []string{grpc}, Name: "w1", Join: config.Join{WorkerToken: "join"}, Render: config.Render{Seats: 2}, Drain: drain,
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := ready(ctx, "http://"+door); err != nil {
		t.Fatal(err)
	}
	admin := clientOf(t, door, "admin")
	made, err := admin.CreateAccount(ctx, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	unused, err := admin.CreateKey(ctx, made.Id, client.KeyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, door, made.Key)
	l := newLoad(t, ctx, c)
	l.wait(ctx, 20)
	first := submitKeyed(t, door, made.Key, "first")
	if first.code != http.StatusAccepted {
		t.Fatalf("%+v", first)
	}

	db.stop()
	if again := submitKeyed(t, door, made.Key, "first"); again.ID != first.ID {
		t.Errorf("a key that the leader knows: %+v, want %s", again, first.ID)
	}
	const keyFresh = 3 * time.Second // of the API: from then on it asks the archive again
	past := time.After(keyFresh + 500*time.Millisecond)
	l.wait(ctx, 20)
	<-past
	lag := metric(t, s, "tintype_projection_lag_frames")
	l.wait(ctx, 50)
	if grown := metric(t, s, "tintype_projection_lag_frames"); lag == 0 || grown <= lag {
		t.Errorf("the archive lacks %v frames, and later %v: no backlog that grows", lag, grown)
	}
	for what, got := range map[string]submitted{
		"a key that the leader does not know": submitKeyed(t, door, made.Key, "second"),
		"an API key that no cache holds":      submitKeyed(t, door, unused.Key, ""),
	} {
		if got.code != http.StatusServiceUnavailable || got.Code != "unavailable" || got.retryAfter == "" {
			t.Errorf("%s: %+v, want 503", what, got)
		}
	}
	state := readiness(t, door)
	if state.code != http.StatusOK || state.Status != "ready" || len(state.Degraded) != 1 || state.Degraded[0] != "postgres" {
		t.Errorf("readyz: %+v", state)
	}
	l.mu.Lock()
	latest := l.ids[len(l.ids)-1]
	l.mu.Unlock()
	if body, err := c.Result(ctx, latest); err != nil {
		t.Errorf("the result of a job that is not filed: %v", err)
	} else {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
		body.Close()
	}

	db.start()
	l.wait(ctx, 50)
	if second := submitKeyed(t, door, made.Key, "second"); second.code != http.StatusAccepted {
		t.Errorf("the key that was refused, later: %+v", second)
	} else {
		l.mu.Lock()
		l.ids = append(l.ids, second.ID)
		l.mu.Unlock()
	}
	ids := append(l.stop(), first.ID)
	wantFiled(t, ctx, stores.DatabaseURL, made.Id, ids)
}

// wantFiled waits until all the jobs are in the archive, and holds their bills
// against each other.
func wantFiled(t *testing.T, ctx context.Context, url, accountID string, ids []string) {
	t.Helper()
	archive, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	period := time.Now().UTC()
	period = time.Date(period.Year(), period.Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, id := range ids {
		for {
			j, err := archive.Job(ctx, job.ID(id))
			if err == nil {
				if j.State != job.Succeeded || !*j.Billable || j.Evidence == nil {
					t.Errorf("%s is %s, billable %t, evidence %v", id, j.State, *j.Billable, j.Evidence)
				}
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s is not filed: %v", id, err)
			case <-tick.C:
			}
		}
	}
	n := int64(len(ids)) * account.UnitsPerCredit
	if events, sum, month, err := archive.Audit(ctx, accountID, period); err != nil || events != len(ids) || sum != n || month != n {
		t.Errorf("%d charges of %d units, month %d, %v; want %d jobs billed once", events, sum, month, err, len(ids))
	}
	if list, err := archive.Jobs(ctx, accountID, "", "", len(ids)+10); err != nil || len(list) != len(ids) {
		t.Errorf("%d rows, %v; want %d", len(list), err, len(ids))
	}
}

// readyState is an answer of /readyz.
type readyState struct {
	code     int
	Status   string
	Degraded []string
}

// readiness asks /readyz.
func readiness(t *testing.T, door string) (s readyState) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+door+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.code = resp.StatusCode
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
