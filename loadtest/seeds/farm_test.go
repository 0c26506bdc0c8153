package seeds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/farm"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/telemetry"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
)

// TestMain gives all farms one Postgres, and each of them a database in it.
func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// policies is where the shipped policy files are.
const policies = "../../deploy/policies"

// admin opens /admin of every farm here.
const admin = "admin-of-the-seeds"

// world is one farm: all tiers in this process, on a NATS, a Postgres and a
// bucket of its own, with a stage for seats.
type world struct {
	*stage
	url      string
	policy   *account.Policy // as it was at the start
	database string          // URL
	file     string          // of the policy
	log      *logged

	next  atomic.Int32 // address that no test has yet
	mu    sync.Mutex
	ways  map[string]*http.Client // by the address they come from; guarded by mu
	close func()
}

// shipped is the text of a policy file of deploy/policies.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(policies, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// open starts a farm on the text of a policy file.
func open(t *testing.T, policy string, seats int) *world {
	t.Helper()
	needtest.Farm(t)
	dir, err := os.MkdirTemp("", "tintype-seeds-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &world{stage: newStage(), database: storetest.URL(t), file: filepath.Join(dir, "policy.yaml"), log: &logged{}, ways: map[string]*http.Client{}}
	if err := errors.Join(os.Chmod(dir, 0o711), os.WriteFile(w.file, []byte(policy), 0o644)); err != nil {
		t.Fatal(err)
	}
	if w.policy, err = account.ReadPolicy(w.file); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse([]string{
		"up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--policy", w.file, "--admin-token", admin,
		"--seats", strconv.Itoa(seats), "--log-level", "warn",
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Up.DatabaseURL = w.database
	guard, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	seat, err := worker.NewSeat(worker.SeatConfig{Browser: browser.Config{Bin: cfg.Up.ChromiumBin}, Guard: guard})
	if err != nil {
		t.Fatal(err)
	}
	w.browser = seat

	ctx, cancel := context.WithCancel(context.Background())
	said, ended := &banner{told: make(chan string, 1)}, make(chan error, 1)
	p := &farm.Process{
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn})), Version: "seeds", Metrics: telemetry.Registry("seeds"), Out: said,
		Seats: func(n int) []worker.Renderer { return w.seats(n) },
	}
	go func() { ended <- p.Up(ctx, cfg.Up) }()
	select {
	case w.url = <-said.told:
	case err := <-ended:
		cancel()
		t.Fatalf("the farm ended at its start: %v\n%s", err, w.log)
	}
	w.close = sync.OnceFunc(func() {
		cancel()
		w.finale()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the farm ended with %v", err)
		}
		for _, c := range w.ways {
			c.CloseIdleConnections()
		}
		if t.Failed() {
			t.Logf("the farm said:\n%s", w.log)
		}
	})
	t.Cleanup(w.close)
	return w
}

// banner is where the farm tells that it is ready.
type banner struct {
	text bytes.Buffer
	told chan string
}

func (b *banner) Write(p []byte) (int, error) {
	b.text.Write(p)
	if strings.Contains(b.text.String(), "Ctrl-C stops") {
		b.told <- regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(b.text.String())
		b.text.Reset()
	}
	return len(p), nil
}

// logged is what the farm said, the last of it.
type logged struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 1<<20 {
		l.text = append([]byte{}, l.text[len(l.text)-1<<19:]...)
	}
	return len(p), nil
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// address is one of loopback that nobody has come from yet, in a /24 of its
// own: to the farm it is a stranger's.
func (w *world) address() string {
	n := w.next.Add(1)
	return fmt.Sprintf("127.%d.%d.1", 1+n/256, n%256)
}

// way is a client that comes from an address.
func (w *world) way(from string) *http.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.ways[from]; c != nil {
		return c
	}
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c := &http.Client{
		Transport:     &http.Transport{DialContext: d.DialContext, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	w.ways[from] = c
	return c
}

// sql runs a statement in the farm's archive, for what takes a month to come
// about.
func (w *world) sql(t *testing.T, text string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), text, args...); err != nil {
		t.Fatal(err)
	}
}

// use makes an account have used so many units in the present period of its
// plan. It must not have done anything yet.
func (w *world) use(t *testing.T, id string, plan account.Plan, units int64) {
	t.Helper()
	now := time.Now()
	start, _ := plan.Quota.Period.Span(now, now.UTC().Day()) // it was created today
	const text = `
WITH event AS (
    INSERT INTO usage_events (id, account, period, units, reason, happened) VALUES ('before_' || $1, $1, $2, $3, 'render', $4)
    RETURNING account, period, units, happened
), day AS (
    INSERT INTO usage_day (account, period, day, units, renders)
    SELECT account, period, happened::date, units, units / 120 FROM event
)
INSERT INTO usage_month (account, period, units) SELECT account, period, units FROM event`
	w.sql(t, text, id, start, units, now)
}

// spent is a new account that has used so many units of the quota of its plan.
func (w *world) spent(t *testing.T, plan string, units int64) *caller {
	t.Helper()
	p, ok := w.policy.Plan(plan)
	if !ok {
		t.Fatalf("no plan %s", plan)
	}
	c := w.on(t, plan)
	w.use(t, c.id, p, units)
	return c
}
