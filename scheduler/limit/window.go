package limit

import "time"

// window begins anew at each multiple of its length since 1970 UTC: so many
// may come at the end of one and as many at the beginning of the next.
type window struct {
	requests int64
	length   int64 // microseconds
}

func (w window) left(s state, now int64) Left {
	number := now / w.length
	l := Left{
		Limit: w.requests, Remaining: w.requests, Window: time.Duration(w.length) * time.Microsecond,
		Reset: time.UnixMicro((number + 1) * w.length),
	}
	if s.at == number {
		l.Remaining = max(w.requests-s.used, 0)
	}
	if l.Remaining == 0 {
		l.Wait = time.Duration((number+1)*w.length-now) * time.Microsecond
	}
	return l
}

// take gives a receipt for the window.
func (w window) take(s *state, now int64, _ Receipt) Receipt {
	number := now / w.length
	if number < s.at {
		return 0 // it was replayed too late to count
	}
	if number > s.at {
		s.at, s.used = number, 0
	}
	s.used++
	return Receipt(s.at + 1) // 0 is for nothing
}

func (w window) giveBack(s *state, r Receipt) {
	if r == Receipt(s.at+1) && s.used > 0 {
		s.used--
	}
}

// begin is an empty window: those before it are over once a book that knows no
// more than since is of use.
func (w window) begin(int64) state { return state{} }

func (w window) forget() int64 { return w.length }
