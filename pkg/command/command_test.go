package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// server is a farm as a client sees it: one job, whose end a test chooses.
type server struct {
	*httptest.Server
	end      string // JSON of the job once it has ended; "" never ends it
	polled   chan struct{}
	canceled chan struct{}
	mu       sync.Mutex
	body     map[string]any // guarded by mu; of the last submission
	key      string         // guarded by mu
	patched  string         // guarded by mu
}

const (
	begun     = `{"id": "job_1", "status": "queued", "waiting_for": "worker", "position": 2}`
	succeeded = `{"id": "job_1", "status": "succeeded", "result": {"width": 1280, "height": 1024, "size_bytes": 3, "content_type": "image/png"}}`
	failed    = `{"id": "job_1", "status": "failed", "error": {"code": "connection_refused", "detail": "nobody listens there", "retryable": true}}`
)

func serve(t *testing.T, end string) *server {
	s := &server{end: end, polled: make(chan struct{}, 1), canceled: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.key = r.Header.Get("Authorization")
		if err := json.NewDecoder(r.Body).Decode(&s.body); err != nil {
			t.Error(err)
		}
		if s.body["url"] == "http://refuse/" {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"status": 429, "code": "rate_limit_exceeded", "detail": "wait a second"}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, begun)
	})
	mux.HandleFunc("GET /v1/jobs/job_1", func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.polled <- struct{}{}:
		default:
		}
		if s.end == "" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, s.end)
	})
	mux.HandleFunc("DELETE /v1/jobs/job_1", func(w http.ResponseWriter, _ *http.Request) {
		close(s.canceled)
		fmt.Fprint(w, `{"id": "job_1", "status": "canceled"}`)
	})
	mux.HandleFunc("GET /v1/jobs/job_1/result", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "PNG") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.end == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, `{"status": "ready", "degraded": ["s3"]}`)
	})
	mux.HandleFunc("GET /admin/v1/accounts", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data": [{"id": "acc_1", "name": "acme", "plan": "default",
			"keys": 2, "usage": {"used": 3.5, "limit": 100, "unit": "render"}}], "has_more": false}`)
	})
	mux.HandleFunc("GET /admin/v1/accounts/acc_1", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"id": "acc_1", "name": "acme", "plan": "default", "keys": 2,
			"usage": {"period": "2026-11", "resets_at": "2026-12-01T00:00:00Z", "used": 3.5, "limit": 100, "unit": "render"}}`)
	})
	mux.HandleFunc("GET /v1/usage", usageOf)
	bans(t, mux)
	mux.HandleFunc("GET /v1/usage/events", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("period") == "broken" {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush() // the client sees that there is something
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "events as "+r.URL.Query().Get("format"))
	})
	mux.HandleFunc("PATCH /admin/v1/accounts/acc_1", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.patched = string(bytes.TrimSpace(body))
		fmt.Fprint(w, `{"id": "acc_1", "name": "acme", "plan": "gold", "billing_day": 31, "suspended": true}`)
	})
	mux.HandleFunc("GET /admin/v1/policy", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"status": 401, "code": "invalid_key", "detail": "this is not the admin token"}`)
			return
		}
		w.Write(account.DefaultPolicy().Text()) //nolint:errcheck // a test notices
	})
	mux.HandleFunc("POST /admin/v1/accounts/acc_1/keys", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"id": "k1", "name": "", "key": "tt_live_k1_secret"}`)
	})
	mux.HandleFunc("GET /admin/v1/accounts/acc_1/keys", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data": [{"id": "k1", "name": "ci", "scopes": ["read"], "created_at": "2026-01-02T03:04:05Z"}]}`)
	})
	mux.HandleFunc("DELETE /admin/v1/accounts/acc_1/keys/k1", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// screen is a terminal that can be read.
type screen struct {
	out, err bytes.Buffer
}

func (s *screen) terminal(live bool) Terminal {
	return Terminal{In: strings.NewReader("<h1>in</h1>"), Out: &s.out, Err: &s.err, Live: live}
}

func shot(s *server, change func(*config.Shot)) config.Shot {
	cfg := config.Shot{
		Client: config.Client{Target: config.Target{Server: s.URL}, Key: "k"},
		Page:   config.Page{URL: "http://example.com/"},
	}
	change(&cfg)
	return cfg
}

func TestShotWritesTheFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := serve(t, succeeded)
	path := filepath.Join(t.TempDir(), "x.jpg")
	var sc screen
	cfg := shot(s, func(c *config.Shot) {
		c.Output, c.Width, c.FullPage, c.WaitUntil = path, set(800), set(true), set("networkidle0")
	})
	if err := Shot(t.Context(), sc.terminal(false), cfg); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "PNG" {
		t.Errorf("wrote %q, %v", b, err)
	}
	if !strings.Contains(sc.err.String(), "1280 × 1024, 1 kB") || strings.Contains(sc.err.String(), "\r") || sc.out.Len() > 0 {
		t.Errorf("said %q, printed %q", sc.err.String(), sc.out.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[string]any{"url": "http://example.com/", "width": 800.0, "full_page": true, "wait_until": "networkidle0", "format": "jpeg"}
	if fmt.Sprint(s.body) != fmt.Sprint(want) || s.key != "Bearer k" {
		t.Errorf("submitted %v with %q, want %v", s.body, s.key, want)
	}
	s.Close()
}

func TestShotShowsWhereItStands(t *testing.T) {
	s := serve(t, succeeded)
	var sc screen
	cfg := shot(s, func(c *config.Shot) { c.Output = filepath.Join(t.TempDir(), "x.png") })
	if err := Shot(t.Context(), sc.terminal(true), cfg); err != nil {
		t.Fatal(err)
	}
	if said := sc.err.String(); !strings.Contains(said, "queued, waiting for a worker, number 2") || !strings.Contains(said, "\r\x1b[K") {
		t.Errorf("said %q", said)
	}
}

// A time to live that is none is said, and one that is not given is not.
func TestFreshness(t *testing.T) {
	s := serve(t, `{"id": "job_1", "status": "succeeded", "cached": true, "result": {"size_bytes": 3}}`)
	for want, change := range map[string]func(*config.Shot){
		"map[force:true format:png url:http://example.com/]": func(c *config.Shot) { c.Force = true },
		"map[format:png ttl_s:0 url:http://example.com/]":    func(c *config.Shot) { c.TTL = new(time.Duration) },
		"map[format:png ttl_s:90 url:http://example.com/]":   func(c *config.Shot) { c.TTL = set(90 * time.Second) },
	} {
		var sc screen
		cfg := shot(s, func(c *config.Shot) { c.Output = filepath.Join(t.TempDir(), "x.png"); change(c) })
		s.mu.Lock()
		s.body = nil
		s.mu.Unlock()
		if err := Shot(t.Context(), sc.terminal(false), cfg); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		if got := fmt.Sprint(s.body); got != want {
			t.Errorf("submitted %s, want %s", got, want)
		}
		s.mu.Unlock()
		if !strings.Contains(sc.err.String(), "1 kB, cached, in ") {
			t.Errorf("said %q", sc.err.String())
		}
	}
}

func TestOutputs(t *testing.T) {
	s := serve(t, succeeded)
	var sc screen
	cfg := shot(s, func(c *config.Shot) { c.Output = "-" })
	if err := Shot(t.Context(), sc.terminal(false), cfg); err != nil || sc.out.String() != "PNG" {
		t.Errorf("to standard output: %q, %v", sc.out.String(), err)
	}
	sc = screen{}
	t.Chdir(t.TempDir())
	cfg = shot(s, func(c *config.Shot) { c.JSON = true })
	if err := Shot(t.Context(), sc.terminal(false), cfg); err != nil {
		t.Error(err)
	}
	var job client.Job
	if err := json.Unmarshal(sc.out.Bytes(), &job); err != nil || job.Id != "job_1" {
		t.Errorf("printed %q, %v", sc.out.String(), err)
	}
	if _, err := os.Stat("example.com.png"); err != nil {
		t.Error(err)
	}
	sc = screen{}
	pdf := config.PDF{Client: cfg.Client, Page: config.Page{HTML: "-"}}
	if err := PDF(t.Context(), sc.terminal(false), pdf); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("page.pdf"); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.body["html"] != "<h1>in</h1>" {
		t.Errorf("submitted %v", s.body)
	}
}

// What was there stays when the download breaks, and no half file is left.
func TestFileIsWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.png")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("ne"), &failingReader{})
	if err := WriteFile(path, broken); err == nil {
		t.Error("no error")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "old" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
	if err := WriteFile("/dev/null", strings.NewReader("x")); err != nil {
		t.Errorf("into a device: %v", err)
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, errors.New("connection lost") }

func TestInterruptCancelsTheJob(t *testing.T) {
	s := serve(t, "")
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-s.polled
		interrupt()
	}()
	var sc screen
	err := Shot(ctx, sc.terminal(false), shot(s, func(c *config.Shot) { c.Output = "-" }))
	if ExitCode(err) != ExitInterrupted {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	<-s.canceled
}

func TestErrorsOfARender(t *testing.T) {
	s := serve(t, failed)
	for name, test := range map[string]struct {
		change func(*config.Shot)
		code   int
		want   string
	}{
		"the page":    {func(*config.Shot) {}, ExitFailed, "connection_refused: nobody listens there (trying again may help)"},
		"refused":     {func(c *config.Shot) { c.URL = "http://refuse/" }, ExitRefused, "rate_limit_exceeded"},
		"no server":   {func(c *config.Shot) { c.Server = "http://127.0.0.1:1" }, ExitUnreachable, "not reachable"},
		"no key":      {func(c *config.Shot) { c.Key = ""; c.Data = "/does/not/exist" }, ExitUsage, "TINTYPE_KEY"},
		"no html":     {func(c *config.Shot) { c.HTML = "/does/not/exist" }, ExitUsage, "--html"},
		"a document":  {func(c *config.Shot) { c.Output = "x.pdf" }, ExitUsage, "tintype pdf"},
		"bad server":  {func(c *config.Shot) { c.Server = "http://a b/" }, ExitUsage, "--server"},
		"empty input": {func(c *config.Shot) { c.HTML = "/dev/null" }, ExitUsage, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var sc screen
			err := Shot(t.Context(), sc.terminal(false), shot(s, test.change))
			if ExitCode(err) != test.code || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("exit code %d for %v; want %d and %q", ExitCode(err), err, test.code, test.want)
			}
		})
	}
}

func TestAdmin(t *testing.T) {
	s := serve(t, succeeded)
	who := config.AdminClient{Target: config.Target{Server: s.URL}, Admin: config.Admin{AdminToken: "a"}}
	var sc screen
	err := errors.Join(
		ListAccounts(t.Context(), sc.terminal(false), config.AccountList{AdminClient: who}),
		CreateKey(t.Context(), sc.terminal(false), config.KeyCreate{AdminClient: who, Account: "acme"}),
		ListKeys(t.Context(), sc.terminal(false), config.KeyList{AdminClient: who, Account: "acc_1"}),
		RevokeKey(t.Context(), sc.terminal(false), config.KeyRevoke{AdminClient: who, Account: "acme", Key: "k1"}),
		ShowAccount(t.Context(), sc.terminal(false), config.AccountShow{AdminClient: who, Account: "acme"}),
	)
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"acc_1  acme  default", "tt_live_k1_secret\n", "k1  ci    read    2026-01-02T03:04:05Z  -",
		"2     3.5 of 100", "period     2026-11, until 2026-12-01\nused       3.5 of 100 renders\n",
	} {
		if !strings.Contains(sc.out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, sc.out.String())
		}
	}
	err = RevokeKey(t.Context(), sc.terminal(false), config.KeyRevoke{AdminClient: who, Account: "nobody", Key: "k1"})
	if ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "tintype account list") {
		t.Errorf("an unknown account: %v", err)
	}
}

func TestHealthcheck(t *testing.T) {
	var sc screen
	if err := Healthcheck(t.Context(), sc.terminal(false), config.Healthcheck{Target: config.Target{Server: serve(t, succeeded).URL}}); err != nil {
		t.Error(err)
	}
	if sc.out.String() != "ready, degraded: s3\n" {
		t.Errorf("printed %q", sc.out.String())
	}
	err := Healthcheck(t.Context(), sc.terminal(false), config.Healthcheck{Target: config.Target{Server: serve(t, "").URL}})
	if ExitCode(err) != ExitFailed {
		t.Errorf("not ready: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	for status, want := range map[int]int{
		400: ExitUsage, 401: ExitRefused, 402: ExitRefused, 403: ExitRefused, 404: ExitUsage, 409: ExitUsage, 410: ExitFailed,
		413: ExitUsage, 422: ExitUsage, 429: ExitRefused, 500: ExitFailed, 503: ExitRefused,
	} {
		if got := ExitCode(fmt.Errorf("x: %w", &client.Problem{Status: status})); got != want {
			t.Errorf("status %d exits %d, want %d", status, got, want)
		}
	}
}
