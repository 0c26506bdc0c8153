package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/needtest"
)

// asProgram makes the test binary be tintype itself, so that tests can kill it.
const asProgram = "TEST_BINARY_IS_TINTYPE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

const module = "github.com/tintype/tintype"

// pkg is what go list knows of one package of this module.
type pkg struct {
	path, dir string // path without the module; "" is main
	deps      []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	const format = `{{.ImportPath}}|{{.Dir}}|{{join .Deps " "}}`
	cmd := exec.Command("go", "list", "-deps=false", "-f", format, "./...")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for line := range strings.Lines(strings.TrimSpace(string(out))) {
		part := strings.Split(strings.TrimSpace(line), "|")
		list = append(list, pkg{
			path: strings.TrimPrefix(strings.TrimPrefix(part[0], module), "/"), dir: part[1], deps: strings.Fields(part[2]),
		})
	}
	return list
}

// below reports whether path is one of the folders or in one.
func below(path string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// forTests reports whether a package holds what several packages' tests share,
// such as pkg/store/storetest.
func forTests(path string) bool { return strings.HasSuffix(path, "test") }

// The arrows of the house: main → farm → tiers → pkg.
func TestArrows(t *testing.T) {
	tiers := []string{"api", "scheduler", "worker"}
	for _, p := range packages(t) {
		for _, dep := range p.deps {
			own, isOwn := strings.CutPrefix(dep, module+"/")
			forbid := func(what bool, why string) {
				if what {
					t.Errorf("%s depends on %s: %s", "./"+p.path, dep, why)
				}
			}
			if isOwn {
				for _, tier := range tiers {
					forbid(below(p.path, tier) && below(own, tiers...) && !below(own, tier), "tiers meet in proto and on the streams")
				}
				forbid(below(p.path, "pkg", "proto") && !below(p.path, "pkg/farm") && below(own, tiers...), "arrows point from a tier to pkg")
				isMain := p.path == "" || below(p.path, "loadtest")
				forbid(own == "pkg/farm" && !isMain, "the wiring is for mains")
				forbid(below(own, "loadtest") && !below(p.path, "loadtest"), "its renderer returns a fixed picture; nothing that ships may link it")
				forbid(below(p.path, "loadtest/audit") && !below(own, "loadtest/audit", "proto"), "the auditor knows the wire and nothing of how the farm keeps its word")
				forbid(below(own, "pkg/embed") && !isMain && !below(p.path, "pkg/farm", "pkg/embed") && !forTests(p.path),
					"embedded back ends are for up and tests")
				forbid(forTests(own) && !forTests(p.path), "it is for tests")
				forbid(below(p.path, "pkg/job", "pkg/account", "pkg/fault") && !below(own, "pkg/job", "pkg/account", "pkg/fault", "pkg/option", "pkg/device", "pkg/typo", "deploy/policies"),
					"the domain knows itself alone")
				continue
			}
			forbid(below(p.path, "worker") && below(dep, "github.com/nats-io", "github.com/jackc/pgx", "github.com/jackc/pgx/v5", "github.com/minio/minio-go/v7"),
				"a worker runs hostile pages and reaches neither NATS nor Postgres nor the bucket")
			forbid(below(p.path, "pkg/job", "pkg/account", "pkg/fault") &&
				(dep == "database/sql" || below(dep, "net/http", "google.golang.org/protobuf", "google.golang.org/grpc")),
				"the domain knows no wire, no table and no transport")
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(path string) bool {
			if strings.HasSuffix(path, "_test.go") {
				return false
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
			return err == nil && len(f.Doc.Text()) > 60
		}) {
			t.Errorf("./%s has no package doc", p.path)
		}
	}
}

// rod v0.116.2 breaks with newer ones of these, and `go get -u` lifts them.
func TestRodPins(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"github.com/go-rod/rod v0.116.2", "github.com/ysmood/fetchup v0.2.3", "github.com/ysmood/goob v0.4.0",
		"github.com/ysmood/got v0.40.0", "github.com/ysmood/gson v0.7.3", "github.com/ysmood/leakless v0.9.0",
	} {
		if !regexp.MustCompile(`(?m)^\s` + regexp.QuoteMeta(want) + `( // indirect)?$`).Match(mod) {
			t.Errorf("go.mod does not pin %s", want)
		}
	}
}

func TestUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		code int
		out  string
	}{
		"help":         {[]string{"--help"}, 0, "Usage: tintype"},
		"version":      {[]string{"version"}, 0, "go1."},
		"config":       {[]string{"config"}, 0, "127.0.0.1:8080"},
		"unknown":      {[]string{"upp"}, 2, "upp"},
		"bad value":    {[]string{"up", "--seats", "many"}, 2, "whole number"},
		"not there":    {[]string{"healthcheck", "--server", "http://127.0.0.1:1"}, 3, "127.0.0.1:1"},
		"no key":       {[]string{"shot", "http://example.com", "--data", "/does/not/exist"}, 2, "TINTYPE_KEY"},
		"doctor":       {[]string{"doctor", "--seats", "0", "--data", "/dev/null/data", "--listen", "127.0.0.1:0"}, 1, "fix: choose another folder with --data"},
		"wrong output": {[]string{"shot", "http://example.com", "-o", "x.pdf"}, 2, "tintype pdf"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(test.args, strings.NewReader(""), &out, &out); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			if !strings.Contains(out.String(), test.out) {
				t.Errorf("printed %q, want something with %q", out.String(), test.out)
			}
		})
	}
}

// world is a folder of its own for one farm and all that it leaves behind.
type world struct {
	t   *testing.T
	dir string
	log io.Writer // takes what start's processes log, beside the test's output; may be nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Postgres and Chromium run as other users and must get there, which
	// t.TempDir does not let them.
	dir, err := os.MkdirTemp("", "tintype-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Mkdir(tmp, 0o777), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, dir: dir}
}

func (w *world) data() string { return filepath.Join(w.dir, "data") }

// command is tintype with these arguments in this world.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "TINTYPE_DATA="+w.data(), "TMPDIR="+filepath.Join(w.dir, "tmp"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// client runs a client command to its end.
func (w *world) client(url, in string, args ...string) (out, errOut string, code int) {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.Env = append(cmd.Env, "TINTYPE_SERVER="+url)
	var o, e bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &o, &e
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			w.t.Fatal(err)
		}
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// instance is a running `tintype up` or `tintype backends`.
type instance struct {
	cmd    *exec.Cmd
	url    string
	banner string
	ended  chan struct{} // closed once cmd is collected
}

// up starts a farm and returns once it has printed its banner.
func (w *world) up(args ...string) *instance {
	w.t.Helper()
	f := w.start(append([]string{"up", "--listen", "127.0.0.1:0", "--seats", "1"}, args...)...)
	found := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(f.banner)
	if found == "" {
		w.t.Fatalf("no address in %q", f.banner)
	}
	f.url = found
	return f
}

// start runs a mode that prints a banner and returns once it has.
func (w *world) start(args ...string) *instance {
	w.t.Helper()
	f := &instance{cmd: w.command(args...), ended: make(chan struct{})}
	f.cmd.Stderr = w.t.Output()
	if w.log != nil {
		f.cmd.Stderr = io.MultiWriter(f.cmd.Stderr, w.log)
	}
	r, pipe, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	f.cmd.Stdout = pipe
	if err := f.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	pipe.Close() // ours; the farm has its own
	banner := make(chan string)
	go func() {
		// Its standard output ends with the process; Wait must not close it before.
		var text strings.Builder
		buf := make([]byte, 4096)
		told := false
		for {
			n, err := r.Read(buf)
			text.Write(buf[:n])
			if !told && strings.Contains(text.String(), "Ctrl-C stops") || err != nil && !told {
				told = true
				banner <- text.String()
			}
			if err != nil {
				break
			}
		}
		r.Close()
		// The exit code is read from the state; an error here is only that.
		_ = f.cmd.Wait()
		close(f.ended)
	}()
	f.banner = <-banner
	w.t.Cleanup(func() {
		_ = f.cmd.Process.Kill() // it has ended already where all went well
		<-f.ended
	})
	if !strings.Contains(f.banner, "Ctrl-C stops") {
		<-f.ended
		w.t.Fatalf("%s ended with %s and printed %q", args[0], f.cmd.ProcessState, f.banner)
	}
	return f
}

func (f *instance) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := f.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	<-f.ended
	return f.cmd.ProcessState.ExitCode()
}

// strays lists the processes that still have to do with this world.
func (w *world) strays() []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		// A process that ends while we look is none.
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if bytes.Contains(line, []byte(w.dir)) || strings.HasPrefix(cwd, w.dir) {
			out = append(out, e.Name()+" "+string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return out
}

// noStrays waits until nothing is left of a farm that has ended.
func (w *world) noStrays() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := w.strays(); len(left) > 0; left = w.strays() {
		select {
		case <-ctx.Done():
			w.t.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
		case <-tick.C:
		}
	}
}

func begins(t *testing.T, path, with string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	head := make([]byte, len(with))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != with {
		t.Errorf("%s begins with %q (%v), want %q", path, head, err, with)
	}
}

const (
	pngHead = "\x89PNG\r\n\x1a\n"
	pdfHead = "%PDF-"
)

func TestUpStartsAndStopsClean(t *testing.T) {
	needtest.Farm(t)
	w := newWorld(t)
	f := w.up("--demo")
	begins(t, filepath.Join(w.data(), "demo", "tintype.png"), pngHead)
	begins(t, filepath.Join(w.data(), "demo", "tintype.pdf"), pdfHead)
	for _, want := range []string{"demo/tintype.png", "demo/tintype.pdf", "first.key", w.data(), "curl"} {
		if !strings.Contains(f.banner, want) {
			t.Errorf("the banner has no %s:\n%s", want, f.banner)
		}
	}
	for _, secret := range []string{"admin.token", "worker.token", "first.key", "s3.secret", "lock"} {
		if st, err := os.Stat(filepath.Join(w.data(), secret)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", secret, st, err)
		}
	}

	_, said, code := w.client("", "", "up", "--listen", "127.0.0.1:0")
	if code != 2 || !strings.Contains(said, "is in use by process") {
		t.Errorf("a second start ended with %d: %s", code, said)
	}
	if _, said, code := w.client(f.url, "", "healthcheck"); code != 0 {
		t.Errorf("healthcheck: %d, %s", code, said)
	}

	picture, document := filepath.Join(w.dir, "x.png"), filepath.Join(w.dir, "x.pdf")
	if _, said, code := w.client(f.url, "<h1>Hello</h1>", "shot", "--html", "-", "-o", picture); code != 0 || !strings.Contains(said, "1280 × 1024") {
		t.Errorf("shot: %d, %s", code, said)
	}
	begins(t, picture, pngHead)
	if _, said, code := w.client(f.url, "<h1>Hello</h1>", "pdf", "--html", "-", "-o", document); code != 0 || !strings.Contains(said, "1 page") {
		t.Errorf("pdf: %d, %s", code, said)
	}
	begins(t, document, pdfHead)
	if out, _, code := w.client(f.url, "<h1>Hello</h1>", "shot", "--html", "-", "-o", "-"); code != 0 || !strings.HasPrefix(out, pngHead) {
		t.Errorf("shot -o -: %d, %d bytes", code, len(out))
	}
	if _, said, code := w.client(f.url, "", "shot", "http://127.0.0.1:1/", "-o", picture); code != 1 || !strings.Contains(said, "address_refused") {
		t.Errorf("a private address: %d, %s", code, said)
	}
	if _, said, code := w.client(f.url, "", "shot", "file:///etc/passwd"); code != 2 || !strings.Contains(said, "scheme") {
		t.Errorf("a file: %d, %s", code, said)
	}

	key, said, code := w.client(f.url, "", "account", "create", "acme")
	if code != 0 || !strings.HasPrefix(key, "tt_live_") {
		t.Errorf("account create: %d, %q, %s", code, key, said)
	}
	if _, said, code := w.client(f.url, "", "account", "create", "acme"); code != 2 {
		t.Errorf("the same account again: %d, %s", code, said)
	}
	if list, _, code := w.client(f.url, "", "account", "list"); code != 0 || !strings.Contains(list, "acme") || !strings.Contains(list, "default") {
		t.Errorf("account list: %d, %s", code, list)
	}
	if _, said, code := w.client(f.url, "<p>", "shot", "--html", "-", "-o", "-", "--key", "tt_live_abcdefghijkl_"+strings.Repeat("x", 32)); code != 4 {
		t.Errorf("a wrong key: %d, %s", code, said)
	}

	if code := f.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	w.noStrays()
}

// ask calls the API with the first key and returns the job in the answer.
func (w *world) ask(method, url, body string) (id, status string, attempts int) {
	w.t.Helper()
	key, err := os.ReadFile(filepath.Join(w.data(), "first.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var job struct {
		ID       string
		Status   string
		Attempts int
	}
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode >= 400 || json.Unmarshal(text, &job) != nil {
		w.t.Fatalf("%s %s: %s %s %v", method, url, resp.Status, text, err)
	}
	return job.ID, job.Status, job.Attempts
}

// archived counts a job's rows and charges in the farm's own Postgres, and the
// units of the month, whoever's they are.
func (w *world) archived(id string) (rows, events, units int) {
	w.t.Helper()
	var sockets string
	for _, p := range w.strays() {
		if _, after, found := strings.Cut(p, " -k "); found {
			sockets = strings.Fields(after)[0]
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, "host="+sockets+" user=tintype dbname=tintype")
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	const count = `
SELECT (SELECT count(*) FROM jobs WHERE id = $1),
       (SELECT count(*) FROM usage_events WHERE id = $1),
       (SELECT COALESCE(sum(units), 0) FROM usage_month)`
	if err := conn.QueryRow(ctx, count, id).Scan(&rows, &events, &units); err != nil {
		w.t.Fatal(err)
	}
	return rows, events, units
}

// A job that ran when everything was killed is finished by the next start, and
// nothing of the first is left.
func TestUpSurvivesKill(t *testing.T) {
	needtest.Farm(t)
	w := newWorld(t)
	f := w.up()
	id, _, _ := w.ask(http.MethodPost, f.url+"/v1/jobs", `{"html": "<h1>Hello</h1>", "delay_ms": 3000}`)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for status := ""; status != "running"; _, status, _ = w.ask(http.MethodGet, f.url+"/v1/jobs/"+id, "") {
		if status == "failed" || status == "succeeded" {
			t.Fatalf("the job ended as %s before it was seen to run", status)
		}
		<-tick.C
	}
	f.stop(t, syscall.SIGKILL)
	w.noStrays()

	f = w.up()
	if _, status, attempts := w.ask(http.MethodGet, f.url+"/v1/jobs/"+id+"?wait=60", ""); status != "succeeded" || attempts != 2 {
		t.Errorf("the job is %s after %d attempts, want succeeded after 2", status, attempts)
	}
	// Filing follows the end by itself; then the job is there once, and billed once.
	for rows, events, units := w.archived(id); rows+events+units != 1+1+120; rows, events, units = w.archived(id) {
		if rows > 1 || events > 1 || units > 120 {
			t.Fatalf("the archive has %d rows, %d charges and %d units of one render", rows, events, units)
		}
		<-tick.C
	}
	if code := f.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	w.noStrays()
}
