package scheduler

import (
	"context"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// expireAtOnce bounds how many jobs one look at the board may find: it is
// taken under the lock.
const expireAtOnce = 256

// expire ends jobs that have waited for longer than the policy lets them. It
// stands beside the sweep and not in it: after a takeover the body of each may
// have to be read from JOBS first, and leases do not wait for that.
func (l *leader) expire(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		for more := true; more && ctx.Err() == nil; {
			l.enter()
			late := l.board.expired(l.now, expireAtOnce)
			l.leave()
			for _, e := range late {
				l.withBody(ctx, e.id, func(e *entry) {
					if e != nil && !l.over && l.board.waitedOut(e, l.now) {
						l.finish(e, ending{state: job.Expired})
					}
				})
			}
			more = len(late) == expireAtOnce
		}
	}
}
