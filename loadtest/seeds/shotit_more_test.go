package seeds

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/account"
)

// minute asks until a fixed minute is used up, in which limit requests pass, and
// returns the refusal. The first minute may end on the way.
func (c *caller) minute(limit int, ask func(i int) *reply) *reply {
	c.t.Helper()
	in := map[int64]int{} // by the end of the minute
	for i := range 3 * limit {
		r := ask(i)
		reset := r.number("x-ratelimit-reset")
		if r.number("x-ratelimit-limit") != int64(limit) || reset%60 != 0 {
			c.t.Fatalf("%s", r)
		}
		if r.StatusCode == http.StatusTooManyRequests {
			if in[reset] != limit || r.number("x-ratelimit-remaining") != 0 {
				c.t.Errorf("%d passed in the minute, want %d: %s", in[reset], limit, r)
			}
			return r
		}
		in[reset]++
		if left := r.number("x-ratelimit-remaining"); left != int64(limit-in[reset]) {
			c.t.Errorf("after %d: %d are left, want %d", in[reset], left, limit-in[reset])
		}
	}
	c.t.Fatalf("%d requests passed: %v by minute", 3*limit, in)
	return nil
}

// 60 a minute from one address, whatever it asks for, with a key, another key, a
// bad one or none.
func shotitGlobal(t *testing.T, w *world) {
	c := w.anonymous(t)
	callers := []*caller{c, w.on(t, "$100").at(c.from), w.on(t, "$5").at(c.from), c.with("nonsense")}
	paths := []string{"/v1/jobs", "/v1/queue", "/v1/jobs/job_00000000000000000000000000", "/v1/usage", "/v1/jobs?limit=nonsense"}
	r := c.minute(60, func(i int) *reply {
		return callers[i%len(callers)].do("GET", paths[i%len(paths)], "")
	})
	if r.number("Retry-After") < 1 {
		t.Errorf("%s", r)
	}
	for _, d := range callers {
		if r := d.do("GET", "/v1/queue", ""); r.StatusCode != http.StatusTooManyRequests {
			// unless it is another minute by now
			if r.number("x-ratelimit-remaining") < 50 {
				t.Errorf("%q: %s", d.key, r)
			}
		}
	}
	if r := callers[1].at(w.address()).do("GET", "/v1/queue", ""); r.StatusCode != http.StatusOK || r.number("x-ratelimit-remaining") != 59 {
		t.Errorf("from another address: %s", r)
	}
}

// Each class counts for itself: 600, 60 and 60.
func shotitClasses(t *testing.T, w *world) {
	c := w.anonymous(t)
	c.minute(600, func(int) *reply { return c.do("GET", "/openapi.yaml", "") })
	c.minute(60, func(int) *reply { return c.do("GET", "/v1/jobs/job_00000000000000000000000000/result", "") })
	c.minute(60, func(int) *reply { return c.do("GET", "/v1/queue", "") })
	for _, path := range []string{"/healthz", "/readyz"} {
		if r := c.do("GET", path, ""); r.StatusCode != http.StatusOK || r.Header.Get("x-ratelimit-limit") != "" {
			t.Errorf("%s: %s", path, r)
		}
	}
}

// The published table of sponsors, as the farm tells it and as it acts.
func shotitTiers(t *testing.T, w *world) {
	plans := w.admin(t).must(http.StatusOK, "GET", "/admin/v1/plans", "")
	told := map[string]map[string]any{}
	for _, p := range plans.at("data").([]any) {
		told[p.(map[string]any)["name"].(string)] = p.(map[string]any)
	}
	for _, row := range []struct {
		plan                     string
		quota, threads, priority int
	}{
		{"free", 1_000, 1, 0},
		{"$1", 1_000, 1, 2},
		{"$5", 5_000, 1, 2},
		{"$10", 10_000, 1, 5},
		{"$20", 20_000, 2, 5},
		{"$50", 50_000, 3, 5},
		{"$100", 100_000, 4, 6},
	} {
		p := told[row.plan]
		quota, _ := p["quota"].(map[string]any)
		if fmt.Sprint(p["tier"], p["threads"], quota["limit"], quota["unit"]) != fmt.Sprint(float64(row.priority), float64(row.threads), float64(row.quota), "render") {
			t.Errorf("%s is told as %v", row.plan, p)
		}
		r := w.on(t, row.plan).submit("shotit-3", "")
		if fmt.Sprint(r.at("tier")) != fmt.Sprint(row.priority) {
			t.Errorf("%s: %s", row.plan, r)
		}
		last := w.spent(t, row.plan, int64(row.quota-1)*render)
		if r := last.shot(ofPage("shotit-3", "")); r.StatusCode != http.StatusOK {
			t.Errorf("the last of %d: %s", row.quota, r)
		}
		if r := last.shot(ofPage("shotit-3", "")); r.StatusCode != http.StatusPaymentRequired {
			t.Errorf("one more than %d: %s", row.quota, r)
		}
	}
}

// Without a key one is one's address, on the free tier.
func shotitNoKey(t *testing.T, w *world) {
	c, d := w.anonymous(t), w.anonymous(t)
	r := c.submit("shotit-4", "hold=SHOTIT-4")
	if fmt.Sprint(r.at("tier")) != "0" {
		t.Errorf("%s", r)
	}
	if r := c.do("POST", "/v1/jobs", ofPage("shotit-4", "")); r.StatusCode != http.StatusPaymentRequired {
		t.Errorf("a second one from the address: %s", r)
	}
	other := d.submit("shotit-4", "hold=SHOTIT-4")
	// Each has its own jobs, and the other's are none.
	for who, id := range map[*caller]string{c: other.text("id"), d: r.text("id")} {
		if r := who.do("GET", "/v1/jobs/"+id, ""); r.StatusCode != http.StatusNotFound {
			t.Errorf("another address's job: %s", r)
		}
	}
	w.release("SHOTIT-4")
	c.ended(r.text("id"))
	d.ended(other.text("id"))
}

// anonymousSpent is an address that has used so many renders of the free tier.
func (w *world) anonymousSpent(t *testing.T, units int64) *caller {
	t.Helper()
	c := w.anonymous(t)
	plan, _ := w.policy.Plan(w.policy.AnonymousPlan)
	w.use(t, account.AnonymousID(account.Identity(netip.MustParseAddr(c.from))), plan, units)
	return c
}

// With a key and without one are two quotas: 1,000 and 1,000.
func shotitBoth(t *testing.T, w *world) {
	keyed, bare := w.spent(t, "$1", 999*render), w.anonymousSpent(t, 999*render)
	keyed = keyed.at(bare.from)
	for _, c := range []*caller{keyed, bare} {
		if r := c.shot(ofPage("shotit-5", "")); r.StatusCode != http.StatusOK {
			t.Errorf("the 1,000th: %s", r)
		}
	}
	for _, c := range []*caller{keyed, bare} {
		if r := c.shot(ofPage("shotit-5", "")); r.StatusCode != http.StatusPaymentRequired || r.text("error") != "Search quota depleted" {
			t.Errorf("the 1,001st: %s", r)
		}
	}
}

// With one render left, whatever is not answered with 200 leaves it.
func shotitFree(t *testing.T, w *world) {
	c := w.spent(t, "$20", 19_999*render)
	for what, status := range map[string]int{
		`{"url": "ftp://x/"}`:                                        http.StatusBadRequest,
		ofPage("shotit-6", "fail=connection_refused"):                http.StatusUnprocessableEntity,
		ofPage("shotit-6", "fail=address_refused"):                   http.StatusForbidden,
		strings.Replace(ofPage("shotit-6", ""), "{", `{"n": 1, `, 1): http.StatusBadRequest,
	} {
		if r := c.shot(what); r.StatusCode != status {
			t.Errorf("%s: %s, want %d", what, r, status)
		}
	}
	held := c.submit("shotit-6", "hold=SHOTIT-6").text("id")
	w.wait(t, "SHOTIT-6", 1)
	c.cancel(held)
	if r := c.shot(ofPage("shotit-6", "")); r.StatusCode != http.StatusOK {
		t.Errorf("the last render: %s", r)
	}
	if r := c.shot(ofPage("shotit-6", "")); r.StatusCode != http.StatusPaymentRequired {
		t.Errorf("one more: %s", r)
	}
}

// Used up is 402 with the service's words. That the 1st of the month brings a
// new quota is tested where time is virtual.
func shotitQuota(t *testing.T, w *world) {
	r := w.spent(t, "free", 1_000*render).shot(ofPage("shotit-7", ""))
	if r.StatusCode != http.StatusPaymentRequired || r.text("error") != "Search quota depleted" || len(r.json) != 1 {
		t.Errorf("%s", r)
	}
	for _, p := range w.policy.Plans {
		if p.Quota.Period != account.MonthUTC {
			t.Errorf("plan %s: %+v", p.Name, p.Quota)
		}
	}
}
