package seeds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// hammer asks again and again while it is throttled, whatever it is told, until
// an answer is what it looks for; pace is the time between two requests. The
// ladder's steps come one after the other only if it is not too fast.
func (c *caller) hammer(what string, pace time.Duration, found func(r *reply) bool) *reply {
	c.t.Helper()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for until := time.Now().Add(patience); time.Now().Before(until); <-tick.C {
		r := c.do("GET", "/v1/screenshot?url=http://webshot-abuse.test/", "", "Accept", "application/json")
		if found(r) {
			return r
		}
		if r.StatusCode != http.StatusOK && r.StatusCode != http.StatusTooManyRequests {
			c.t.Fatalf("before %s: %s", what, r)
		}
	}
	c.t.Fatalf("no %s within %s", what, patience)
	return nil
}

const (
	step = 20 * time.Millisecond // between two requests of who climbs the ladder step by step
	rush = time.Millisecond      // of who takes several at once
)

func blocked(r *reply) bool { return r.StatusCode == http.StatusForbidden }

// Thousands of throttled requests start no render and keep nobody from being
// served. How long those that are served take beside such a flood is measured:
// go run ./loadtest flood.
func webshotFlood(t *testing.T, w *world) {
	flood, served := w.anonymous(t), w.on(t, "premium")
	flood.drain()
	before := w.renders("webshot-8.test")
	const each, floods = 400, 5
	problems := make(chan error, floods)
	for range floods {
		go func() {
			for range each {
				r, err := flood.try(context.Background(), "GET", "/v1/screenshot?url=http://webshot-8.test/flood", "")
				if err == nil && (r.StatusCode == http.StatusOK || r.StatusCode >= http.StatusInternalServerError) {
					err = fmt.Errorf("a throttled request: %s", r)
				}
				if err != nil && !strings.Contains(err.Error(), "200 OK") {
					problems <- err
					return
				}
			}
			problems <- nil
		}()
	}
	for range 20 {
		if r := served.shot(ofPage("webshot-8-served", "")); r.StatusCode != http.StatusOK {
			t.Errorf("beside the flood: %s", r)
		}
	}
	for range floods {
		if err := <-problems; err != nil {
			t.Error(err)
		}
	}
	// A token may have come back during the flood, every two seconds.
	if n := w.renders("webshot-8.test") - before; n > floods*each/20 {
		t.Errorf("%d renders were begun for %d throttled requests", n, floods*each)
	}
}

// Out of tokens, told to wait, having waited: served again, as if nothing had
// been.
func webshotOrdinary(t *testing.T, w *world) {
	c := w.anonymous(t)
	refused, _ := c.drain()
	if wait := refused.number("Retry-After"); wait > 4 {
		t.Fatalf("an ordinary refusal: %s", refused)
	}
	time.Sleep(time.Duration(refused.number("Retry-After")) * time.Second) // as a client does
	if r := c.shot(ofPage("webshot-9", "")); r.StatusCode != http.StatusOK {
		t.Errorf("having waited: %s", r)
	}
	if r := c.throttled(func() *reply { return c.shot(ofPage("webshot-9", "")) }); r.number("Retry-After") > 4 {
		t.Errorf("the next time: %s", r)
	}
}

// Requests made while throttled make the wait longer. That it doubles for who
// goes on is tested where time is virtual.
func webshotCooling(t *testing.T, w *world) {
	c := w.anonymous(t)
	c.drain()
	cooling := c.hammer("a cool-down", step, func(r *reply) bool { return r.number("Retry-After") > 4 })
	if wait := cooling.number("Retry-After"); cooling.StatusCode != http.StatusTooManyRequests || wait > 40 {
		t.Errorf("the first cool-down: %s", cooling)
	}
	if r := c.at(w.address()).shot(ofPage("webshot-10", "")); r.StatusCode != http.StatusOK {
		t.Errorf("somebody else: %s", r)
	}
}

// Who goes on is blocked for a while; and when four addresses of one network
// are, the network is.
func webshotBlock(t *testing.T, w *world) {
	one := w.anonymous(t)
	neighbour := func(n int) *caller { return one.at(strings.TrimSuffix(one.from, ".1") + fmt.Sprintf(".%d", n)) }
	if r := neighbour(9).shot(ofPage("webshot-11", "")); r.StatusCode != http.StatusOK {
		t.Fatalf("before: %s", r)
	}
	for n := 1; n <= 4; n++ {
		c := neighbour(n)
		c.drain()
		r := c.hammer("a block", rush, blocked)
		if r.text("code") != "blocked" || r.number("Retry-After") < 600 {
			t.Errorf("%s: %s", c.from, r)
		}
	}
	r := neighbour(9).hammer("a block of the network", step, blocked)
	if r.text("code") != "blocked" || r.number("Retry-After") < 600 {
		t.Errorf("a neighbour who did nothing: %s", r)
	}
	if r := one.at(w.address()).shot(ofPage("webshot-11", "")); r.StatusCode != http.StatusOK {
		t.Errorf("another network: %s", r)
	}
}

// Spreading requests over keys gets no more than one bucket, and ends on the
// ladder like a tight loop does: what is counted is the address.
func webshotAbuse(t *testing.T, w *world) {
	c := w.anonymous(t)
	keys := []*caller{c, w.on(t, "free").at(c.from), w.on(t, "free").at(c.from), w.on(t, "free").at(c.from)}
	began, passed := time.Now(), 0
	for i := 0; ; i++ {
		if r := keys[i%len(keys)].shot(ofPage("webshot-13", "")); r.StatusCode != http.StatusOK {
			break
		}
		passed++
	}
	if most := burst + int(time.Since(began)/refill); passed > most {
		t.Errorf("%d passed over %d keys, want at most %d", passed, len(keys), most)
	}
	for i := 0; ; i++ {
		if blocked(keys[i%len(keys)].shot(ofPage("webshot-13", ""))) {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("rotating keys in a tight loop is not blocked")
		}
	}
	for _, k := range keys {
		k.shot(ofPage("webshot-13", "")).want(t, "from the blocked address", http.StatusForbidden, "blocked")
	}
	if r := keys[1].at(w.address()).shot(ofPage("webshot-13", "")); r.StatusCode != http.StatusOK {
		t.Errorf("the same key from elsewhere: %s", r)
	}
}

// Clients that wait as long as they are told, however greedy they are
// otherwise and however many requests they have in flight, stay on the first
// step.
func webshotHonest(t *testing.T, w *world) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var all sync.WaitGroup
	for inFlight := 1; inFlight <= 4; inFlight++ {
		c := w.anonymous(t)
		for n := range inFlight {
			random := rand.New(rand.NewPCG(seed, uint64(10*inFlight+n)))
			all.Go(func() {
				for began := time.Now(); time.Since(began) < 6*time.Second; {
					r, err := c.try(context.Background(), "POST", "/v1/screenshot", ofPage("webshot-14", ""), "Accept", "application/json")
					if err != nil {
						t.Error(err)
						return
					}
					switch {
					case r.StatusCode == http.StatusOK:
						if random.IntN(2) == 0 {
							time.Sleep(time.Duration(random.Int64N(int64(500 * time.Millisecond))))
						}
					case r.StatusCode == http.StatusTooManyRequests && r.number("Retry-After") <= 5:
						time.Sleep(time.Duration(r.number("Retry-After")) * time.Second)
					default:
						t.Errorf("an honest client with %d in flight: %s", inFlight, r)
						return
					}
				}
			})
		}
	}
	all.Wait()
}

// Who is banned is so until an admin says otherwise, and nobody tells when.
// That the ladder bans after the third block is tested where time is virtual.
func webshotBan(t *testing.T, w *world) {
	c, root := w.anonymous(t), w.admin(t)
	subject := "address:" + c.from
	root.must(http.StatusCreated, "POST", "/admin/v1/bans", fmt.Sprintf(`{"subject": %q, "reason": "scraping"}`, subject))
	for _, d := range []*caller{c, w.on(t, "premium").at(c.from)} {
		r := d.shot(ofPage("webshot-12", ""))
		r.want(t, "banned", http.StatusForbidden, "banned")
		if r.Header.Get("Retry-After") != "" {
			t.Errorf("%s", r)
		}
	}
	if list := root.must(http.StatusOK, "GET", "/admin/v1/bans", ""); !strings.Contains(string(list.body), subject) {
		t.Errorf("%s", list)
	}
	root.must(http.StatusNoContent, "DELETE", "/admin/v1/bans?subject="+url.QueryEscape(subject), "")
	if r := c.shot(ofPage("webshot-12", "")); r.StatusCode != http.StatusOK {
		t.Errorf("lifted: %s", r)
	}
}
