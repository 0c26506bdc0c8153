package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// lookupsAtOnce is how many jobs of a page are looked up side by side; they
// share messages to the leader.
const lookupsAtOnce = 32

// listJobs is GET /v1/jobs.
func (s *Server) listJobs(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	before := job.ID(after)
	if after != "" {
		if before, err = job.ParseID(after); err != nil {
			return badCursor()
		}
	}
	status, _ := c.query.members["status"].(string)
	state := job.State(status)
	var of *batch.Batch
	if id, ok := c.query.members["batch_id"].(string); ok {
		if of, err = s.batchNamed(r.Context(), c, id); err != nil {
			return err
		}
	}
	jobs, err := s.list(r.Context(), c.account.ID, state, of, before, limit+1)
	if err != nil {
		return err
	}
	out := JobList{Data: []Job{}, HasMore: len(jobs) > limit}
	if out.HasMore {
		jobs = jobs[:limit]
		cursor := string(jobs[limit-1].ID)
		out.NextCursor = &cursor
	}
	if err := s.lookUp(r.Context(), jobs, c.account.ID); err != nil {
		return err
	}
	for _, j := range jobs {
		if state != "" && j.State != state {
			continue // it went on between the list and the look-up
		}
		v, err := present(j, s.cfg.PublicURL)
		if err != nil {
			return err
		}
		out.Data = append(out.Data, *v)
	}
	return writeJSON(w, http.StatusOK, out)
}

// list merges what the leader knows with what the archive has, newest first; of
// one batch, or of all where that is nil.
// The leader comes first: a job that it does not name any more was in the
// archive before it answered, so none is missed between the two. A job that
// only the leader named has its id and nothing else.
func (s *Server) list(ctx context.Context, accountID string, state job.State, of *batch.Batch, before job.ID, limit int) ([]*job.Job, error) {
	batchID := ""
	if of != nil {
		batchID = of.ID
	}
	known, err := s.front.listed(ctx, accountID, state, batchID, before, limit)
	if err != nil {
		return nil, err
	}
	var jobs []*job.Job
	if state == "" || state.Terminal() {
		ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
		defer cancel()
		if of == nil {
			jobs, err = s.deps.Store.Jobs(ctx, accountID, state, before, limit)
		} else {
			jobs, err = s.deps.Store.JobsOfBatch(ctx, of, state, before, limit)
		}
		if err != nil {
			return nil, unavailable(err, "the archive does not answer at the moment; try again")
		}
	}
	filed := make(map[job.ID]bool, len(jobs))
	for _, j := range jobs {
		filed[j.ID] = true
	}
	for _, id := range known {
		if !filed[id] {
			jobs = append(jobs, &job.Job{ID: id})
		}
	}
	slices.SortFunc(jobs, func(a, b *job.Job) int { return cmp.Compare(b.ID, a.ID) })
	return jobs[:min(limit, len(jobs))], nil
}

// lookUp fills in the jobs that have an id alone.
func (s *Server) lookUp(ctx context.Context, jobs []*job.Job, accountID string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookupsAtOnce)
	for i, j := range jobs {
		if j.State != "" {
			continue
		}
		g.Go(func() (err error) {
			jobs[i], err = s.find(ctx, j.ID, accountID, 0)
			return err
		})
	}
	return g.Wait()
}

// page reads ?limit= and ?after=.
func page(query *input) (limit int, after string, err error) {
	limit = 50
	if n, ok := query.members["limit"].(json.Number); ok {
		if limit, err = strconv.Atoi(n.String()); err != nil {
			return 0, "", err
		}
	}
	after, _ = query.members["after"].(string)
	return limit, after, nil
}

func badCursor() error {
	return invalid(fault.Field{Pointer: "after", Detail: "is not a next_cursor of this list"})
}
