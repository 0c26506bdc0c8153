package seeds

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var urlbox = seed{policy: "urlbox", seats: 2, lines: []line{
	{"SEED-URLBOX-1", urlboxRender},
	{"SEED-URLBOX-4", urlboxRate},
}}

// uuid is RFC 9562's text.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

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
