package seeds

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

var urlbox = seed{policy: "urlbox", seats: 2, lines: []line{
	{"SEED-URLBOX-1", urlboxRender},
	{"SEED-URLBOX-2", urlboxRenders},
	{"SEED-URLBOX-3", urlboxReset},
	{"SEED-URLBOX-4", urlboxRate},
	{"SEED-URLBOX-5", urlboxRateReset},
}}

// uuid is RFC 9562's text.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// javascriptDate is Date.prototype.toString of a clock in UTC.
const javascriptDate = "Mon Jan 02 2006 15:04:05 GMT+0000 (Coordinated Universal Time)"

func urlboxRender(t *testing.T, w *world) {
	c := w.on(t, "trial")
	const body = `{"html": "<h1>Hello</h1>", "width": 320, "height": 240}`
	ids := map[string]bool{}
	for _, status := range []string{"MISS", "HIT", "HIT"} {
		r := c.must(http.StatusOK, "POST", "/v1/screenshot", body)
		if !strings.HasPrefix(string(r.body), pngHead) {
			t.Errorf("%d bytes are no picture", len(r.body))
		}
		h := r.Header
		if id := h.Get("x-urlbox-request-id"); !uuid.MatchString(id) || ids[id] {
			t.Errorf("x-urlbox-request-id %q", id)
		} else {
			ids[id] = true
		}
		if h.Get("x-urlbox-accepted-by") == "" || h.Get("x-urlbox-rendered-by") == "" || r.number("x-urlbox-render-time") < 0 {
			t.Errorf("%v", h)
		}
		if got := h.Get("x-urlbox-cache-status"); got != status {
			t.Errorf("x-urlbox-cache-status %q, want %s", got, status)
		}
	}
}

// The seed's own numbers: 79 of 100 are used, and 21 are left.
func urlboxRenders(t *testing.T, w *world) {
	c := w.spent(t, "trial", 78*render)
	c.must(http.StatusOK, "POST", "/v1/screenshot", ofPage("urlbox-2", ""))
	r := c.must(http.StatusOK, "GET", "/v1/jobs", "")
	if used, all, left := r.number("x-renders-used"), r.number("x-renders-allowed"), r.number("x-renders-remaining"); used != 79 || all != 100 || left != 21 {
		t.Errorf("%d of %d, %d are left: %s", used, all, left, r)
	}
	d := w.spent(t, "trial", 100*render)
	r = d.do("POST", "/v1/screenshot", ofPage("urlbox-2", ""))
	if r.StatusCode != http.StatusTooManyRequests || r.number("x-renders-remaining") != 0 || r.number("x-renders-used") != 100 {
		t.Errorf("beyond: %s", r)
	}
}

// The period began today, with the account: it ends in a month, at midnight.
func urlboxReset(t *testing.T, w *world) {
	before := time.Now().UTC()
	text := w.on(t, "trial").must(http.StatusOK, "POST", "/v1/screenshot", ofPage("urlbox-3", "")).Header.Get("x-renders-reset")
	at, err := time.Parse(javascriptDate, text)
	if err != nil {
		t.Fatalf("x-renders-reset %q: %v", text, err)
	}
	plan := w.policy.Plans[0]
	for _, day := range []time.Time{before, time.Now().UTC()} { // it may be midnight
		if _, end := plan.Quota.Period.Span(day, day.Day()); at.Equal(end) {
			return
		}
	}
	t.Errorf("the renders reset at %s", at)
}

func urlboxRate(t *testing.T, w *world) {
	c := w.on(t, "trial")
	// A new minute may begin between any two of them: then it has all of its 250.
	last, in := int64(0), int64(0)
	for range 5 {
		r := c.must(http.StatusOK, "POST", "/v1/screenshot", ofPage("urlbox-4", ""))
		if reset := r.number("x-ratelimit-reset"); reset != last {
			last, in = reset, 0
		}
		in++
		if limit, left := r.number("x-ratelimit-limit"), r.number("x-ratelimit-remaining"); limit != 250 || left != 250-in {
			t.Errorf("%d of %d are left after %d", left, limit, in)
		}
	}
}

// Both tell the end of the minute.
func urlboxRateReset(t *testing.T, w *world) {
	r := w.on(t, "trial").must(http.StatusOK, "POST", "/v1/screenshot", ofPage("urlbox-5", ""))
	at, err := http.ParseTime(r.Header.Get("x-ratelimit-resetdate"))
	if err != nil || at.Unix() != r.number("x-ratelimit-reset") || at.Unix()%60 != 0 {
		t.Errorf("%s (%v)", r, err)
	}
	if got := time.Unix(1695661076, 0).UTC().Format(http.TimeFormat); got != "Mon, 25 Sep 2023 16:57:56 GMT" {
		t.Errorf("the seed's example is written %s", got)
	}
}
