package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/tintype/tintype/pkg/stream"
)

const (
	purgeEvery = 5 * time.Second
	// purgeMinAge keeps frames readable for those who tail the ledger.
	purgeMinAge = time.Minute
	purgeWait   = 10 * time.Second
)

// purge trims both streams from the front. The floors come from acknowledged
// frames alone: JOBS up to the oldest record that is unfinished or undecided,
// LEDGER up to the oldest frame that an unfinished job needs, never past the
// projection of half a minute ago, never a frame younger than a minute, never
// the last.
func (l *leader) purge(ctx context.Context) error {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	var done floors
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := l.trimBoth(ctx, &done); err != nil {
			return err
		}
	}
}

// trimBoth drops what nobody needs by now; done is how far that went before.
// Only a store that cannot write is an error: the next time may go better.
func (l *leader) trimBoth(ctx context.Context, done *floors) error {
	l.enter()
	l.marks.add(mark{at: l.now, seq: l.acked, bytes: l.ackedBytes}, l.s.filed.upTo(l.s.projected.Load(), l.now))
	to := floors{seq: min(l.needed.seq, l.marks.base.seq), jobs: l.needed.jobs}
	l.leave()
	err := errors.Join(
		l.trim(ctx, l.s.streams.PurgeJobs, to.jobs, &done.jobs),
		l.trim(ctx, l.s.streams.PurgeLedger, to.seq, &done.seq),
	)
	if errors.Is(err, stream.ErrStore) {
		return err
	}
	return nil
}

// floors are the first frame and the first record to keep.
type floors struct{ seq, jobs uint64 }

// need is what the jobs of this moment need. What later ones need is behind the
// newest frame.
func (l *leader) need() floors {
	seq, jobs := l.board.needs(l.seq, l.decided+1)
	return floors{seq, jobs}
}

// mark says how long the ledger was at a moment.
type mark struct {
	at    time.Time
	seq   uint64 // the last frame
	bytes uint64 // of all up to it, as the fold counts them
}

// marks find the frames that nobody tails and the projection has passed.
type marks struct {
	base  mark   // the newest that is so; what is before it may go as far as jobs allow
	young []mark // after it, oldest first
}

func (m *marks) add(now mark, filed uint64) {
	for len(m.young) > 0 && now.at.Sub(m.young[0].at) > purgeMinAge && m.young[0].seq <= filed {
		m.base, m.young = m.young[0], m.young[1:]
	}
	if n := len(m.young); n == 0 || now.at.Sub(m.young[n-1].at) >= purgeEvery/2 {
		m.young = append(m.young, now)
	}
}

// trim drops what is before seq, unless that is done.
func (l *leader) trim(ctx context.Context, purge func(context.Context, uint64) error, seq uint64, done *uint64) error {
	if seq <= *done {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, purgeWait, errors.New("purging a stream"))
	defer cancel()
	err := purge(ctx, seq)
	if err != nil {
		l.s.log.Warn("a stream was not trimmed", "err", err)
		return err
	}
	*done = seq
	return nil
}
