package seeds

import (
	"net/http"
	"testing"
)

var screenshotAPI = seed{policy: "screenshot-api", seats: 12, lines: []line{
	{"SEED-SSAPI-1", ssapiWhose},
	{"SEED-SSAPI-2", ssapiPlans},
	{"SEED-SSAPI-3", ssapiBillable},
	{"SEED-SSAPI-5", ssapiWindow},
	{"SEED-SSAPI-7", ssapiConcurrency},
	{"SEED-SSAPI-8", ssapiSlots},
	{"SEED-SSAPI-10", ssapiHeaders},
	{"SEED-SSAPI-11", ssapiRetryAfter},
	{"SEED-SSAPI-12", ssapiRenderHeaders},
	{"SEED-SSAPI-13", ssapiNoConcurrencyHeaders},
	{"SEED-SSAPI-14", ssapiQuota},
	{"SEED-SSAPI-15", ssapiNoOverage},
	{"SEED-SSAPI-16", ssapiOrder},
	{"SEED-SSAPI-17", ssapiIdempotency},
	{"SEED-SSAPI-18", ssapiCache},
	{"SEED-SSAPI-19", ssapiEnvelope},
	{"SEED-SSAPI-20", ssapiCodes},
	{"SEED-SSAPI-21", ssapiRequest},
}}

// ssapiPlan is the published table.
var ssapiPlan = []struct {
	name             string
	perMinute, slots int
	monthly          int64
}{
	{name: "free", perMinute: 5, slots: 1, monthly: 100},
	{name: "starter", perMinute: 30, slots: 3, monthly: 2_000},
	{name: "pro", perMinute: 60, slots: 10, monthly: 10_000},
}

// spend uses up a fixed minute with cheap requests, and returns the refusal and
// how many of the same minute had passed before it. A minute that ends meanwhile
// does not count.
func (c *caller) spend(perMinute int, ask func() *reply) (refused *reply, passed int) {
	c.t.Helper()
	in := map[int64]int{} // by the end of the window
	for range 3 * perMinute {
		r := ask()
		reset := r.number("X-RateLimit-Reset")
		if r.StatusCode == http.StatusTooManyRequests {
			return r, in[reset]
		}
		in[reset]++
		if left := r.number("X-RateLimit-Remaining"); left != int64(perMinute-in[reset]) {
			c.t.Errorf("after %d of %d: X-RateLimit-Remaining %d", in[reset], perMinute, left)
		}
	}
	c.t.Fatalf("three times %d requests passed: %v by window", perMinute, in)
	return nil, 0
}

// twice is a body whose answer is in the cache from the second time on.
func (c *caller) twice(host string) (body string) {
	c.t.Helper()
	body = ofPage(host, "")
	if r := c.shot(body); r.StatusCode != http.StatusOK {
		c.t.Fatalf("the first: %s", r)
	}
	return body
}

// Rate and slots are each key's, the quota is the account's, and so is the plan.
func ssapiWhose(t *testing.T, w *world) {
	zero := w.on(t, "free")
	one, two := zero.another(), zero.another()
	body := zero.twice("ssapi-1") // costs a render; what follows is cached
	refused, _ := one.spend(5, func() *reply { return one.shot(body) })
	refused.want(t, "the first key beyond its minute", http.StatusTooManyRequests, "rate_limit_exceeded")
	r := two.shot(ofPage("ssapi-1", ""))
	if r.StatusCode != http.StatusOK || r.number("X-RateLimit-Remaining") != 4 || r.number("X-Quota-Remaining") != 98 {
		t.Errorf("the other key: %s, want 4 left of its minute and 98 of the account's month", r)
	}

	three, hold := w.on(t, "pro"), "SSAPI-1"
	four := three.another()
	for range 10 {
		three.submit("ssapi-1", "hold="+hold)
	}
	three.do("POST", "/v1/jobs", ofPage("ssapi-1", "")).want(t, "the eleventh of a key", http.StatusTooManyRequests, "concurrency_limit_exceeded")
	four.submit("ssapi-1", "hold="+hold)
	w.release(hold)
}

func ssapiPlans(t *testing.T, w *world) {
	for _, plan := range ssapiPlan {
		c, hold := w.on(t, plan.name), "SSAPI-2 "+plan.name
		for range plan.slots {
			r := c.submit("ssapi-2", "hold="+hold)
			if r.number("X-RateLimit-Limit") != int64(plan.perMinute) || r.number("X-Quota-Limit") != plan.monthly {
				t.Errorf("%s: %s", plan.name, r)
			}
		}
		c.do("POST", "/v1/jobs", ofPage("ssapi-2", "")).want(t, plan.name, http.StatusTooManyRequests, "concurrency_limit_exceeded")
		w.release(hold)
	}
}

// Billable is a fresh 2xx; failures, hits and replays are not.
func ssapiBillable(t *testing.T, w *world) {
	c := w.on(t, "pro")
	left := int64(10_000)
	check := func(what string, r *reply, status int, costs int64, cached, replay string) {
		t.Helper()
		left -= costs
		if h := r.Header; r.StatusCode != status || (h.Get("X-Render-Billable") == "true") != (costs > 0) ||
			status < 300 && (h.Get("X-Render-Cached") != cached || h.Get("X-Idempotent-Replay") != replay) {
			t.Errorf("%s: %s", what, r)
		}
		// What an answer tells may still hold what it has reserved; the next does not.
		if got := c.must(http.StatusOK, "GET", "/v1/queue", "").number("X-Quota-Remaining"); got != left {
			t.Errorf("%s: %d are left, want %d", what, got, left)
		}
	}
	body := ofPage("ssapi-3", "")
	check("a fresh one", c.shot(body, "Idempotency-Key", "one"), http.StatusOK, 1, "false", "")
	check("a hit", c.shot(body), http.StatusOK, 0, "true", "")
	check("a replay", c.shot(body, "Idempotency-Key", "one"), http.StatusOK, 0, "false", "true")
	check("a failure", c.shot(ofPage("ssapi-3", "fail=connection_refused")), http.StatusUnprocessableEntity, 0, "", "")
	check("a mistake", c.shot(`{"url": "http://x.test/", "width": 0}`), http.StatusBadRequest, 0, "", "")
}

// The window is a fixed minute: each request of it counts down, the one beyond
// is refused until it ends.
func ssapiWindow(t *testing.T, w *world) {
	for _, plan := range ssapiPlan {
		c := w.on(t, plan.name)
		body := c.twice("ssapi-5")
		d := c.another()
		refused, passed := d.spend(plan.perMinute, func() *reply { return d.shot(body) })
		refused.want(t, plan.name, http.StatusTooManyRequests, "rate_limit_exceeded")
		if passed != plan.perMinute {
			t.Errorf("%s: %d passed in one minute, want %d", plan.name, passed, plan.perMinute)
		}
		if end := refused.number("X-RateLimit-Reset"); end%60 != 0 || refused.number("X-RateLimit-Remaining") != 0 {
			t.Errorf("%s: %s; want the end of a minute, and none left", plan.name, refused)
		}
	}
}

// Over the slots of a key: 429 without Retry-After.
func ssapiConcurrency(t *testing.T, w *world) {
	for _, plan := range ssapiPlan {
		c, hold := w.on(t, plan.name), "SSAPI-7 "+plan.name
		for range plan.slots {
			c.submit("ssapi-7", "hold="+hold)
		}
		r := c.do("POST", "/v1/jobs", ofPage("ssapi-7", ""))
		r.want(t, plan.name, http.StatusTooManyRequests, "concurrency_limit_exceeded")
		if r.Header.Get("Retry-After") != "" {
			t.Errorf("%s: %s", plan.name, r)
		}
		w.release(hold)
	}
}

// A slot is free after a success, a failure and a cancel.
func ssapiSlots(t *testing.T, w *world) {
	c := w.on(t, "free")
	for hold, how := range map[string]string{"SSAPI-8 success": "", "SSAPI-8 failure": "&fail=connection_refused"} {
		id := c.submit("ssapi-8", "hold="+hold+how).text("id")
		c.do("POST", "/v1/jobs", ofPage("ssapi-8", "")).want(t, hold, http.StatusTooManyRequests, "concurrency_limit_exceeded")
		w.release(hold)
		c.ended(id)
	}
	c = c.another() // the first key's minute has five requests
	c.cancel(c.submit("ssapi-8", "hold=SSAPI-8 cancel").text("id"))
	c.ended(c.submit("ssapi-8", "").text("id"))
}
