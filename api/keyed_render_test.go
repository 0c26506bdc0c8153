package api

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// keyedCall sends a call that waits for its bytes, under a key.
func (f *farm) keyedCall(ctx context.Context, method, target, body, key string) chan answered {
	done := make(chan answered, 1)
	go func() { done <- f.doContext(ctx, method, target, body, header{"Idempotency-Key": key}) }()
	return done
}

// One call under a key is one job: whoever repeats it gets its bytes.
func TestKeyedRender(t *testing.T) {
	f := newKeyedFarm(t)
	for _, c := range []struct{ method, target, body, other string }{
		{"POST", "/v1/screenshot", `{"html":"x"}`, `{"html":"y"}`},
		{"POST", "/v1/pdf", `{"html":"x"}`, `{"html":"y"}`},
		{"GET", "/v1/screenshot?html=x", "", ""},
		{"GET", "/v1/pdf?html=x", "", ""},
	} {
		key := c.method + c.target
		for len(f.leader.looked) > 0 {
			<-f.leader.looked
		}
		first := f.keyedCall(t.Context(), c.method, c.target, c.body, key)
		id := (<-f.leader.looked).Id
		second := f.keyedCall(t.Context(), c.method, c.target, c.body, key)
		for q := <-f.leader.looked; q.WaitMs == 0; q = <-f.leader.looked { // it looks the job up, and then waits for it
		}
		f.succeed(id, []byte("\x89PNG"))
		a, b := <-first, <-second
		for _, got := range []answered{a, b, <-f.keyedCall(t.Context(), c.method, c.target, c.body, key)} {
			if got.Code != 200 || got.Body.String() != "\x89PNG" || got.Header().Get("X-Job-Id") != id {
				t.Errorf("%s %s: %d %v %q", c.method, c.target, got.Code, got.Header(), got.Body)
			}
		}
		if a.Header().Get("X-Idempotent-Replay") != "" || a.Header().Get("X-Render-Billable") != "true" {
			t.Errorf("the first: %v", a.Header())
		}
		if b.Header().Get("X-Idempotent-Replay") != "true" || b.Header().Get("X-Render-Billable") != "false" || b.Header().Get("X-Render-Cached") != "false" {
			t.Errorf("the replay: %v", b.Header())
		}
		n := len(f.leader.records)
		f.file(id)
		if got := <-f.keyedCall(t.Context(), c.method, c.target, c.body, key); got.Code != 200 || got.Header().Get("X-Idempotent-Replay") != "true" || len(f.leader.records) != n {
			t.Errorf("from the archive: %d %v", got.Code, got.Header())
		}
		target := c.target
		if c.other == "" {
			target += "&width=800"
		}
		(<-f.keyedCall(t.Context(), c.method, target, c.other, key)).problem(t, 422, "idempotency_key_reused")
		if d := f.do("DELETE", "/v1/jobs/"+id+"/result", ""); d.Code != 204 {
			t.Fatalf("%d %s", d.Code, d.Body)
		}
		(<-f.keyedCall(t.Context(), c.method, c.target, c.body, key)).problem(t, 410, "gone")
	}
	// A failure is replayed as it was.
	for len(f.leader.looked) > 0 {
		<-f.leader.looked
	}
	first := f.keyedCall(t.Context(), "POST", "/v1/screenshot", `{"url":"https://example.com/"}`, "fails")
	f.fail((<-f.leader.looked).Id, job.TLSError, job.StageNavigate, "no")
	(<-first).problem(t, 422, "tls_error")
	again := <-f.keyedCall(t.Context(), "POST", "/v1/screenshot", `{"url":"https://example.com/"}`, "fails")
	if again.problem(t, 422, "tls_error"); again.Header().Get("X-Idempotent-Replay") != "true" {
		t.Errorf("%v", again.Header())
	}
}

// A keyed job goes on without its client, and past the wait: the same request
// finds it.
func TestKeyedRenderIsNotCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newKeyedFarm(t)
		ctx, leave := context.WithCancel(t.Context())
		gone := f.keyedCall(ctx, "POST", "/v1/screenshot", `{"html":"x"}`, "k")
		id := (<-f.leader.looked).Id
		leave()
		<-gone
		began := time.Now()
		late := <-f.keyedCall(t.Context(), "POST", "/v1/screenshot", `{"html":"x"}`, "k")
		j := replayed(t, late, http.StatusAccepted, id)
		if j.Status != "queued" || late.Header().Get("Location") != "/v1/jobs/"+id || late.Header().Get("X-Job-Id") != id {
			t.Errorf("%+v %v", j, late.Header())
		}
		if took := time.Since(began); took < time.Minute+queueWithin || took > time.Minute+queueWithin+10*time.Second {
			t.Errorf("answered after %s", took)
		}
		if len(f.leader.canceled) != 0 {
			t.Errorf("canceled %v", <-f.leader.canceled)
		}
		f.succeed(id, []byte("\x89PNG"))
		if a := <-f.keyedCall(t.Context(), "POST", "/v1/screenshot", `{"html":"x"}`, "k"); a.Code != 200 {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	})
}

// A keyed call that is answered from the cache stores that under its key.
func TestKeyedHit(t *testing.T) {
	f := newCachingFarm(t)
	byKey := f.leader.byKey()
	f.leader.deciding(func(rec *pb.Record) *pb.Decision {
		d := byKey(rec)
		if d.GetAccepted() != nil {
			return fromCache(rec)
		}
		return d
	})
	const body = `{"url":"https://example.com/"}`
	f.submit(body)
	source := f.filed(job.NewID(), job.Succeeded, []byte("\x89PNG kept"))
	f.keep(source, 0, time.Minute)
	first := <-f.keyedCall(t.Context(), "POST", "/v1/screenshot", body, "k")
	id := first.Header().Get("X-Job-Id")
	if first.Code != 200 || first.Header().Get("X-Render-Cached") != "true" || id == string(source.ID) {
		t.Fatalf("%d %v", first.Code, first.Header())
	}
	env := f.envelope()
	if env.Id != id || len(env.KeyHash) != 32 || env.Hit == nil {
		t.Errorf("envelope %v", env)
	}
	// As the projection files it: from then on the archive answers.
	kept := f.filed(job.ID(id), job.Succeeded, []byte("\x89PNG kept"))
	kept.Cached = true
	f.store.mu.Lock()
	f.store.byKey[env.Account+string(env.KeyHash)] = keyedJob{job.ID(id), env.Fingerprint}
	clear(f.store.artifacts)
	f.store.mu.Unlock()
	again := <-f.keyedCall(t.Context(), "POST", "/v1/screenshot", body, "k")
	if again.Code != 200 || again.Header().Get("X-Job-Id") != id || again.Header().Get("X-Idempotent-Replay") != "true" || again.Header().Get("X-Render-Cached") != "true" {
		t.Errorf("%d %v", again.Code, again.Header())
	}
}

// A stale result is served at once, and rendered anew once behind it.
func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newCachingFarm(t)
		const body = `{"url":"https://example.com/","custom_id":"mine"}`
		f.submit(body)
		source := f.filed(job.NewID(), job.Succeeded, []byte("\x89PNG kept"))
		f.keep(source, 61*time.Second, time.Minute)
		refreshes := func() (list []*pb.Envelope) {
			synctest.Wait()
			f.leader.mu.Lock()
			defer f.leader.mu.Unlock()
			for _, rec := range f.leader.records {
				if rec.Envelope.Revalidate {
					list = append(list, rec.Envelope)
				}
			}
			return list
		}
		for range 5 {
			a := f.do("POST", "/v1/screenshot", body)
			if a.Code != 200 || a.Header().Get("X-Render-Stale") != "true" {
				t.Fatalf("%d %v", a.Code, a.Header())
			}
		}
		list := refreshes()
		if len(list) != 1 {
			t.Fatalf("%d refreshes", len(list))
		}
		if list[0].TtlMs != 60_000 || len(list[0].CacheKey) != 32 || list[0].Host != "example.com" || list[0].Hit != nil || list[0].KeyHash != nil || list[0].Account != f.acct.ID || list[0].Force {
			t.Errorf("the refresh: %v", list[0])
		}
		time.Sleep(refreshPause)
		f.leader.deciding(func(rec *pb.Record) *pb.Decision { // a refusal is nobody's
			if rec.Envelope.Revalidate {
				return refuseAll(&pb.Fault{Kind: "quota_exceeded", Code: "quota_exceeded", RetryAfterMs: 1000})(rec)
			}
			return fromCache(rec)
		})
		if a := f.do("POST", "/v1/jobs", body); a.Code != 200 || len(refreshes()) != 2 {
			t.Errorf("%d, %d refreshes", a.Code, len(refreshes()))
		}
		f.keep(source, 10*time.Second, time.Minute)
		time.Sleep(refreshPause)
		if a := f.do("POST", "/v1/jobs", body); a.Code != 200 || a.Header().Get("X-Render-Stale") != "" || len(refreshes()) != 2 {
			t.Errorf("fresh: %d %v, %d refreshes", a.Code, a.Header(), len(refreshes()))
		}
	})
}
