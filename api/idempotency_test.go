package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// byKey decides as the scheduler does where a record has a key.
func (l *leader) byKey() func(*pb.Record) *pb.Decision {
	known := map[string]*pb.Envelope{}
	return func(rec *pb.Record) *pb.Decision {
		env := rec.Envelope
		switch first := known[string(env.KeyHash)]; {
		case first == nil && env.ArchiveUnread:
			return refuseAll(&pb.Fault{Kind: "unavailable", Detail: "nobody knows", RetryAfterMs: 1000})(rec)
		case first == nil:
			known[string(env.KeyHash)] = env
			return acceptAll(rec)
		case !bytes.Equal(first.Fingerprint, env.Fingerprint):
			return refuseAll(&pb.Fault{Kind: "key_reused", Code: "idempotency_key_reused", Detail: "reused"})(rec)
		default:
			return &pb.Decision{Id: env.Id, Verdict: &pb.Decision_SameAs{SameAs: first.Id}}
		}
	}
}

func newKeyedFarm(t testing.TB) *farm {
	f := newFarm(t)
	f.leader.decide = f.leader.byKey()
	return f
}

func (f *farm) keyed(key, body string) answered {
	f.t.Helper()
	return f.do("POST", "/v1/jobs", body, header{"Idempotency-Key": key})
}

// file moves a job from the leader to the archive, as the projection does.
func (f *farm) file(id string) {
	f.t.Helper()
	f.leader.mu.Lock()
	var env *pb.Envelope
	for _, rec := range f.leader.records {
		if rec.Envelope.Id == id {
			env = rec.Envelope
		}
	}
	f.leader.mu.Unlock()
	f.leader.forget(id)
	f.filed(job.ID(id), job.Succeeded, []byte("png"))
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.byKey[env.Account+string(env.KeyHash)] = keyedJob{job.ID(id), env.Fingerprint}
}

func replayed(t *testing.T, a answered, status int, id string) Job {
	t.Helper()
	j := a.job(t, status)
	if j.Id != id || a.Header().Get("X-Idempotent-Replay") != "true" {
		t.Errorf("job %s, X-Idempotent-Replay %q; want a replay of %s", j.Id, a.Header().Get("X-Idempotent-Replay"), id)
	}
	return j
}

func TestReplay(t *testing.T) {
	f := newKeyedFarm(t)
	first := f.keyed("k", `{"html":"x"}`)
	id := first.job(t, http.StatusAccepted).Id
	if first.Header().Get("X-Idempotent-Replay") != "" {
		t.Error("the first answer says that it is a replay")
	}
	env := f.leader.record().Envelope
	if len(env.KeyHash) != 32 || len(env.Fingerprint) != 32 || env.ArchiveUnread {
		t.Errorf("envelope %v", env)
	}

	a := f.keyed("k", `{"html":"x"}`)
	if j := replayed(t, a, http.StatusAccepted, id); j.Status != "queued" || a.Header().Get("Location") != "/v1/jobs/"+id {
		t.Errorf("while it waits: %s", a.Body)
	}
	f.keyed("k", `{"html":"y"}`).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")

	f.succeed(id, []byte("png"))
	if j := replayed(t, f.keyed("k", `{"html":"x"}`), http.StatusOK, id); j.Status != "succeeded" {
		t.Errorf("at its end: %+v", j)
	}

	f.file(id)
	n := len(f.leader.records)
	replayed(t, f.keyed("k", `{"html":"x"}`), http.StatusOK, id)
	f.keyed("k", `{"html":"y"}`).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	if len(f.leader.records) != n {
		t.Error("published although the archive knew the key")
	}
	// What the archive knows needs no leader.
	f.leader.hangUp()
	for f.server.front.connected() {
		<-time.After(time.Millisecond)
	}
	replayed(t, f.keyed("k", `{"html":"x"}`), http.StatusOK, id)
	f.leader.listen()
	f.welcomed()

	// The same key of another account is another key.
	f.acct, f.key = f.store.newAccount("another")
	if other := f.keyed("k", `{"html":"y"}`).job(t, http.StatusAccepted); other.Id == id {
		t.Error("one account was given another's job")
	}
}

func TestReplayWaits(t *testing.T) {
	f := newKeyedFarm(t)
	id := f.keyed("k", `{"html":"x"}`).job(t, http.StatusAccepted).Id
	done := make(chan answered)
	go func() {
		done <- f.do("POST", "/v1/jobs?wait=30", `{"html":"x"}`, header{"Idempotency-Key": "k"})
	}()
	for q := range f.leader.looked {
		if q.WaitMs > 0 {
			break
		}
	}
	f.succeed(id, []byte("png"))
	replayed(t, <-done, http.StatusOK, id)
}

// What says the same is the same request, and nothing else is.
func TestFingerprint(t *testing.T) {
	f := newKeyedFarm(t)
	id := f.keyed("k", `{"url":"https://example.com/","width":800,"device_scale_factor":2,"metadata":{"a":"1","b":"2"}}`).job(t, http.StatusAccepted).Id
	for _, same := range []string{
		"{ \"url\":\"https://example.com/\",\n\"width\":800,\"device_scale_factor\":2,\"metadata\":{\"a\":\"1\",\"b\":\"2\"}}",
		`{"metadata":{"b":"2","a":"1"},"device_scale_factor":2.0,"width":8e2,"url":"https:\/\/example.com/"}`,
	} {
		replayed(t, f.keyed("k", same), http.StatusAccepted, id)
	}
	for _, other := range []string{
		`{"url":"https://example.com/"}`,
		`{"url":"https://example.com/","width":801,"device_scale_factor":2,"metadata":{"a":"1","b":"2"}}`,
		`{"url":"https://example.com/","width":800,"device_scale_factor":2,"metadata":{"a":"1","b":"3"}}`,
		`{"url":"https://example.com/","width":800,"device_scale_factor":2,"metadata":{"a":"1","b":"2"},"custom_id":"c"}`,
	} {
		f.keyed("k", other).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	}
	// The wait is no part of the request.
	polled := f.do("POST", "/v1/jobs?wait=0", `{"url":"https://example.com/","width":800,"device_scale_factor":2,"metadata":{"a":"1","b":"2"}}`, header{"Idempotency-Key": "k"})
	replayed(t, polled, http.StatusAccepted, id)
}

// A refusal is not remembered, of the request or of the farm.
func TestRefusalsAreNotRemembered(t *testing.T) {
	f := newKeyedFarm(t)
	decide := f.leader.decide
	f.keyed("k", `{"html":7}`).problem(t, http.StatusBadRequest, "invalid_input")
	f.leader.decide = refuseAll(&pb.Fault{Kind: "queue_full", Detail: "full", RetryAfterMs: 1000})
	f.keyed("k", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "queue_full")
	f.leader.decide = decide
	f.keyed("k", `{"html":"y"}`).job(t, http.StatusAccepted)
}

// Without the archive, the leader alone says what a key is worth.
func TestKeyWithoutTheArchive(t *testing.T) {
	f := newKeyedFarm(t)
	id := f.keyed("running", `{"html":"x"}`).job(t, http.StatusAccepted).Id
	f.store.setDown(true)
	replayed(t, f.keyed("running", `{"html":"x"}`), http.StatusAccepted, id)
	f.keyed("running", `{"html":"y"}`).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	a := f.keyed("new", `{"html":"x"}`)
	a.problem(t, http.StatusServiceUnavailable, "unavailable")
	if a.Header().Get("Retry-After") == "" || !f.leader.record().Envelope.ArchiveUnread {
		t.Errorf("Retry-After %q, envelope %v", a.Header().Get("Retry-After"), f.leader.record().Envelope)
	}
	f.submit(`{"html":"x"}`) // without a key nothing has to be looked up
	f.store.setDown(false)
	f.keyed("new", `{"html":"x"}`).job(t, http.StatusAccepted)
}

// A record is dated before the archive is read: what the archive did not have
// then, the leader may not forget until the record is too old to be decided.
func TestDatedBeforeTheArchiveIsRead(t *testing.T) {
	var f *farm
	read := make(chan int64, 1)
	f = newFarm(t, func(_ *Config, d *Deps) {
		d.Store = watched{d.Store, func() {
			now, err := f.server.front.clock()
			if err != nil {
				t.Error(err)
			}
			read <- now
		}}
	})
	f.leader.decide = f.leader.byKey()
	f.keyed("k", `{"html":"x"}`).job(t, http.StatusAccepted)
	if sent := f.leader.record().Envelope.SentUs; sent == 0 || sent > <-read {
		t.Error("the record is dated after the archive was read")
	}
}

// watched calls before ahead of each look-up of a key.
type watched struct {
	Store
	before func()
}

func (w watched) JobByKey(ctx context.Context, accountID string, hash []byte) (*job.Job, []byte, error) {
	w.before()
	return w.Store.JobByKey(ctx, accountID, hash)
}

// A large request leaves nothing in the bucket when it is a replay.
func TestReplayOfALargeSpec(t *testing.T) {
	f := newKeyedFarm(t)
	body, err := json.Marshal(map[string]string{"html": strings.Repeat("<p>x</p>", 4000)})
	if err != nil {
		t.Fatal(err)
	}
	id := f.keyed("k", string(body)).job(t, http.StatusAccepted).Id
	replayed(t, f.keyed("k", string(body)), http.StatusAccepted, id)
	if keys := f.bucket.keys(); len(keys) != 1 {
		t.Errorf("the bucket holds %q", keys)
	}
}

// When the outcome is open, the way to find out is the key.
func TestKeyedAndUndecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newKeyedFarm(t)
		f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
			f.leader.mu.Lock()
			api := rec.Envelope.Api
			rec.Envelope.Api = "nobody" // decided, and the answer is lost
			f.leader.mu.Unlock()
			f.leader.store(rec)
			rec.Envelope.Api = api
			return 0, stream.ErrOpen
		}
		p := f.keyed("k", `{"html":"x"}`).problem(t, http.StatusServiceUnavailable, "unavailable")
		if p.JobId == nil || !strings.Contains(p.Detail, "same Idempotency-Key") {
			t.Fatalf("%+v", p)
		}
		f.leader.publish = nil
		replayed(t, f.keyed("k", `{"html":"x"}`), http.StatusAccepted, *p.JobId)
	})
}

func TestBadKeys(t *testing.T) {
	f := newKeyedFarm(t)
	for _, bad := range []string{"a b", "ä", "a\tb", strings.Repeat("k", 256), "\x7f"} {
		p := f.keyed(bad, `{"html":"x"}`).problem(t, http.StatusBadRequest, "invalid_input")
		if (*p.Errors)[0].Pointer != "Idempotency-Key" {
			t.Errorf("%q: %+v", bad, p)
		}
	}
	for _, good := range []string{"!", strings.Repeat("~", 255), `"8e03978e-40d5-43dd-bc93-6894a57f9324"`} {
		f.keyed(good, `{"html":"x"}`).job(t, http.StatusAccepted)
	}
	n := len(f.leader.records)
	r, w := f.request("POST", "/v1/jobs")
	r.Header["Idempotency-Key"] = []string{"a", "b"}
	f.server.Handler().ServeHTTP(w, r)
	answered{w}.problem(t, http.StatusBadRequest, "invalid_input")
	r.Header["Idempotency-Key"] = []string{""}
	w.Body.Reset()
	f.server.Handler().ServeHTTP(w, r)
	answered{w}.problem(t, http.StatusBadRequest, "invalid_input")
	for _, route := range []struct{ method, target string }{
		{"GET", "/v1/jobs"},
		{"GET", "/v1/jobs/x"},
		{"DELETE", "/v1/jobs/x"},
		{"GET", "/v1/queue"},
	} {
		p := f.do(route.method, route.target, `{"html":"x"}`, header{"Idempotency-Key": "k"}).problem(t, http.StatusBadRequest, "invalid_input")
		if (*p.Errors)[0].Pointer != "Idempotency-Key" {
			t.Errorf("%s %s: %+v", route.method, route.target, p)
		}
	}
	f.do("POST", "/admin/v1/accounts", `{"name":"n"}`, header{"Authorization": "Bearer " + adminToken, "Idempotency-Key": "k"}).
		problem(t, http.StatusBadRequest, "invalid_input")
	if len(f.leader.records) != n {
		t.Error("a refused key was published")
	}
}
