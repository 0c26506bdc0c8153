package scheduler

import (
	"math"
	"time"
)

const (
	// paceOver is what a pace is measured over at least: the last 30 to 60
	// seconds in which there was something to measure, or longer where fewer
	// than paceLeast jobs left in that time.
	paceOver  = 30 * time.Second
	paceLeast = 8
	// paceKeep is how long nobody may have waited until the pace is unknown
	// again: the farm may have another number of seats by then.
	paceKeep = 5 * time.Minute
)

// pace is how fast jobs leave a place while any of them wait in it. Time in
// which nobody waits does not count, so that an idle farm is not taken for a
// slow one. Its zero value has measured nothing.
type pace struct {
	on        bool      // somebody waits
	since     time.Time // that is so since then
	upTo      time.Time // time is counted up to here
	now, last span
}

// span is how many left in how much time.
type span struct {
	left   int
	lasted time.Duration
}

// turn notes whether somebody waits from now on.
func (p *pace) turn(now time.Time, on bool) {
	if on == p.on {
		return
	}
	p.pass(now)
	if on && now.Sub(p.since) > paceKeep {
		p.now, p.last = span{}, span{}
	}
	p.on, p.since, p.upTo = on, now, now
}

// leave notes that one has left. Where nobody had waited for any time it says
// nothing about the pace.
func (p *pace) leave(now time.Time) {
	if !p.on || !now.After(p.since) {
		return
	}
	p.pass(now)
	p.now.left++
}

func (p *pace) pass(now time.Time) {
	if !p.on {
		return
	}
	p.now.lasted += now.Sub(p.upTo)
	p.upTo = now
	if p.now.lasted >= paceOver && p.now.left >= paceLeast {
		p.last, p.now = p.now, span{}
	}
}

// perSecond is the pace; 0 while it is unknown. One job that left, or a moment,
// is no measure.
func (p *pace) perSecond(now time.Time) float64 {
	p.pass(now)
	left, lasted := p.now.left+p.last.left, p.now.lasted+p.last.lasted
	if left < 2 || lasted < time.Second {
		return 0
	}
	return float64(left) / lasted.Seconds()
}

const (
	// waitUnknown is what a client is told to wait when nothing has been measured.
	waitUnknown = 5 * time.Second
	waitLeast   = time.Second
	waitMost    = time.Minute
)

// waitFor is a Retry-After: how long it takes, at that pace, until n have left.
func waitFor(n int, perSecond float64) time.Duration {
	if perSecond == 0 {
		return waitUnknown
	}
	seconds := math.Min(float64(n)/perSecond, waitMost.Seconds())
	return max(time.Duration(seconds*float64(time.Second)), waitLeast)
}
