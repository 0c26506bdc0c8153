package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// planIn is the first plan of the built-in policy of that dialect.
func planIn(t *testing.T, d account.Dialect) account.Plan {
	t.Helper()
	p, err := account.ReadPolicy(string(d))
	if err != nil {
		t.Fatal(err)
	}
	return p.Plans[0]
}

// spelled is the header of exactly this name.
func spelled(h http.Header, name string) string { return strings.Join(h[name], ", ") }

// refusedAs writes a fault as a plan's dialect does.
func refusedAs(f *fault.Error, plan account.Plan, method string, accept ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/v1/screenshot", nil)
	if len(accept) > 0 {
		r.Header["Accept"] = accept
	}
	w := httptest.NewRecorder()
	writeFace(w, r, f, faceFor(f, plan), "req_01ARZ3NDEKTSV4RRFFQ69G5FAV")
	return w
}

// Every refusal that a service publishes, and what is nearest to the others.
func TestDialectRefusals(t *testing.T) {
	june := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	faults := []*fault.Error{
		{Kind: fault.QuotaExceeded, Detail: "used up", Quota: &fault.Quota{Used: 100 * 120, Limit: 100 * 120, ResetsAt: june, Unit: "render"}, RetryAfter: time.Hour},
		{Kind: fault.ThreadsFull, Code: concurrencyLimit, Detail: "too many at once", RetryAfter: time.Second},
		{Kind: fault.ThreadsFull, Code: "backlog_full", Detail: "too many wait", RetryAfter: time.Second},
		{Kind: fault.RateLimited, Detail: "too fast", RetryAfter: time.Second},
		{Kind: fault.QueueFull, Detail: "8 of 8 places are taken", RetryAfter: time.Second},
		{Kind: fault.Unauthenticated, Code: "missing_key", Detail: "this needs a key"},
		{Kind: fault.Unauthenticated, Detail: "this is not a key", Err: account.ErrKey},
		{Kind: fault.Unauthenticated, Detail: "this key is unknown, revoked or expired"},
		{Kind: fault.Unauthenticated, Detail: "this key is unknown, revoked or expired", Err: errRevoked},
		fault.From(invalid(fault.Field{Pointer: "/width", Detail: "must be 1 to 10000 CSS pixels, not 0"}, fault.Field{Pointer: "/colour", Detail: "is not offered"})),
		{Kind: fault.Invalid, Code: "invalid_url", Detail: "url has the scheme \"ftp\"", Fields: []fault.Field{{Pointer: "/url", Detail: "has the scheme \"ftp\"; only http and https pages are rendered"}}},
		{Kind: fault.Forbidden, Code: "suspended", Detail: "the account is suspended"},
		{Kind: fault.Forbidden, Code: "banned", Detail: "this address is banned"},
		{Kind: fault.Blocked, Detail: "blocked for a while", RetryAfter: time.Second},
		{Kind: fault.KeyReused, Detail: "another request had this key"},
		failed(&job.Job{ID: "job_1", State: job.Failed, Failure: job.Fail(job.AddressRefused, job.StageNavigate, "127.0.0.1 is not public")}),
		failed(&job.Job{ID: "job_1", State: job.Failed, Failure: job.Fail(job.NameNotResolved, job.StageNavigate, "no such name: ünlocated.example")}),
		failed(&job.Job{ID: "job_1", State: job.Failed, Failure: job.Fail(job.SelectorNotFound, job.StageWait, "#x is not there")}),
		failed(&job.Job{ID: "job_1", State: job.Failed, Failure: job.Fail(job.LoadTimeout, job.StageNavigate, "load did not come")}),
		{Kind: fault.Unavailable, Detail: "no decision came in time", RetryAfter: time.Second, Extra: map[string]any{"job_id": "job_1"}},
		fault.Wrap(fault.Internal, errors.New("pq: password of tintype is wrong"), "a text that must not leave"),
	}
	for _, k := range fault.Kinds() {
		if !slices.ContainsFunc(faults, func(f *fault.Error) bool { return f.Kind == k }) {
			faults = append(faults, &fault.Error{Kind: k, Detail: "of kind " + k.String()})
		}
	}
	for _, d := range slices.Sorted(maps.Keys(dialects)) {
		var out bytes.Buffer
		plan := planIn(t, d)
		for _, f := range faults {
			w := refusedAs(f, plan, "GET", "application/json")
			fmt.Fprintf(&out, "%s %s: %d", f.Kind, f.Code, w.Code)
			if wait := w.Header().Get("Retry-After"); wait != "" {
				out.WriteString(", Retry-After")
			}
			for name, values := range w.Header() {
				if strings.HasPrefix(name, "x-") {
					fmt.Fprintf(&out, ", %s: %s", name, values[0])
				}
			}
			fmt.Fprintf(&out, "\n  %s\n  %s\n", w.Header().Get("Content-Type"), w.Body)
			if !json.Valid(w.Body.Bytes()) || w.Code < 400 || strings.Contains(w.Body.String(), "password") || strings.Contains(w.Body.String(), "must not leave") {
				t.Errorf("%s, %s: %d %s", d, f.Kind, w.Code, w.Body)
			}
			if n, err := strconv.Atoi(w.Header().Get("Content-Length")); err != nil || n != w.Body.Len() {
				t.Errorf("%s, %s: Content-Length %q, %d bytes", d, f.Kind, w.Header().Get("Content-Length"), w.Body.Len())
			}
		}
		golden(t, "dialect_"+string(d)+".golden", out.Bytes())
	}
}

// A throttled answer of webshot is a picture from memory; who names JSON gets
// that, and who asks with HEAD gets headers alone.
func TestWebshotThrottled(t *testing.T) {
	plan := planIn(t, account.DialectWebshot)
	throttled := &fault.Error{Kind: fault.RateLimited, Detail: "wait", RetryAfter: 2 * time.Second}
	for _, test := range []struct {
		accept []string
		want   string
	}{
		{nil, "image/png"},
		{[]string{"*/*"}, "image/png"},
		{[]string{"image/*"}, "image/png"},
		{[]string{""}, "image/png"},
		{[]string{"text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8"}, "image/png"},
		{[]string{"application/json"}, "application/json"},
		{[]string{"Application/JSON; charset=utf-8"}, "application/json"},
		{[]string{"application/json, text/plain, */*"}, "application/json"},
		{[]string{"text/plain", "application/json"}, "application/json"},
		{[]string{"application/problem+json"}, "application/problem+json"},
		{[]string{"application/json;q=0.5, application/problem+json"}, "application/problem+json"},
		{[]string{"application/json;q=0, */*"}, "image/png"},
		{[]string{"application/json;q=0.1, image/*"}, "image/png"},
		{[]string{"application/json;q=9, image/*"}, "image/png"},
		{[]string{"application/json;q=x"}, "image/png"},
		{[]string{"image/png, application/json"}, "application/json"},
		{[]string{";;;", "application"}, "image/png"},
	} {
		w := refusedAs(throttled, plan, "GET", test.accept...)
		if got := w.Header().Get("Content-Type"); w.Code != 429 || got != test.want || w.Header().Get("Retry-After") == "" {
			t.Errorf("Accept %q: %d %s", test.accept, w.Code, got)
		}
		if test.want != "image/png" {
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code != "rate_limit_exceeded" {
				t.Errorf("Accept %q: %s", test.accept, w.Body)
			}
			continue
		}
		m, format, err := image.Decode(w.Body)
		if err != nil || format != "png" || m.Bounds().Dx() != 320 || m.Bounds().Dy() != 80 {
			t.Errorf("Accept %q: %s of %v, %v", test.accept, format, m.Bounds(), err)
		}
	}
	head := refusedAs(throttled, plan, "HEAD")
	if head.Body.Len() != 0 || head.Code != 429 || head.Header().Get("Content-Length") != strconv.Itoa(len(throttledPicture)) {
		t.Errorf("HEAD: %d, %d bytes, %v", head.Code, head.Body.Len(), head.Header())
	}
	if len(throttledPicture) > 2000 {
		t.Errorf("the picture has %d bytes", len(throttledPicture))
	}
	// Only of what is throttled is there a picture.
	for _, k := range []fault.Kind{fault.QuotaExceeded, fault.Blocked, fault.Invalid} {
		if got := refusedAs(&fault.Error{Kind: k}, plan, "GET").Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: %s", k, got)
		}
	}
}

// The names of headers as each service writes them, on the wire.
func TestDialectHeaders(t *testing.T) {
	at := time.Date(2023, 9, 25, 16, 57, 56, 0, time.UTC)
	rate := &pb.Meter{Kind: pb.Meter_KIND_RATE, Name: "rate", Limit: 250, Remaining: 249, WindowS: 60, ResetUs: at.UnixMicro()}
	quota := &pb.Meter{Kind: pb.Meter_KIND_QUOTA, Name: "quota", Limit: 100 * 120, Remaining: 21*120 + 119, ResetUs: time.Date(2024, 5, 25, 13, 18, 56, 1000, time.UTC).UnixMicro()}
	ours := func() http.Header {
		h := http.Header{}
		for name, value := range map[string]string{
			"X-RateLimit-Limit": "250", "X-RateLimit-Remaining": "249", "X-RateLimit-Reset": "1695661076",
			"X-Quota-Limit": "100", "X-Quota-Remaining": "21", "X-Quota-Resets-At": "1716643137",
		} {
			h.Set(name, value)
		}
		return h
	}
	quotas := "X-Quota-Limit: 100\r\nX-Quota-Remaining: 21\r\nX-Quota-Resets-At: 1716643137\r\n"
	for d, want := range map[account.Dialect]string{
		account.DialectShotit: quotas + "x-ratelimit-limit: 250\r\nx-ratelimit-remaining: 249\r\nx-ratelimit-reset: 1695661076\r\n",
		account.DialectWebshot: "X-Quota-Limit: 100\r\nX-Quota-Remaining: 21\r\nX-Quota-Resets-At: 1716643137\r\n" +
			"X-RateLimit-Limit: 250\r\nX-RateLimit-Remaining: 249\r\nX-RateLimit-Reset: 1695661076\r\n",
		account.DialectScreenshotAPI: quotas + "X-RateLimit-Limit: 250\r\nX-RateLimit-Remaining: 249\r\nX-RateLimit-Reset: 1695661076\r\n",
		account.DialectUrlbox: "x-ratelimit-limit: 250\r\nx-ratelimit-remaining: 249\r\nx-ratelimit-reset: 1695661076\r\n" +
			"x-ratelimit-resetdate: Mon, 25 Sep 2023 16:57:56 GMT\r\n" +
			"x-renders-allowed: 100\r\nx-renders-remaining: 21\r\nx-renders-reset: Sat May 25 2024 13:18:57 GMT+0000 (Coordinated Universal Time)\r\nx-renders-used: 79\r\n",
		account.DialectPage2images: quotas + "X-Ratelimit-Limit: 250\r\nX-Ratelimit-Remaining: 249\r\nX-Ratelimit-Reset: 1695661076\r\n",
		account.DialectTintype:     quotas + "X-Ratelimit-Limit: 250\r\nX-Ratelimit-Remaining: 249\r\nX-Ratelimit-Reset: 1695661076\r\n",
	} {
		h := ours()
		limitsIn(h, d, left{rate: rate, quota: quota})
		var b strings.Builder
		if err := h.Write(&b); err != nil || b.String() != want {
			t.Errorf("%s:\n%s\nwant\n%s", d, b.String(), want)
		}
		// Nothing is known: nothing is told.
		h = http.Header{}
		limitsIn(h, d, left{})
		if len(h) > 0 {
			t.Errorf("%s makes up %v", d, h)
		}
	}
}

// What urlbox tells of a render, through HTTP.
func TestUrlboxRender(t *testing.T) {
	p, err := account.ReadPolicy("urlbox")
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policy = p })
	made, done := f.started(t.Context(), "GET", "/v1/screenshot?url=https://example.com/", "")
	f.succeed(made, []byte("\x89PNG"))
	a := <-done
	if a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	got := map[string]string{}
	for name, values := range a.Header() {
		if strings.HasPrefix(name, "x-urlbox-") {
			got[name] = values[0]
		}
	}
	id := job.ID(a.Header().Get("X-Job-Id"))
	if got["x-urlbox-request-id"] != id.UUID().String() || job.FromUUID(id.UUID()) != id {
		t.Errorf("x-urlbox-request-id %s of job %s", got["x-urlbox-request-id"], id)
	}
	if n, err := strconv.Atoi(got["x-urlbox-render-time"]); err != nil || n != 96 || got["x-urlbox-cache-status"] != "MISS" ||
		got["x-urlbox-accepted-by"] == "" || got["x-urlbox-rendered-by"] == "" || len(got) != 5 {
		t.Errorf("%v", got)
	}
	h := http.Header{}
	urlbox{}.render(h, &job.Job{ID: id, Cached: true}, "n")
	if spelled(h, "x-urlbox-cache-status") != "HIT" || spelled(h, "x-urlbox-render-time") != "0" {
		t.Errorf("%v", h)
	}
}

// A plan's dialect is spoken on every route of the account, and to nobody else.
func TestDialectOfThePlan(t *testing.T) {
	p, err := account.ReadPolicy("shotit")
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policy = p })
	f.leader.deciding(refuseAll(&pb.Fault{Kind: "queue_full", Code: "queue_full", RetryAfterMs: 1000}))
	for _, target := range []string{"/v1/jobs", "/v1/screenshot"} {
		a := f.do("POST", target, `{"html":"x"}`)
		if a.Code != 503 || a.Body.String() != `{"error":"Error: Search queue is full"}` || a.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", target, a.Code, a.Body)
		}
	}
	if a := f.do("GET", "/v1/jobs/"+string(job.NewID()), ""); !strings.HasPrefix(a.Body.String(), `{"error":"`) || a.Code != 503 {
		t.Errorf("an unknown job: %d %s", a.Code, a.Body)
	}
	f.admin("POST", "/admin/v1/accounts", `{"name":"x","plan":"gold"}`).problem(t, 400, "invalid_input")
}

// Who shows no key, or a bad one, is refused in the anonymous plan's dialect, or
// in the first plan's; what is left is told in it too.
func TestDialectOfStrangers(t *testing.T) {
	on := func(name string) *farm {
		p, err := account.ReadPolicy(name)
		if err != nil {
			t.Fatal(err)
		}
		return newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policy = p })
	}
	f := on("screenshot-api")
	code := func(a answered) string {
		var body struct {
			Error struct{ Code, RequestID string } `json:"error"`
		}
		a.json(t, &body)
		return fmt.Sprint(a.Code, " ", body.Error.Code)
	}
	if got := code(f.do("GET", "/v1/jobs", "", nobody)); got != "401 missing_api_key" {
		t.Errorf("without a key: %s", got)
	}
	if got := code(f.do("GET", "/v1/jobs", "", header{"Authorization": "Bearer tt_live_x"})); got != "401 invalid_api_key" {
		t.Errorf("with none: %s", got)
	}
	if got := code(f.do("GET", "/v1/jobs", "", header{"Authorization": "Bearer " + f.key[:len(f.key)-1] + "!"})); got != "401 invalid_api_key" {
		t.Errorf("with a wrong one: %s", got)
	}
	id, err := account.KeyID(f.key)
	if err != nil {
		t.Fatal(err)
	}
	f.admin("DELETE", "/admin/v1/accounts/"+f.acct.ID+"/keys/"+id, "")
	if got := code(f.do("GET", "/v1/jobs", "")); got != "401 revoked_api_key" {
		t.Errorf("with a revoked one: %s", got)
	}

	f = on("shotit")
	f.leader.countBy(windows(1))
	if a := f.do("GET", "/v1/jobs", "", nobody); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	a := f.do("GET", "/v1/jobs", "", nobody)
	if a.Code != 429 || !strings.HasPrefix(a.Body.String(), `{"error":"`) || a.Header().Get("Retry-After") == "" ||
		spelled(a.Header(), "x-ratelimit-limit") == "" || spelled(a.Header(), "x-ratelimit-reset") == "" || a.Header()["X-Ratelimit-Limit"] != nil {
		t.Errorf("%d %s %v", a.Code, a.Body, a.Header())
	}
	if a := f.do("GET", "/v1/jobs", "", header{"Authorization": "Bearer nonsense", "X-Forwarded-For": "x"}); a.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", a.Code, a.Body)
	}

	f = on("webshot")
	f.leader.deciding(refuseAll(&pb.Fault{Kind: "rate_limited", Code: "rate_limit_exceeded", Policy: "rate", RetryAfterMs: 1500}))
	for range 2 { // the second is refused without the leader
		a := f.do("GET", "/v1/screenshot?url=https://example.com/", "", nobody)
		if a.Code != 429 || !bytes.Equal(a.Body.Bytes(), throttledPicture) || a.Header().Get("Retry-After") != "2" {
			t.Errorf("%d %q %v", a.Code, a.Body, a.Header())
		}
	}
}

// A format that the plan has not is refused, with those that it has.
func TestFormatsOfThePlan(t *testing.T) {
	p, err := account.ParsePolicy("policy.yaml", []byte("version: 1\nplans:\n- {name: shots, formats: [png, jpeg]}\n- {name: prints, formats: [pdf]}\n- {name: all}"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policy = p })
	keys := map[string]header{"shots": f.keyOn("shots"), "prints": f.keyOn("prints"), "all": f.keyOn("all")}
	for _, test := range []struct {
		plan, method, target, body string
		refused                    string
	}{
		{"shots", "POST", "/v1/jobs", `{"html":"x"}`, ""},
		{"shots", "POST", "/v1/jobs", `{"html":"x","format":"jpeg"}`, ""},
		{"shots", "POST", "/v1/jobs", `{"html":"x","format":"pdf"}`, "/format is pdf, and the plan shots offers png, jpeg"},
		{"shots", "GET", "/v1/pdf?url=https://example.com", ``, "format is pdf, and the plan shots offers png, jpeg"},
		{"prints", "POST", "/v1/jobs", `{"html":"x"}`, "/format is png, and the plan prints offers pdf"},
		{"prints", "GET", "/v1/screenshot?url=https://example.com&format=png", ``, "format is png, and the plan prints offers pdf"},
		{"prints", "POST", "/v1/jobs", `{"html":"x","format":"pdf"}`, ""},
		{"all", "POST", "/v1/jobs", `{"html":"x","format":"pdf"}`, ""},
	} {
		a := f.do(test.method, test.target, test.body, keys[test.plan])
		if test.refused == "" {
			if a.Code >= 300 {
				t.Errorf("%+v: %d %s", test, a.Code, a.Body)
			}
			continue
		}
		p := a.problem(t, 400, "invalid_input")
		if got := (*p.Errors)[0]; len(*p.Errors) != 1 || got.Pointer+" "+got.Detail != test.refused {
			t.Errorf("%+v: %+v", test, *p.Errors)
		}
	}
}

// Whatever Accept says, there is an answer, and it is one of two.
func FuzzWebshotAccept(f *testing.F) {
	for _, accept := range []string{"", "*/*", "application/json;q=0.5, image/*", "image/png;q=1;q=2", "a/b;c=\"d,e\"", ",,,;;;="} {
		f.Add(accept)
	}
	plan := account.Plan{Dialect: account.DialectWebshot}
	f.Fuzz(func(t *testing.T, accept string) {
		w := refusedAs(&fault.Error{Kind: fault.RateLimited}, plan, "GET", accept)
		json := w.Body.Bytes()[0] == '{'
		if got := w.Header().Get("Content-Type"); json != strings.HasSuffix(got, "json") || !json && got != "image/png" {
			t.Errorf("%q: %s", accept, got)
		}
	})
}
