package command

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/config"
)

// A batchFarm is a farm as a client of batches sees it: it has one batch, whose
// lines end one at a time, each time that somebody asks what has ended.
type batchFarm struct {
	*httptest.Server
	mu      sync.Mutex
	lines   []farmLine      // guarded by mu
	ended   int             // guarded by mu; of lines
	end     string          // guarded by mu; state once all lines have ended
	failure string          // guarded by mu
	uploads []*http.Request // guarded by mu; without bodies
	bodies  []string        // guarded by mu
	keys    map[string]bool // guarded by mu; Idempotency-Keys that made a batch
	fetched map[string]int  // guarded by mu; downloads by job
	// hook, if any, is asked first. It answers itself if it returns true.
	hook func(w http.ResponseWriter, r *http.Request) bool
}

type farmLine struct {
	custom, status, text, code string
}

func serveBatch(t *testing.T, lines ...farmLine) *batchFarm {
	f := &batchFarm{lines: lines, end: "completed", keys: map[string]bool{}, fetched: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/batches", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // it was given up
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.uploads, f.bodies = append(f.uploads, r), append(f.bodies, string(body))
		if r.URL.Query().Get("dry_run") == "true" {
			fmt.Fprint(w, `{"lines": 1200, "valid": 1199, "invalid": 1, "failure": null,
				"errors": [{"line": 7, "column": 9, "pointer": "/width", "detail": "must be 1 to 10,000", "code": "invalid_input"}],
				"price": {"unit": "render", "credits": 1199, "remaining": 999.5, "overage": {"credits": 199.5, "price_per_unit": "0.01", "cost": "1.995"}}}`)
			return
		}
		f.keys[r.Header.Get("Idempotency-Key")] = true
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, f.batch("validating"))
	})
	mux.HandleFunc("GET /v1/batches/batch_1", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		state := "running"
		if f.ended == len(f.lines) {
			state = f.end
		}
		fmt.Fprint(w, f.batch(state))
	})
	mux.HandleFunc("GET /v1/batches/batch_1/results", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if r.URL.Query().Get("order") != "ended" {
			for i := range f.lines {
				fmt.Fprintln(w, f.line(i))
			}
			return
		}
		from, _ := strconv.Atoi(r.URL.Query().Get("after"))
		over := f.ended == len(f.lines)
		f.ended = min(f.ended+1, len(f.lines))
		send := func(i, cursor int) {
			fmt.Fprintf(w, "%s,\"cursor\":\"%d\"}\n", strings.TrimSuffix(f.line(i), "}"), cursor)
		}
		for i := from; i < f.ended; i++ {
			if f.lines[i].status != "invalid" {
				send(i, i+1)
			}
		}
		for i, l := range f.lines { // no jobs: they come behind the others
			if over && l.status == "invalid" && 1000+i > from {
				send(i, 1000+i)
			}
		}
	})
	mux.HandleFunc("GET /v1/batches/batch_1/errors", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 25 {
			fmt.Fprintf(w, `{"line": %d, "column": 9, "code": "invalid_url", "pointer": "/url", "detail": "is no URL"}`+"\n", i+1)
		}
	})
	mux.HandleFunc("GET /v1/jobs/{id}/result", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.fetched[r.PathValue("id")]++
		i, _ := strconv.Atoi(strings.TrimPrefix(r.PathValue("id"), "job_"))
		fmt.Fprint(w, f.lines[i].text)
	})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.hook == nil || !f.hook(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

// batch is the batch as JSON. Callers hold mu.
func (f *batchFarm) batch(state string) string {
	n := map[string]int{"total": len(f.lines), "queued": len(f.lines) - f.ended}
	for _, l := range f.lines[:f.ended] {
		if l.status == "invalid" {
			l.status = "failed"
		}
		n[l.status]++
	}
	counts, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`{"id": "batch_1", "status": %q, "counts": %s, "progress": %f, "failure": %q}`,
		state, counts, float64(f.ended)/float64(max(len(f.lines), 1)), f.failure)
}

// line is a line of results. Callers hold mu.
func (f *batchFarm) line(i int) string {
	l := f.lines[i]
	v := map[string]any{"line": i + 1, "custom_id": nil, "job_id": fmt.Sprintf("job_%d", i), "status": l.status, "result": nil, "error": nil}
	if l.custom != "" {
		v["custom_id"] = l.custom
	}
	if l.status == "invalid" {
		v["job_id"], v["status"] = nil, "failed"
	}
	if l.status == "succeeded" {
		v["result"] = map[string]any{"content_type": "image/png", "size_bytes": len("picture"), "sha256": fmt.Sprintf("%x", sha256.Sum256([]byte("picture")))}
	} else {
		v["error"] = map[string]any{"code": l.code, "detail": "so it went", "stage": "navigate", "retryable": false}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

var (
	good = farmLine{status: "succeeded", text: "picture"}
	bad  = farmLine{status: "failed", custom: "b/../ad", code: "tls_error"}
)

// runBatch calls the command with a file of the given content.
func runBatch(ctx context.Context, t *testing.T, f *batchFarm, sc *screen, change func(*config.Batch)) error {
	t.Helper()
	cfg := config.Batch{Client: config.Client{Target: config.Target{Server: f.URL}, Key: "k"}, File: filepath.Join(t.TempDir(), "pages.txt")}
	if err := os.WriteFile(cfg.File, []byte("http://a/\nhttp://b/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	change(&cfg)
	return Batch(ctx, sc.terminal(false), cfg)
}

func into(dir string) func(*config.Batch) { return func(c *config.Batch) { c.Output = dir } }

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		has[e.Name()] = string(b)
	}
	return has
}
