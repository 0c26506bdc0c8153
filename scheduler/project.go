package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	projectWait = 15 * time.Second
	projectRest = time.Second
	// projectMost is about how many ends go into one transaction: with one
	// among them that the database refuses, each costs round trips of its own.
	projectMost = 500
	// filedFor is how long a frame is in the archive before anything relies on
	// it alone. A keyed record may be decided staleAfter later than its replica
	// read the archive: what was not there then must still be known here.
	filedFor = staleAfter + 18*time.Second
	// projectGather follows a transaction that took in few frames, so that the
	// next one shares its cost among more. A finished job is answered by the
	// leader meanwhile.
	projectGather = 20 * time.Millisecond
	fewFrames     = 64
)

// filed remembers how far the projection was: between filedFor and twice that
// ago. Its zero value knows of nothing in the archive.
type filed struct {
	mu     sync.Mutex
	seq    uint64    // was projected filedFor ago; guarded by mu, as below
	next   uint64    // was projected at nextAt
	nextAt time.Time // zero before the first mark
}

// upTo is the last frame that has been in the archive for filedFor, given the
// last one that is there now.
func (f *filed) upTo(projected uint64, now time.Time) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.nextAt.IsZero():
		f.next, f.nextAt = projected, now
	case now.Sub(f.nextAt) >= filedFor:
		f.seq, f.next, f.nextAt = f.next, projected, now
	}
	return min(f.seq, projected) // less again after the database was restored
}

// project copies ends and charges from the ledger into the archive, exactly
// once: each transaction moves the offset from where it was. While the
// database is away the ledger keeps them.
func (s *Scheduler) project(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.projectOn(ctx)
		if ctx.Err() != nil {
			break
		}
		s.log.Warn("projection is behind", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(projectRest):
		}
	}
	return ctx.Err()
}

// projectOn reads on from the archive's own offset until something fails.
func (s *Scheduler) projectOn(ctx context.Context) error {
	at, err := s.offset(ctx)
	if err != nil {
		return err
	}
	s.projected.Store(at.Seq)
	return s.streams.Follow(ctx, at.Seq, stream.Chain(at.Chain), func(links []stream.Link) error {
		var ends []store.Ended
		for i, l := range links {
			for _, ev := range l.Frame.Events {
				if fin := ev.GetFinished(); fin != nil {
					ends = append(ends, ended(fin))
				}
			}
			if len(ends) < projectMost && i < len(links)-1 {
				continue
			}
			next := store.Projection{Seq: l.Seq, Chain: uint32(l.Chain)}
			if err := s.projectTo(ctx, at, next, ends); err != nil {
				return err
			}
			at, ends = next, nil
		}
		if len(links) < fewFrames {
			select {
			case <-ctx.Done():
			case <-time.After(projectGather):
			}
		}
		return nil
	})
}

// projectTo is one transaction: the frames after "at" up to "next".
func (s *Scheduler) projectTo(ctx context.Context, at, next store.Projection, ends []store.Ended) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectWait, errors.New("projecting the ledger"))
	defer cancel()
	stripped, err := s.archive.Project(ctx, at, next, ends)
	if err != nil {
		return err
	}
	if stripped > 0 {
		s.metrics.stripped.Add(float64(stripped))
		s.log.Warn("the database refused the text of some jobs", "count", stripped)
	}
	s.projected.Store(next.Seq)
	return nil
}

func (s *Scheduler) offset(ctx context.Context) (store.Projection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, projectWait, errors.New("reading the projection"))
	defer cancel()
	return s.archive.Projection(ctx)
}

// ended is one row and its bill. The period is the month in which the job was
// accepted (UTC).
func ended(fin *pb.Finished) store.Ended {
	j := wire.FromJob(fin.Job)
	at := j.CreatedAt
	e := store.Ended{
		Job: j, KeyHash: fin.KeyHash, Fingerprint: fin.Fingerprint, Units: fin.Units,
		Period: time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC),
	}
	if len(j.Options) == 0 {
		j.Options = []byte("{}")
	}
	return e
}
