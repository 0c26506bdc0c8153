package api

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

var (
	someone = "203.0.113.7"
	theirs  = limited{Subject: account.Subject{Kind: account.SubjectAddress, ID: someone}, policy: "rate"}
	tooFast = &fault.Error{Kind: fault.RateLimited, Policy: "rate", RetryAfter: 10 * time.Second}
)

func ofKey(id string) account.Subject { return account.Subject{Kind: account.SubjectKey, ID: id} }

func (t *throttles) strikesOf(s string) (n uint32) {
	for _, p := range t.struck() {
		if p.Subject == s {
			n += p.Count
		}
	}
	return n
}

// An episode on the clock: who is refused, for how much longer, and which
// requests are strikes.
func TestThrottles(t *testing.T) {
	var th throttles
	began := time.Unix(1_700_000_000, 0)
	at := func(d time.Duration) time.Time { return began.Add(d) }
	if _, ok := th.find(theirs, someone, at(0)); ok {
		t.Fatal("refused without a reason")
	}
	th.learn(theirs, tooFast, nil, someone, at(-time.Millisecond), at(0))
	for _, test := range []struct {
		at   time.Duration
		left time.Duration // 0: it is over
		note string
	}{
		{0, 10 * time.Second, ""},
		{answeredFor, 9500 * time.Millisecond, "in flight"},
		{answeredFor + 1, 9500*time.Millisecond - 1, "a strike"},
		{9 * time.Second, time.Second, "a strike"},
		{10*time.Second - endSlack, endSlack, "as good as over"},
		{10*time.Second - 1, 1, "as good as over"},
		{10 * time.Second, 0, ""},
	} {
		r, ok := th.find(theirs, someone, at(test.at))
		if ok != (test.left > 0) || r.fault.RetryAfter != test.left {
			t.Errorf("after %s: %v, %s left", test.at, ok, r.fault.RetryAfter)
		}
		want := uint32(0)
		if test.note == "a strike" {
			want = 1
		}
		if got := th.strikesOf("address:203.0.113.7"); got != want {
			t.Errorf("after %s: %d strikes, want %d", test.at, got, want)
		}
	}
	other := limited{Subject: ofKey("k"), policy: "rate"}
	if _, ok := th.find(other, someone, at(time.Second)); ok {
		t.Error("somebody else is refused")
	}
	if _, ok := th.find(limited{Subject: theirs.Subject, policy: "requests-api-ip"}, someone, at(time.Second)); ok {
		t.Error("another limit refuses")
	}

	// A refusal that the leader gives to a request in flight begins nothing new,
	// and one that ignored its wait and came to the leader is a strike too.
	th.learn(theirs, tooFast, nil, someone, at(20*time.Second), at(20*time.Second))
	late := *tooFast
	late.RetryAfter = time.Minute
	th.learn(theirs, &late, nil, someone, at(20*time.Second), at(20*time.Second+answeredFor))
	if _, ok := th.find(theirs, someone, at(30*time.Second)); ok {
		t.Error("an episode was made longer for those who were told its end")
	}
	th.struck()
	th.learn(theirs, tooFast, nil, someone, at(40*time.Second), at(40*time.Second))
	for range 3 { // two were told in the episode before; they come back now
		th.learn(theirs, tooFast, nil, someone, at(42*time.Second), at(42*time.Second))
	}
	if got := th.strikesOf("address:203.0.113.7"); got != 3 {
		t.Errorf("%d strikes of requests that came to the leader, want 3", got)
	}
}

func TestThrottlesAreBounded(t *testing.T) {
	var th throttles
	now := time.Unix(1_700_000_000, 0)
	long := *tooFast
	long.RetryAfter = time.Hour
	for i := range maxThrottled + maxThrottled/4 {
		k := limited{Subject: ofKey(fmt.Sprint(i)), policy: "rate"}
		th.learn(k, &long, nil, someone, now, now)
	}
	if n := len(th.told); n > maxThrottled {
		t.Errorf("%d episodes are kept", n)
	}
	now = now.Add(2 * time.Hour)
	th.learn(theirs, tooFast, nil, someone, now, now)
	for i := range maxThrottled / 2 {
		th.learn(limited{Subject: ofKey(fmt.Sprint(i)), policy: "rate"}, &fault.Error{Kind: fault.RateLimited}, nil, someone, now, now)
		now = now.Add(time.Millisecond)
	}
	if n := len(th.told); n > 20_000 {
		t.Errorf("%d episodes are kept, nearly all of them over", n)
	}
	for i := range 2 * maxStruck {
		from := fmt.Sprint(i)
		th.mu.Lock()
		th.note(theirs.Subject, &episode{since: now.Add(-time.Minute), until: now.Add(time.Minute)}, from, now)
		th.mu.Unlock()
	}
	if n := len(th.struck()); n > maxStruck {
		t.Errorf("%d subjects of strikes are kept", n)
	}
}

// A client that waits as long as it was told gets no strike, whatever the
// limit and however many requests it has in flight, also if each of them
// heeds only what it was told itself. One that does not wait gets many.
func TestHonestClientsGetNoStrikes(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex // guards the dice and the limit
			dice := rand.New(rand.NewPCG(seed, 1))
			roll := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return dice.IntN(n)
			}
			later := func(f *fault.Error) time.Duration {
				return time.Duration(retryAfter(f.Wait(), float64(roll(1000))/1000)) * time.Second
			}
			var th throttles
			window := []time.Duration{time.Second, 2 * time.Second, 10 * time.Second, time.Minute}[seed%4]
			limit := 1 + roll(20)
			used, ends := 0, time.Time{}
			// ask is a request: true, or the Retry-After that it gets.
			ask := func() (bool, time.Duration) {
				arrived := time.Now()
				if r, ok := th.find(theirs, someone, arrived); ok {
					return false, later(&r.fault)
				}
				mu.Lock()
				if !arrived.Before(ends) {
					used, ends = 0, windowEnd(arrived, window)
				}
				used++
				passes, f := used <= limit, &fault.Error{Kind: fault.RateLimited, Policy: "rate", RetryAfter: ends.Sub(arrived)}
				mu.Unlock()
				if passes {
					return true, 0
				}
				th.learn(theirs, f, nil, someone, arrived, arrived)
				return false, later(f)
			}
			workers := 1 + roll(60)
			done := make(chan struct{})
			travel := func() { time.Sleep(time.Duration(roll(50)) * time.Millisecond) }
			stop := time.Now().Add(20 * window)
			for range workers {
				go func() {
					defer func() { done <- struct{}{} }()
					for time.Now().Before(stop) {
						travel()
						ok, wait := ask()
						travel()
						if ok {
							wait = time.Duration(roll(10)) * time.Millisecond
						}
						time.Sleep(wait)
					}
				}()
			}
			for range workers {
				<-done
			}
			if n := th.strikesOf("address:203.0.113.7"); n > 0 {
				t.Errorf("%d workers, %d in %s: %d strikes", workers, limit, window, n)
			}
			// The same limit, and a client in a hurry.
			time.Sleep(2 * window)
			stop = time.Now().Add(20 * window)
			asked := 0
			for ; time.Now().Before(stop); asked++ {
				ask()
				time.Sleep(10 * time.Millisecond)
			}
			if n := th.strikesOf("address:203.0.113.7"); n < uint32(asked/8) {
				t.Errorf("%d requests in a hurry, %d in %s: %d strikes", asked, limit, window, n)
			}
		})
	}
}
