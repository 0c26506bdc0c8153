package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// asProgram makes the test binary be loadtest itself: control starts its farm
// as a child of the same program.
const asProgram = "TEST_BINARY_IS_LOADTEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestTakeFlags(t *testing.T) {
	own, rest, err := takeFlags([]string{"--seats", "4", "--null=noupload", "--data=/d", "--pprof", "127.0.0.1:1", "--slow=20ms"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (nullFlags{null: true, noUpload: true, pprof: "127.0.0.1:1", slow: 20 * time.Millisecond}); own != want {
		t.Errorf("own flags are %+v, want %+v", own, want)
	}
	if diff := cmp.Diff([]string{"--seats", "4", "--data=/d"}, rest); diff != "" {
		t.Errorf("tintype's flags (-want +got):\n%s", diff)
	}
	for _, args := range [][]string{{"--seats", "4"}, {"--null=all"}, {"--null", "--slow"}, {"--null", "--slow", "often"}, {"--null", "--slow=-1s"}} {
		if _, _, err := takeFlags(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestNullSeat(t *testing.T) {
	s := nullSeats(2, time.Millisecond)[1]
	<-s.Ready()
	out := s.Render(t.Context(), job.NewID(), &job.Spec{URL: "http://a/"})
	if out.Failure != nil || out.Artifact == nil {
		t.Fatalf("the outcome is %+v", out)
	}
	if c, err := png.DecodeConfig(bytes.NewReader(out.Artifact.Body)); err != nil || c.Width != out.Artifact.Width || c.Height != out.Artifact.Height {
		t.Errorf("the picture is %+v, %v", c, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func TestSwallowing(t *testing.T) {
	asked := 0
	bucket := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer bucket.Close()
	c := &http.Client{Transport: swallowing{http.DefaultTransport}}
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		req, err := http.NewRequestWithContext(t.Context(), method, bucket.URL, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s is answered %s", method, resp.Status)
		}
	}
	if asked != 1 {
		t.Errorf("the bucket was asked %d times, want once, for the GET", asked)
	}
}

// liar is a farm of one fault.
type liar struct {
	end      func(id, name string) string // a finished job's JSON
	status   int                          // of a finished job; 0 is 200
	archived func(jobs map[string]string) map[string]string
	jobs     map[string]string // id → custom_id
}

func (f *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/metrics":
		fmt.Fprintln(w, "tintype_projection_lag_frames 0\ntintype_ledger_frames_total 3")
	case r.Method == http.MethodPost:
		var in struct {
			CustomID string `json:"custom_id"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		id := fmt.Sprintf("job_%d", len(f.jobs))
		f.jobs[id] = in.CustomID
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, `{"id":%q,"custom_id":%q,"status":"queued"}`, id, in.CustomID)
	case r.URL.Path == "/v1/jobs":
		jobs := f.jobs
		if f.archived != nil {
			jobs = f.archived(jobs)
		}
		var data []string
		for id, name := range jobs {
			data = append(data, fmt.Sprintf(`{"id":%q,"custom_id":%q}`, id, name))
		}
		fmt.Fprintf(w, `{"data":[%s],"has_more":false}`, strings.Join(data, ","))
	default:
		id := filepath.Base(r.URL.Path)
		if f.status != 0 {
			w.WriteHeader(f.status)
		}
		fmt.Fprint(w, f.end(id, f.jobs[id]))
	}
}

// Each fault of a farm is found, and a farm without one passes.
func TestClientFindsFaults(t *testing.T) {
	right := func(id, name string) string {
		return fmt.Sprintf(`{"id":%q,"custom_id":%q,"status":"succeeded","billable":true,"result":{"size_bytes":1,"sha256":%q}}`,
			id, name, strings.Repeat("a", 64))
	}
	for name, test := range map[string]struct {
		farm liar
		want controlReport
	}{
		"right":        {farm: liar{end: right}},
		"other job":    {farm: liar{end: func(id, _ string) string { return right(id, "another") }}, want: controlReport{Wrong: 3}},
		"failed":       {farm: liar{end: func(id, n string) string { return strings.Replace(right(id, n), "succeeded", "failed", 1) }}, want: controlReport{Wrong: 3}},
		"free":         {farm: liar{end: func(id, n string) string { return strings.Replace(right(id, n), "true", "false", 1) }}, want: controlReport{Wrong: 3}},
		"wrong digest": {farm: liar{end: func(id, n string) string { return strings.Replace(right(id, n), "aa", "zz", 1) }}, want: controlReport{Wrong: 3}},
		"gone":         {farm: liar{end: right, status: http.StatusNotFound}, want: controlReport{Lost: 3}},
		"not archived": {
			farm: liar{end: right, archived: func(map[string]string) map[string]string { return nil }}, want: controlReport{Lost: 3},
		},
		"twice": {
			farm: liar{end: right, archived: func(jobs map[string]string) map[string]string {
				return map[string]string{"job_0": jobs["job_0"], "job_1": jobs["job_1"], "job_2": jobs["job_2"], "job_x": jobs["job_1"]}
			}},
			want: controlReport{Duplicated: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.farm.jobs = map[string]string{}
			srv := httptest.NewServer(&test.farm)
			defer srv.Close()
			host, err := hostOf(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			l := &load{host: host, run: "r", most: 3, stop: time.Now().Add(time.Hour), to: time.Now().Add(time.Hour)}
			c := l.client()
			c.loop(t.Context())
			all := merge([]*client{c})
			run := &control{Clients: 1, Duration: time.Second}
			out := run.report(all, usage{}, usage{})
			watch := &conn{host: host}
			defer watch.close()
			if err := run.audit(t.Context(), watch, "r", all, &out); err != nil {
				t.Fatal(err)
			}
			if out.Wrong != test.want.Wrong || out.Lost != test.want.Lost || out.Duplicated != test.want.Duplicated {
				t.Errorf("wrong %d, lost %d, duplicated %d; want %d, %d, %d", out.Wrong, out.Lost, out.Duplicated,
					test.want.Wrong, test.want.Lost, test.want.Duplicated)
			}
		})
	}
}

func TestCPUOf(t *testing.T) {
	sum, err := cpuOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if len(sum) == 0 {
		t.Error("this process is not in the sum")
	}
	if _, err := cpuOf(1 << 30); err == nil {
		t.Error("a process that is not there is counted")
	}
}

// ownFarm leaves a test out where a farm cannot run. It gives a folder for it.
func ownFarm(t *testing.T) (tmp string) {
	t.Helper()
	needtest.Postgres(t)
	tmp = t.TempDir()
	for dir := tmp; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil { // Postgres has to pass
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(tmp); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "tintype-load-") }) {
			t.Errorf("a farm's folder is left: %v, %v", left, err)
		}
	})
	return tmp
}

// program runs loadtest and reads its one line.
func program(t *testing.T, tmp string, out any, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+tmp)
	cmd.Stderr = t.Output()
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
}

// The whole run, on a null farm of its own.
func TestControl(t *testing.T) {
	tmp := ownFarm(t)
	for _, loop := range [][]string{{"--jobs", "200", "--upload"}, {"--rate", "100"}} {
		var out controlReport
		program(t, tmp, &out, append([]string{"control", "--clients", "4", "--duration", "2s", "--warm-up", "0s", "--seats", "8"}, loop...)...)
		if out.Accepted == 0 || out.Frames == nil || *out.Frames <= 0 || out.CPU <= 0 || len(out.CPUByProcess) < 2 {
			t.Errorf("control %v printed %+v", loop, out)
		}
	}
}

// Tiers in processes of their own: the leader is told to stop; nothing is
// lost, and no job rendered twice. (Leaders are killed in the root's tests.)
func TestFailover(t *testing.T) {
	var out failoverReport
	program(t, ownFarm(t), &out, "failover", "--planned", "--kills", "1", "--pause", "1s", "--clients", "4", "--seats", "4")
	if out.Accepted == 0 || out.FirstAccepted.Max <= 0 || out.FirstFinished.Max <= 0 || out.Leading.Max <= 0 || out.Worker.Max <= 0 {
		t.Errorf("failover printed %+v", out)
	}
}

// A ledger as a leader leaves it is read by a scheduler that starts cold.
func TestRefold(t *testing.T) {
	var out refoldReport
	program(t, t.TempDir(), &out, "refold", "--jobs", "500", "--rate", "20", "--last", "2s", "--frames", "5", "--times", "1")
	if out.Waiting != 500 || out.Finished != 40 || out.Frames < 18 || out.LedgerBytes == 0 || out.Lead.Max <= 0 || out.Bytes <= 0 {
		t.Errorf("refold printed %+v", out)
	}
}
