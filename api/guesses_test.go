package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/client"
)

// inventedKey is a key that nobody has.
func inventedKey(n int) string {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	id := []byte("aaaaaaaaaaaa")
	for i := range id {
		id[i] = digits[n%len(digits)]
		n /= len(digits)
	}
	return "tt_live_" + string(id) + "_" + strings.Repeat("a", 32)
}

// anotherSecret is a key of the same id that its owner does not have.
func anotherSecret(key string) string {
	last := "2"
	if strings.HasSuffix(key, last) {
		last = "3"
	}
	return key[:len(key)-1] + last
}

// A flood of keys that nobody has costs the archive ten questions a second, in
// headers and in links; keys that are remembered, and other addresses, are
// served as ever.
func TestInventedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t, under(t, "trusted_proxies: [192.0.2.1]\nplans: [{name: default}]"))
		from := func(address, key string) answered {
			h := header{"X-Forwarded-For": address, "Authorization": "Bearer " + key}
			if key == "" {
				h["Authorization"] = ""
			}
			return f.do("GET", "/v1/usage", "", h)
		}
		if a := from("203.0.113.7", f.key); a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		asked := f.store.asked
		for n := range guessBurst {
			from("203.0.113.7", inventedKey(n)).problem(t, 401, "invalid_key")
		}
		var wait int
		for n := range 100 {
			a := from("203.0.113.7", inventedKey(1000+n))
			p := a.problem(t, 429, "rate_limit_exceeded")
			wait, _ = strconv.Atoi(a.Header().Get("Retry-After"))
			if wait < 1 || !strings.Contains(p.Detail, "Retry-After") {
				t.Fatalf("Retry-After %q: %s", a.Header().Get("Retry-After"), p.Detail)
			}
		}
		link := client.SignLink("/v1/screenshot", map[string][]string{"url": {"https://example.com/"}}, "aaaaaaaaaa77", "x", time.Now().Add(time.Hour))
		f.do("GET", link, "", header{"X-Forwarded-For": "203.0.113.7", "Authorization": ""}).problem(t, 429, "rate_limit_exceeded")
		if got := f.store.asked - asked; got != guessBurst {
			t.Errorf("the archive was asked %d times, want %d", got, guessBurst)
		}
		if a := from("203.0.113.7", f.key); a.Code != 200 {
			t.Errorf("a key that is remembered: %d", a.Code)
		}
		from("203.0.113.7", anotherSecret(f.key)).problem(t, 401, "invalid_key")
		from("203.0.113.8", inventedKey(1)).problem(t, 401, "invalid_key")
		time.Sleep(time.Duration(wait) * time.Second)
		from("203.0.113.7", inventedKey(2)).problem(t, 401, "invalid_key")
		_, text := f.store.newAccount("newcomer")
		if a := from("203.0.113.7", text); a.Code != 200 {
			t.Errorf("a key that is new here: %d", a.Code)
		}
	})
}

// However many come at once, in any second no more than ten pass for long; and
// however many good keys are shown, none is refused.
func TestInventedKeysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		keys := make([]string, 200)
		for i := range keys {
			_, keys[i] = f.store.newAccount(fmt.Sprint("tenant ", i))
		}
		each := func(keys []string) (refused int) {
			codes := make([]int, len(keys))
			var wg sync.WaitGroup
			for i, key := range keys {
				wg.Go(func() { codes[i] = f.do("GET", "/v1/usage", "", header{"Authorization": "Bearer " + key}).Code })
			}
			wg.Wait()
			for _, code := range codes {
				if code == http.StatusTooManyRequests {
					refused++
				}
			}
			return refused
		}
		if n := each(keys); n > 0 {
			t.Errorf("%d good keys were refused", n)
		}
		asked := f.store.asked
		began := time.Now()
		for round := range 100 {
			invented := make([]string, 20)
			for i := range invented {
				invented[i] = inventedKey(round*len(invented) + i)
			}
			each(invented)
			time.Sleep(200 * time.Millisecond)
		}
		most := guessBurst + int(time.Since(began)/guessEvery) + 20
		if got := f.store.asked - asked; got > most || got < most/2 {
			t.Errorf("the archive was asked %d times in %s, want at most %d", got, time.Since(began), most)
		}
	})
}

func TestGuessesAreBounded(t *testing.T) {
	var g guesses
	now := time.Unix(1_700_000_000, 0)
	at := func(n int) netip.Prefix {
		return account.Identity(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
	}
	for n := range 2 * maxGuessing {
		g.charge(at(n), now)
	}
	if n := len(g.due); n > maxGuessing+1 {
		t.Errorf("%d addresses are remembered", n)
	}
	if g.refuse(at(0), now) != nil {
		t.Error("an address of its own is refused for what others did")
	}
	f := g.refuse(at(2*maxGuessing), now)
	if f == nil || f.RetryAfter > guessMost {
		t.Errorf("who shares a bucket that is in debt: %v", f)
	}
	now = now.Add(guessMost + 1)
	if g.refuse(at(2*maxGuessing), now) != nil {
		t.Error("refused for good")
	}
	if n := len(g.due); n > 0 {
		t.Errorf("%d full buckets are remembered", n)
	}
}
