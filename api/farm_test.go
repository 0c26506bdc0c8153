package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminToken = "the-admin-token"

// farm is an API replica with everything around it in memory.
type farm struct {
	t      testing.TB
	store  *memStore
	bucket *memBucket
	leader *leader
	ledger *memLedger
	server *Server
	acct   account.Account
	key    string
	stop   func() error // ends Run and waits for it
}

// newFarm starts a replica that a leader has welcomed. change may bend the
// configuration.
func newFarm(t testing.TB, change ...func(*Config, *Deps)) *farm {
	f := newLonelyFarm(t, change...)
	f.leader.serve(t, f.server)
	f.welcomed()
	return f
}

// newLonelyFarm starts a replica that has heard of no leader.
func newLonelyFarm(t testing.TB, change ...func(*Config, *Deps)) *farm {
	t.Helper()
	f := &farm{t: t, store: newMemStore(), bucket: newMemBucket()}
	f.leader, f.ledger = newLeader(t), newMemLedger()
	f.leader.ledger = f.ledger
	cfg := Config{AdminToken: adminToken}
	deps := Deps{Door: f.leader, Heartbeats: f.leader.heartbeats, Store: f.store, Bucket: f.bucket, Ledger: f.ledger}
	for _, c := range change {
		c(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	f.server = s
	s.front.dial = f.leader.dial
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	f.acct, f.key = f.store.newAccount("tester")
	return f
}

// welcomed waits until the replica has a stream.
func (f *farm) welcomed() {
	f.t.Helper()
	d, err := f.server.front.expect(f.t.Context(), job.NewID())
	for ; err != nil; d, err = f.server.front.expect(f.t.Context(), job.NewID()) {
		if f.t.Context().Err() != nil {
			f.t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
	d.forget()
}

// lost waits until the replica has no stream.
func (f *farm) lost() {
	f.t.Helper()
	for {
		f.server.front.mu.Lock()
		gone := f.server.front.session == nil
		f.server.front.mu.Unlock()
		if gone {
			return
		}
		select {
		case <-f.t.Context().Done():
			f.t.Fatal("the stream is still there")
		case <-time.After(time.Millisecond):
		}
	}
}

// answered is what a request was answered with.
type answered struct {
	*httptest.ResponseRecorder
}

func (a answered) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), v); err != nil {
		t.Fatalf("answer %d %q: %v", a.Code, a.Body, err)
	}
}

func (a answered) problem(t testing.TB, status int, code string) Problem {
	t.Helper()
	var p Problem
	if a.Code != status {
		t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	a.json(t, &p)
	if p.Code != code || p.Status != status {
		t.Fatalf("code %q, want %q: %s", p.Code, code, a.Body)
	}
	if got := a.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q", got)
	}
	if p.RequestId == "" || p.RequestId != a.Header().Get("X-Request-Id") {
		t.Fatalf("request_id %q, X-Request-Id %q", p.RequestId, a.Header().Get("X-Request-Id"))
	}
	return p
}

func (a answered) job(t testing.TB, status int) Job {
	t.Helper()
	if a.Code != status {
		t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	var j Job
	a.json(t, &j)
	return j
}

type header map[string]string

// do sends a request with the account's key.
func (f *farm) do(method, target, body string, headers ...header) answered {
	f.t.Helper()
	return f.doContext(f.t.Context(), method, target, body, headers...)
}

func (f *farm) doContext(ctx context.Context, method, target, body string, headers ...header) answered {
	f.t.Helper()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:5000"
	r.Header.Set("Authorization", "Bearer "+f.key)
	for _, h := range headers {
		for k, v := range h {
			r.Header.Del(k)
			if v != "" {
				r.Header.Set(k, v)
			}
		}
	}
	w := httptest.NewRecorder()
	if path := r.URL.Path; strings.HasSuffix(path, "/events") && !strings.HasPrefix(path, "/v1/usage") && !strings.HasPrefix(path, "/admin") {
		// A stream: what it begins with is looked at.
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		f.server.Handler().ServeHTTP(firstFlush{w, cancel}, r.WithContext(ctx))
		return answered{w}
	}
	f.server.Handler().ServeHTTP(w, r)
	return answered{w}
}

// firstFlush is a client that goes away when the first part of its answer is
// there.
type firstFlush struct {
	*httptest.ResponseRecorder
	goAway func()
}

func (f firstFlush) Flush() {
	f.ResponseRecorder.Flush()
	f.goAway()
}

// admin sends a request with the admin token.
func (f *farm) admin(method, target, body string) answered {
	f.t.Helper()
	return f.do(method, target, body, header{"Authorization": "Bearer " + adminToken})
}

// submit submits a job that must be accepted.
func (f *farm) submit(body string) Job {
	f.t.Helper()
	return f.do("POST", "/v1/jobs", body).job(f.t, http.StatusAccepted)
}

// succeed ends a job of the leader with these bytes as its artifact.
func (f *farm) succeed(id string, data []byte) {
	f.t.Helper()
	sum := sha256.Sum256(data)
	key := "r/" + f.acct.ID + "/" + id + "/1.png"
	f.bucket.set(key, data)
	f.leader.change(id, func(j *pb.Job) {
		now := time.Now().UnixMicro()
		j.State, j.WaitingFor, j.Attempts, j.Billable = "succeeded", "", 1, true
		j.StartedUs, j.FinishedUs, j.ExpiresUs = now, now, now+int64(time.Hour/time.Microsecond)
		j.Result = &pb.Result{Object: key, ContentType: "image/png", Width: 1280, Height: 1024, SizeBytes: int64(len(data)), Sha256: sum[:]}
		j.Timings = &pb.Timings{QueueMs: 1, NavigateMs: 20, WaitMs: 30, CaptureMs: 40, UploadMs: 5, TotalMs: 96}
		j.Evidence = []byte(`{"final_url":"https://example.com/","status_code":200,"title":"Example"}`)
	})
}

// fail ends a job of the leader with a failure.
func (f *farm) fail(id string, code job.Code, stage job.Stage, detail string) {
	f.leader.change(id, func(j *pb.Job) {
		j.State, j.WaitingFor, j.Attempts = "failed", "", 1
		j.StartedUs, j.FinishedUs = time.Now().UnixMicro(), time.Now().UnixMicro()
		j.Failure = &pb.Failure{Code: string(code), Stage: string(stage), Detail: detail}
	})
}

// filed is a finished job of the archive.
func (f *farm) filed(id job.ID, state job.State, data []byte) *job.Job {
	spec := job.Defaults()
	spec.URL = "https://example.com/"
	no := false
	j := &job.Job{
		ID: id, Account: f.acct.ID, State: state, CreatedAt: id.Time(), FinishedAt: id.Time().Add(time.Second),
		ExpiresAt: time.Now().Add(time.Hour), Attempts: 1, Billable: &no, Options: spec.Marshal(),
	}
	if state == job.Succeeded {
		sum := sha256.Sum256(data)
		key := "r/" + f.acct.ID + "/" + string(id) + "/1.png"
		f.bucket.set(key, data)
		j.Result = &job.Result{
			Object: key, ContentType: "image/png", Width: 1280, Height: 1024, SizeBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
		}
	}
	f.store.put(j)
	return j
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

// request is a request with the account's key and where its answer goes.
func (f *farm) request(method, target string) (*http.Request, *httptest.ResponseRecorder) {
	r := httptest.NewRequestWithContext(f.t.Context(), method, target, nil)
	r.Header.Set("Authorization", "Bearer "+f.key)
	return r, httptest.NewRecorder()
}
