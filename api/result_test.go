package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestResult(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	path := "/v1/jobs/" + id + "/result"
	a := f.do("GET", path, "")
	a.problem(t, 409, "not_finished")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	data := []byte("\x89PNG the bytes")
	f.succeed(id, data)
	sum := sha256.Sum256(data)
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	a = f.do("GET", path, "")
	if a.Code != 200 || !bytes.Equal(a.Body.Bytes(), data) {
		t.Fatalf("%d %q", a.Code, a.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "ETag": etag, "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox",
		"Content-Disposition": "inline; filename=" + id + ".png", "Content-Length": fmt.Sprint(len(data)), "Cache-Control": "private, no-cache",
		"Server-Timing": "queue;dur=1, navigate;dur=20, wait;dur=30, capture;dur=40, upload;dur=5, total;dur=96",
	} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got, want := f.do("GET", "/v1/jobs/"+id, "").Header().Get("Server-Timing"), a.Header().Get("Server-Timing"); got != want || got == "" {
		t.Errorf("the job's Server-Timing is %q, its result's %q", got, want)
	}
	h := f.do("HEAD", path, "")
	if h.Code != 200 || h.Body.Len() != 0 || h.Header().Get("ETag") != etag || h.Header().Get("Content-Length") != fmt.Sprint(len(data)) || h.Header().Get("Content-Type") != "image/png" {
		t.Errorf("HEAD: %d %v", h.Code, h.Header())
	}
	for _, method := range []string{"GET", "HEAD"} {
		if c := f.do(method, path, "", header{"If-None-Match": etag}); c.Code != 304 || c.Body.Len() != 0 {
			t.Errorf("%s If-None-Match: %d", method, c.Code)
		}
	}
	if r := f.do("GET", path, "", header{"Range": "bytes=1-3"}); r.Code != 206 || r.Body.String() != "PNG" {
		t.Errorf("range: %d %q", r.Code, r.Body)
	}

	// Not filed yet: it cannot be deleted now. Then: 204, and gone for good.
	f.do("DELETE", path, "").problem(t, 503, "unavailable")
	f.filed(job.ID(id), job.Succeeded, data)
	for range 2 {
		if d := f.do("DELETE", path, ""); d.Code != 204 {
			t.Fatalf("delete: %d %s", d.Code, d.Body)
		}
	}
	f.do("GET", path, "").problem(t, 410, "gone")
	if h := f.do("HEAD", path, ""); h.Code != 410 || h.Body.Len() != 0 {
		t.Errorf("HEAD of a deleted result: %d %q", h.Code, h.Body)
	}
	if keys := f.bucket.keys(); len(keys) != 0 {
		t.Errorf("the bucket holds %q", keys)
	}
	f.do("GET", "/v1/jobs/"+id, "").job(t, 200)
}

func TestResultOfAnEndWithoutOne(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	f.fail(id, job.PageCrashed, job.StageWait, "the page crashed")
	p := f.do("GET", "/v1/jobs/"+id+"/result", "").problem(t, 409, "conflict")
	if p.Error == nil || p.Error.Code != "page_crashed" {
		t.Errorf("%+v", p)
	}
	id = f.submit(`{"html":"x"}`).Id
	f.do("DELETE", "/v1/jobs/"+id, "").job(t, 200)
	f.do("GET", "/v1/jobs/"+id+"/result", "").problem(t, 409, "conflict")
	f.do("DELETE", "/v1/jobs/"+id+"/result", "").problem(t, 409, "conflict")
}

// The end of a job's retention is 410 of its result for good, whether its row
// is still there or not, and of the job while the row is.
func TestPastRetention(t *testing.T) {
	f := newFarm(t)
	id := idAt(time.Now().Add(-31 * 24 * time.Hour))
	j := f.filed(id, job.Succeeded, []byte("the bytes"))
	path := "/v1/jobs/" + string(id)
	f.do("GET", path+"/result", "").bytes(t, "the bytes") // filed late: its retention counts from its end
	j.ExpiresAt = time.Now().Add(-time.Millisecond)
	for _, method := range []string{"GET", "DELETE"} {
		f.do(method, path, "").problem(t, 410, "gone")
	}
	f.do("GET", path+"?wait=5", "").problem(t, 410, "gone")
	f.do("GET", path+"/result", "").problem(t, 410, "gone")
	if a := f.do("DELETE", path+"/result", ""); a.Code != 204 {
		t.Errorf("delete: %d", a.Code)
	}
	other := f.filed(idAt(id.Time()), job.Failed, nil)
	other.ExpiresAt = j.ExpiresAt
	f.do("GET", "/v1/jobs/"+string(other.ID)+"/result", "").problem(t, 410, "gone")
	other.Account = "acc_stranger"
	f.do("GET", "/v1/jobs/"+string(other.ID), "").problem(t, 404, "not_found")
	f.do("GET", "/v1/jobs/"+string(other.ID)+"/result", "").problem(t, 404, "not_found")

	f.store.remove(id)
	f.do("GET", path, "").problem(t, 404, "not_found")
	f.do("GET", path+"/result", "").problem(t, 410, "gone")
	f.do("GET", "/v1/jobs/"+string(idAt(time.Now().Add(-29*24*time.Hour)))+"/result", "").problem(t, 404, "not_found")
	f.store.setDown(true)
	f.do("GET", path+"/result", "").problem(t, 503, "unavailable")
}

func (a answered) bytes(t *testing.T, want string) {
	t.Helper()
	if a.Code != 200 || a.Body.String() != want {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
}

func TestResultLost(t *testing.T) {
	f := newFarm(t)
	ids := map[string]string{}
	for _, damage := range []string{"missing", "shorter", "other bytes", "expired", "store down"} {
		j := f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, []byte("the bytes"))
		ids[damage] = "/v1/jobs/" + string(j.ID) + "/result"
		switch damage {
		case "missing":
			delete(f.bucket.objects, j.Result.Object)
		case "shorter":
			f.bucket.set(j.Result.Object, []byte("the byte"))
		case "other bytes":
			f.bucket.set(j.Result.Object, []byte("THE BYTES"))
		case "expired":
			j.ExpiresAt = time.Now().Add(-time.Second)
		}
	}
	for _, damage := range []string{"missing", "shorter", "other bytes"} {
		a := f.do("GET", ids[damage], "")
		a.problem(t, 410, "artifact_lost")
		if a.Header().Get("ETag") != "" || a.Header().Get("Content-Disposition") != "" {
			t.Errorf("%s: a problem with an artifact's headers: %v", damage, a.Header())
		}
	}
	for _, damage := range []string{"missing", "shorter"} {
		if a := f.do("HEAD", ids[damage], ""); a.Code != 410 {
			t.Errorf("HEAD %s: %d", damage, a.Code)
		}
	}
	f.do("GET", ids["expired"], "").problem(t, 410, "gone")
	f.bucket.setDown(true)
	f.do("GET", ids["store down"], "").problem(t, 503, "unavailable")
}

// A lost artifact is reported with what its job cost, until that was given
// back; what only the leader knows of is reported without.
func TestLostArtifactIsReported(t *testing.T) {
	f := newFarm(t)
	f.store.charges = map[job.ID]account.JobCharge{}
	reports := make(chan *pb.Count, 10)
	f.leader.countBy(func(q *pb.Count) *pb.Answer {
		if q.Reason == reasonLost {
			reports <- q
		}
		return new(pb.Answer)
	})
	lose := func(paid account.JobCharge) string {
		t.Helper()
		j := f.filed(job.NewID(), job.Succeeded, []byte("the bytes"))
		f.store.mu.Lock()
		f.store.charges[j.ID] = paid
		f.store.mu.Unlock()
		if err := f.bucket.Delete(t.Context(), j.Result.Object); err != nil {
			t.Fatal(err)
		}
		f.do("GET", "/v1/jobs/"+string(j.ID)+"/result", "").problem(t, 410, "artifact_lost")
		return "lost_" + string(j.ID)
	}
	january := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lose(account.JobCharge{Units: 120, Period: january, GivenBack: true}) // it is not among the reports
	paid, unfiled := lose(account.JobCharge{Units: 120, Period: january}), lose(account.JobCharge{})
	for _, want := range []*pb.Count{{Event: paid, Units: -120, Period: account.DayNumber(january)}, {Event: unfiled}} {
		got := <-reports
		if got.Event != want.Event || got.Units != want.Units || got.Period != want.Period || got.Account != f.acct.ID || got.Class != "" {
			t.Errorf("reported %v, want %v", got, want)
		}
	}
}

// A large artifact is streamed; if its digest is wrong in the end, the client
// does not get it whole.
func TestLargeResult(t *testing.T) {
	f := newFarm(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), wholeArtifact/16+5000)
	j := f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, data)
	path := "/v1/jobs/" + string(j.ID) + "/result"
	if a := f.do("GET", path, ""); a.Code != 200 || !bytes.Equal(a.Body.Bytes(), data) || a.Header().Get("Content-Length") != fmt.Sprint(len(data)) {
		t.Fatalf("%d, %d bytes", a.Code, a.Body.Len())
	}
	data[len(data)-1] ^= 1
	f.bucket.set(j.Result.Object, data)
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // the value itself
				t.Errorf("recovered %v", r)
			}
		}()
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+f.key)
		f.server.Handler().ServeHTTP(w, r)
	}()
	if w.Body.Len() >= len(data) {
		t.Error("all bytes were sent")
	}
}

func TestRedirectToTheStore(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.RedirectResults = true })
	j := f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, []byte("png"))
	a := f.do("GET", "/v1/jobs/"+string(j.ID)+"/result", "")
	if a.Code != 302 || !strings.HasPrefix(a.Header().Get("Location"), "https://s3.example.com/r/") {
		t.Errorf("%d %v", a.Code, a.Header())
	}
	if h := f.do("HEAD", "/v1/jobs/"+string(j.ID)+"/result", ""); h.Code != 200 {
		t.Errorf("HEAD: %d", h.Code)
	}
}

func TestPublicURL(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.PublicURL = "https://shots.example.com" })
	a := f.do("POST", "/v1/jobs", `{"html":"x"}`)
	j := a.job(t, 202)
	if want := "https://shots.example.com/v1/jobs/" + j.Id; j.Links.Self != want || a.Header().Get("Location") != want {
		t.Errorf("%+v", j.Links)
	}
}

// TestDispositionOfMarkup: nothing that a browser would run is shown in place.
func TestDispositionOfMarkup(t *testing.T) {
	for _, f := range job.Formats {
		want := "inline"
		if f == job.HTML || f == job.MHTML {
			want = "attachment"
		}
		got := disposition(&job.Job{ID: "job_x", Result: &job.Result{ContentType: f.ContentType()}})
		if got != want+"; filename=job_x"+f.Ext() {
			t.Errorf("%s: %s", f, got)
		}
	}
	// The type that mhtml had once, which kept results may have.
	if got := disposition(&job.Job{ID: "job_x", Result: &job.Result{ContentType: "multipart/related"}}); got != "attachment; filename=job_x.mhtml" {
		t.Errorf("%s", got)
	}
}

func FuzzDisposition(f *testing.F) {
	for _, s := range []string{"", "invoice-17", "日本語", `a"b\c/d`, "a\r\nSet-Cookie: x", strings.Repeat("é", 300), "..", "%0d%0a", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, customID string) {
		got := disposition(&job.Job{ID: "job_x", CustomID: customID, Result: &job.Result{ContentType: "application/pdf"}})
		kind, params, err := mime.ParseMediaType(got)
		if err != nil || kind != "inline" {
			t.Fatalf("%q: %v", got, err)
		}
		name := params["filename"]
		if !strings.HasSuffix(name, ".pdf") || len(name) > maxFileName || strings.ContainsAny(name, "/\\\r\n\x00\"") || !utf8.ValidString(name) {
			t.Fatalf("%q names %q", got, name)
		}
		for _, c := range []byte(got) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q holds byte %#x", got, c)
			}
		}
	})
}
