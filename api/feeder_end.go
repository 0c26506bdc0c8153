package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// endEvery is how often a batch is looked at all of whose lines are fed.
	endEvery, endSlowly = 100 * time.Millisecond, time.Second
	// asksAtOnce is how many jobs are asked for, or canceled, side by side.
	asksAtOnce = 64
)

// cutShort ends what is left of a batch that is canceled, or whose time is over:
// lines that are not fed are left out, and jobs are canceled.
func (of *feeding) cutShort(ctx context.Context) error {
	if left := deadFor - time.Since(of.openAt); !of.openAt.IsZero() && left > 0 && !of.sleep(ctx, left) {
		return ctx.Err()
	}
	of.openAt = time.Time{}
	fed := of.batch.Fed
	if of.unsure && of.batch.PassObject != "" {
		if err := of.keep(ctx, func(ctx context.Context) error {
			more, err := of.fedBehind(ctx)
			fed += more
			return err
		}); err != nil {
			return err
		}
	}
	if err := of.write(ctx, func(ctx context.Context, by string, b *batch.Batch) (store.Held, error) {
		return of.server.deps.Store.LeaveOut(ctx, by, b, fed)
	}); err != nil {
		return err
	}
	of.batch.LeftOut = max(of.batch.PassTotal-fed, 0)
	return of.awaitEnds(ctx)
}

// fedBehind is how many lines behind what is saved were decided.
func (of *feeding) fedBehind(ctx context.Context) (n int64, err error) {
	s, b := of.server, of.batch
	source := lineSource{bucket: s.deps.Bucket, object: b.PassObject, offset: b.FedOffset}
	var ids []job.ID
	var numbers []int
	for range askMost {
		l, _, err := source.next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if len(l.Errors) == 0 {
			ids, numbers = append(ids, batch.JobID(b.ID, b.CreatedAt, l.Number, b.Pass)), append(numbers, l.Number)
		}
	}
	refused, err := s.deps.Store.Refused(ctx, b, numbers)
	if err != nil {
		return 0, err
	}
	found := make([]bool, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	for i, id := range ids {
		g.Go(func() (err error) {
			found[i], err = s.knows(ctx, id, b.Account)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	n = int64(len(refused))
	for _, known := range found {
		if known {
			n++
		}
	}
	return n, nil
}

// knows asks leader and archive for a job. What neither has is not there, as
// long as nothing that was published before may still be accepted.
func (s *Server) knows(ctx context.Context, id job.ID, accountID string) (bool, error) {
	_, _, known, err := s.front.lookup(ctx, id, accountID, 0)
	if err != nil || known {
		return known, err
	}
	_, err = s.archived(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// awaitEnds waits until every job of the batch has ended and is in the archive,
// and then ends it. What is canceled is helped along.
func (of *feeding) awaitEnds(ctx context.Context) error {
	s, b := of.server, of.batch
	state := b.State
	pause := endEvery
	for ctx.Err() == nil && b.State == state {
		ends := b.Ends.Succeeded + b.Ends.Failed + b.Ends.Canceled + b.Ends.Expired
		if left := b.Total - b.Invalid - b.Refused - b.LeftOut - ends; left <= 0 {
			if err := of.end(ctx); !errors.Is(err, store.ErrNotHeld) {
				return err
			}
		}
		switch standing, err := s.front.standings(ctx, b.Account, b.ID); {
		case err != nil:
			pause = endSlowly // no leader: nothing ends
		case total(standing[0]) == 0:
			pause = endEvery // the projector is about to
			if b.State == batch.Running {
				if err := of.write(ctx, s.deps.Store.Finalize); err != nil {
					return err
				}
				state = b.State
			}
		case b.State == batch.Canceling:
			if err := of.keep(ctx, of.cancelJobs); err != nil {
				return err
			}
			pause = endEvery
		}
		select {
		case <-time.After(pause):
		case <-of.look:
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(pause*3/2, endSlowly)
		if err := of.renew(ctx, false); err != nil {
			return err
		}
		if of.feeder.full.Load() && time.Since(of.began) > turnFor {
			return nil
		}
	}
	return ctx.Err()
}

// cancelJobs cancels the jobs of the batch that have not ended.
func (of *feeding) cancelJobs(ctx context.Context) error {
	s, b := of.server, of.batch
	ids, err := s.front.unfinished(ctx, b.Account, b.ID)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	for _, id := range ids {
		g.Go(func() error {
			_, _, err := s.front.cancel(ctx, id, b.Account)
			return err
		})
	}
	return g.Wait()
}

// end ends the batch, and tells whoever is to be told.
func (of *feeding) end(ctx context.Context) error {
	s := of.server
	plan, err := s.planOf(ctx, of.batch.Account)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, feederWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	b, err := s.deps.Store.EndBatch(ctx, s.boot, of.batch.ID, plan.Retention, func(b *batch.Batch) (json.RawMessage, error) {
		return json.Marshal(map[string]any{"batch": presentBatch(b, 0, time.Time{}, s.cfg.PublicURL)})
	})
	if err != nil {
		return err
	}
	of.batch = b
	return errEnded
}
