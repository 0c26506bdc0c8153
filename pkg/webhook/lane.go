package webhook

import (
	"net/http"
	"net/url"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// A Standing is what is known of the receiver that a lane leads to. Those of
// one standing share places to send from, so that receivers that hang cost
// those that answer nothing.
type Standing string

// Every standing.
const (
	New     Standing = "new"     // nothing is known
	Proven  Standing = "proven"  // it answered last time
	Slow    Standing = "slow"    // it answered, and took slowAfter or longer
	Failing Standing = "failing" // it did not
)

// Standings are all of them, in the order in which they are served.
var Standings = []Standing{Proven, New, Slow, Failing}

// slowAfter is how long an answer takes that makes a receiver a slow one. One
// that always answers, and always in nine seconds, holds a place to send from
// as long as one that hangs.
const slowAfter = 2 * time.Second

// Bounds of the breaker.
const (
	tolerated = 3                // failures in a row
	openLeast = 10 * time.Second // after that many, and twice as long after each further one
	openMost  = 5 * time.Minute
)

// Health is the state of a lane's breaker.
type Health struct {
	Standing Standing
	Failures int           // in a row
	Open     time.Duration // nothing is sent for so long from now on
}

// After is the health of a lane after one more answer.
func (h Health) After(a Answer, now time.Time) Health {
	if a.There() {
		if a.Took >= slowAfter {
			return Health{Standing: Slow}
		}
		return Health{Standing: Proven}
	}
	h = Health{Standing: Failing, Failures: h.Failures + 1}
	if over := h.Failures - tolerated; over >= 0 {
		h.Open = min(openLeast<<min(over, 10), openMost)
	}
	if a.Status == http.StatusTooManyRequests || a.Status == http.StatusServiceUnavailable {
		h.Open = max(h.Open, min(a.wait(now), openMost))
	}
	return h
}

// Lane is what a delivery fails and waits together with: all that goes to an
// endpoint, or all that an account sends to one host without one.
func Lane(account, endpoint, to string) string {
	if endpoint != "" {
		return endpoint
	}
	u, err := url.Parse(to)
	if err != nil {
		return account
	}
	return account + " " + u.Scheme + "://" + u.Host
}

// A Want is how many lanes of a standing a sender has room for.
type Want struct {
	Standing   Standing
	Lanes      int
	PerAccount int            // lanes that it may hold of one account
	Held       map[string]int // lanes that it holds, by account
	Deliveries int            // at most so many of each
}

// A Bout is a lane that one sender holds for a while, with what is due there.
type Bout struct {
	Lane       string
	Account    string
	Health     Health
	Endpoint   *Endpoint // nil: it leads to none, or to one that is not there any more
	Secrets    Secrets   // of the account, of a lane that leads to no endpoint; zero: it has none yet
	Deliveries []Delivery
	Jobs       map[job.ID]*job.Job // that they are about and whose row is there
}

// An Outcome is what came of one attempt.
type Outcome struct {
	Delivery string
	Endpoint string // empty: it went to none
	Attempt  Attempt
	Answer   Answer
	Verdict  Verdict
	Body     string // as it was sent
}

// A Release gives a lane back.
type Release struct {
	Lane   string
	Health Health
	Drop   string // what waits there is given up, for this reason; empty: it is not
}

// A Disabled is an endpoint to which nothing is sent any more.
type Disabled struct {
	ID, Account string
	Reason      string // one of the two below
}

// Why a sender disables an endpoint.
const (
	ReasonGone    = "gone"    // it answered 410
	ReasonFailing = "failing" // for GivenUpAfter nothing arrived
)

// GivenUpAfter is how long an endpoint may fail.
const GivenUpAfter = 5 * 24 * time.Hour
