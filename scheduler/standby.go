package scheduler

import (
	"context"
	"errors"
	"time"
)

const (
	// hotWithin is how many frames a standby that is hot may be behind: a
	// moment's reading.
	hotWithin = 100
	endWait   = time.Second // for NATS to tell where the ledger ends
)

// approach finds out when a fold has come near the ledger's end. Only then is
// its process of use to a leader that ends: a standby that still reads takes as
// long to lead as it has left to read.
type approach struct {
	s     *Scheduler
	began time.Time
	goal  uint64 // the ledger's last frame when it was asked for
}

// check asks for the end when the last one asked for is reached, until it is
// near.
func (a *approach) check(ctx context.Context, f *facts) {
	if a.s.hot.Load() || f.seq < a.goal {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, endWait, errors.New("asking for the end of the ledger"))
	defer cancel()
	st, err := a.s.streams.LedgerState(ctx)
	if err != nil {
		return // the next tick asks again
	}
	if a.goal = st.Last; st.Last <= f.seq+hotWithin {
		a.s.hot.Store(true)
		a.s.log.Info("standing by", "frame", f.seq, "jobs", f.unfinished.Len(), "took", time.Since(a.began))
	}
}
