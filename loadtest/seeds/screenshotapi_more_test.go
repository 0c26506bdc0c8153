package seeds

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// limitHeaders are those that tell of a key's minute and an account's month.
var limitHeaders = []string{
	"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Resets-At",
}

// All six are on successes and on errors behind the authentication, with the
// moments that they are about; and none is before it.
func ssapiHeaders(t *testing.T, w *world) {
	c := w.on(t, "starter")
	for what, r := range map[string]*reply{
		"a render":           c.shot(ofPage("ssapi-10", "")),
		"a failed render":    c.shot(ofPage("ssapi-10", "fail=connection_refused")),
		"a mistake":          c.shot(`{"url": "nonsense"}`),
		"no such job":        c.do("GET", "/v1/jobs/job_00000000000000000000000000", ""),
		"a look at the jobs": c.do("GET", "/v1/jobs", ""),
	} {
		now := time.Now().UTC()
		month := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Unix()
		if r.number("X-RateLimit-Limit") != 30 || r.number("X-Quota-Limit") != 2_000 || r.number("X-RateLimit-Remaining") < 0 || r.number("X-Quota-Remaining") < 0 {
			t.Errorf("%s: %s", what, r)
		}
		if end := r.number("X-RateLimit-Reset"); end%60 != 0 || end < now.Unix()-60 || end > now.Unix()+60 {
			t.Errorf("%s: the window ends at %d, now is %d", what, end, now.Unix())
		}
		if got := r.number("X-Quota-Resets-At"); got != month && got != now.Truncate(24*time.Hour).Unix() { // the second on the 1st, if it has just begun
			t.Errorf("%s: the quota resets at %d, want %d", what, got, month)
		}
	}
	r := c.with("").shot(ofPage("ssapi-10", ""))
	for _, name := range limitHeaders {
		if r.Header.Get(name) != "" {
			t.Errorf("%s without a key", name)
		}
	}
}

// Retry-After is on the refusal for the rate alone, and lasts to the window's
// end.
func ssapiRetryAfter(t *testing.T, w *world) {
	c := w.on(t, "free")
	body := c.twice("ssapi-11")
	d := c.another()
	refused, _ := d.spend(5, func() *reply { return d.shot(body) })
	refused.want(t, "beyond the minute", http.StatusTooManyRequests, "rate_limit_exceeded")
	sent, err := http.ParseTime(refused.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	// Date and the header are both whole seconds. The header is rounded up, and
	// up to a tenth longer, so that not all who were refused come back at once.
	ends := refused.number("X-RateLimit-Reset") - sent.Unix()
	if wait := refused.number("Retry-After"); wait < ends-1 || wait > ends+ends/10+2 {
		t.Errorf("Retry-After %d, and the window ends %d s after Date", wait, ends)
	}
	e := c.another()
	held := e.submit("ssapi-11", "hold=SSAPI-11").text("id")
	for what, r := range map[string]*reply{
		"slots":       e.do("POST", "/v1/jobs", ofPage("ssapi-11", "")),
		"a mistake":   e.shot(`{}`),
		"no key":      e.with("").shot(body),
		"no such job": e.do("GET", "/v1/jobs/job_00000000000000000000000000", ""),
		"a success":   e.do("GET", "/v1/jobs", ""),
	} {
		if r.Header.Get("Retry-After") != "" {
			t.Errorf("%s: %s", what, r)
		}
	}
	w.release("SSAPI-11")
	e.ended(held)
}

// On a render that a browser has made: fresh, cached, and replayed.
func ssapiRenderHeaders(t *testing.T, w *world) {
	c := w.on(t, "starter")
	body := fmt.Sprintf(`{"html": "<h1>Hello %d</h1>", "width": 320, "height": 240}`, names.Add(1))
	for _, want := range []struct{ what, key, cached, billable, replay string }{
		{"fresh", "one", "false", "true", ""},
		{"a hit", "", "true", "false", ""},
		{"a replay", "one", "false", "false", "true"},
	} {
		var headers []string
		if want.key != "" {
			headers = []string{"Idempotency-Key", want.key}
		}
		r := c.shot(body, headers...)
		if r.StatusCode != http.StatusOK || !strings.HasPrefix(string(r.body), pngHead) {
			t.Fatalf("%s: %s", want.what, r)
		}
		h := r.Header
		if h.Get("X-Render-Cached") != want.cached || h.Get("X-Render-Billable") != want.billable || h.Get("X-Idempotent-Replay") != want.replay {
			t.Errorf("%s: %v, want %+v", want.what, h, want)
		}
	}
}

func ssapiNoConcurrencyHeaders(t *testing.T, w *world) {
	c := w.on(t, "free")
	held := c.submit("ssapi-13", "hold=SSAPI-13")
	full := c.do("POST", "/v1/jobs", ofPage("ssapi-13", ""))
	full.want(t, "over the slots", http.StatusTooManyRequests, "concurrency_limit_exceeded")
	w.release("SSAPI-13")
	c.ended(held.text("id"))
	for _, r := range []*reply{held, full, c.shot(ofPage("ssapi-13", "")), c.do("GET", "/v1/jobs", "")} {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Concurrency-") {
				t.Errorf("%s", r)
			}
		}
	}
}

func ssapiQuota(t *testing.T, w *world) {
	c := w.spent(t, "free", 100*render)
	r := c.shot(ofPage("ssapi-14", ""))
	now := time.Now().UTC()
	month := time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Format("2006-01-02T15:04:05Z")
	want := map[string]any{
		"code": "quota_exceeded", "message": "Monthly Quota of 100 Billable Renders reached. Resets at " + month + ".",
		"request_id": r.Header.Get("X-Request-Id"), "quota_used": 100.0, "quota_limit": 100.0, "resets_at": month,
		"upgrade_url": w.policy.Plans[0].UpgradeURL,
	}
	got, _ := r.at("error").(map[string]any)
	if r.StatusCode != http.StatusPaymentRequired || fmt.Sprint(got) != fmt.Sprint(want) || len(r.json) != 1 {
		t.Errorf("%s\nwant 402 {error: %v}", r, want)
	}
	if id := r.text("error", "request_id"); !regexp.MustCompile(`^req_[0-9A-HJKMNP-TV-Z]{26}$`).MatchString(id) {
		t.Errorf("request_id %q is not req_ and a ULID", id)
	}
	if r.Header.Get("Retry-After") != "" || r.number("X-Quota-Remaining") != 0 {
		t.Errorf("%s", r)
	}
}

// The last render of a quota passes and the next does not, however often it is
// tried: there is no price for it. What costs nothing is answered still.
func ssapiNoOverage(t *testing.T, w *world) {
	for _, p := range w.policy.Plans {
		if p.Quota.Overage.Allowed {
			t.Errorf("plan %s has overage", p.Name)
		}
	}
	c := w.spent(t, "pro", 9_998*render)
	body := c.twice("ssapi-15")
	if r := c.shot(ofPage("ssapi-15", "fail=connection_refused")); r.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a failure: %s", r)
	}
	if r := c.shot(ofPage("ssapi-15", "")); r.StatusCode != http.StatusOK {
		t.Errorf("the 10,000th: %s", r)
	}
	for range 3 {
		c.shot(ofPage("ssapi-15", "")).want(t, "beyond", http.StatusPaymentRequired, "quota_exceeded")
	}
	if r := c.shot(body); r.StatusCode != http.StatusOK || r.Header.Get("X-Render-Cached") != "true" {
		t.Errorf("a hit beyond the quota: %s", r)
	}
}

// A replay goes before the cache, and the cache before a render: what is under
// the key is answered although the cache has a newer one, and what the cache has
// is answered although nothing could be rendered.
func ssapiOrder(t *testing.T, w *world) {
	c := w.on(t, "starter")
	body := ofPage("ssapi-16", "")
	first := c.shot(body, "Idempotency-Key", "one")
	newer := c.shot(strings.Replace(body, "{", `{"force": true, `, 1))
	replay, hit := c.shot(body, "Idempotency-Key", "one"), c.shot(body)
	id := func(r *reply) string { return r.Header.Get("X-Job-Id") }
	if first.StatusCode != 200 || newer.StatusCode != 200 || w.renders("ssapi-16.test") != 2 {
		t.Fatalf("%s\n%s\n%d renders", first, newer, w.renders("ssapi-16.test"))
	}
	if id(replay) != id(first) || replay.Header.Get("X-Idempotent-Replay") != "true" {
		t.Errorf("under the key: %s, want job %s", replay, id(first))
	}
	if id(hit) == id(first) || hit.Header.Get("X-Render-Cached") != "true" || w.renders("ssapi-16.test") != 2 {
		t.Errorf("without it: %s", hit)
	}
}

// One key and body is one render and one charge; another body is refused; and
// a key whose request hits the cache keeps that answer.
func ssapiIdempotency(t *testing.T, w *world) {
	c := w.on(t, "pro")
	for _, route := range []string{"/v1/jobs?wait=60", "/v1/screenshot"} {
		host := "ssapi-17"
		body, key := ofPage(host, ""), "key-of-"+route
		before := w.renders(host + ".test")
		first := c.must(http.StatusOK, "POST", route, body, "Idempotency-Key", key)
		again := c.must(http.StatusOK, "POST", route, body, "Idempotency-Key", key)
		if again.Header.Get("X-Idempotent-Replay") != "true" || first.Header.Get("X-Idempotent-Replay") != "" || string(again.body) != string(first.body) {
			t.Errorf("%s: %s\nthen %s", route, first, again)
		}
		if n := w.renders(host+".test") - before; n != 1 {
			t.Errorf("%s: %d renders of one key", route, n)
		}
		c.do("POST", route, ofPage(host, ""), "Idempotency-Key", key).want(t, "another body", http.StatusUnprocessableEntity, "idempotency_key_reused")

		hit := c.must(http.StatusOK, "POST", route, body, "Idempotency-Key", "hit-of-"+route)
		if n := w.renders(host+".test") - before; n != 1 || hit.Header.Get("X-Idempotent-Replay") != "" {
			t.Errorf("%s: a new key and the same page: %s, %d renders", route, hit, n)
		}
		c.must(http.StatusOK, "POST", route, strings.Replace(body, "{", `{"force": true, `, 1)) // the cache has another one now
		if r := c.must(http.StatusOK, "POST", route, body, "Idempotency-Key", "hit-of-"+route); r.Header.Get("X-Idempotent-Replay") != "true" || r.Header.Get("X-Job-Id") != hit.Header.Get("X-Job-Id") || r.text("id") != hit.text("id") {
			t.Errorf("%s: the hit again: %s, want %s", route, r, hit)
		}
	}
}

// What the picture depends on is in the key of the cache, and what it does not
// is not.
func ssapiCache(t *testing.T, w *world) {
	c := w.on(t, "pro")
	url := page("ssapi-18", "")
	body := func(more string) string { return fmt.Sprintf(`{"url": %q%s}`, url, more) }
	ask := func(more, cached string) *reply {
		t.Helper()
		r := c.shot(body(more))
		if r.StatusCode != http.StatusOK || r.Header.Get("X-Render-Cached") != cached {
			t.Errorf("%s: %s, want cached %s", more, r, cached)
		}
		return r
	}
	ask(``, "false")
	ask(``, "true")
	ask(`, "width": 1280, "height": 1024, "format": "png"`, "true") // the defaults
	ask(`, "custom_id": "mine", "metadata": {"a": "b"}`, "true")
	ask(`, "ttl_s": 86400`, "true")
	for _, pixels := range []string{
		`"format": "jpeg"`, `"format": "jpeg", "quality": 50`, `"width": 1000`, `"height": 1000`, `"device_scale_factor": 2`, `"full_page": true`,
		`"wait_until": "domcontentloaded"`, `"delay_ms": 1`,
	} {
		ask(", "+pixels, "false")
		ask(", "+pixels, "true")
	}
	ask(`, "ttl_s": 0`, "false") // neither read
	ask(``, "true")
	other := page("ssapi-18", "")
	c.must(http.StatusOK, "POST", "/v1/screenshot", fmt.Sprintf(`{"url": %q, "ttl_s": 0}`, other)) // nor kept
	if r := c.must(http.StatusOK, "POST", "/v1/screenshot", fmt.Sprintf(`{"url": %q}`, other)); r.Header.Get("X-Render-Cached") != "false" {
		t.Errorf("after ttl_s 0: %s", r)
	}
	d := c.w.on(t, "pro")
	if r := d.shot(body("")); r.Header.Get("X-Render-Cached") != "false" {
		t.Errorf("another account: %s", r)
	}
	for _, p := range w.policy.Plans {
		if p.CacheTTL != 300*time.Second {
			t.Errorf("plan %s keeps results for %s", p.Name, p.CacheTTL)
		}
	}
	r := c.must(http.StatusOK, "POST", "/v1/jobs?wait=60", body(""))
	if r.at("cached") != true || r.at("billable") != false {
		t.Errorf("JSON of a hit: %s", r)
	}
}

// Every answer has its id, and every error has it too.
func ssapiEnvelope(t *testing.T, w *world) {
	c := w.on(t, "free")
	seen := map[string]bool{}
	for what, r := range map[string]*reply{
		"a success": c.do("GET", "/v1/jobs", ""), "a mistake": c.shot(`{"url": "http://x.test", "width": 0}`),
		"no key": c.with("").shot("{}"), "a bad key": c.with("shot_nonsense").shot("{}"), "no such job": c.do("GET", "/v1/jobs/job_0", ""),
	} {
		id := r.Header.Get("X-Request-Id")
		if !regexp.MustCompile(`^req_[0-9A-HJKMNP-TV-Z]{26}$`).MatchString(id) || seen[id] {
			t.Errorf("%s: X-Request-Id %q", what, id)
		}
		seen[id] = true
		if r.StatusCode < 300 {
			continue
		}
		if r.text("error", "request_id") != id || r.text("error", "code") == "" || r.text("error", "message") == "" {
			t.Errorf("%s: %s", what, r)
		}
		if r.text("error", "code") == "invalid_input" && (r.text("error", "field") != "width" || r.text("error", "issue") == "") {
			t.Errorf("%s: %s, want field and issue", what, r)
		}
	}
}

// The codes of the refusals that Tintype's own routes can give. Those of a page
// that is too tall and of a selector need the camera.
func ssapiCodes(t *testing.T, w *world) {
	c := w.on(t, "starter")
	c.shot(`{"url": "http://x.test/", "width": -1}`).want(t, "a mistake", http.StatusBadRequest, "invalid_input")
	c.shot(`{"url": "file:///etc/passwd"}`).want(t, "a scheme", http.StatusForbidden, "url_not_allowed")
	c.shot(ofPage("ssapi-20", "fail=address_refused")).want(t, "a private address", http.StatusForbidden, "url_not_allowed")
	c.shot(ofPage("ssapi-20", "fail=tls_error")).want(t, "a page that does not load", http.StatusUnprocessableEntity, "render_failed")
	body := ofPage("ssapi-20", "")
	c.must(http.StatusOK, "POST", "/v1/screenshot", body, "Idempotency-Key", "one")
	c.shot(ofPage("ssapi-20", ""), "Idempotency-Key", "one").want(t, "a key again", http.StatusUnprocessableEntity, "idempotency_key_reused")

	c.with("").shot(body).want(t, "no key", http.StatusUnauthorized, "missing_api_key")
	c.with("shot_nonsense").shot(body).want(t, "no such key", http.StatusUnauthorized, "invalid_api_key")
	d := c.another()
	d.must(http.StatusOK, "GET", "/v1/jobs", "")
	id := strings.Split(strings.TrimPrefix(d.key, "tt_live_"), "_")[0]
	w.admin(t).must(http.StatusNoContent, "DELETE", "/admin/v1/accounts/"+c.id+"/keys/"+id, "")
	d.shot(body).want(t, "a revoked key", http.StatusUnauthorized, "revoked_api_key")
	c.must(http.StatusOK, "GET", "/v1/jobs", "")
}

// What of the request's table Tintype's own route has under its own names; the
// rest is the dialect's.
func ssapiRequest(t *testing.T, w *world) {
	c := w.on(t, "starter")
	for body, field := range map[string]string{
		`{"url": "http://x.test/", "colour": 1}`:      "colour",
		`{"url": "http://x.test/", "URL": "http://"}`: "URL",
		`{"url": "http://x.test/", "delay_ms": -1}`:   "delay_ms",
		`{"url": "http://x.test/", "wait_until": ""}`: "wait_until",
	} {
		r := c.shot(body)
		r.want(t, body, http.StatusBadRequest, "invalid_input")
		if r.text("error", "field") != field {
			t.Errorf("%s: %s, want the field %s", body, r, field)
		}
	}
	r := c.must(http.StatusOK, "POST", "/v1/jobs?wait=60", ofPage("ssapi-21", ""))
	if fmt.Sprint(r.at("options", "quality"), r.at("options", "width")) != "80 1280" {
		t.Errorf("the defaults: %s", r)
	}
	for _, ratio := range []int{1, 2, 3} {
		c.must(http.StatusOK, "POST", "/v1/jobs?wait=60", fmt.Sprintf(`{"url": %q, "device_scale_factor": %d, "delay_ms": 10000}`, page("ssapi-21", ""), ratio))
	}
	for _, until := range []string{"load", "domcontentloaded"} {
		c.must(http.StatusOK, "POST", "/v1/jobs?wait=60", fmt.Sprintf(`{"url": %q, "wait_until": %q}`, page("ssapi-21", ""), until))
	}
}
