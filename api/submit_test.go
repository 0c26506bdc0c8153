package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestSubmit(t *testing.T) {
	f := newFarm(t)
	a := f.do("POST", "/v1/jobs", `{"url":"HTTPS://Example.com:443/a b","format":"jpg","width":800.0,"retina":true,"custom_id":"c1","metadata":{"k":"v"}}`)
	j := a.job(t, http.StatusAccepted)
	if a.Header().Get("Location") != "/v1/jobs/"+j.Id {
		t.Errorf("Location %q", a.Header().Get("Location"))
	}
	o := j.Options
	if j.Status != "queued" || *j.WaitingFor != "worker" || j.Billable != nil || j.StartedAt != nil || *j.CustomId != "c1" || j.Metadata["k"] != "v" {
		t.Errorf("job %s", a.Body)
	}
	if *o.Url != "https://example.com/a%20b" || o.Format != "jpeg" || o.Width != 800 || o.Height != 1024 || o.DeviceScaleFactor != 2 || o.Quality != 80 || o.TimeoutMs != 30000 || o.WaitUntil != "load" {
		t.Errorf("options %+v", o)
	}
	env := f.leader.record().Envelope
	if env.Id != j.Id || env.Account != f.acct.ID || env.Api != f.server.boot || env.Host != "example.com" || env.ContentType != "image/jpeg" {
		t.Errorf("envelope %v", env)
	}
	if off := time.Since(time.UnixMicro(env.SentUs)); off < -time.Second || off > 10*time.Second {
		t.Errorf("sent %s ago", off)
	}
	if !strings.Contains(a.Body.String(), `"billable":null`) || !strings.Contains(a.Body.String(), `"finished_at":null`) {
		t.Errorf("unset members are null: %s", a.Body)
	}
}

func TestParkedJobWaitsForASlot(t *testing.T) {
	f := newFarm(t)
	f.leader.decide = func(rec *pb.Record) *pb.Decision {
		d := acceptAll(rec)
		d.GetAccepted().Place, d.GetAccepted().Tier = pb.Place_PLACE_PARKED, 3
		return d
	}
	if j := f.submit(`{"html":"<p>"}`); *j.WaitingFor != "slot" || j.Tier != 3 {
		t.Errorf("job %+v", j)
	}
	if env := f.leader.record().Envelope; env.Host != "" || env.ContentType != "image/png" {
		t.Errorf("envelope %v", env)
	}
}

// Every problem of a submission, by status, code and the members it names.
func TestBadSubmissions(t *testing.T) {
	f := newFarm(t)
	for _, tc := range []struct {
		name, body, code string
		pointers         []string
	}{
		{"nothing at all", ``, "malformed_json", nil},
		{"not JSON", `{"url":`, "malformed_json", nil},
		{"form", `url=https://example.com/`, "malformed_json", nil},
		{"two values", `{} {}`, "malformed_json", nil},
		{"trailing comma", `{"url":"https://example.com/",}`, "malformed_json", nil},
		{"not UTF-8", "{\"url\":\"https://example.com/\xff\"}", "malformed_json", nil},
		{"byte order mark", "\ufeff{}", "malformed_json", nil},
		{"too deep", `{"url":"https://example.com/","metadata":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + `}`, "malformed_json", nil},
		{"deep and broken", strings.Repeat("[", 100_000), "malformed_json", nil},
		{"too many values", `{"metadata":[` + strings.Repeat("1,", 10_000) + `1]}`, "malformed_json", nil},
		{"string", `"https://example.com/"`, "invalid_input", []string{""}},
		{"null", `null`, "invalid_input", []string{""}},
		{"empty", `{}`, "invalid_input", []string{"/url"}},
		{"both", `{"url":"https://example.com/","html":"x"}`, "invalid_input", []string{"/html"}},
		{"empty url", `{"url":""}`, "invalid_input", []string{"/url"}},
		{"empty html", `{"html":""}`, "invalid_input", []string{"/html", "/url"}},
		{"null url", `{"url":null}`, "invalid_input", []string{"/url"}},
		{"number url", `{"url":7}`, "invalid_input", []string{"/url"}},
		{"list html", `{"html":["x"]}`, "invalid_input", []string{"/html"}},
		{"unknown", `{"url":"https://example.com/","colour":"red"}`, "invalid_input", []string{"/colour"}},
		{"misspelt", `{"url":"https://example.com/","widht":10}`, "invalid_input", []string{"/widht"}},
		{"pointer characters", `{"url":"https://example.com/","a/b~c":1}`, "invalid_input", []string{"/a~1b~0c"}},
		{"other case", `{"url":"https://example.com/","Width":10}`, "invalid_input", []string{"/Width"}},
		{"long s", `{"url":"https://example.com/","device_ſcale_factor":1}`, "invalid_input", []string{"/device_ſcale_factor"}},
		{"camel case", `{"url":"https://example.com/","fullPage":true}`, "invalid_input", []string{"/fullPage"}},
		{"twice", `{"url":"https://example.com/","url":"file:///etc/passwd"}`, "invalid_input", []string{"/url"}},
		{"twice by escape", `{"url":"https://example.com/","\u0075rl":"file:///etc/passwd"}`, "invalid_input", []string{"/url"}},
		{"twice below", `{"url":"https://example.com/","metadata":{"a":"1","a":"2"}}`, "invalid_input", []string{"/metadata/a"}},
		{"string number", `{"url":"https://example.com/","width":"800"}`, "invalid_input", []string{"/width"}},
		{"fraction", `{"url":"https://example.com/","width":800.5}`, "invalid_input", []string{"/width"}},
		{"huge", `{"url":"https://example.com/","timeout_ms":1e300}`, "invalid_input", []string{"/timeout_ms"}},
		{"beyond a double", `{"url":"https://example.com/","timeout_ms":1e999}`, "invalid_input", []string{"/timeout_ms"}},
		{"string bool", `{"url":"https://example.com/","full_page":"yes"}`, "invalid_input", []string{"/full_page"}},
		{"format", `{"url":"https://example.com/","format":"gif"}`, "invalid_input", []string{"/format"}},
		{"format's case", `{"url":"https://example.com/","format":"PNG"}`, "invalid_input", []string{"/format"}},
		{
			"zero", `{"url":"https://example.com/","width":0,"height":10001,"quality":101,"device_scale_factor":0.4,"delay_ms":30001,"timeout_ms":60001}`,
			"invalid_input",
			[]string{"/delay_ms", "/device_scale_factor", "/height", "/quality", "/timeout_ms", "/width"},
		},
		{"negative", `{"url":"https://example.com/","delay_ms":-1}`, "invalid_input", []string{"/delay_ms"}},
		{"wait_until", `{"url":"https://example.com/","wait_until":"idle"}`, "invalid_input", []string{"/wait_until"}},
		{"metadata", `{"url":"https://example.com/","metadata":{"a":1}}`, "invalid_input", []string{"/metadata/a"}},
		{"metadata name", `{"url":"https://example.com/","metadata":{"":"x"}}`, "invalid_input", []string{"/metadata/"}},
		{"NUL", `{"url":"https://example.com/","custom_id":"a\u0000b"}`, "invalid_input", []string{"/custom_id"}},
		{"NUL name", `{"url":"https://example.com/","metadata":{"a\u0000":"b"}}`, "invalid_input", []string{"/metadata/a\u0000"}},
		{"control character", `{"url":"https://example.com/","custom_id":"a\nb"}`, "invalid_input", []string{"/custom_id"}},
		{"later issue", `{"url":"https://example.com/","ttl_s":1,"force":true,"cookies":"a=b"}`, "invalid_input", []string{"/cookies"}},
		{"no url scheme and a width", `{"url":"example.com","width":0}`, "invalid_input", []string{"/url", "/width"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := f.do("POST", "/v1/jobs", tc.body).problem(t, http.StatusBadRequest, tc.code)
			var got []string
			if p.Errors != nil {
				for _, e := range *p.Errors {
					got = append(got, e.Pointer)
					if e.Detail == "" {
						t.Errorf("%s has no detail", e.Pointer)
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.pointers) {
				t.Errorf("pointers %q, want %q: %+v", got, tc.pointers, p.Errors)
			}
			if p.Detail == "" {
				t.Error("no detail")
			}
		})
	}
	if len(f.leader.records) > 0 {
		t.Errorf("%d bad submissions were published", len(f.leader.records))
	}
}

// What a browser would open as something else than http or https is refused,
// however it is spelled.
func TestBadURLs(t *testing.T) {
	f := newFarm(t)
	for _, u := range []string{
		"file:///etc/passwd", "FILE:///etc/passwd", " file:///etc/passwd", "fi\tle:///etc/passwd", "file:\\\\etc\\passwd", "\x01file:///etc/passwd",
		"chrome://version", "Chrome://crash", "javascript:alert(1)", "java\nscript:alert(1)", "JAVASCRIPT:1", "data:text/html,x", "blob:https://example.com/1",
		"view-source:https://example.com/", "view-source:file:///etc/passwd", "about:blank", "ftp://example.com/", "ws://example.com/", "devtools://x", "filesystem:http://example.com/",
		"example.com", "//example.com/", "/etc/passwd", "http://", "http:///", "https://exa mple.com/", "http://[::1", "http://example.com:99999/", "http://user:pass@example.com/", "http://%00/",
	} {
		body, err := json.Marshal(map[string]string{"url": u})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(u, "http:///") {
			continue // WHATWG reads the host of http:///x from its path
		}
		p := f.do("POST", "/v1/jobs", string(body)).problem(t, http.StatusBadRequest, "invalid_url")
		if len(*p.Errors) != 1 || (*p.Errors)[0].Pointer != "/url" {
			t.Errorf("%q: %+v", u, p.Errors)
		}
	}
	// Odd spellings of http are http: their addresses are judged where they are
	// dialled.
	for u, want := range map[string]string{
		"http:\\\\127.0.0.1":     "http://127.0.0.1/",
		"hTTp:127.0.0.1":         "http://127.0.0.1/",
		"http:/127.0.0.1:1/":     "http://127.0.0.1:1/",
		"ht\ttp://exam\nple.com": "http://example.com/",
		"http://0x7f.1/":         "http://127.0.0.1/",
		"http://2130706433":      "http://127.0.0.1/",
		"http://１２７.0.0.1/":      "http://127.0.0.1/",
	} {
		body, err := json.Marshal(map[string]string{"url": u})
		if err != nil {
			t.Fatal(err)
		}
		if j := f.do("POST", "/v1/jobs", string(body)).job(t, http.StatusAccepted); *j.Options.Url != want {
			t.Errorf("%q became %q, want %q", u, *j.Options.Url, want)
		}
	}
}

func TestTooLarge(t *testing.T) {
	f := newFarm(t)
	body := `{"html":"` + strings.Repeat("x", maxBody) + `"}`
	f.do("POST", "/v1/jobs", body).problem(t, http.StatusRequestEntityTooLarge, "too_large")
	exact := `{"html":"` + strings.Repeat("x", maxBody-11) + `"}`
	if len(exact) != maxBody {
		t.Fatal(len(exact))
	}
	f.do("POST", "/v1/jobs", exact).job(t, http.StatusAccepted)
}

func TestLargeSpecGoesThroughTheBucket(t *testing.T) {
	f := newFarm(t)
	html := strings.Repeat("<p>x</p>", 4000)
	body, err := json.Marshal(map[string]any{"html": html, "format": "pdf"})
	if err != nil {
		t.Fatal(err)
	}
	j := f.submit(string(body))
	rec := f.leader.record().Body
	if want := "s/" + f.acct.ID + "/" + j.Id + ".json"; rec.SpecObject != want {
		t.Fatalf("spec_object %q, want %q", rec.SpecObject, want)
	}
	if j.Options.Html != nil || strings.Contains(string(rec.Spec), "<p>") {
		t.Error("the record still holds the html")
	}
	stored, err := job.ParseSpec(f.bucket.objects[rec.SpecObject])
	if err != nil || stored.HTML != html || stored.Format != job.PDF {
		t.Errorf("stored spec: %v", err)
	}
	// A refusal takes it away again.
	f.leader.decide = refuseAll(&pb.Fault{Kind: "queue_full", Detail: "full", RetryAfterMs: 4000})
	f.do("POST", "/v1/jobs", string(body)).problem(t, http.StatusServiceUnavailable, "queue_full")
	if keys := f.bucket.keys(); len(keys) != 1 {
		t.Errorf("the bucket holds %q", keys)
	}
	f.bucket.setDown(true)
	n := len(f.leader.records)
	_, other := f.store.newAccount("other") // that nothing was refused a moment ago
	f.do("POST", "/v1/jobs", string(body), header{"Authorization": "Bearer " + other}).problem(t, http.StatusServiceUnavailable, "unavailable")
	if len(f.leader.records) != n {
		t.Error("published without its spec")
	}
}

func TestRefusals(t *testing.T) {
	f := newFarm(t)
	for _, tc := range []struct {
		kind   fault.Kind
		status int
		code   string
	}{
		{fault.QueueFull, 503, "queue_full"},
		{fault.ThreadsFull, 429, "concurrency_limit_exceeded"},
		{fault.RateLimited, 429, "rate_limit_exceeded"},
		{fault.QuotaExceeded, 402, "quota_exceeded"},
		{fault.Blocked, 403, "blocked"},
	} {
		f.leader.decide = refuseAll(&pb.Fault{Kind: tc.kind.String(), Detail: "no", RetryAfterMs: 2500})
		_, key := f.store.newAccount("")
		a := f.do("POST", "/v1/jobs", `{"html":"x"}`, header{"Authorization": "Bearer " + key})
		a.problem(t, tc.status, tc.code)
		if got := a.Header().Get("Retry-After"); got != "3" {
			t.Errorf("%s: Retry-After %q", tc.kind, got)
		}
	}
}

// A fault of the door surely stored nothing; any other error leaves it open,
// and the decision decides.
func TestDoor(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		f := newFarm(t)
		f.leader.publish = func(context.Context, *pb.Record) (uint64, error) {
			return 0, &fault.Error{Kind: fault.Unavailable, Code: "storage_full", Detail: "full", RetryAfter: 30 * time.Second}
		}
		p := f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "storage_full")
		if p.JobId != nil {
			t.Error("a job id of a job that cannot be")
		}
	})
	t.Run("failed but took effect", func(t *testing.T) {
		f := newFarm(t)
		f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
			f.leader.store(rec)
			return 0, stream.ErrOpen
		}
		f.submit(`{"html":"x"}`)
	})
	t.Run("decided before it is acknowledged", func(t *testing.T) {
		f := newFarm(t)
		f.leader.publish = func(ctx context.Context, rec *pb.Record) (uint64, error) {
			f.leader.store(rec)
			<-ctx.Done()
			return 0, errors.Join(stream.ErrOpen, ctx.Err())
		}
		f.submit(`{"html":"x"}`)
	})
	t.Run("open and undecided", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			f.leader.publish = func(context.Context, *pb.Record) (uint64, error) { return 0, stream.ErrOpen }
			began := time.Now()
			p := f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "unavailable")
			if p.JobId == nil {
				t.Fatal("no job_id")
			}
			if took := time.Since(began); took != decideWithin {
				t.Errorf("answered after %s", took)
			}
		})
	})
	t.Run("stored and undecided", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFarm(t)
			f.leader.decide = func(*pb.Record) *pb.Decision { return nil }
			p := f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "unavailable")
			if p.JobId == nil {
				t.Fatal("no job_id")
			}
		})
	})
}

func TestNoLeaderNoPublish(t *testing.T) {
	f := newLonelyFarm(t)
	f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "unavailable")
	if len(f.leader.records) != 0 {
		t.Error("published with nobody to decide")
	}
}

func TestSubmitAndWait(t *testing.T) {
	f := newFarm(t)
	for _, tc := range []struct{ target, prefer, applied string }{
		{"/v1/jobs?wait=30", "", ""},
		{"/v1/jobs?wait=30s", "", ""},
		{"/v1/jobs", "respond-async, wait=10", "wait=10"},
		{"/v1/jobs", "wait=600", "wait=60"},
		{"/v1/jobs?wait=5", "wait=10", ""},
	} {
		done := make(chan answered)
		go func() { done <- f.do("POST", tc.target, `{"html":"x"}`, header{"Prefer": tc.prefer}) }()
		q := <-f.leader.looked
		f.succeed(q.Id, []byte("png"))
		a := <-done
		if j := a.job(t, http.StatusOK); j.Status != "succeeded" || j.Result == nil || !*j.Billable {
			t.Errorf("job %s", a.Body)
		}
		if got := a.Header().Get("Preference-Applied"); got != tc.applied {
			t.Errorf("%+v: Preference-Applied %q", tc, got)
		}
	}
	for _, bad := range []string{"x", "-1", "1.5", "1m", "", "s", "10S"} {
		f.do("POST", "/v1/jobs?wait="+bad, `{"html":"x"}`).problem(t, http.StatusBadRequest, "invalid_input")
	}
}

func TestSubmitWaitIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		began := time.Now()
		a := f.do("POST", "/v1/jobs?wait=100", `{"html":"x"}`)
		if j := a.job(t, http.StatusAccepted); j.Status != "queued" || a.Header().Get("Location") == "" {
			t.Errorf("job %s", a.Body)
		}
		if took := time.Since(began); took < maxWait || took > maxWait+time.Second {
			t.Errorf("waited %s", took)
		}
	})
}
