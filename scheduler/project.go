package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	projectWait = 15 * time.Second
	projectRest = time.Second
	// projectMost is about how many ends and charges go into one transaction: with one
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
	s.noteLanded(at.Seq)
	return s.streams.Follow(ctx, at.Seq, stream.Chain(at.Chain), func(links []stream.Link) error {
		var filing store.Filing
		for i, l := range links {
			file(&filing, l.Frame)
			if len(filing.Ends)+len(filing.Charges) < projectMost && i < len(links)-1 {
				continue
			}
			next := store.Projection{Seq: l.Seq, Chain: uint32(l.Chain)}
			if err := s.projectTo(ctx, at, next, filing); err != nil {
				return err
			}
			at, filing = next, store.Filing{}
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
func (s *Scheduler) projectTo(ctx context.Context, at, next store.Projection, filing store.Filing) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectWait, errors.New("projecting the ledger"))
	defer cancel()
	stripped, err := s.archive.Project(ctx, at, next, filing)
	if err != nil {
		return err
	}
	if stripped > 0 {
		s.metrics.stripped.Add(float64(stripped))
		s.log.Warn("the database refused the text of some jobs", "count", stripped)
	}
	s.noteLanded(next.Seq)
	return nil
}

func (s *Scheduler) offset(ctx context.Context) (store.Projection, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, projectWait, errors.New("reading the projection"))
	defer cancel()
	return s.archive.Projection(ctx)
}

// file adds what a frame has for the archive.
func file(to *store.Filing, f *pb.Frame) {
	for _, ev := range f.Events {
		switch ev := ev.Fact.(type) {
		case *pb.Event_Finished:
			to.Ends = append(to.Ends, ended(ev.Finished))
		case *pb.Event_Charged:
			c := ev.Charged
			to.Charges = append(to.Charges, store.Charge{
				ID: c.Id, Account: c.Account, Period: account.DayOf(c.Period), Units: c.Units, Reason: c.Reason, Count: c.Count,
				Happened: wire.Time(f.TimeUs),
			})
		case *pb.Event_QuotaReached:
			q := ev.QuotaReached
			to.Reached = append(to.Reached, store.QuotaReached{
				Account: q.Account, Period: account.DayOf(q.Period), Percent: int(q.Percent), Used: q.Used, Limit: q.Limit,
				ResetsAt: wire.Time(q.ResetsUs), Happened: wire.Time(f.TimeUs),
			})
		}
	}
}

// ended is one row and its bill.
func ended(fin *pb.Finished) store.Ended {
	j := wire.FromJob(fin.Job)
	e := store.Ended{
		Job: j, KeyHash: fin.KeyHash, Fingerprint: fin.Fingerprint, Units: fin.Units,
		Period: account.DayOf(periodOf(fin.Period, fin.Job.AcceptedUs)),
	}
	if len(fin.CacheKey) > 0 {
		e.CacheKey, e.FreshUntil = fin.CacheKey, wire.Time(fin.FreshUntilUs)
	}
	if len(j.Options) == 0 {
		j.Options = []byte("{}")
	}
	return e
}

// periodOf is the period that a job is charged to. Events of releases that did
// not say have none: theirs was the month of its acceptance (UTC).
func periodOf(said int32, acceptedUS int64) int32 {
	if said != 0 {
		return said
	}
	start, _ := account.MonthUTC.Span(time.UnixMicro(acceptedUS), 1)
	return account.DayNumber(start)
}
