// Package limit counts: how much of a rate is left, and whom the abuse ladder
// keeps out.
//
// It promises that
//   - no sequence of takes passes more than burst + rate × time in a token
//     bucket, or more than its number in a fixed window, and twice that across
//     an edge;
//   - what is given back makes it as if it had never been taken, and no
//     better: nothing comes back twice, or in another window;
//   - a refusal's wait is exact: a microsecond earlier nothing would pass;
//   - what is forgotten is as good as new.
//
// It has no clock, no lock and no I/O: the time comes with every question and
// never goes back, and whoever asks holds the lock.
package limit

import (
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// Left is how much of a limit is left.
type Left struct {
	Limit     int64         // the most that can be left
	Remaining int64         // takes that would pass now
	Window    time.Duration // in which so many come back
	Wait      time.Duration // until one passes; 0: now
	// Reset is when Remaining grows next, or now where it cannot; of a window,
	// its end.
	Reset time.Time
}

// Receipt is for what was taken, to give it back. Its zero value is for
// nothing.
type Receipt uint64

// rule is one of bucket and window. Times are microseconds since 1970 UTC.
type rule interface {
	left(s state, now int64) Left
	take(s *state, now int64, serial Receipt) Receipt // whether one is left or not
	giveBack(s *state, r Receipt)
	// begin is a state of which nothing is known up to then, and after which no
	// more passes than whatever was taken before it allows.
	begin(since int64) state
	// forget is how long after it was last touched a state is as good as new.
	forget() int64
}

// state is what one subject has taken. Its zero value is nothing.
type state struct {
	at   int64 // of a bucket: when the debt was so much; of a window: its number
	used int64 // of a bucket: the debt; of a window: how many were taken in it
	past *past // of a bucket; nil where nothing is given back
}

// ruleOf is how a rate counts.
func ruleOf(r account.Rate) rule {
	if r.Algorithm == account.FixedWindow {
		return window{requests: int64(r.Requests), length: r.Window.Microseconds()}
	}
	return bucket{
		requests: int64(r.Requests), length: r.Window.Microseconds(), burst: int64(max(r.Burst, 1)), refunds: r.Charge == account.ChargeSuccess,
	}
}

// after is how long n steps take at so many a microsecond, rounded up.
func after(n, each int64) time.Duration {
	if n <= 0 {
		return 0
	}
	return time.Duration(min((n+each-1)/each, longest)) * time.Microsecond
}

// longest keeps a Duration from overflowing: thirty years, in microseconds.
const longest = 30 * 365 * 24 * 60 * 60 * 1_000_000
