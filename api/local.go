package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

// maxCounted bounds the subjects that a replica counts for itself; those beyond
// share one count.
const maxCounted = 100_000

// localCounts are the requests that this replica counted for itself while no
// leader did. Each replica then lets through as many as the policy says, in
// windows that begin as the leader's do: nothing is unlimited, and nothing is
// refused that would not have been.
type localCounts struct {
	mu  sync.Mutex
	now map[limited]localCount // guarded by mu
	// swept is when windows that are over were looked for because of the bound;
	// guarded by mu
	swept time.Time
}

type localCount struct {
	ends time.Time
	n    int
}

// count counts a request against every limit of its class, or refuses it.
func (l *localCounts) count(limits []account.HTTPLimit, class string, who caller, now time.Time) error {
	if class == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var refused error
	for _, limit := range limits {
		k := requestsOf(limit, who)
		if limit.Class != class || k.Subject == (account.Subject{}) {
			continue
		}
		c, known := l.now[k]
		if !known && len(l.now) >= maxCounted {
			if now.Sub(l.swept) >= time.Second {
				l.sweep(now)
			}
			if len(l.now) >= maxCounted {
				k.Subject = account.Subject{} // everybody else
				c = l.now[k]
			}
		}
		if !now.Before(c.ends) {
			c = localCount{ends: windowEnd(now, limit.Window)}
		}
		if c.n >= limit.Requests {
			if refused == nil {
				refused = &fault.Error{
					Kind: fault.RateLimited, Policy: k.policy, RetryAfter: c.ends.Sub(now),
					Detail: fmt.Sprintf("more than %d requests in %d seconds; wait for Retry-After", limit.Requests, int(limit.Window/time.Second)),
				}
			}
			continue
		}
		c.n++
		if l.now == nil {
			l.now = make(map[limited]localCount)
		}
		l.now[k] = c
	}
	return refused
}

// sweep forgets windows that are over. l.mu is held.
func (l *localCounts) sweep(now time.Time) {
	l.swept = now
	for k, c := range l.now {
		if !now.Before(c.ends) {
			delete(l.now, k)
		}
	}
}

// windowEnd is the end of the window that now lies in: windows begin at the
// multiples of their length since 1970.
func windowEnd(now time.Time, window time.Duration) time.Time {
	return time.Unix(0, now.UnixNano()-now.UnixNano()%int64(window)).Add(window)
}
