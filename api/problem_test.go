package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

func TestEveryKindHasAFace(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Internal: 500, fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.Blocked: 403,
		fault.NotFound: 404, fault.Conflict: 409, fault.Gone: 410, fault.TooLarge: 413, fault.KeyReused: 422, fault.RenderFailed: 422,
		fault.RateLimited: 429, fault.ThreadsFull: 429, fault.QuotaExceeded: 402, fault.QueueFull: 503, fault.Unavailable: 503,
		fault.Timeout: 504, fault.Canceled: 499,
	}
	if len(want) != len(fault.Kinds()) {
		t.Errorf("%d kinds, the table has %d", len(fault.Kinds()), len(want))
	}
	codes := map[string]fault.Kind{}
	for _, k := range fault.Kinds() {
		face := faceOf(k)
		if face.status != want[k] || face.code == "" || face.title == "" {
			t.Errorf("%s: %+v, want status %d", k, face, want[k])
		}
		if other, twice := codes[face.code]; twice {
			t.Errorf("%s and %s share the code %s", k, other, face.code)
		}
		codes[face.code] = k
	}
}

// The bodies, as clients see them.
func TestProblemBodies(t *testing.T) {
	faults := map[string]*fault.Error{
		"invalid":     fault.From(invalid(fault.Field{Pointer: "/width", Detail: "must be 1 to 10000 CSS pixels, not 0"}, fault.Field{Pointer: "/colour", Detail: "is not offered"})),
		"one":         fault.From(invalid(fault.Field{Pointer: "/url", Detail: "has no host"})),
		"internal":    fault.Wrap(fault.Internal, errors.New("pq: password of tintype is wrong"), "a text that must not leave"),
		"not_found":   fault.From(noJob()),
		"unavailable": {Kind: fault.Unavailable, Detail: "no decision came in time", Extra: map[string]any{"job_id": "job_1"}, RetryAfter: 5 * time.Second},
		"failed":      failed(&job.Job{ID: "job_1", State: job.Failed, Failure: job.Fail(job.AddressRefused, job.StageNavigate, "127.0.0.1 is not public")}),
	}
	for name, f := range faults {
		r := httptest.NewRequest("GET", "/v1/jobs/x?key=secret", nil)
		w := httptest.NewRecorder()
		writeProblem(w, r, f, "req_0")
		var b bytes.Buffer
		if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatalf("%s: %v in %q", name, err, w.Body)
		}
		b.WriteByte('\n')
		golden(t, "problem_"+name+".json", b.Bytes())
		if strings.Contains(b.String(), "secret") || strings.Contains(b.String(), "password") {
			t.Errorf("%s tells what it must not: %s", name, &b)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for _, k := range fault.Kinds() {
		w := httptest.NewRecorder()
		writeProblem(w, httptest.NewRequest("GET", "/", nil), &fault.Error{Kind: k}, "req_0")
		if got := w.Header().Get("Retry-After") != ""; got != k.Retryable() {
			t.Errorf("%s: Retry-After %q", k, w.Header().Get("Retry-After"))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		wait := time.Duration(rapid.Int64Range(1, int64(48*time.Hour)).Draw(t, "wait"))
		roll := rapid.Float64Range(0, 1).Draw(t, "roll")
		got := time.Duration(retryAfter(wait, roll)) * time.Second
		if got < wait || got > wait+min(wait/10, longestJitter)+time.Second {
			t.Fatalf("%s became %s", wait, got)
		}
	})
}

// Routes that do not exist, methods that are not offered and handlers that
// panic answer like the others.
func TestEveryAnswerIsAProblem(t *testing.T) {
	f := newFarm(t)
	for _, tc := range []struct {
		method, target string
		status         int
		code, allow    string
	}{
		{"GET", "/nothing", 404, "not_found", ""},
		{"GET", "/v1/jobs/", 404, "not_found", ""},
		{"GET", "/v1//jobs", 404, "not_found", ""},
		{"GET", "/v1/../metrics", 404, "not_found", ""},
		{"PUT", "/v1/jobs", 405, "method_not_allowed", "GET, HEAD, POST"},
		{"POST", "/v1/jobs/job_x/result", 405, "method_not_allowed", "DELETE, GET, HEAD"},
		{"DELETE", "/v1/screenshot", 405, "method_not_allowed", "GET, POST"},
		{"POST", "/", 405, "method_not_allowed", "GET, HEAD"},
	} {
		a := f.do(tc.method, tc.target, "", header{"Authorization": ""})
		a.problem(t, tc.status, tc.code)
		if got := a.Header().Get("Allow"); got != tc.allow {
			t.Errorf("%s %s: Allow %q", tc.method, tc.target, got)
		}
	}

	h := f.server.dispatch([]route{{pattern: "GET /boom", op: &operation{query: f.server.mustOp(t, "GET /healthz").query}, handle: func(w http.ResponseWriter, _ *http.Request, _ *call) error {
		panic("the secret text of a panic")
	}}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/boom", nil))
	p := answered{w}.problem(t, 500, "internal")
	if strings.Contains(w.Body.String(), "secret") || !strings.HasPrefix(p.RequestId, "req_") || len(p.RequestId) != 30 {
		t.Errorf("%s", w.Body)
	}
	if n, err := strconv.Atoi(w.Header().Get("Content-Length")); err != nil || n != w.Body.Len() {
		t.Errorf("Content-Length %d of %d", n, w.Body.Len())
	}
}

func (s *Server) mustOp(t *testing.T, key string) *operation {
	t.Helper()
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	return ops[key]
}
