package webhook

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// waits are those before the second attempt and each further one: the schedule
// of Standard Webhooks, about 76 hours in all.
var waits = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// MaxTries is how often a message is tried.
const MaxTries = len(waits) + 1

// Bounds of what a Retry-After may ask for.
const (
	retryLeast = time.Second
	retryMost  = 24 * time.Hour
)

// An Answer is what came of an attempt.
type Answer struct {
	Status     int // 0: there was none
	Took       time.Duration
	RetryAfter string  // the header as it was sent
	Roll       float64 // 0 to 1, chance: it lengthens the wait by up to a tenth
}

// OK reports an answer that takes the message.
func (a Answer) OK() bool { return a.Status >= 200 && a.Status < 300 }

// Gone reports a receiver that wants nothing any more.
func (a Answer) Gone() bool { return a.Status == http.StatusGone }

// There reports a receiver that works, whatever it says of the message: not
// silence, an error of its own, or too much to do.
func (a Answer) There() bool {
	return a.Status != 0 && a.Status != http.StatusTooManyRequests && a.Status < 500
}

// wait is what the answer asks for, within bounds; 0 where it asks nothing.
func (a Answer) wait(now time.Time) time.Duration {
	text := strings.TrimSpace(a.RetryAfter)
	if text == "" {
		return 0
	}
	if text = strings.TrimLeft(text, "0"); text == "" || strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.Atoi("0" + text)
		if err != nil || seconds > int(retryMost/time.Second) {
			return retryMost // more than a number holds
		}
		return max(time.Duration(seconds)*time.Second, retryLeast)
	}
	at, err := http.ParseTime(strings.TrimSpace(a.RetryAfter))
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), retryLeast), retryMost)
}

// A Verdict is what becomes of a message after an attempt.
type Verdict struct {
	State   State
	At      time.Time // of the next attempt; set with Pending
	Failure string    // why there is none, in words; set with Failed
}

// Next says what becomes of a message that was tried so many times, the last one
// at now. A Retry-After never makes it come earlier than the schedule: a receiver
// that says one second for an hour would have used up every attempt.
func Next(tries int, now time.Time, a Answer) Verdict {
	switch {
	case a.OK():
		return Verdict{State: Delivered}
	case a.Gone():
		return Verdict{State: Failed, Failure: "the receiver answered 410: it wants nothing any more"}
	case tries >= MaxTries:
		return Verdict{State: Failed, Failure: "each of " + strconv.Itoa(MaxTries) + " attempts failed"}
	}
	wait := waits[max(tries, 1)-1]
	wait += time.Duration(a.Roll * float64(wait) / 10)
	return Verdict{State: Pending, At: now.Add(max(wait, a.wait(now)))}
}
