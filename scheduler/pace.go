package scheduler

import "time"

// pace remembers how fast jobs end, for an honest Retry-After.
type pace struct {
	ends []time.Time // of the last paceOver, oldest first
}

const (
	paceOver = 10 * time.Second
	paceMost = 4096
)

// ended notes the end of a job.
func (p *pace) ended(now time.Time) {
	p.trim(now)
	if len(p.ends) < paceMost {
		p.ends = append(p.ends, now)
	}
}

// perEnd is how long it takes, at the present pace, until one more job has
// ended: 1 s to 1 min. With nothing to go by it is 5 s.
func (p *pace) perEnd(now time.Time) time.Duration {
	p.trim(now)
	if len(p.ends) == 0 {
		return 5 * time.Second
	}
	return min(max(paceOver/time.Duration(len(p.ends)), time.Second), time.Minute)
}

func (p *pace) trim(now time.Time) {
	i := 0
	for i < len(p.ends) && now.Sub(p.ends[i]) > paceOver {
		i++
	}
	p.ends = p.ends[i:]
}
