package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

// How many streams of events may be open at this replica.
const (
	streamsPerAccount = 100
	streamsPerAddress = 200
)

// openStreams counts streams of events by whose they are.
type openStreams struct {
	mu sync.Mutex
	of map[account.Subject]int // guarded by mu
}

// enter takes a place for a stream, or refuses it.
func (o *openStreams) enter(c *call) (release func(), err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var taken []account.Subject
	for _, limit := range []struct {
		who  account.Subject
		most int
	}{
		{c.who.subject(account.ByAccount), streamsPerAccount},
		{c.who.subject(account.ByIP), streamsPerAddress},
	} {
		switch {
		case limit.who.ID == "", limit.who.Kind == account.SubjectAddress && c.who.identity.Addr().IsLoopback():
			continue // a proxy on this machine, which is everybody
		case o.of[limit.who] >= limit.most:
			return nil, &fault.Error{
				Kind: fault.RateLimited, Code: "concurrency_limit_exceeded", RetryAfter: 10 * time.Second,
				Detail: fmt.Sprintf("%d streams of events of this %s are open at this server; close one, or follow the whole account with GET /v1/events", limit.most, limit.who.Kind),
			}
		}
		taken = append(taken, limit.who)
	}
	if o.of == nil {
		o.of = make(map[account.Subject]int)
	}
	for _, who := range taken {
		o.of[who]++
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, who := range taken {
			if o.of[who]--; o.of[who] == 0 {
				delete(o.of, who)
			}
		}
	}, nil
}
