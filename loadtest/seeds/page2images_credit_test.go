package seeds

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/client"
)

// credits is how many the account has left, which costs one to know.
func (c *caller) credits() int64 {
	c.t.Helper()
	n := c.must(http.StatusOK, "GET", "/v1/queue", "").number("X-Quota-Remaining")
	if n < 0 {
		c.t.Fatal("no X-Quota-Remaining")
	}
	return n
}

// costs says how many credits something takes, which is asked for with two
// calls, the second of which is not part of it.
func (c *caller) costs(what string, want int64, do func()) {
	c.t.Helper()
	before := c.credits()
	do()
	if got := before - c.credits() - 1; got != want {
		c.t.Errorf("%s costs %d, want %d", what, got, want)
	}
}

// One call is one credit, whatever it did: to create a picture is one of them,
// and not one and one more for the call.
func p2iCreate(t *testing.T, w *world) {
	c := w.on(t, "8-threads")
	c.costs("a picture that is not cached", 1, func() {
		if r := c.must(http.StatusOK, "POST", "/v1/jobs?wait=60", ofPage("p2i-1", "")); r.at("cached") != false {
			t.Errorf("%s", r)
		}
	})
	c.costs("one by one call", 1, func() { c.must(http.StatusOK, "POST", "/v1/screenshot", ofPage("p2i-1", "")) })
}

func p2iAvailable(t *testing.T, w *world) {
	c := w.on(t, "8-threads")
	id := c.submit("p2i-2", "hold=P2I-2").text("id")
	c.costs("a look at a job under way", 1, func() { c.must(http.StatusOK, "GET", "/v1/jobs/"+id, "") })
	w.release("P2I-2")
	c.ended(id)
	c.costs("a look at one that has ended", 1, func() { c.must(http.StatusOK, "GET", "/v1/jobs/"+id, "") })
	c.costs("two looks", 2, func() {
		c.must(http.StatusOK, "GET", "/v1/jobs/"+id, "")
		c.must(http.StatusOK, "GET", "/v1/jobs/"+id+"?wait=1", "")
	})
}

// Any call of the API costs one, also one that finds nothing or says nonsense;
// one that the farm itself could not answer does not.
func p2iAnyCall(t *testing.T, w *world) {
	c := w.on(t, "8-threads")
	c.submit("p2i-3", "hold=P2I-3")
	for _, call := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/jobs", "", http.StatusOK},
		{"GET", "/v1/usage", "", http.StatusOK},
		{"GET", "/v1/jobs/job_00000000000000000000000000", "", http.StatusNotFound},
		{"POST", "/v1/jobs", `{"url": "nonsense"}`, http.StatusBadRequest},
		{"POST", "/v1/screenshot", ofPage("p2i-3", "fail=connection_refused"), http.StatusUnprocessableEntity},
	} {
		c.costs(call.method+" "+call.path, 1, func() { c.must(call.status, call.method, call.path, call.body) })
	}
	body := ofPage("p2i-3", "")
	c.must(http.StatusOK, "POST", "/v1/screenshot", body)
	c.costs("a cached picture", 1, func() { c.must(http.StatusOK, "POST", "/v1/screenshot", body) })
	w.release("P2I-3")
}

// A picture that a page loads by a signed link costs a credit for ten loads:
// so a link whose picture is in the cache.
func p2iLoads(t *testing.T, w *world) {
	c := w.on(t, "8-threads")
	made := w.admin(t).must(http.StatusCreated, "POST", "/admin/v1/accounts/"+c.id+"/keys", `{}`)
	target := page("p2i-4", "")
	link := client.SignLink("/v1/screenshot", url.Values{"url": {target}}, made.text("id"), made.text("signing_secret"), time.Now().Add(time.Hour))
	load := func(cached string) {
		t.Helper()
		r := c.with("").must(http.StatusOK, "GET", link, "")
		if r.Header.Get("X-Render-Cached") != cached {
			t.Errorf("%s, want cached %s", r, cached)
		}
	}
	c.costs("the first load, which makes the picture,", 1, func() { load("false") })
	c.costs("ten loads", 1, func() {
		for range 10 {
			load("true")
		}
	})
	c.costs("thirty loads", 3, func() {
		for range 30 {
			load("true")
		}
	})
	if w.renders("p2i-4.test") != 1 {
		t.Errorf("%d renders", w.renders("p2i-4.test"))
	}
}

// A download of a picture costs by its size, bounds included: in 1/120 credit 4,
// 8, 15, 30, 60 and 120, so that nothing is ever rounded.
func p2iDownloads(t *testing.T, w *world) {
	c := w.on(t, "24-threads")
	for _, row := range []struct{ kilobytes, downloads int }{{20, 30}, {40, 15}, {80, 8}, {160, 4}, {320, 2}} {
		for size, downloads := range map[int]int{row.kilobytes * 1024: row.downloads, row.kilobytes*1024 + 1: row.downloads / 2} {
			if row.kilobytes == 40 && size > row.kilobytes*1024 {
				downloads = 8 // 15 is odd
			}
			id := c.submit("p2i-5", fmt.Sprintf("bytes=%d", size)).text("id")
			if got := fmt.Sprint(c.ended(id).at("result", "size_bytes")); got != fmt.Sprint(float64(size)) {
				t.Fatalf("the picture has %s bytes, want %d", got, size)
			}
			c.costs(fmt.Sprintf("%d downloads of %d bytes", downloads, size), 1, func() {
				for range downloads {
					if r := c.must(http.StatusOK, "GET", "/v1/jobs/"+id+"/result", ""); len(r.body) != size {
						t.Errorf("%d bytes, want %d", len(r.body), size)
					}
				}
			})
		}
	}
}

// Below the threshold and on every other plan a quota is its end; the premium
// plan goes on above 5,000,000, at a price.
func p2iPayAsYouGo(t *testing.T, w *world) {
	const threshold = 5_000_000
	for _, p := range w.policy.Plans {
		if o := p.Quota.Overage; o.Allowed != (p.Name == "premium") || o.Allowed && (o.Above != threshold || o.PriceNano <= 0 || p.Quota.Limit != threshold) {
			t.Errorf("plan %s: %+v", p.Name, p.Quota)
		}
		const credit = 120
		c := w.spent(t, p.Name, (p.Quota.Limit-1)*credit)
		c.must(http.StatusOK, "GET", "/v1/queue", "")
		for range 3 {
			r := c.do("POST", "/v1/screenshot", ofPage("p2i-7", ""))
			switch {
			case p.Name == "premium" && r.StatusCode != http.StatusOK:
				t.Errorf("%s above its quota: %s", p.Name, r)
			case p.Name != "premium" && r.StatusCode != http.StatusPaymentRequired:
				t.Errorf("%s above its quota: %s", p.Name, r)
			}
		}
	}
}

// A render is the making of a picture, which is kept for several days; a call is
// any call. So the same page twice is two calls and one render.
func p2iRenders(t *testing.T, w *world) {
	c, body := w.on(t, "8-threads"), ofPage("p2i-12", "")
	c.costs("twice the same page", 2, func() {
		first := c.must(http.StatusOK, "POST", "/v1/screenshot", body)
		again := c.must(http.StatusOK, "POST", "/v1/screenshot", body)
		if first.Header.Get("X-Render-Cached") != "false" || again.Header.Get("X-Render-Cached") != "true" {
			t.Errorf("%s\nthen %s", first, again)
		}
	})
	if n := w.renders("p2i-12.test"); n != 1 {
		t.Errorf("%d renders, want 1", n)
	}
	for _, p := range w.policy.Plans {
		if p.CacheTTL < 2*24*time.Hour {
			t.Errorf("plan %s keeps pictures for %s, which is not several days", p.Name, p.CacheTTL)
		}
	}
}
