package outbox

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

func TestMain(m *testing.M) {
	code := storetest.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			slog.Error("goroutines are left", "err", err)
			code = 1
		}
	}
	os.Exit(code)
}

// secretText signs everything here.
var secretText = webhook.NewSecret().Text()

// plain is an archive whose secrets are not sealed: that is not what is tested
// here.
type plain struct{ *store.Store }

func (plain) AccountSecrets(context.Context, string) (webhook.Secrets, error) {
	return webhook.Secrets{Sealed: []byte(secretText)}, nil
}

func (plain) OpenSecrets(s webhook.Secrets, _ seal.Purpose, _ string, _ time.Time) ([]webhook.Secret, error) {
	one, err := webhook.ParseSecret(string(s.Sealed))
	return []webhook.Secret{one}, err
}

// got is one request that a receiver had.
type got struct {
	at     time.Time
	header http.Header
	body   []byte
}

// receiver is where messages go, with what answers there.
type receiver struct {
	url  string
	hits chan got
}

// farm is an archive with what tells of jobs' ends, receivers and senders.
type farm struct {
	testing.TB
	store *store.Store
	conn  *pgx.Conn
	url   string // of the database
	seq   uint64
	roots *x509.CertPool
	allow []string
	log   *slog.Logger
}

func newFarm(t testing.TB) *farm {
	u := storetest.URL(t)
	f := &farm{TB: t, url: u, store: storetest.Connect(t, u), roots: x509.NewCertPool(), log: slog.New(slog.DiscardHandler)}
	conn, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	f.conn = conn
	return f
}

func (f *farm) exec(sql string, args ...any) {
	f.Helper()
	if _, err := f.conn.Exec(f.Context(), sql, args...); err != nil {
		f.Fatal(err)
	}
}

// receives starts a receiver over TLS, which the guard lets through.
func (f *farm) receives(answer http.HandlerFunc) *receiver {
	r := &receiver{hits: make(chan got, 1000)}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.hits <- got{time.Now(), req.Header.Clone(), body}
		answer(w, req)
	}))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	f.Cleanup(func() {
		srv.CloseClientConnections() // some never answer
		srv.Close()
	})
	f.roots.AddCert(srv.Certificate())
	r.url = srv.URL
	f.permit(srv.URL)
	return r
}

func (f *farm) permit(to string) {
	u, err := url.Parse(to)
	if err != nil {
		f.Fatal(err)
	}
	f.allow = append(f.allow, u.Host)
}

// endpoint makes an account and an endpoint that wants everything.
func (f *farm) endpoint(id, to string) {
	f.exec(`INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ($1, $2, $3, $4, $5)`,
		id, "acc_"+strings.TrimPrefix(id, "we_"), to, webhook.Types, []byte(secretText))
}

// sends starts a sender. stop ends its intake and waits; cut breaks off what is
// on its way too.
func (f *farm) sends(boot string, of ...Store) (stop, cut func()) {
	f.Helper()
	guard, err := egress.New(egress.Config{Allow: f.allow})
	if err != nil {
		f.Fatal(err)
	}
	var from Store = plain{f.store}
	if len(of) > 0 {
		from = of[0]
	}
	s, err := New(Config{Roots: f.roots}, Deps{Store: from, Dial: guard.DialContext, Present: present, Boot: boot, Log: f.log})
	if err != nil {
		f.Fatal(err)
	}
	intake, end := context.WithCancel(context.Background())
	work, breakOff := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(intake, work); !errors.Is(err, context.Canceled) {
			f.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { end(); <-done; breakOff() })
	cut = func() { breakOff(); stop() }
	f.Cleanup(cut)
	return stop, cut
}

// present shows what the tests look at.
func present(j *job.Job) (json.RawMessage, error) {
	return json.Marshal(map[string]any{
		"id": j.ID, "status": j.State, "custom_id": j.CustomID, "metadata": j.Metadata, "evidence": j.Evidence, "options": json.RawMessage(j.Options), "error": j.Failure,
	})
}

// ends files the ends of jobs.
func (f *farm) ends(jobs ...*job.Job) {
	f.Helper()
	var filing store.Filing
	for _, j := range jobs {
		filing.Ends = append(filing.Ends, store.Ended{Job: j, Period: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)})
	}
	f.seq++
	if _, err := f.store.Project(f.Context(), store.Projection{Seq: f.seq - 1}, store.Projection{Seq: f.seq}, filing); err != nil {
		f.Fatal(err)
	}
}

// failed is the end of a job of an account.
func failed(account string) *job.Job {
	now, no := time.Now().UTC(), false
	return &job.Job{
		ID: job.NewID(), Account: account, State: job.Failed, CreatedAt: now, FinishedAt: now, ExpiresAt: now.Add(time.Hour), Billable: &no,
		Options: []byte(`{"url":"https://example.com/"}`), Failure: job.Fail(job.NavigationTimeout, job.StageNavigate, "no answer"),
	}
}

// next is the next request that a receiver has.
func (f *farm) next(r *receiver) got {
	f.Helper()
	select {
	case g := <-r.hits:
		return g
	case <-time.After(30 * time.Second):
		f.Fatalf("%s: nothing came", r.url)
		return got{}
	}
}

// verify checks a request as a receiver does that has the standard's library.
func (f *farm) verify(g got) (m struct {
	Type, Timestamp string
	Data            struct{ Job map[string]any }
},
) {
	f.Helper()
	wh, err := standard.NewWebhook(secretText)
	if err != nil {
		f.Fatal(err)
	}
	if err := wh.Verify(g.body, g.header); err != nil {
		f.Errorf("%s %s: %v", g.header, g.body, err)
	}
	if err := json.Unmarshal(g.body, &m); err != nil {
		f.Errorf("%s: %v", g.body, err)
	}
	return m
}

// until waits until a delivery is as it should be.
func (f *farm) until(account string, what string, ok func(webhook.Delivery, []webhook.Attempt) bool) (webhook.Delivery, []webhook.Attempt) {
	f.Helper()
	end := time.Now().Add(40 * time.Second)
	for {
		list, err := f.store.Deliveries(f.Context(), account, webhook.Filter{}, webhook.Place{}, 1)
		if err != nil {
			f.Fatal(err)
		}
		var d webhook.Delivery
		var attempts []webhook.Attempt
		if len(list) > 0 {
			if d, err = f.store.Delivery(f.Context(), account, list[0].ID); err != nil {
				f.Fatal(err)
			}
			attempts = d.Log
			if ok(d, attempts) {
				return d, attempts
			}
		}
		if time.Now().After(end) {
			f.Fatalf("%s: not %s: %+v %+v", account, what, d, attempts)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (f *farm) delivered(account string) (webhook.Delivery, []webhook.Attempt) {
	f.Helper()
	return f.until(account, "delivered", func(d webhook.Delivery, _ []webhook.Attempt) bool { return d.State == webhook.Delivered })
}

// tried waits for attempts, whatever came of them.
func (f *farm) tried(account string, n int) (webhook.Delivery, []webhook.Attempt) {
	f.Helper()
	return f.until(account, "tried", func(_ webhook.Delivery, attempts []webhook.Attempt) bool { return len(attempts) >= n })
}

// hurry moves what waits to now, as time would.
func (f *farm) hurry(account string) {
	f.Helper()
	f.exec(`UPDATE delivery_lanes SET open_until = NULL WHERE account = $1`, account)
	f.exec(`UPDATE deliveries SET next_at = now() WHERE account = $1`, account)
	if _, _, err := f.store.TendLanes(f.Context()); err != nil {
		f.Fatal(err)
	}
}
