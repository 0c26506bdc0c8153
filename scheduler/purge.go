package scheduler

import (
	"context"
	"errors"
	"time"
)

const (
	purgeEvery = 5 * time.Second
	// purgeMinAge keeps frames readable for those who tail the ledger.
	purgeMinAge = time.Minute
)

// purge trims both streams from the front. The floors come from acknowledged
// frames alone: JOBS up to the oldest record that is unfinished or undecided,
// LEDGER up to the oldest frame that an unfinished job needs, never past the
// projection of half a minute ago, never a frame younger than a minute, never
// the last.
func (l *leader) purge(ctx context.Context) error {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	var marks []mark
	var done mark
	durable := make(chan mark, 1)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		case m := <-durable:
			if m.jobs > done.jobs && l.trim(ctx, l.s.streams.PurgeJobs, m.jobs) == nil {
				done.jobs = m.jobs
			}
			if m.seq > done.seq && l.trim(ctx, l.s.streams.PurgeLedger, m.seq) == nil {
				done.seq = m.seq
			}
			continue
		}
		l.enter()
		var m mark
		m, marks = l.floors(marks)
		if m.jobs > done.jobs || m.seq > done.seq {
			l.after(func() {
				select {
				case durable <- m:
				default: // the last one is still being trimmed
				}
			})
		}
		l.leave()
	}
}

// mark says where the streams were at a moment: the first of each to keep.
type mark struct {
	at        time.Time
	seq, jobs uint64
}

// floors computes what may go once all that has happened so far is durable. It
// returns the marks that are still young.
func (l *leader) floors(marks []mark) (mark, []mark) {
	marks = append(marks, mark{at: l.now, seq: l.seq})
	old := uint64(0)
	for len(marks) > 1 && l.now.Sub(marks[0].at) > purgeMinAge {
		old, marks = marks[0].seq, marks[1:]
	}
	m := mark{seq: min(old, l.s.filed.upTo(l.s.projected.Load(), l.now)), jobs: l.decided + 1}
	if e := l.board.oldest(); e != nil { // records are decided in order, so it has the oldest record too
		m.seq, m.jobs = min(m.seq, e.order>>16), min(m.jobs, e.jobsSeq)
	}
	return m, marks
}

func (l *leader) trim(ctx context.Context, purge func(context.Context, uint64) error, seq uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, errors.New("purging a stream"))
	defer cancel()
	err := purge(ctx, seq)
	if err != nil {
		l.s.log.Warn("a stream was not trimmed", "err", err)
	}
	return err
}
