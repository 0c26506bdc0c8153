package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

func TestBatch(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	f := serveBatch(t, good, bad, farmLine{status: "succeeded", text: "picture", custom: "a b/c"}, farmLine{status: "invalid", code: "invalid_url"})
	dir := filepath.Join(t.TempDir(), "new", "results")
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) {
		c.Output, c.Defaults, c.Options, c.OnError = dir, `{"width": 800, "format": "png"}`, []string{"format=pdf", "full_page=true"}, "skip"
	})
	if ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "2 of 4 lines without a result") {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	has := files(t, dir)
	if has["0000001.png"] != "picture" || has["0000003-a_b_c.png"] != "picture" || len(has) != 4 {
		t.Errorf("the folder has %v", slices.Sorted(maps.Keys(has)))
	}
	rows := strings.Split(strings.TrimSpace(has["results.jsonl"]), "\n")
	if len(rows) != 4 || !strings.HasSuffix(rows[0], `,"file":"0000001.png"}`) || !strings.HasSuffix(rows[1], `,"file":null}`) || !strings.HasSuffix(rows[3], `,"file":null}`) {
		t.Errorf("the list is %q", rows)
	}
	for _, want := range []string{"pages.txt is uploaded\n", "line 2 (b/../ad): tls_error: so it went\n", "line 4: invalid_url: so it went\n"} {
		if !strings.Contains(sc.err.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, sc.err.String())
		}
	}
	if sc.out.Len() > 0 || strings.Contains(sc.err.String(), "\r") {
		t.Errorf("printed %q, said %q", sc.out.String(), sc.err.String())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.uploads[0]
	if f.bodies[0] != "http://a/\nhttp://b/\n" || r.Header.Get("Content-Type") != "text/plain" || r.Header.Get("Content-Encoding") != "" ||
		r.URL.Query().Get("on_error") != "skip" || r.URL.Query().Get("defaults") != `{"format":"pdf","full_page":true,"width":800}` {
		t.Errorf("uploaded %q, %v, %v", f.bodies[0], r.URL, r.Header)
	}
	f.Close()
}

func TestBatchSucceeds(t *testing.T) {
	f := serveBatch(t, good, good)
	dir := t.TempDir()
	var sc screen
	if err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) { c.Output, c.JSON = dir, true }); err != nil {
		t.Fatal(err)
	}
	var b client.Batch
	if err := json.Unmarshal(sc.out.Bytes(), &b); err != nil || string(b.Status) != "completed" || b.Counts.Succeeded != 2 {
		t.Errorf("printed %q: %v", sc.out.String(), err)
	}
	if !strings.Contains(sc.err.String(), "batch_1: completed, 2 lines; all lines are in "+dir) {
		t.Errorf("said %q", sc.err.String())
	}
}

// A command that was interrupted goes on: it uploads nothing again, and fetches
// what is not there.
func TestBatchGoesOn(t *testing.T) {
	f := serveBatch(t, good, good, good)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "pages")
	if err := os.WriteFile(file, []byte("https://a/"), 0o644); err != nil {
		t.Fatal(err)
	}
	same := func(c *config.Batch) { c.Output, c.File = dir, file }
	ctx, interrupt := context.WithCancel(t.Context())
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v1/jobs/job_1/result" {
			interrupt()
			<-r.Context().Done()
			return true
		}
		return false
	}
	var sc screen
	if err := runBatch(ctx, t, f, &sc, same); ExitCode(err) != ExitInterrupted {
		t.Fatalf("exit code %d for %v", ExitCode(err), err)
	}
	if !strings.Contains(sc.err.String(), "batch_1 goes on without this command; the same command") {
		t.Errorf("said %q", sc.err.String())
	}
	f.hook = nil
	if err := os.WriteFile(filepath.Join(dir, ".tintype-123"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := runBatch(t.Context(), t, f, &sc, same); err != nil {
		t.Fatal(err)
	}
	if has := files(t, dir); len(has) != 5 || has["0000002.png"] != "picture" {
		t.Errorf("the folder has %v", slices.Sorted(maps.Keys(has)))
	}
	f.mu.Lock()
	uploads, fetched := len(f.uploads), maps.Clone(f.fetched)
	f.mu.Unlock()
	if uploads != 1 || fetched["job_0"] != 1 || fetched["job_1"] != 1 {
		t.Errorf("uploaded %d times, fetched %v", uploads, fetched)
	}
	// What is missing or cut off by then is fetched again.
	if err := os.Truncate(filepath.Join(dir, "0000001.png"), 3); err != nil {
		t.Fatal(err)
	}
	if err := runBatch(t.Context(), t, f, &sc, same); err != nil || files(t, dir)["0000001.png"] != "picture" {
		t.Errorf("a damaged file is now %q, %v", files(t, dir)["0000001.png"], err)
	}
}

// An upload whose answer was lost is sent again under the same key; the same file
// for another folder, or with other fields, is another batch.
func TestBatchIsUploadedOnce(t *testing.T) {
	f := serveBatch(t, good)
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "pages.csv")
	if err := os.WriteFile(file, []byte("url\nhttps://a/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(t.Context())
	var first string
	f.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		first = r.Header.Get("Idempotency-Key")
		kill()
		return true
	}
	var sc screen
	same := func(c *config.Batch) { c.Output, c.File = dir, file }
	if err := runBatch(ctx, t, f, &sc, same); ExitCode(err) != ExitInterrupted {
		t.Fatal(err)
	}
	f.hook = nil
	for name, change := range map[string]func(*config.Batch){
		"the same":       same,
		"another folder": func(c *config.Batch) { c.Output, c.File = t.TempDir(), file },
		"other fields":   func(c *config.Batch) { c.Output, c.File, c.Options = t.TempDir(), file, []string{"width=5"} },
	} {
		if err := runBatch(t.Context(), t, f, &sc, change); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) != 3 || !f.keys[first] || f.keys[""] || len(first) < 20 {
		t.Errorf("the keys were %v, the first %q", f.keys, first)
	}
}

func TestBatchArtifactThatCannotBeHad(t *testing.T) {
	f := serveBatch(t, good, farmLine{status: "succeeded", text: "another"}, farmLine{status: "succeeded", text: "cut"}, good)
	seen := 0
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/v1/jobs/job_0/result":
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"code": "artifact_lost", "detail": "the stored bytes are not the ones recorded"}`)
			return true
		case "/v1/jobs/job_3/result": // right at the second attempt
			if seen++; seen == 1 {
				fmt.Fprint(w, "picturf")
				return true
			}
		}
		return false
	}
	dir := t.TempDir()
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, into(dir))
	if ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "3 of 4 lines without a result") {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	for _, want := range []string{
		"line 1: the stored bytes are not the ones recorded (artifact_lost)\n", "line 2: ", "line 3: ", "not those that were rendered (3 bytes of 7)",
	} {
		if !strings.Contains(sc.err.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, sc.err.String())
		}
	}
	if has := files(t, dir); has["0000004.png"] != "picture" || len(has) != 3 || strings.Count(has["results.jsonl"], `"file":null`) != 3 {
		t.Errorf("the folder has %v", has)
	}
}

// Connections that break in the middle of a list or of an artifact cost nothing.
func TestBatchThroughBrokenConnections(t *testing.T) {
	f := serveBatch(t, good, good, good)
	var mu sync.Mutex
	broken := map[string]bool{}
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if broken[r.URL.String()] || r.Method == "POST" {
			return false
		}
		broken[r.URL.String()] = true
		if strings.HasSuffix(r.URL.Path, "/results") {
			f.mu.Lock()
			fmt.Fprint(w, f.line(0)[:20])
			f.mu.Unlock()
		} else {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "pict")
		}
		_ = http.NewResponseController(w).Flush() // the client sees that there is something
		panic(http.ErrAbortHandler)
	}
	dir := t.TempDir()
	var sc screen
	if err := runBatch(t.Context(), t, f, &sc, into(dir)); err != nil {
		t.Fatalf("%v\n%s", err, sc.err.String())
	}
	if has := files(t, dir); len(has) != 5 || strings.Count(has["results.jsonl"], "\n") != 3 {
		t.Errorf("the folder has %v", has)
	}
}

func TestBatchToStandardOutput(t *testing.T) {
	f := serveBatch(t, good, bad, farmLine{status: "invalid", code: "invalid_url"})
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) { c.File, c.Output, c.Format = "-", "-", "jsonl" })
	if ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "2 of 3 lines") {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	rows := strings.Split(strings.TrimSpace(sc.out.String()), "\n")
	if len(rows) != 3 || !strings.Contains(rows[1], "tls_error") || !strings.Contains(rows[2], "invalid_url") {
		t.Errorf("printed %q", rows)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bodies[0] != "<h1>in</h1>" || len(f.fetched) > 0 {
		t.Errorf("uploaded %q, fetched %v", f.bodies, f.fetched)
	}
}

func TestBatchIsRejected(t *testing.T) {
	f := serveBatch(t)
	f.end, f.failure = "failed", "25 lines are wrong"
	dir := t.TempDir()
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, into(dir))
	if ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "25 lines are wrong; all errors are in "+dir) {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	if said := sc.err.String(); !strings.Contains(said, "line 20, column 9, /url: is no URL\n  and 5 more\n") || strings.Contains(said, "line 21") {
		t.Errorf("said %q", said)
	}
	if has := files(t, dir); strings.Count(has["errors.jsonl"], "\n") != 25 || len(has) != 1 {
		t.Errorf("the folder has %v", has)
	}
	// The corrected file goes into the same folder.
	f.mu.Lock()
	f.end, f.lines = "completed", []farmLine{good}
	f.mu.Unlock()
	if err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) { c.Output, c.Options = dir, []string{"width=7"} }); err != nil {
		t.Error(err)
	}
}

func TestTrial(t *testing.T) {
	f := serveBatch(t)
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) { c.DryRun = true })
	if ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "1 line of 1,200 would fail") {
		t.Errorf("exit code %d for %v", ExitCode(err), err)
	}
	if want := "lines    1,200\nvalid    1,199\ninvalid  1\nprice    at most 1199 credits, of 999.5 credits that are left; 199.5 credits beyond the quota cost 1.995\n"; sc.out.String() != want {
		t.Errorf("printed %q, want %q", sc.out.String(), want)
	}
	if !strings.Contains(sc.err.String(), "  line 7, column 9, /width: must be 1 to 10,000\n") {
		t.Errorf("said %q", sc.err.String())
	}
	if len(f.keys) > 0 {
		t.Errorf("a batch was made: %v", f.keys)
	}
}

func TestBatchRefuses(t *testing.T) {
	f := serveBatch(t, good)
	taken := t.TempDir()
	var sc screen
	if err := runBatch(t.Context(), t, f, &sc, into(taken)); err != nil {
		t.Fatal(err)
	}
	busy, err := openResults(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer busy.close()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, test := range map[string]struct {
		change func(*config.Batch)
		code   int
		want   string
	}{
		"another batch in the folder": {func(c *config.Batch) { c.Output, c.Options = taken, []string{"width=5"} }, ExitUsage, "holds the results of batch_1"},
		"an attached one":             {func(c *config.Batch) { c.Output, c.Attach = taken, "batch_2" }, ExitUsage, "404"},
		"a folder in use":             {into(busy.path), ExitUsage, "another tintype"},
		"no folder":                   {into(empty), ExitUsage, "-o"},
		"no file":                     {func(c *config.Batch) { c.File, c.Output = "/does/not/exist", dir }, ExitUsage, "/does/not/exist"},
		"a folder as file":            {func(c *config.Batch) { c.File, c.Output = dir, dir }, ExitUsage, "is a folder"},
		"an empty file":               {func(c *config.Batch) { c.File, c.Output = empty, dir }, ExitUsage, "is empty"},
		"nobody knows what":           {func(c *config.Batch) { c.File, c.Output = "-", dir }, ExitUsage, "--format"},
		"a picture's format":          {func(c *config.Batch) { c.Output, c.Format = dir, "pdf" }, ExitUsage, "--option format=pdf"},
		"defaults that are none":      {func(c *config.Batch) { c.Output, c.Defaults = dir, "[1]" }, ExitUsage, "--defaults"},
		"defaults not there":          {func(c *config.Batch) { c.Output, c.Defaults = dir, "@/does/not/exist" }, ExitUsage, "/does/not/exist"},
		"an option twice":             {func(c *config.Batch) { c.Output, c.Options = dir, []string{"a=1", "a=2"} }, ExitUsage, "--option a=2"},
		"no server":                   {func(c *config.Batch) { c.Server, c.Output = "ftp://x", dir }, ExitUsage, "--server"},
	} {
		t.Run(name, func(t *testing.T) {
			var sc screen
			err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) {
				test.change(c)
				if c.Attach != "" {
					c.File = ""
				}
			})
			if err == nil || ExitCode(err) != test.code || !strings.Contains(err.Error(), test.want) {
				t.Errorf("exit code %d for %v; want %d and %q", ExitCode(err), err, test.code, test.want)
			}
		})
	}
}

func TestBatchAttaches(t *testing.T) {
	f := serveBatch(t, good)
	dir := t.TempDir()
	for range 2 {
		var sc screen
		if err := runBatch(t.Context(), t, f, &sc, func(c *config.Batch) { c.File, c.Output, c.Attach = "", dir, "batch_1" }); err != nil {
			t.Fatal(err)
		}
	}
	if has := files(t, dir); has["0000001.png"] != "picture" || len(f.bodies) > 0 {
		t.Errorf("the folder has %v", has)
	}
}

// A batch that is gone, and a farm that is, are told from each other.
func TestBatchIsGone(t *testing.T) {
	f := serveBatch(t, good)
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			return false
		}
		w.WriteHeader(http.StatusGone)
		fmt.Fprint(w, `{"code": "gone", "detail": "its retention ended"}`)
		return true
	}
	dir := t.TempDir()
	var sc screen
	err := runBatch(t.Context(), t, f, &sc, into(dir))
	if ExitCode(err) != ExitFailed || !strings.Contains(sc.err.String(), "remove "+filepath.Join(dir, stateFile)) || strings.Contains(sc.err.String(), "goes on") {
		t.Errorf("%v: said %q", err, sc.err.String())
	}
	f.hook = func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"code": "suspended", "detail": "the account is suspended"}`)
		return true
	}
	sc = screen{}
	err = runBatch(t.Context(), t, f, &sc, into(dir))
	if ExitCode(err) != ExitRefused || !strings.Contains(sc.err.String(), "batch_1 goes on without this command") {
		t.Errorf("%v: said %q", err, sc.err.String())
	}
}

// A pause that lasts is told, and waited through by nobody.
func TestBatchPause(t *testing.T) {
	now := time.Now()
	quota, owner, suspended := "quota_exceeded", "by_owner", "suspended"
	soon, late := now.Add(time.Minute), now.Add(24*time.Hour)
	for name, test := range map[string]struct {
		reason *string
		until  *time.Time
		want   string
	}{
		"a minute": {&quota, &soon, ""}, "a day": {&quota, &late, "(quota_exceeded) until 2"},
		"by its owner": {&owner, nil, ""}, "until changed": {&suspended, nil, "(suspended) until that is changed"},
	} {
		err := longPause(&client.Batch{Id: "batch_1", Status: "paused", PausedReason: test.reason, ResumeAt: test.until}, now)
		if test.want == "" && err != nil || test.want != "" && (ExitCode(err) != ExitRefused || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBatchProgress(t *testing.T) {
	end := time.Now().Add(90 * time.Second)
	b := &client.Batch{Id: "batch_1", Status: "running", Progress: 0.5, EstimatedEndAt: &end}
	b.Counts = client.BatchCounts{Total: 100000, Queued: 49990, Running: 10, Succeeded: 48000, Failed: 2000}
	var sc screen
	p := newBatchProgress(sc.terminal(true))
	p.batch(b)
	p.clear()
	if want := "\r████████░░░░░░░░  50 %  50,000 of 100,000, 2,000 failed, about 1 min left\x1b[K\r\x1b[K"; sc.err.String() != want {
		t.Errorf("drew %q, want %q", sc.err.String(), want)
	}
	sc = screen{}
	p = newBatchProgress(sc.terminal(false))
	p.batch(b)
	p.file() // less than ten seconds later
	later := *b
	later.Status = "finalizing"
	p.batch(&later)
	if want := "batch_1: 50,000 of 100,000, 2,000 failed, about 1 min left\nbatch_1: 50,000 of 100,000, finalizing, 2,000 failed, about 1 min left, 1 here\n"; sc.err.String() != want {
		t.Errorf("said %q, want %q", sc.err.String(), want)
	}
	if got := fit([]string{strings.Repeat("x", 70), "1 of 2", "3 failed"}); got != strings.Repeat("x", 70)+"  1 of 2" {
		t.Errorf("%q", got)
	}
}
