package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// under gives a replica this policy.
func under(t testing.TB, text string) func(*Config, *Deps) {
	t.Helper()
	p, err := account.ParsePolicy("policy.yaml", []byte("version: 1\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config, _ *Deps) { cfg.Policy = p }
}

const shared = `
anonymous_plan: free
trusted_proxies: [192.0.2.1]
http_limits: [{class: api, by: ip, requests: 3, window_s: 60}, {class: web, by: ip, requests: 2, window_s: 60}]
plans:
- {name: default}
- {name: free, rate: {algorithm: fixed_window, requests: 5, window_s: 60, by: ip}}
`

// counted is what was counted since it was asked last.
func (l *leader) counted() []*pb.Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := l.counts
	l.counts = nil
	return counts
}

func (l *leader) countBy(fn func(*pb.Count) *pb.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counting = fn
}

// tell writes down every stream.
func (l *leader) blocks(blocks ...*pb.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broadcast(&pb.FrontDown{Blocks: blocks})
}

// tooMany refuses a request for the limit of that name.
func tooMany(policy string, wait time.Duration) *pb.Answer {
	return &pb.Answer{
		Answer: &pb.Answer_Fault{Fault: &pb.Fault{Kind: "rate_limited", Policy: policy, Detail: "too many requests", RetryAfterMs: wait.Milliseconds()}},
		Meters: []*pb.Meter{{Kind: pb.Meter_KIND_REQUESTS, Name: policy, Limit: 3, WindowS: 60, ResetUs: time.Now().Add(wait).UnixMicro()}},
	}
}

// windows answers counts as the leader does: a limit of requests of each class
// and address, in one window.
func windows(limit int) func(*pb.Count) *pb.Answer {
	used := map[string]int{}
	return func(q *pb.Count) *pb.Answer {
		if q.Class == "" {
			return new(pb.Answer)
		}
		if used[q.Class+q.Address]++; used[q.Class+q.Address] > limit {
			return tooMany("requests-"+q.Class+"-ip", 42*time.Second)
		}
		return new(pb.Answer)
	}
}

var nobody = header{"Authorization": ""}

// A client without a key is its address: it submits, polls and fetches, and
// no other address does.
func TestAnonymous(t *testing.T) {
	f := newFarm(t, under(t, shared))
	here, there := header{"Authorization": "", "X-Forwarded-For": "203.0.113.7"}, header{"Authorization": "", "X-Forwarded-For": "203.0.113.8"}
	id := f.do("POST", "/v1/jobs", `{"html":"x"}`, here).job(t, 202).Id
	env := f.leader.record().Envelope
	if env.Account != "anon_cb007107" || env.Address != "203.0.113.7" || env.Key != "" {
		t.Errorf("%v", env)
	}
	f.do("GET", "/v1/jobs/"+id, "", here).job(t, 200)
	for _, stranger := range []header{there, {"X-Forwarded-For": "203.0.113.7"}} {
		f.do("GET", "/v1/jobs/"+id, "", stranger).problem(t, 404, "not_found")
		f.do("GET", "/v1/jobs/"+id+"/result", "", stranger).problem(t, 404, "not_found")
		f.do("DELETE", "/v1/jobs/"+id, "", stranger).problem(t, 404, "not_found")
	}
	f.succeed(id, []byte("png"))
	if a := f.do("GET", "/v1/jobs/"+id+"/result", "", here); a.Code != 200 || a.Body.String() != "png" {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	var list JobList
	f.do("GET", "/v1/jobs", "", here).json(t, &list)
	if len(list.Data) != 1 {
		t.Errorf("%+v", list)
	}
	// With a key the same client is somebody else.
	f.do("POST", "/v1/jobs", `{"html":"x"}`)
	env = f.leader.record().Envelope
	if env.Account != f.acct.ID || env.Address != "192.0.2.1" || !strings.Contains(f.key, "_"+env.Key+"_") {
		t.Errorf("%v", env)
	}
	// IPv6 clients are their /64.
	f.do("POST", "/v1/jobs", `{"html":"x"}`, header{"Authorization": "", "X-Forwarded-For": "2001:db8:1:2:3::4"})
	env = f.leader.record().Envelope
	if env.Account != "anon_20010db800010002" || env.Address != "2001:db8:1:2::/64" {
		t.Errorf("%v", env)
	}
}

// Without a plan for them, clients without a key are told to show one; a bad
// key is no key's absence.
func TestNotAnonymous(t *testing.T) {
	f := newFarm(t)
	f.do("GET", "/v1/jobs", "", nobody).problem(t, 401, "missing_key")
	f = newFarm(t, under(t, shared))
	for _, bad := range []string{"Bearer nonsense", "Bearer " + f.key[:len(f.key)-1] + "!", "Basic abc", " "} {
		r, w := f.request("GET", "/v1/jobs")
		r.Header.Set("Authorization", bad)
		r.RemoteAddr = "203.0.113.7:1"
		f.server.Handler().ServeHTTP(w, r)
		answered{w}.problem(t, 401, "invalid_key")
		c := f.leader.counted()
		if len(c) != 1 || !c[0].BadKey || c[0].Address != "203.0.113.7" || c[0].Account != "" || c[0].Key != "" {
			t.Fatalf("%q: %v", bad, c)
		}
		f.leader.countBy(nil)
	}
}

// Every request of a class that is limited is one count, before anything else
// is known of it; health, metrics and admin are none.
func TestEveryRequestIsCounted(t *testing.T) {
	f := newFarm(t, under(t, shared))
	keyID, _ := account.KeyID(f.key)
	for _, rt := range f.server.routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		path = strings.NewReplacer("{id}", string(job.NewID()), "{key_id}", "k", "{$}", "").Replace(path)
		for name, authorization := range map[string]string{"key": "Bearer " + f.key, "nobody": "", "bad": "Bearer x"} {
			ctx, cancel := f.t.Context(), func() {}
			f.leader.deciding(refuseAll(full))
			f.doContext(ctx, method, path, `{"html":"x"}`, header{"Authorization": authorization})
			cancel()
			counts := f.leader.counted()
			class := rt.class
			if class != classAPI && class != classWeb {
				class = ""
			}
			var of []*pb.Count
			for _, c := range counts {
				if c.Class != "" {
					of = append(of, c)
				}
			}
			switch {
			case class == "" && len(of) == 0:
			case class == "" || len(of) != 1 || of[0].Class != string(class) || of[0].Address != "192.0.2.1":
				t.Errorf("%s as %s: %v", rt.pattern, name, of)
			case rt.auth == byKey && name == "key" && (of[0].Key != keyID || of[0].Account != f.acct.ID):
				t.Errorf("%s as %s: %v", rt.pattern, name, of)
			case rt.auth == byKey && name == "nobody" && (of[0].Key != "" || of[0].Account != "anon_c0000201"):
				t.Errorf("%s as %s: %v", rt.pattern, name, of)
			}
		}
	}
	f.leader.counted()
	for path, class := range map[string]string{"/v1/nothing": "api", "/nothing": "web", "/admin/nothing": ""} {
		f.do("GET", path, "").problem(t, 404, "not_found")
		c := f.leader.counted()
		if class == "" && len(c) != 0 || class != "" && (len(c) != 1 || c[0].Class != class) {
			t.Errorf("%s: %v", path, c)
		}
	}
	f.do("HEAD", "/v1/screenshot?html=x", "")
	if c := f.leader.counted(); len(c) != 1 || c[0].Class != "api" {
		t.Errorf("HEAD of a render: %v", c)
	}
}

// Who has made too many requests is told by the leader once and from memory
// from then on, whatever key it shows; other classes and addresses are not.
func TestThrottledFromMemory(t *testing.T) {
	f := newFarm(t, under(t, shared))
	f.leader.countBy(windows(3))
	_, otherKey := f.store.newAccount("other")
	for range 3 {
		if a := f.do("GET", "/v1/usage", ""); a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	f.do("GET", "/v1/usage", "").problem(t, 429, "rate_limit_exceeded")
	f.leader.counted()
	for _, h := range []header{{}, nobody, {"Authorization": "Bearer " + otherKey}, {"Authorization": "Bearer nonsense"}} {
		a := f.do("POST", "/v1/jobs", `{"html":"x"}`, h)
		a.problem(t, 429, "rate_limit_exceeded")
		policies, left := policyLeft(t, a.Header())
		if policies["requests-api-ip"]["q"] != int64(3) || left["requests-api-ip"]["r"] != int64(0) || a.Header().Get("X-RateLimit-Remaining") != "0" {
			t.Errorf("%v", a.Header())
		}
		wait, reset := a.Header().Get("Retry-After"), left["requests-api-ip"]["t"].(int64)
		if len(wait) != 2 || wait < "41" || wait < fmt.Sprint(reset) {
			t.Errorf("Retry-After %s, t=%d", wait, reset)
		}
	}
	f.do("GET", "/v1/nothing", "").problem(t, 429, "rate_limit_exceeded")
	if c := f.leader.counted(); len(c) != 0 {
		t.Errorf("the leader was asked: %v", c)
	}
	if a := f.do("GET", "/", ""); a.Code != 200 {
		t.Errorf("another class: %d", a.Code)
	}
	if a := f.do("GET", "/v1/usage", "", header{"X-Forwarded-For": "203.0.113.9"}); a.Code != 200 {
		t.Errorf("another address: %d", a.Code)
	}
	if a := f.do("GET", "/healthz", ""); a.Code != 200 {
		t.Errorf("healthz: %d", a.Code)
	}
}

// Two replicas of one leader let through no more than one would.
func TestLimitsAreExactAcrossReplicas(t *testing.T) {
	one := newFarm(t, under(t, shared))
	two := newFarm(t, under(t, shared), func(_ *Config, d *Deps) { d.Store = one.store })
	var mu sync.Mutex
	answer := windows(3)
	both := func(q *pb.Count) *pb.Answer {
		mu.Lock()
		defer mu.Unlock()
		return answer(q)
	}
	one.leader.countBy(both)
	two.leader.countBy(both)
	two.key = one.key
	passed := 0
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			a := []*farm{one, two}[i%2].do("GET", "/v1/usage", "")
			mu.Lock()
			defer mu.Unlock()
			switch a.Code {
			case 200:
				passed++
			case 429:
			default:
				t.Errorf("%d %s", a.Code, a.Body)
			}
		})
	}
	wg.Wait()
	if passed != 3 {
		t.Errorf("%d requests passed, want 3", passed)
	}
}

// While no leader counts, a replica counts for itself, as the policy says.
func TestCountedWithoutLeader(t *testing.T) {
	f := newLonelyFarm(t, under(t, shared))
	limits := func() int {
		passed := 0
		for range 10 {
			switch a := f.do("GET", "/", ""); a.Code {
			case 200:
				passed++
			case 429:
				a.problem(t, 429, "rate_limit_exceeded")
				if a.Header().Get("Retry-After") == "" || a.Header().Get("RateLimit") != "" {
					t.Errorf("%v", a.Header())
				}
			default:
				t.Fatalf("%d %s", a.Code, a.Body)
			}
		}
		return passed
	}
	began := time.Now()
	got := limits()
	if edge := !windowEnd(began, time.Minute).Equal(windowEnd(time.Now(), time.Minute)); got != 2 && !(edge && got <= 4) {
		t.Errorf("%d requests passed, want 2", got)
	}
}

func TestLocalCounts(t *testing.T) {
	limits := []account.HTTPLimit{
		{Class: "api", By: account.ByIP, Requests: 2, Window: time.Minute},
		{Class: "api", By: account.ByAccount, Requests: 3, Window: time.Hour},
		{Class: "web", By: account.ByIP, Requests: 1, Window: time.Minute},
	}
	var l localCounts
	now := time.Unix(1_700_000_000, 0).Truncate(time.Hour)
	me := caller{address: someone, account: "acc_1"}
	ok := func(who caller, want bool) {
		t.Helper()
		if err := l.count(limits, "api", who, now); (err == nil) != want {
			t.Fatalf("%v", err)
		}
	}
	ok(me, true)
	ok(me, true)
	ok(me, false)
	ok(caller{address: "203.0.113.8"}, true)
	now = now.Add(time.Minute)
	ok(me, false) // the account has three an hour
	if err := l.count(limits, "web", me, now); err != nil {
		t.Error(err)
	}
	now = now.Add(59 * time.Minute)
	ok(me, true)
	for i := range maxCounted + 100 {
		_ = l.count(limits[1:2], "api", caller{account: fmt.Sprint(i)}, now)
	}
	if len(l.now) > maxCounted+3 {
		t.Errorf("%d subjects are counted", len(l.now))
	}
	if l.count(limits[1:2], "api", caller{account: "one more"}, now) == nil {
		t.Error("those beyond the bound are not counted")
	}
}

// The steps of the ladder as a replica answers them.
func TestBlocks(t *testing.T) {
	f := newFarm(t, under(t, `
anonymous_plan: default
trusted_proxies: [192.0.2.1]
http_limits:
- {class: api, by: ip, requests: 1000, window_s: 60}
- {class: api, by: key, requests: 1000, window_s: 60}
- {class: api, by: account, requests: 1000, window_s: 60}
plans: [{name: default}]
`))
	keyID, _ := account.KeyID(f.key)
	until := time.Now().Add(time.Hour).UnixMicro()
	there := header{"Authorization": "", "X-Forwarded-For": "203.0.113.7"}
	six := header{"Authorization": "", "X-Forwarded-For": "2001:db8:1:2::9"}
	for _, test := range []struct {
		subject string
		as      header
		other   header
	}{
		{"address:203.0.113.7", there, six},
		{"network:203.0.113.0/24", there, six},
		{"address:2001:db8:1:2::/64", six, there},
		{"network:2001:db8:1::/48", six, there},
		{"key:" + keyID, header{}, there},
		{"account:" + f.acct.ID, header{}, there},
	} {
		for _, step := range []struct {
			step   pb.Block_Step
			until  int64
			status int
			code   string
			waits  bool
		}{
			{pb.Block_STEP_COOLING, until, 429, "rate_limit_exceeded", true},
			{pb.Block_STEP_BLOCKED, until, 403, "blocked", true},
			{pb.Block_STEP_BANNED, 0, 403, "banned", false},
			{pb.Block_STEP_UNSPECIFIED, 0, 200, "", false},
		} {
			if step.step == pb.Block_STEP_COOLING && strings.HasPrefix(test.subject, "network:") {
				continue // a network is blocked, never slowed down
			}
			f.leader.blocks(&pb.Block{Subject: test.subject, Step: step.step, UntilUs: step.until})
			f.settled()
			a := f.do("GET", "/v1/usage", "", test.as)
			if step.code != "" {
				a.problem(t, step.status, step.code)
			}
			if a.Code != step.status || (a.Header().Get("Retry-After") != "") != step.waits {
				t.Errorf("%s, %s: %d, Retry-After %q", test.subject, step.step, a.Code, a.Header().Get("Retry-After"))
			}
			if a := f.do("GET", "/v1/usage", "", test.other); a.Code != 200 {
				t.Errorf("%s, %s: somebody else is answered %d", test.subject, step.step, a.Code)
			}
			if a := f.do("GET", "/healthz", "", test.as); a.Code != 200 {
				t.Errorf("%s, %s: healthz is %d", test.subject, step.step, a.Code)
			}
		}
	}
	if len(f.leader.records) > 0 {
		t.Error("something was published")
	}
}

// settled waits until what the leader wrote before has arrived.
func (f *farm) settled() {
	f.t.Helper()
	if _, _, _, err := f.server.front.lookup(f.t.Context(), job.NewID(), "", 0); err != nil {
		f.t.Fatal(err)
	}
}

// What an earlier reign told is over when the next one does not tell it again.
func TestBlocksOfEarlierReigns(t *testing.T) {
	var b blocks
	now := time.Unix(1_700_000_000, 0)
	b.welcomed(now)
	one, two := ofKey("1"), ofKey("2")
	b.keep(one, time.Time{}, false)
	b.keep(two, time.Time{}, false)
	now = now.Add(time.Hour)
	b.welcomed(now)
	if b.find(one, now) == nil {
		t.Error("forgotten before the new leader had a word")
	}
	b.keep(two, time.Time{}, false)
	now = now.Add(retold + 1)
	if b.find(one, now) != nil || b.find(two, now) == nil {
		t.Error("not what the new leader told")
	}
}

// Who does not wait is told of, by subject and address, and what it did is
// summed up.
func TestStrikesAreTold(t *testing.T) {
	f := newFarm(t, under(t, shared))
	f.leader.countBy(func(q *pb.Count) *pb.Answer { return tooMany("requests-api-ip", 42*time.Second) })
	f.do("GET", "/v1/usage", "").problem(t, 429, "rate_limit_exceeded")
	f.server.throttles.mu.Lock()
	for _, e := range f.server.throttles.told {
		e.since = e.since.Add(-time.Minute)
	}
	f.server.throttles.mu.Unlock()
	for range 7 {
		f.do("GET", "/v1/usage", "").problem(t, 429, "rate_limit_exceeded")
	}
	var n uint32
	for n < 7 {
		s := <-f.leader.strikes
		if s.Subject != "address:192.0.2.1" || s.Address != "192.0.2.1" {
			t.Fatalf("%v", s)
		}
		n += s.Count
	}
	if n != 7 {
		t.Errorf("%d strikes", n)
	}
}

// Who cools down is still told of the limit that it did not heed.
func TestCoolingTellsTheLimit(t *testing.T) {
	f := newFarm(t, under(t, shared))
	f.leader.countBy(windows(0))
	f.do("GET", "/v1/usage", "").problem(t, 429, "rate_limit_exceeded")
	f.leader.blocks(&pb.Block{Subject: "address:192.0.2.1", Step: pb.Block_STEP_COOLING, UntilUs: time.Now().Add(time.Hour).UnixMicro()})
	f.settled()
	a := f.do("GET", "/v1/usage", "")
	a.problem(t, 429, "rate_limit_exceeded")
	_, left := policyLeft(t, a.Header())
	if wait, _ := left["requests-api-ip"]["t"].(int64); wait < 3590 || a.Header().Get("X-RateLimit-Remaining") != "0" || len(a.Header().Get("Retry-After")) != 4 {
		t.Errorf("%v", a.Header())
	}
}

// A cool-down is of the limit that was not heeded: a client with a key goes on
// while its address cools down without one.
func TestCoolingIsOfItsLimit(t *testing.T) {
	f := newFarm(t, under(t, `
anonymous_plan: free
plans:
- {name: default}
- {name: free, rate: {algorithm: fixed_window, requests: 5, window_s: 60, by: ip}}
`))
	f.leader.blocks(&pb.Block{Subject: "address:192.0.2.1", Step: pb.Block_STEP_COOLING, UntilUs: time.Now().Add(time.Hour).UnixMicro()})
	f.settled()
	f.leader.counted()
	f.do("POST", "/v1/jobs", `{"html":"x"}`, nobody).problem(t, 429, "rate_limit_exceeded")
	f.do("GET", "/v1/jobs", "", header{"Authorization": "Bearer nonsense"}).problem(t, 429, "rate_limit_exceeded")
	if c := f.leader.counted(); len(c) != 0 {
		t.Errorf("the leader was asked: %v", c)
	}
	if a := f.do("GET", "/v1/jobs", "", nobody); a.Code != 200 {
		t.Errorf("a list without a key: %d", a.Code)
	}
	if a := f.do("POST", "/v1/jobs", `{"html":"x"}`); a.Code != 202 {
		t.Errorf("with a key: %d", a.Code)
	}
}

// A plan's rate is remembered for whom it counts, and costs no stream then;
// a request with an Idempotency-Key may be a replay.
func TestThrottledSubmissions(t *testing.T) {
	for by, same := range map[account.By]bool{account.ByAccount: true, account.ByKey: false, account.ByIP: true} {
		f := newFarm(t, under(t, `plans: [{name: default, rate: {algorithm: fixed_window, requests: 5, window_s: 60, by: `+string(by)+`}}]`))
		second, text := account.NewKey(f.acct.ID, "second")
		f.store.mu.Lock()
		f.store.keys[second.ID] = second
		f.store.mu.Unlock()
		f.leader.deciding(refuseAll(&pb.Fault{Kind: "rate_limited", Policy: "rate", RetryAfterMs: 30_000}))
		f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, 429, "rate_limit_exceeded")
		n := f.leader.published()
		f.do("POST", "/v1/screenshot", `{"html":"x"}`).problem(t, 429, "rate_limit_exceeded")
		f.do("POST", "/v1/pdf", `{"html":"x"}`).problem(t, 429, "rate_limit_exceeded")
		f.leader.deciding(acceptAll)
		f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, 429, "rate_limit_exceeded")
		f.do("GET", "/v1/screenshot?html=x", "").problem(t, 429, "rate_limit_exceeded")
		if a := f.do("GET", "/v1/jobs", ""); a.Code != 200 {
			t.Errorf("by %s: a list is %d", by, a.Code)
		}
		if got := f.leader.published(); got != n {
			t.Errorf("by %s: %d records were published", by, got-n)
		}
		if a := f.do("POST", "/v1/jobs", `{"html":"x"}`, header{"Authorization": "Bearer " + text}); (a.Code == 429) != same {
			t.Errorf("by %s: another key of the account is answered %d", by, a.Code)
		}
		if a := f.do("POST", "/v1/jobs", `{"html":"x"}`, header{"Idempotency-Key": "k"}); a.Code != 202 {
			t.Errorf("by %s: a keyed request is answered %d", by, a.Code)
		}
	}
}

// What is remembered of one plan's rate says nothing of another's, although
// both count the same address, or the same account before and after its plan
// was changed.
func TestThrottledByOnePlan(t *testing.T) {
	f := newFarm(t, under(t, `
anonymous_plan: free
plans:
- {name: default, rate: {algorithm: fixed_window, requests: 5, window_s: 3600, by: ip}}
- {name: free, rate: {algorithm: fixed_window, requests: 1, window_s: 3600, by: ip}}
- {name: pro, rate: {algorithm: fixed_window, requests: 500, window_s: 60, by: ip}}
`))
	submits := func(h header) answered { return f.do("POST", "/v1/jobs", `{"html":"x"}`, h) }
	tooFast := func(who header) {
		t.Helper()
		f.leader.deciding(refuseAll(&pb.Fault{Kind: "rate_limited", Policy: "rate", RetryAfterMs: 3_000_000}))
		submits(who).problem(t, 429, "rate_limit_exceeded")
		f.leader.deciding(acceptAll)
		submits(who).problem(t, 429, "rate_limit_exceeded")
	}
	tooFast(nobody)
	if a := submits(nil); a.Code != 202 {
		t.Errorf("a customer whose neighbours are throttled is answered %d", a.Code)
	}
	tooFast(nil)
	if a := f.admin("PATCH", "/admin/v1/accounts/"+f.acct.ID, `{"plan":"pro"}`); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if a := submits(nil); a.Code != 202 {
		t.Errorf("a customer who changed to another plan is answered %d", a.Code)
	}
}

// What calls cost in plans whose quota counts them.
func TestCallsAreCharged(t *testing.T) {
	for unit, byBytes := range map[string]bool{"request": false, "credit": true} {
		f := newFarm(t, under(t, `plans: [{name: default, quota: {unit: `+unit+`, limit: 100, period: month_utc, status: 402}}]`))
		small, large := f.filed(job.NewID(), job.Succeeded, make([]byte, 20<<10)), f.filed(job.NewID(), job.Succeeded, make([]byte, 320<<10+1))
		bytes := map[bool]int64{true: 4, false: 120}[byBytes]
		lost := f.filed(job.NewID(), job.Succeeded, []byte("x"))
		f.bucket.set(lost.Result.Object, []byte("other"))
		for _, test := range []struct {
			method, path string
			status       int
			units        int64
		}{
			{"POST", "/v1/jobs", 202, 120},
			{"GET", "/v1/usage", 200, 120},
			{"GET", "/v1/jobs", 200, 120},
			{"GET", "/v1/jobs/" + string(small.ID), 200, 120},
			{"GET", "/v1/jobs/job_x", 404, 120},
			{"GET", "/v1/jobs?limit=0", 400, 120},
			{"GET", "/v1/jobs/" + string(small.ID) + "/result", 200, bytes},
			{"GET", "/v1/jobs/" + string(large.ID) + "/result", 200, 120},
			{"GET", "/v1/jobs/job_x/result", 404, 120},
			{"HEAD", "/v1/jobs/" + string(small.ID) + "/result", 200, 120},
			{"GET", "/v1/jobs/" + string(lost.ID) + "/result", 410, 0},
			{"GET", "/v1/jobs/" + string(job.NewID()), 503, 0}, // new and not known yet
			{"GET", "/healthz", 200, 0},
			{"GET", "/v1/nothing", 404, 0},
		} {
			f.leader.counted()
			a := f.do(test.method, test.path, `{"html":"x"}`)
			f.settled()
			var units int64
			for _, c := range f.leader.counted() {
				if units += c.Units; c.Units != 0 && (c.Account != f.acct.ID || c.Class != "" || c.Reason == "") {
					t.Errorf("%s %s: %v", test.method, test.path, c)
				}
			}
			if a.Code != test.status || units != test.units {
				t.Errorf("by %s, %s %s: %d costs %d, want %d and %d: %s", unit, test.method, test.path, a.Code, units, test.status, test.units, a.Body)
			}
		}
		// Refused for the quota: nothing is charged, nothing given back.
		f.leader.countBy(func(q *pb.Count) *pb.Answer {
			if q.Units <= 0 {
				return new(pb.Answer)
			}
			return &pb.Answer{Answer: &pb.Answer_Fault{Fault: &pb.Fault{Kind: "quota_exceeded", Policy: "quota", RetryAfterMs: 1000}}}
		})
		f.leader.counted()
		f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, 402, "quota_exceeded")
		f.do("GET", "/v1/jobs/"+string(small.ID)+"/result", "").problem(t, 402, "quota_exceeded")
		f.settled()
		for _, c := range f.leader.counted() {
			if c.Units < 0 {
				t.Errorf("given back: %v", c)
			}
		}
	}
	if f := newFarm(t); f.do("GET", "/v1/usage", "").Code == 200 {
		for _, c := range f.leader.counted() {
			if c.Units != 0 {
				t.Errorf("without a quota a call is charged: %v", c)
			}
		}
	}
}

// What costs nothing does not hang on the status that a dialect gives it.
func TestForNothingInEveryDialect(t *testing.T) {
	for _, kind := range fault.Kinds() {
		f := &fault.Error{Kind: kind}
		want := forNothing(faceFor(f, account.Plan{}).status, f)
		for name := range dialects {
			if got := forNothing(faceFor(f, account.Plan{Dialect: name}).status, f); got != want {
				t.Errorf("%s as %s: for nothing is %v, want %v", kind, name, got, want)
			}
		}
	}
}

// A throttled answer costs little; compare with BenchmarkHealthz.
func BenchmarkThrottled(b *testing.B) {
	f := newFarm(b, under(b, shared))
	f.leader.countBy(func(*pb.Count) *pb.Answer { return tooMany("requests-api-ip", time.Hour) })
	benchmark(b, f, "/v1/jobs", http.StatusTooManyRequests)
}

func BenchmarkHealthz(b *testing.B) { benchmark(b, newFarm(b), "/healthz", http.StatusOK) }

func benchmark(b *testing.B, f *farm, path string, status int) {
	b.ReportAllocs()
	h := f.server.Handler()
	for b.Loop() {
		r := httptest.NewRequest("GET", path, nil)
		r.Header["Authorization"] = []string{"Bearer " + f.key}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status {
			b.Fatal(w.Code)
		}
	}
}
