package api

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// caching is a policy whose first plan keeps results for a minute, and takes
// them for another one behind which they are made anew.
func caching(t *testing.T) func(*Config, *Deps) {
	t.Helper()
	p, err := account.ParsePolicy("policy.yaml", []byte(`
version: 1
plans:
- {name: default, cache_ttl_s: 60, stale_while_revalidate_s: 60}
- {name: bare}
`))
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config, _ *Deps) { cfg.Policy = p }
}

// fromCache decides as the scheduler does where a record names a hit.
func fromCache(rec *pb.Record) *pb.Decision {
	env := rec.Envelope
	if env.Hit == nil {
		return acceptAll(rec)
	}
	now := time.Now().UnixMicro()
	end := &pb.Job{
		Id: env.Id, Account: env.Account, State: "succeeded", AcceptedUs: now, FinishedUs: now, ExpiresUs: env.Hit.ExpiresUs,
		Cached: true, Body: rec.Body, Result: env.Hit.Result, Evidence: env.Hit.Evidence,
	}
	return &pb.Decision{Id: env.Id, Verdict: &pb.Decision_Accepted{Accepted: &pb.Verdict{
		Place: pb.Place_PLACE_CACHED, AcceptedUs: now, Ended: end,
	}}}
}

// keep puts a filed job's result where requests like the last one find it.
func (f *farm) keep(j *job.Job, madeAgo, freshFor time.Duration) {
	key := f.leader.record().Envelope.CacheKey
	made := time.Now().Add(-madeAgo)
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.artifacts[f.acct.ID+string(key)] = &job.Artifact{
		Job: j.ID, Result: j.Result, Evidence: &job.Evidence{Title: "kept"}, MadeAt: made, FreshUntil: made.Add(freshFor), ExpiresAt: j.ExpiresAt,
	}
}

func newCachingFarm(t *testing.T) *farm {
	f := newFarm(t, caching(t))
	f.leader.deciding(fromCache)
	return f
}

// envelope is the last record's.
func (f *farm) envelope() *pb.Envelope { return f.leader.record().Envelope }

func TestCacheOptions(t *testing.T) {
	f := newCachingFarm(t)
	plain := proto.CloneOf(f.after(`{"url":"https://example.com/"}`))
	if len(plain.CacheKey) != 32 || plain.TtlMs != 60_000 || plain.Force || plain.Hit != nil {
		t.Errorf("as the plan says: %v", plain)
	}
	for body, want := range map[string]struct {
		ttlMS int64
		same  bool
	}{
		`{"url":"https://EXAMPLE.com","custom_id":"x","metadata":{"a":"b"},"timeout_ms":5000}`: {60_000, true},
		`{"url":"https://example.com/","ttl_s":1}`:                                             {1000, true},
		`{"url":"https://example.com/","ttl_s":31536000}`:                                      {31_536_000_000, true},
		`{"url":"https://example.com/","ttl_s":0}`:                                             {0, false},
		`{"url":"https://example.com/","ttl_s":0,"force":true}`:                                {0, false},
		`{"url":"https://example.com/","width":1281}`:                                          {60_000, false},
		`{"url":"https://example.com/","format":"pdf"}`:                                        {60_000, false},
	} {
		env := f.after(body)
		if env.TtlMs != want.ttlMS || bytes.Equal(env.CacheKey, plain.CacheKey) != want.same || (len(env.CacheKey) == 0) != (want.ttlMS == 0) {
			t.Errorf("%s: %d ms, key %x", body, env.TtlMs, env.CacheKey)
		}
	}
	if env := f.after(`{"url":"https://example.com/","force":true}`); !env.Force || !bytes.Equal(env.CacheKey, plain.CacheKey) {
		t.Errorf("by force: %v", env)
	}
	for body, at := range map[string]string{
		`{"url":"https://example.com/","ttl_s":-1}`:       "/ttl_s",
		`{"url":"https://example.com/","ttl_s":31536001}`: "/ttl_s",
		`{"url":"https://example.com/","ttl_s":1.5}`:      "/ttl_s",
		`{"url":"https://example.com/","ttl_s":"60"}`:     "/ttl_s",
		`{"url":"https://example.com/","ttl_s":1e400}`:    "/ttl_s",
		`{"url":"https://example.com/","force":"yes"}`:    "/force",
		`{"url":"https://example.com/","ttl":60}`:         "/ttl",
	} {
		for _, path := range []string{"/v1/jobs", "/v1/screenshot", "/v1/pdf"} {
			if p := f.do("POST", path, body).problem(t, 400, "invalid_input"); (*p.Errors)[0].Pointer != at {
				t.Errorf("%s %s: %+v", path, body, *p.Errors)
			}
		}
	}
	f.do("GET", "/v1/screenshot?url=https://example.com/&ttl_s=x&force=1", "").problem(t, 400, "invalid_input")

	bare := f.keyOn("bare")
	f.do("POST", "/v1/jobs", `{"url":"https://example.com/"}`, bare).job(t, 202)
	if env := f.envelope(); env.CacheKey != nil || env.TtlMs != 0 {
		t.Errorf("a plan that keeps nothing: %v", env)
	}
	f.do("POST", "/v1/jobs", `{"url":"https://example.com/","ttl_s":5}`, bare).job(t, 202)
	if env := f.envelope(); env.TtlMs != 5000 || bytes.Equal(env.CacheKey, plain.CacheKey) {
		t.Errorf("of another account: %v", env)
	}
}

// after is the envelope that a submission was published in.
func (f *farm) after(body string) *pb.Envelope {
	f.t.Helper()
	if a := f.do("POST", "/v1/jobs", body); a.Code >= 300 {
		f.t.Fatalf("%s: %d %s", body, a.Code, a.Body)
	}
	return f.envelope()
}

func TestHit(t *testing.T) {
	f := newCachingFarm(t)
	const body = `{"url":"https://example.com/"}`
	f.submit(body)
	data := []byte("\x89PNG kept")
	source := f.filed(job.NewID(), job.Succeeded, data)
	f.keep(source, 30*time.Second, time.Minute)

	a := f.do("POST", "/v1/jobs", body)
	j := a.job(t, http.StatusOK)
	if j.Status != "succeeded" || !j.Cached || j.Billable == nil || *j.Billable || j.Id == string(source.ID) || j.Evidence.Title != "kept" || a.Header().Get("Location") != "" {
		t.Errorf("%s", a.Body)
	}
	for name, want := range map[string]string{"X-Render-Cached": "true", "X-Render-Billable": "false", "X-Render-Stale": "", "X-Idempotent-Replay": ""} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	looked := len(f.leader.looked)
	for _, get := range []answered{f.do("GET", "/v1/screenshot?url=https://example.com/", ""), f.do("POST", "/v1/screenshot", body)} {
		if get.Code != 200 || !bytes.Equal(get.Body.Bytes(), data) || get.Header().Get("X-Render-Cached") != "true" || get.Header().Get("X-Render-Billable") != "false" {
			t.Errorf("%d %v %q", get.Code, get.Header(), get.Body)
		}
	}
	if len(f.leader.looked) != looked {
		t.Error("a hit was looked up")
	}

	for what, c := range map[string]struct{ ago, fresh time.Duration }{
		"past both times to live and the stale one": {121 * time.Second, time.Hour},
		"made by one that wanted it no longer":      {100 * time.Second, 30 * time.Second},
	} {
		f.keep(source, c.ago, c.fresh)
		if env := f.after(body); env.Hit != nil {
			t.Errorf("%s: %v", what, env.Hit)
		}
	}
	f.keep(source, 61*time.Second, time.Hour)
	a = f.do("POST", "/v1/jobs", body)
	if a.job(t, http.StatusOK); a.Header().Get("X-Render-Stale") != "true" || a.Header().Get("X-Render-Cached") != "true" {
		t.Errorf("past its time to live: %v", a.Header())
	}
	f.keep(source, 10*time.Second, time.Minute)
	if env := f.after(`{"url":"https://example.com/","ttl_s":5,"custom_id":"x"}`); env.Hit == nil {
		t.Error("stale for this request, and not taken")
	}
	if env := f.after(`{"url":"https://example.com/","force":true}`); env.Hit != nil {
		t.Errorf("by force: %v", env.Hit)
	}
	// An archive that is away costs a render, and is not asked again at once.
	f.store.setDown(true)
	if env := f.after(body); env.Hit != nil || env.CacheKey == nil {
		t.Errorf("the archive is away: %v", env)
	}
	f.store.setDown(false)
	if env := f.after(body); env.Hit != nil {
		t.Errorf("the archive was away a moment ago: %v", env.Hit)
	}
	f.server.cacheRest.begin(time.Time{})

	// Where a tier is full a hit is asked for all the same.
	f.leader.deciding(func(rec *pb.Record) *pb.Decision {
		if rec.Envelope.Hit != nil {
			return fromCache(rec)
		}
		return refuseAll(&pb.Fault{Kind: "queue_full", Code: "queue_full", RetryAfterMs: 1000})(rec)
	})
	f.do("POST", "/v1/jobs", `{"url":"https://example.com/other"}`).problem(t, 503, "queue_full")
	f.do("POST", "/v1/jobs", body).job(t, http.StatusOK)
}

// What a cached job shows goes with the job that made it; its own deletion
// takes nothing from that.
func TestHitOfDeleted(t *testing.T) {
	f := newCachingFarm(t)
	data := []byte("\x89PNG kept")
	source := f.filed(job.NewID(), job.Succeeded, data)
	hit := func(id job.ID) string {
		j := f.filed(id, job.Succeeded, data)
		j.Result.Object, j.Cached = source.Result.Object, true
		return "/v1/jobs/" + string(id) + "/result"
	}
	one, two := hit(job.NewID()), hit(job.NewID())
	if a := f.do("DELETE", one, ""); a.Code != 204 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	f.do("GET", one, "").problem(t, 410, "gone")
	for _, path := range []string{two, "/v1/jobs/" + string(source.ID) + "/result"} {
		if a := f.do("GET", path, ""); a.Code != 200 || !bytes.Equal(a.Body.Bytes(), data) {
			t.Errorf("%s after another cached job's result was deleted: %d %s", path, a.Code, a.Body)
		}
	}
	if a := f.do("DELETE", "/v1/jobs/"+string(source.ID)+"/result", ""); a.Code != 204 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	f.do("GET", two, "").problem(t, 410, "gone")
	if a := f.do("HEAD", two, ""); a.Code != 410 {
		t.Errorf("HEAD: %d", a.Code)
	}
	// An object that is not there for another reason is lost.
	other := f.filed(job.NewID(), job.Succeeded, data)
	lost := f.filed(job.NewID(), job.Succeeded, data)
	lost.Result.Object = other.Result.Object
	if err := f.bucket.Delete(t.Context(), other.Result.Object); err != nil {
		t.Fatal(err)
	}
	f.do("GET", "/v1/jobs/"+string(lost.ID)+"/result", "").problem(t, 410, "artifact_lost")
	f.bucket.set(other.Result.Object, []byte("\x89PNG bent"))
	f.do("GET", "/v1/jobs/"+string(lost.ID)+"/result", "").problem(t, 410, "artifact_lost")
}
