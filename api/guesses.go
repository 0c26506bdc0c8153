package api

import (
	"net/netip"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/fault"
)

const (
	// guessEvery and guessBurst bound the keys that nobody has which one address
	// may show a replica: each of them costs a question to the archive.
	guessEvery = 100 * time.Millisecond
	guessBurst = 50
	// guessMost bounds how long an address is kept from showing further ones.
	guessMost = time.Minute
	// maxGuessing bounds the addresses that are remembered. Those beyond share
	// one bucket.
	maxGuessing = 100_000
	// guessPolicy is the name of this limit.
	guessPolicy = "unknown-keys"
)

// guesses counts, by address, the ids of keys that the archive was asked for
// and did not have, in a token bucket (GCRA). It is charged when the archive
// has said no, so that however many good keys an address shows at once, none is
// refused for that; what was on its way by then is a debt, which is waited for
// as well. A key that the replica remembers is not asked for and never refused.
type guesses struct {
	mu  sync.Mutex
	due map[netip.Prefix]time.Time // when the bucket is full again; guarded by mu
	// swept is when full buckets were looked for because of the bound; guarded
	// by mu
	swept time.Time
}

// refuse says that an address may not have another unknown key looked up now;
// nil if it may.
func (g *guesses) refuse(from netip.Prefix, now time.Time) *fault.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := g.due[g.bucket(from, now)].Sub(now.Add((guessBurst - 1) * guessEvery))
	if wait <= 0 {
		return nil
	}
	return &fault.Error{
		Kind: fault.RateLimited, Policy: guessPolicy, RetryAfter: wait,
		Detail: "too many keys that nobody has were shown from this address, and this one is not known here yet; wait for Retry-After, and show a key that is right",
	}
}

// charge takes in that the archive has no key of an id that an address showed.
func (g *guesses) charge(from netip.Prefix, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.bucket(from, now)
	due := g.due[at]
	if due.Before(now) {
		due = now
	}
	if due = due.Add(guessEvery); due.Sub(now) > guessMost {
		due = now.Add(guessMost)
	}
	if g.due == nil {
		g.due = make(map[netip.Prefix]time.Time)
	}
	g.due[at] = due
}

// bucket is the one of an address: its own, or the one that those share for whom
// there is no room. g.mu is held.
func (g *guesses) bucket(from netip.Prefix, now time.Time) netip.Prefix {
	if _, known := g.due[from]; known || len(g.due) < maxGuessing {
		return from
	}
	if now.Sub(g.swept) >= time.Second {
		g.swept = now
		for other, due := range g.due {
			if !now.Before(due) {
				delete(g.due, other)
			}
		}
	}
	if len(g.due) >= maxGuessing {
		return netip.Prefix{}
	}
	return from
}
