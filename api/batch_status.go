package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// runningWithin bounds the question how many jobs of a batch run: the answer
	// goes on without it.
	runningWithin = time.Second
	// An estimate needs so many ends, of the last paceFor.
	paceLeast = 5
	paceFor   = 10 * time.Minute
)

// getBatch is GET /v1/batches/{id}.
func (s *Server) getBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	b, err := s.batchOfPath(r, c)
	if err != nil {
		return err
	}
	return s.showBatch(w, r, b)
}

// showBatch answers with a batch as it stands.
func (s *Server) showBatch(w http.ResponseWriter, r *http.Request, b *batch.Batch) error {
	return writeJSON(w, http.StatusOK, presentBatch(b, s.runningOf(r.Context(), b.Account, b)[0], s.endOf(r.Context(), b, time.Now()), s.cfg.PublicURL))
}

// runningOf is how many jobs of these batches of an account have a seat; none
// where no leader says so.
func (s *Server) runningOf(ctx context.Context, accountID string, batches ...*batch.Batch) []int64 {
	out := make([]int64, len(batches))
	var ids []string
	var at []int
	for i, b := range batches {
		if !b.State.Ended() && b.State != batch.Validating {
			ids, at = append(ids, b.ID), append(at, i)
		}
	}
	if len(ids) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, runningWithin)
	defer cancel()
	standings, err := s.front.standings(ctx, accountID, ids...)
	if err != nil {
		return out
	}
	for i, standing := range standings {
		out[at[i]] = int64(standing.Running)
	}
	return out
}

// endOf is when a batch will have ended at the pace of late; zero where nobody
// can tell.
func (s *Server) endOf(ctx context.Context, b *batch.Batch, now time.Time) time.Time {
	if b.State != batch.Running || b.StartedAt.IsZero() {
		return time.Time{}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	after := now.Add(-paceFor)
	if b.StartedAt.After(after) {
		after = b.StartedAt
	}
	ends, since, err := s.deps.Store.BatchPace(ctx, b, after)
	took := now.Sub(since)
	if err != nil || ends < paceLeast || took <= 0 {
		return time.Time{}
	}
	counts := b.Counts(0)
	left := time.Duration(float64(counts.Queued) / float64(ends) * float64(took))
	if left < 0 || left > 10*batchExpires { // further off nobody knows anything
		return time.Time{}
	}
	return now.Add(left)
}

// listBatches is GET /v1/batches.
func (s *Server) listBatches(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	if after != "" && !isBatchID(after) {
		return badCursor()
	}
	status, _ := c.query.members["status"].(string)
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	list, err := s.deps.Store.Batches(ctx, c.account.ID, batch.State(status), after, limit+1)
	if err != nil {
		return unavailable(err, "the archive does not answer at the moment; try again")
	}
	out := BatchList{Data: []Batch{}, HasMore: len(list) > limit}
	if out.HasMore {
		list = list[:limit]
		out.NextCursor = &list[limit-1].ID
	}
	for i, running := range s.runningOf(r.Context(), c.account.ID, list...) {
		out.Data = append(out.Data, *presentBatch(list[i], running, time.Time{}, s.cfg.PublicURL))
	}
	return writeJSON(w, http.StatusOK, out)
}

// isBatchID reports an id that a batch may have.
func isBatchID(id string) bool {
	text, ok := strings.CutPrefix(id, "batch_")
	_, err := job.ParseID("job_" + text)
	return ok && err == nil
}

// cancelBatch is POST /v1/batches/{id}/cancel.
func (s *Server) cancelBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	return s.changeBatch(w, r, c, s.deps.Store.CancelBatch, func(b *batch.Batch) error {
		switch b.State {
		case batch.Canceling, batch.Canceled:
			return nil
		case batch.Finalizing:
			return fault.New(fault.Conflict, "every job of the batch has ended; there is nothing left to cancel")
		}
		return batchHasEnded(b)
	})
}

// pauseBatch is POST /v1/batches/{id}/pause.
func (s *Server) pauseBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	return s.changeBatch(w, r, c, s.deps.Store.PauseBatch, func(b *batch.Batch) error {
		switch {
		case b.State == batch.Paused:
			return nil
		case b.State.Ended():
			return batchHasEnded(b)
		}
		return fault.New(fault.Conflict, "the batch is %s; it can be paused while it is running", b.State)
	})
}

// resumeBatch is POST /v1/batches/{id}/resume.
func (s *Server) resumeBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	return s.changeBatch(w, r, c, s.deps.Store.ResumeBatch, func(b *batch.Batch) error {
		switch {
		case b.State.Ended():
			return batchHasEnded(b)
		case b.State == batch.Canceling:
			return fault.New(fault.Conflict, "the batch is being canceled")
		}
		return nil
	})
}

// retryBatch is POST /v1/batches/{id}/retry-failed.
func (s *Server) retryBatch(w http.ResponseWriter, r *http.Request, c *call) error {
	retry := func(ctx context.Context, accountID, id string) (*batch.Batch, bool, error) {
		return s.deps.Store.RetryBatch(ctx, accountID, id, batchExpires)
	}
	return s.changeBatch(w, r, c, retry, func(b *batch.Batch) error {
		if b.State != batch.Completed {
			return fault.New(fault.Conflict, "the batch is %s; what failed is tried again once it is completed", b.State)
		}
		return fault.New(fault.Conflict, "no line failed that a job can be made of; errors lists those of which none can")
	})
}

func batchHasEnded(b *batch.Batch) error {
	return &fault.Error{
		Kind: fault.Conflict, Code: "already_finished", Detail: "the batch has ended as " + string(b.State),
		Extra: map[string]any{"batch_status": b.State},
	}
}

// changeBatch does something to a batch and answers with it. refuse says whether
// it is an error that it was in no state for that.
func (s *Server) changeBatch(w http.ResponseWriter, r *http.Request, c *call,
	change func(ctx context.Context, accountID, id string) (*batch.Batch, bool, error), refuse func(*batch.Batch) error,
) error {
	b, err := s.batchOfPath(r, c)
	if err != nil {
		return err
	}
	ctx, cancel := s.detached(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	b, changed, err := change(ctx, c.account.ID, b.ID)
	if err != nil {
		return unavailable(err, "the archive does not answer at the moment; try again")
	}
	if !changed {
		if err := refuse(b); err != nil {
			return err
		}
	}
	s.feeder.changed(b.ID)
	return s.showBatch(w, r, b)
}
