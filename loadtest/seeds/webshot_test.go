package seeds

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"time"
)

var webshot = seed{policy: "webshot", seats: 8, lines: []line{
	{"SEED-WEBSHOT-1", webshotToken},
	{"SEED-WEBSHOT-2", webshotBurst},
	{"SEED-WEBSHOT-3", webshotEmpty},
	{"SEED-WEBSHOT-4", webshotWhose},
	{"SEED-WEBSHOT-5", webshotImage},
	{"SEED-WEBSHOT-6", webshotHeaders},
	{"SEED-WEBSHOT-7", webshotAccept},
	{"SEED-WEBSHOT-8", webshotFlood},
	{"SEED-WEBSHOT-9", webshotOrdinary},
	{"SEED-WEBSHOT-10", webshotCooling},
	{"SEED-WEBSHOT-11", webshotBlock},
	{"SEED-WEBSHOT-12", webshotBan},
	{"SEED-WEBSHOT-13", webshotAbuse},
	{"SEED-WEBSHOT-14", webshotHonest},
}}

// burst is the size of a bucket of the shipped policy, and refill the time that
// one token takes.
const (
	burst  = 10
	refill = 2 * time.Second
)

// drain takes tokens until there are none, and returns the refusal and how many
// captures there were. A slow machine may see some tokens come back meanwhile.
func (c *caller) drain() (refused *reply, passed int) {
	c.t.Helper()
	began := time.Now()
	for {
		r := c.shot(ofPage("webshot", ""))
		switch r.StatusCode {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
			if most := burst + int(time.Since(began)/refill); passed < burst || passed > most {
				c.t.Errorf("%d captures passed in %s, want %d to %d", passed, time.Since(began), burst, most)
			}
			return r, passed
		default:
			c.t.Fatalf("%s", r)
		}
	}
}

// A capture takes one token of its caller's bucket; what is no success gives it
// back; and one that is under way has it already.
func webshotToken(t *testing.T, w *world) {
	c := w.anonymous(t)
	for range 3 * burst { // far more than the bucket has
		if r := c.shot(ofPage("webshot-1", "fail=connection_refused")); r.StatusCode != http.StatusUnprocessableEntity {
			t.Fatalf("a failure: %s", r)
		}
	}
	for i := range burst {
		if r := c.do("POST", "/v1/jobs", ofPage("webshot-1", "hold=WEBSHOT-1")); r.StatusCode != http.StatusAccepted {
			t.Fatalf("%d under way: %s", i, r)
		}
	}
	// Tokens that came back since then pass; those that are held do not.
	if r, _ := c.drainHeld(); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("with %d under way: %s", burst, r)
	}
	w.release("WEBSHOT-1")
}

// drainHeld is drain for a bucket of which captures under way hold the tokens.
func (c *caller) drainHeld() (*reply, int) {
	c.t.Helper()
	began, passed := time.Now(), 0
	for passed <= int(time.Since(began)/refill)+burst {
		r := c.do("POST", "/v1/jobs", ofPage("webshot-1", "hold=WEBSHOT-1"))
		if r.StatusCode != http.StatusAccepted {
			return r, passed
		}
		passed++
	}
	c.t.Fatalf("%d passed without a token", passed)
	return nil, 0
}

// A whole bucket may go at the same moment.
func webshotBurst(t *testing.T, w *world) {
	c := w.anonymous(t)
	answers := make(chan string, burst)
	for range burst {
		go func() {
			r, err := c.try(context.Background(), "POST", "/v1/screenshot", ofPage("webshot-2", ""))
			if err != nil || r.StatusCode != http.StatusOK {
				answers <- fmt.Sprint(r, err)
				return
			}
			answers <- ""
		}()
	}
	for range burst {
		if problem := <-answers; problem != "" {
			t.Errorf("of %d at once: %s", burst, problem)
		}
	}
}

func webshotEmpty(t *testing.T, w *world) {
	refused, _ := w.anonymous(t).drain()
	if refused.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%s", refused)
	}
}

// An address has one bucket, with a free key or without; another address has
// another one; and a premium key has a month's allowance in its place.
func webshotWhose(t *testing.T, w *world) {
	c := w.anonymous(t)
	free, premium := w.on(t, "free"), w.on(t, "premium")
	c.drain()
	if r := free.at(c.from).shot(ofPage("webshot-4", "")); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a free key from the same address: %s", r)
	}
	if r := c.at(w.address()).shot(ofPage("webshot-4", "")); r.StatusCode != http.StatusOK {
		t.Errorf("another address: %s", r)
	}
	for i := range 2 * burst {
		r := premium.at(c.from).shot(ofPage("webshot-4", ""))
		if r.StatusCode != http.StatusOK || r.number("X-Quota-Limit") != 100_000 || r.Header.Get("X-RateLimit-Limit") != "" {
			t.Fatalf("premium from the same address, %d: %s", i, r)
		}
	}
	spent := w.spent(t, "premium", 100_000*render)
	if r := spent.shot(ofPage("webshot-4", "")); r.StatusCode != http.StatusPaymentRequired {
		t.Errorf("premium beyond its allowance: %s", r)
	}
	// A key that is none is the address's: guessing is not free.
	d := w.anonymous(t).with("tt_live_abcdefghijkl_" + strings.Repeat("x", 32))
	guesses := 0
	for began := time.Now(); ; guesses++ {
		r := d.shot(ofPage("webshot-4", ""))
		if r.StatusCode == http.StatusTooManyRequests {
			break
		}
		if r.StatusCode != http.StatusUnauthorized || guesses > burst+int(time.Since(began)/refill)+1 {
			t.Fatalf("guess %d: %s", guesses, r)
		}
	}
	if r := d.with("").shot(ofPage("webshot-4", "")); r.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the address of %d guesses: %s", guesses, r)
	}
}

// The refusal is a tiny picture, and nothing is rendered for it.
func webshotImage(t *testing.T, w *world) {
	c := w.anonymous(t)
	c.drain()
	before := w.renders("webshot-5.test")
	r := c.do("GET", "/v1/screenshot?url=http://webshot-5.test/", "")
	img, err := png.Decode(bytes.NewReader(r.body))
	if r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Content-Type") != "image/png" || err != nil {
		t.Fatalf("%s, %v", r, err)
	}
	if size := img.Bounds(); len(r.body) > 4096 || size.Dx() > 512 || size.Dy() > 512 {
		t.Errorf("%d bytes, %s: not tiny", len(r.body), size)
	}
	if w.renders("webshot-5.test") != before {
		t.Error("a page was rendered")
	}
}

func webshotHeaders(t *testing.T, w *world) {
	c := w.anonymous(t)
	r, _ := c.drain()
	now := time.Now()
	if wait := r.number("Retry-After"); wait < 1 || wait > 4 { // a token takes 2 s, and jitter only lengthens
		t.Errorf("Retry-After %d", wait)
	}
	if r.number("X-RateLimit-Limit") != burst || r.number("X-RateLimit-Remaining") != 0 {
		t.Errorf("%s", r)
	}
	if reset := r.number("X-RateLimit-Reset"); reset < now.Unix()-int64(patience.Seconds()) || reset > now.Unix()+4 {
		t.Errorf("X-RateLimit-Reset %d, now is %d", reset, now.Unix())
	}
}

// JSON for those who ask for it, and for nobody else; HEAD has no body.
func webshotAccept(t *testing.T, w *world) {
	c := w.anonymous(t)
	for accept, json := range map[string]bool{
		"application/json": true, "application/problem+json": true, "application/json, image/png;q=0.5": true,
		"*/*": false, "image/*": false, "image/png": false, "": false, "text/html,application/xhtml+xml,*/*;q=0.8": false,
		"image/png, application/json;q=0.5": false,
	} {
		var headers []string
		if accept != "" {
			headers = []string{"Accept", accept}
		}
		r := c.throttled(func() *reply { return c.do("GET", "/v1/screenshot?url=http://webshot-7.test/", "", headers...) })
		if isJSON, isImage := r.json != nil, strings.HasPrefix(string(r.body), pngHead); isJSON != json || isImage == json {
			t.Errorf("Accept %q: %s", accept, r)
		}
		if json && (r.text("code") != "rate_limit_exceeded" || r.Header.Get("Retry-After") == "") {
			t.Errorf("Accept %q: %s", accept, r)
		}
	}
	// HEAD is offered of results, and starts no render: it is never throttled.
	for path, status := range map[string]int{
		"/v1/screenshot?url=http://webshot-7.test/": http.StatusMethodNotAllowed, "/v1/jobs/job_00000000000000000000000000/result": http.StatusNotFound,
	} {
		if r := c.do("HEAD", path, ""); len(r.body) != 0 || r.StatusCode != status {
			t.Errorf("HEAD %s: %s", path, r)
		}
	}
}

// throttled asks until the bucket is empty.
func (c *caller) throttled(ask func() *reply) *reply {
	c.t.Helper()
	for range 10 * burst {
		if r := ask(); r.StatusCode == http.StatusTooManyRequests {
			return r
		}
	}
	c.t.Fatal("the bucket has no end")
	return nil
}
