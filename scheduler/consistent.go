package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
)

// errOlder says that the stores do not belong together, as after one of them
// was restored from an older copy. It does not go away by itself.
var errOlder = errors.New("scheduler: this process will not lead")

// archiveWait is what a candidate gives the archive to answer: a database that
// hangs must not keep the farm without a leader.
const archiveWait = time.Second

// consistent refuses to lead on stores that do not belong together. Each
// refusal names the older store, and the command that lets the farm go on with
// what there is where no better copy is left.
//
// p is the projection, or archived why there is none to be had: without the
// archive a scheduler leads with what it knows. ledger was read after it.
func (s *Scheduler) consistent(ctx context.Context, f *facts, ledger stream.State, p store.Projection, archived error) error {
	jobs, err := s.streams.JobsState(ctx)
	if err != nil {
		return err
	}
	if jobs.Last < f.jobs {
		return fmt.Errorf("%w: stream %s ends at %d, but %s has decided up to %d: %s is the older store. Restore it from the backup that %s is of. If there is none, what was submitted since is lost; to go on without it: nats stream purge %s --seq=%d --force",
			errOlder, stream.JobsName, jobs.Last, stream.LedgerName, f.jobs, stream.JobsName, stream.LedgerName, stream.JobsName, f.jobs+1)
	}
	if archived != nil {
		s.log.Warn("leading without the archive", "err", archived)
		return nil
	}
	s.projected.Store(p.Seq)
	switch {
	case ledger.Last < p.Seq:
		// The fold has read all of it.
		return fmt.Errorf("%w: stream %s ends at frame %d, but the database has projected up to %d: %s is the older store. Restore it from the backup that the database is of. If there is none, what was accepted since is lost, and what has ended since is rendered again and billed once; to go on like that: %s",
			errOlder, stream.LedgerName, ledger.Last, p.Seq, stream.LedgerName, setProjection(f.seq, f.chain))
	case ledger.First > p.Seq+1:
		chain, _, err := s.streams.ChainAt(ctx, ledger.First)
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: stream %s begins at frame %d, but the database has projected only up to %d: the database is the older store. Restore it from the backup that %s is of. If there is none, it will lack the jobs that ended in frames %d to %d, and their bills; to go on without them: %s",
			errOlder, stream.LedgerName, ledger.First, p.Seq, stream.LedgerName, p.Seq+1, ledger.First, setProjection(ledger.First, chain))
	case p.Seq == 0:
		return nil
	}
	chain, ok, err := s.streams.ChainAt(ctx, p.Seq)
	if err != nil {
		return err
	}
	if ok && uint32(chain) != p.Chain {
		return fmt.Errorf("%w: frame %d of %s is not the one that the database has projected: one of the two is an older store that went on by itself, or of another farm. Restore both from the same backup. If this %s is the one to go on with: %s",
			errOlder, p.Seq, stream.LedgerName, stream.LedgerName, setProjection(p.Seq, chain))
	}
	return nil
}

// setProjection is the command that makes the database go on after a frame.
func setProjection(seq uint64, chain stream.Chain) string {
	return fmt.Sprintf(`psql "${TINTYPE_DATABASE_URL:-$(cat "$TINTYPE_DATABASE_URL_FILE")}" -c "UPDATE projection SET ledger_seq = %d, crc = %d WHERE shard = 0"`, seq, uint32(chain))
}
