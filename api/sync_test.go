package api

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// started sends a request and returns once its job is being waited for.
func (f *farm) started(ctx context.Context, method, target, body string) (id string, done chan answered) {
	f.t.Helper()
	done = make(chan answered, 1)
	go func() { done <- f.doContext(ctx, method, target, body) }()
	select {
	case q := <-f.leader.looked:
		return q.Id, done
	case a := <-done:
		f.t.Fatalf("%s %s: %d %s", method, target, a.Code, a.Body)
	}
	return "", nil
}

func TestScreenshot(t *testing.T) {
	f := newFarm(t)
	query := url.Values{
		"url": {"https://example.com/?q=a&b=c"}, "width": {"800"}, "full_page": {"true"}, "device_scale_factor": {"1.5"},
		"wait_until": {"networkidle0"}, "delay_ms": {"10"}, "custom_id": {"Übersicht"},
	}
	id, done := f.started(t.Context(), "GET", "/v1/screenshot?"+query.Encode(), "")
	spec, err := job.ParseSpec(f.leader.record().Body.Spec)
	if err != nil {
		t.Fatal(err)
	}
	want := job.Defaults()
	want.URL, want.Width, want.FullPage, want.DeviceScaleFactor, want.WaitUntil, want.DelayMS = "https://example.com/?q=a&b=c", 800, true, 1.5, job.NetworkIdle0, 10
	if !reflect.DeepEqual(*spec, want) {
		t.Errorf("spec %+v, want %+v", *spec, want)
	}
	f.succeed(id, []byte("\x89PNG"))
	a := <-done
	if a.Code != 200 || a.Body.String() != "\x89PNG" {
		t.Fatalf("%d %q", a.Code, a.Body)
	}
	for name, want := range map[string]string{
		"X-Job-Id": id, "X-Render-Cached": "false", "X-Render-Billable": "true", "Content-Type": "image/png",
		"Server-Timing":       "queue;dur=1, navigate;dur=20, wait;dur=30, capture;dur=40, upload;dur=5, total;dur=96",
		"Content-Disposition": "inline; filename*=utf-8''%C3%9Cbersicht.png",
	} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	id, done = f.started(t.Context(), "POST", "/v1/screenshot", `{"html":"x","format":"jpg","metadata":{"a":"b"}}`)
	if rec := f.leader.record(); rec.Envelope.ContentType != "image/jpeg" || rec.Body.Metadata["a"] != "b" {
		t.Errorf("%v", rec)
	}
	f.succeed(id, []byte("jpeg"))
	if a := <-done; a.Code != 200 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

func TestPDF(t *testing.T) {
	f := newFarm(t)
	for _, request := range [][3]string{{"GET", "/v1/pdf?html=x", ""}, {"POST", "/v1/pdf", `{"html":"x"}`}, {"POST", "/v1/pdf", `{"html":"x","format":"pdf"}`}} {
		id, done := f.started(t.Context(), request[0], request[1], request[2])
		if ct := f.leader.record().Envelope.ContentType; ct != "application/pdf" {
			t.Errorf("content type %q", ct)
		}
		f.succeed(id, []byte("%PDF"))
		if a := <-done; a.Code != 200 {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
}

func TestBadRenders(t *testing.T) {
	f := newFarm(t)
	for target, pointers := range map[string]string{
		"/v1/screenshot": "url",
		"/v1/screenshot?url=https://e.com/&url=https://e.com/": "url",
		"/v1/screenshot?url=https://e.com/&format=pdf":         "format",
		"/v1/screenshot?url=https://e.com/&width=wide":         "width",
		"/v1/screenshot?url=https://e.com/&width=":             "width",
		"/v1/screenshot?url=https://e.com/&width=10001":        "width",
		"/v1/screenshot?url=https://e.com/&full_page=1":        "full_page",
		"/v1/screenshot?url=https://e.com/&Width=1":            "Width",
		"/v1/screenshot?url=https://e.com/&access_key=1":       "access_key",
		"/v1/screenshot?url=https://e.com/&metadata=1":         "metadata",
		"/v1/screenshot?url=https://e.com/&custom_id=%00":      "custom_id",
		"/v1/screenshot?url=https://e.com/&custom_id=%ff":      "custom_id",
		"/v1/pdf?url=https://e.com/&format=png":                "format",
		"/v1/pdf?url=https://e.com/&quality=1":                 "quality",
	} {
		p := f.do("GET", target, "").problem(t, 400, "invalid_input")
		if got := (*p.Errors)[0].Pointer; got != pointers {
			t.Errorf("%s: %q", target, got)
		}
	}
	f.do("GET", "/v1/screenshot?url=file:///etc/passwd", "").problem(t, 400, "invalid_url")
	f.do("POST", "/v1/screenshot", `{"url":"https://e.com/","format":"pdf"}`).problem(t, 400, "invalid_input")
	f.do("POST", "/v1/screenshot?url=https://e.com/", `{"url":"https://e.com/"}`).problem(t, 400, "invalid_input")
	f.do("POST", "/v1/pdf", `{"url":"https://e.com/","format":"jpeg"}`).problem(t, 400, "invalid_input")
	if a := f.do("HEAD", "/v1/screenshot?url=https://e.com/", ""); a.Code != 405 || a.Header().Get("Allow") != "GET, POST" {
		t.Errorf("HEAD: %d %v", a.Code, a.Header())
	}
	if len(f.leader.records) > 0 {
		t.Error("something was published")
	}
}

func TestFailedRenders(t *testing.T) {
	f := newFarm(t)
	for code, status := range map[job.Code]int{
		job.NameNotResolved: 422, job.PageCrashed: 422, job.AddressRefused: 403, job.Internal: 422,
		job.NavigationTimeout: 504, job.LoadTimeout: 504, job.WaitTimeout: 504, job.CaptureTimeout: 504, job.WallTimeout: 504,
	} {
		id, done := f.started(t.Context(), "GET", "/v1/screenshot?html=x", "")
		f.fail(id, code, job.StageNavigate, "words for the client")
		a := <-done
		p := a.problem(t, status, string(code))
		if p.JobId == nil || *p.JobId != id || p.Error.Code != string(code) || p.Detail != "words for the client" {
			t.Errorf("%s", a.Body)
		}
		if a.Header().Get("X-Job-Id") != id || a.Header().Get("X-Render-Billable") != "false" {
			t.Errorf("%s: %v", code, a.Header())
		}
	}
	// Somebody else canceled it.
	id, done := f.started(t.Context(), "GET", "/v1/screenshot?html=x", "")
	f.leader.change(id, func(j *pb.Job) { j.State, j.FinishedUs = "canceled", time.Now().UnixMicro() })
	(<-done).problem(t, 422, "canceled")
}

func TestRenderIsCanceledWithItsClient(t *testing.T) {
	f := newFarm(t)
	ctx, cancel := context.WithCancel(t.Context())
	id, done := f.started(ctx, "GET", "/v1/screenshot?html=x", "")
	cancel()
	c := <-f.leader.canceled
	if c.Id != id || c.Account != f.acct.ID {
		t.Errorf("%v", c)
	}
	(<-done).problem(t, statusClientGone, "canceled")
}

// A job that somebody else waits for outlives the client that sent it.
func TestRenderThatSomebodyElseWaitsFor(t *testing.T) {
	f := newFarm(t)
	ctx, cancel := context.WithCancel(t.Context())
	id, done := f.started(ctx, "GET", "/v1/screenshot?html=x", "")
	other, polled := f.started(t.Context(), "GET", "/v1/jobs/"+id+"?wait=60", "")
	if other != id {
		t.Fatalf("the other one waits for %s", other)
	}
	cancel()
	if c := <-f.leader.canceled; c.Id != id || !c.Abandoned {
		t.Errorf("%v", c)
	}
	(<-done).problem(t, statusClientGone, "canceled")
	f.succeed(id, []byte("png"))
	if j := (<-polled).job(t, 200); j.Status != "succeeded" {
		t.Errorf("who waited was told %s", j.Status)
	}
	// An owner's cancel asks nobody.
	id = f.submit(`{"html":"x"}`).Id
	f.do("DELETE", "/v1/jobs/"+id, "").job(t, 200)
	if c := <-f.leader.canceled; c.Abandoned {
		t.Errorf("%v", c)
	}
}

// The cancel comes after the decision, also when the client leaves before it.
func TestClientLeavesBeforeTheDecision(t *testing.T) {
	f := newFarm(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
		cancel()
		return f.leader.store(rec), nil
	}
	a := f.doContext(ctx, "GET", "/v1/screenshot?html=x", "")
	a.problem(t, statusClientGone, "canceled")
	if c := <-f.leader.canceled; c.Id != a.Header().Get("X-Job-Id") {
		t.Errorf("%v", c)
	}
}

func TestRenderTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		began := time.Now()
		a := f.do("GET", "/v1/screenshot?html=x", "")
		p := a.problem(t, http.StatusGatewayTimeout, "timeout")
		if took := time.Since(began); took < 3*time.Minute || took > 3*time.Minute+time.Second {
			t.Errorf("waited %s", took)
		}
		if *p.JobId != a.Header().Get("X-Job-Id") || len(f.leader.canceled) != 1 {
			t.Errorf("%s, %d cancels", a.Body, len(f.leader.canceled))
		}
	})
}

func TestRenderAcrossLeaders(t *testing.T) {
	f := newFarm(t)
	id, done := f.started(t.Context(), "GET", "/v1/screenshot?html=x", "")
	f.leader.hangUp()
	f.leader.listen()
	if q := <-f.leader.looked; q.Id != id {
		t.Errorf("asked for %s", q.Id)
	}
	f.succeed(id, []byte("png"))
	if a := <-done; a.Code != 200 || !strings.HasPrefix(a.Header().Get("X-Job-Id"), "job_") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}
