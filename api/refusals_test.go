package api

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

var full = &pb.Fault{Kind: "queue_full", Code: "queue_full", Detail: "the queue is full", RetryAfterMs: 3000}

func (l *leader) deciding(decide func(*pb.Record) *pb.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decide = decide
}

func (l *leader) published() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// A flood against a full tier publishes one record in 100 ms; a place that
// comes free is taken by the next that asks after at most as long.
func TestFloodOfAFullTier(t *testing.T) {
	f := newFarm(t)
	f.leader.deciding(refuseAll(full))
	began := time.Now()
	f.do("POST", "/v1/jobs", `{"html":"<p>"}`).problem(t, http.StatusServiceUnavailable, "queue_full")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				a := f.do("POST", "/v1/jobs", `{"html":"<p>"}`)
				if a.Code != http.StatusServiceUnavailable || a.Header().Get("Retry-After") < "3" {
					t.Errorf("%d, Retry-After %q: %s", a.Code, a.Header().Get("Retry-After"), a.Body)
				}
			}
		})
	}
	wg.Wait()
	// Each of the eight may find the hundred milliseconds over at the same moment.
	took := time.Since(began)
	if n, most := f.leader.published(), 1+8*int(took/fullFor); n > most {
		t.Errorf("%d records were published in %s, want at most %d", n, took, most)
	}

	f.leader.deciding(acceptAll)
	freed := time.Now()
	for {
		asked := time.Now()
		a := f.do("POST", "/v1/jobs", `{"html":"<p>"}`)
		if a.Code == http.StatusAccepted {
			break
		}
		if late := asked.Sub(freed); late > fullFor {
			t.Fatalf("%s after a place came free: %d %s", late, a.Code, a.Body)
		}
	}
}

// What may be otherwise for somebody else, or for another job, is asked.
func TestRefusalsAreOfWhoeverWasTold(t *testing.T) {
	policy := account.DefaultPolicy()
	policy.Queue.PerHost = 2
	policy.Plans = append(policy.Plans, policy.Plans[0])
	policy.Plans[1].Name, policy.Plans[1].Tier = "high", 5
	f := newFarm(t, func(c *Config, _ *Deps) { c.Policy = policy })
	_, otherKey := f.store.newAccount("other")
	refuse := func() {
		t.Helper()
		f.leader.deciding(refuseAll(full))
		f.do("POST", "/v1/jobs", `{"url":"https://a.example/"}`).problem(t, http.StatusServiceUnavailable, "queue_full")
		f.leader.deciding(acceptAll)
	}
	asked := func(what string, a answered) {
		t.Helper()
		if a.Code != http.StatusAccepted {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
	}
	refuse()
	asked("another account", f.do("POST", "/v1/jobs", `{"url":"https://a.example/"}`, header{"Authorization": "Bearer " + otherKey}))
	refuse()
	asked("another host, where those are bounded", f.do("POST", "/v1/jobs", `{"url":"https://b.example/"}`))
	refuse()
	asked("with a key", f.do("POST", "/v1/jobs", `{"url":"https://a.example/"}`, header{"Idempotency-Key": "k1"}))
	refuse()
	f.acct.Plan = "high"
	asks := &submission{}
	asks.spec.URL = "https://a.example/"
	if f.server.refused.find(f.server.askedBy(f.acct, asks), time.Now()) != nil {
		t.Error("the account is refused in another tier")
	}
}

func TestRefusalsInTime(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var r refusals
	one, other := asked{account: "one", tier: 3}, asked{account: "one", tier: 4}
	want := func(when string, a asked, kind fault.Kind, wait time.Duration) {
		t.Helper()
		f := r.find(a, now)
		if kind == fault.Internal && f != nil || kind != fault.Internal && (f == nil || f.Kind != kind || f.RetryAfter != wait) {
			t.Errorf("%s: %v", when, f)
		}
	}
	const none = fault.Internal
	r.learn(one, &fault.Error{Kind: fault.QueueFull, RetryAfter: 9 * time.Second}, now)
	want("at once", one, fault.QueueFull, 9*time.Second)
	want("another tier", other, none, 0)
	now = now.Add(fullFor - 1)
	want("just before", one, fault.QueueFull, 9*time.Second)
	now = now.Add(1)
	want("after 100 ms", one, none, 0)

	r.learn(one, &fault.Error{Kind: fault.QueueFull}, now)
	r.learn(one, nil, now)
	want("once one was accepted", one, none, 0)
	for _, kind := range fault.Kinds() {
		if kind != fault.QueueFull {
			r.learn(one, &fault.Error{Kind: kind, RetryAfter: time.Minute}, now)
			want(kind.String(), one, none, 0)
		}
	}

	r.learn(one, &fault.Error{Kind: fault.Unavailable, Code: "storage_full", RetryAfter: 30 * time.Second}, now)
	want("with a full storage, somebody else", asked{account: "two"}, fault.Unavailable, 30*time.Second)
	now = now.Add(fullFor)
	want("after 100 ms", asked{account: "two"}, none, 0)

	for i := range 10 * sweepRefusals {
		r.learn(asked{account: fmt.Sprint(i)}, &fault.Error{Kind: fault.QueueFull}, now)
		now = now.Add(time.Millisecond)
	}
	if n := len(r.told); n > 2*sweepRefusals {
		t.Errorf("%d refusals are kept", n)
	}
}
