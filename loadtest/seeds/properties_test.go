package seeds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
)

// fields holds the RateLimit fields of an answer to the draft, with a parser of
// structured fields that is not ours: every answer of every test here is read by
// it.
func fields(h http.Header) error {
	policies, err := httpsfv.UnmarshalList(h.Values("RateLimit-Policy"))
	if err != nil {
		return fmt.Errorf("RateLimit-Policy %q: %w", h.Values("RateLimit-Policy"), err)
	}
	limits, err := httpsfv.UnmarshalList(h.Values("RateLimit"))
	if err != nil {
		return fmt.Errorf("RateLimit %q: %w", h.Values("RateLimit"), err)
	}
	quotas := map[string]int64{}
	windows := map[string]int64{}
	for _, m := range policies {
		name, params, err := named(m)
		if err != nil {
			return fmt.Errorf("RateLimit-Policy: %w", err)
		}
		q, ok := params["q"]
		if _, twice := quotas[name]; !ok || q < 0 || twice {
			return fmt.Errorf("RateLimit-Policy %q of %q", h.Values("RateLimit-Policy"), name)
		}
		quotas[name] = q
		if w, ok := params["w"]; ok {
			windows[name] = w
		}
	}
	for _, m := range limits {
		name, params, err := named(m)
		if err != nil {
			return fmt.Errorf("RateLimit: %w", err)
		}
		q, known := quotas[name]
		r, ok := params["r"]
		if !known || !ok || r < 0 || r > q {
			return fmt.Errorf("RateLimit %q, RateLimit-Policy %q: of %q", h.Values("RateLimit"), h.Values("RateLimit-Policy"), name)
		}
		// A client that waits for t, or as long as Retry-After says, which wins.
		wait, err := strconv.ParseInt(h.Get("Retry-After"), 10, 64)
		if t, ok := params["t"]; ok && (t < 0 || r == 0 && err == nil && windows[name] > 0 && windows[name] <= 3600 && wait < t) {
			return fmt.Errorf("RateLimit %q, Retry-After %q: of %q", h.Values("RateLimit"), h.Get("Retry-After"), name)
		}
	}
	if len(limits) > 0 {
		parsed.Add(1)
	}
	return nil
}

// parsed counts the answers that had RateLimit fields.
var parsed atomic.Int64

// named is a member of such a field: a name, and whole numbers as parameters,
// but qu, which is a text, and pk, which is bytes.
func named(m httpsfv.Member) (name string, numbers map[string]int64, err error) {
	item, ok := m.(httpsfv.Item)
	if !ok {
		return "", nil, fmt.Errorf("%v is no item", m)
	}
	if name, ok = item.Value.(string); !ok {
		return "", nil, fmt.Errorf("%v is no string", item.Value)
	}
	numbers = map[string]int64{}
	for _, key := range item.Params.Names() {
		v, _ := item.Params.Get(key)
		switch v := v.(type) {
		case int64:
			numbers[key] = v
		case string:
			if key != "qu" {
				return "", nil, fmt.Errorf("%s has %s=%q", name, key, v)
			}
		default:
			return "", nil, fmt.Errorf("%s has %s=%v", name, key, v)
		}
	}
	return name, numbers, nil
}

// The answers of a plan with everything, each limit by its name.
func TestRateLimitFields(t *testing.T) {
	w := open(t, `
version: 1
http_limits: [{class: api, by: ip, requests: 1000}, {class: api, by: key, requests: 500}, {class: media, by: account, requests: 100}]
plans:
- name: all
  threads: 2
  over_threads: {action: refuse}
  rate: {algorithm: token_bucket, requests: 60, window_s: 60, burst: 3}
  quota: {unit: render, limit: 100}
`, 2)
	c := w.on(t, "all")
	before := parsed.Load()
	codes := map[int]bool{}
	for _, ask := range []func() *reply{
		func() *reply { return c.shot(ofPage("fields", "")) },
		func() *reply { return c.do("POST", "/v1/jobs", ofPage("fields", "hold=fields")) },
		func() *reply { return c.do("POST", "/v1/jobs", ofPage("fields", "hold=fields")) },
		func() *reply { return c.throttled(func() *reply { return c.shot(ofPage("fields", "")) }) },
		func() *reply { return c.do("GET", "/v1/jobs", "") },
		func() *reply { return c.do("GET", "/v1/jobs/job_00000000000000000000000000/result", "") },
		func() *reply { return c.shot(`{}`) },
	} {
		r := ask() // try has read its fields
		codes[r.StatusCode] = true
		if r.Header.Get("RateLimit") == "" || r.Header.Get("RateLimit-Policy") == "" {
			t.Errorf("%s", r)
		}
	}
	if len(codes) < 4 || parsed.Load()-before < 7 {
		t.Errorf("%v, %d answers with fields", codes, parsed.Load()-before)
	}
	r := c.do("GET", "/v1/jobs", "")
	list, err := httpsfv.UnmarshalList(r.Header.Values("RateLimit-Policy"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range list {
		unit, _ := m.(httpsfv.Item).Params.Get("qu")
		q, _ := m.(httpsfv.Item).Params.Get("q")
		got[m.(httpsfv.Item).Value.(string)] = fmt.Sprintf("%v %v", q, unit)
	}
	for name, want := range map[string]string{
		"rate": "3 <nil>", "quota": "100 <nil>", "threads": "2 concurrent-requests", "requests-api-ip": "1000 <nil>", "requests-api-key": "500 <nil>",
	} {
		if got[name] != want {
			t.Errorf("%s is told as %q, want %q", name, got[name], want)
		}
	}
	w.release("fields")
}

// Whatever order requests come in, from however many clients of one address at
// once, with keys and without, waiting as they are told or not: never more than
// the bucket and what flows into it pass. Some of it may not: a token that comes
// back is not tried for before the time to come back that was told, and whoever
// goes on before that cools down.
func TestNoMoreThanTheBucket(t *testing.T) {
	w := open(t, shipped(t, "webshot"), 8)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	var rounds sync.WaitGroup
	defer rounds.Wait()
	for round := range uint64(3) {
		c := w.anonymous(t)
		callers := []*caller{c, w.on(t, "free").at(c.from), w.on(t, "free").at(c.from)}
		var passed atomic.Int64
		var all sync.WaitGroup
		began := time.Now()
		for n := range uint64(4) {
			r := rand.New(rand.NewPCG(uint64(seed), round*100+n))
			all.Go(func() {
				for time.Since(began) < 3*time.Second {
					page := ofPage("bucket", "")
					if r.IntN(5) == 0 {
						page = ofPage("bucket", "fail=connection_refused") // its token comes back
					}
					reply, err := callers[r.IntN(len(callers))].try(context.Background(), "POST", "/v1/screenshot", page, "Accept", "application/json")
					if err != nil {
						t.Error(err)
						return
					}
					switch reply.StatusCode {
					case http.StatusOK:
						passed.Add(1)
					case http.StatusUnprocessableEntity, http.StatusForbidden:
					case http.StatusTooManyRequests:
						time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond)))) // too short, mostly
					default:
						t.Errorf("%s", reply)
					}
				}
			})
		}
		rounds.Go(func() {
			all.Wait()
			if most := burst + int64(time.Since(began)/refill); passed.Load() > most || passed.Load() < burst/2 {
				t.Errorf("%d passed in %s, want %d to %d", passed.Load(), time.Since(began), burst/2, most)
			}
		})
	}
}

// 10,000 addresses that a client makes up are one bucket: its own.
func TestForwardedForIsNotBelieved(t *testing.T) {
	w := open(t, shipped(t, "webshot"), 8)
	c := w.anonymous(t)
	const all, clients = 10_000, 8
	var passed, refused atomic.Int64
	var running sync.WaitGroup
	began := time.Now()
	for n := range uint64(clients) {
		r := rand.New(rand.NewPCG(1, n))
		running.Go(func() {
			for range all / clients {
				var b [4]byte
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				reply, err := c.try(context.Background(), "GET", "/v1/screenshot?url=http://forwarded.test/", "", "X-Forwarded-For", netip.AddrFrom4(b).String())
				if err != nil {
					t.Error(err)
					return
				}
				switch reply.StatusCode {
				case http.StatusOK:
					passed.Add(1)
				case http.StatusTooManyRequests, http.StatusForbidden: // throttled, and blocked for going on
					refused.Add(1)
				default:
					t.Errorf("%s", reply)
				}
			}
		})
	}
	running.Wait()
	if most := burst + int64(time.Since(began)/refill); passed.Load() > most || passed.Load()+refused.Load() != all {
		t.Errorf("%d passed and %d were refused in %s, want at most %d to pass", passed.Load(), refused.Load(), time.Since(began), most)
	}
	if r := c.at(w.address()).shot(ofPage("forwarded", "")); r.StatusCode != http.StatusOK {
		t.Errorf("another address: %s", r)
	}
}
