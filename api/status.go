package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	maxWait = 60 * time.Second
	// fresh is the age up to which an unknown id may still be decided: the
	// leader refuses records older than 12 s.
	fresh = 15 * time.Second
	// storeWithin bounds one question to the archive.
	storeWithin = 3 * time.Second
	// retryPause is the pause between two tries of a wait whose leader is gone.
	retryPause = 250 * time.Millisecond
)

// waitFrom reads ?wait= and Prefer: wait= (RFC 7240), the first before the
// second. applied is the Preference-Applied to answer with.
func waitFrom(r *http.Request, query *input) (wait time.Duration, applied string, err error) {
	if text, ok := query.members["wait"].(string); ok {
		seconds, err := strconv.Atoi(strings.TrimSuffix(text, "s"))
		if err != nil {
			return 0, "", invalid(fault.Field{Pointer: "wait", Detail: "must be whole seconds, with or without s"})
		}
		return min(time.Duration(seconds)*time.Second, maxWait), "", nil
	}
	for _, line := range r.Header.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";") // its parameters
			name, value, _ := strings.Cut(preference, "=")
			value = strings.TrimSuffix(strings.Trim(strings.TrimSpace(value), `"`), "s")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") || len(value) > 9 {
				continue
			}
			seconds, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				continue // a preference that is not understood is ignored
			}
			wait = min(time.Duration(seconds)*time.Second, maxWait)
			return wait, "wait=" + strconv.Itoa(int(wait/time.Second)), nil
		}
	}
	return 0, "", nil
}

// jobID reads the id of the path. What is no id names no job.
func jobID(r *http.Request) (job.ID, error) {
	id, err := job.ParseID(r.PathValue("id"))
	if err != nil {
		return "", noJob()
	}
	return id, nil
}

func noJob() error { return fault.New(fault.NotFound, "there is no such job") }

// find looks a job up, at the leader and then in the archive; with a wait the
// leader answers when the job has ended or the wait is over.
//
// Only two noes make a 404, and an id that may still be on its way to its
// decision is not unknown yet.
func (s *Server) find(ctx context.Context, id job.ID, accountID string, wait time.Duration) (*job.Job, error) {
	j, _, err := s.findAt(ctx, id, accountID, wait)
	return j, err
}

// findAt is find that also tells from which event of the ledger on the answer
// says nothing; 0 where the leader does not know the job any more.
func (s *Server) findAt(ctx context.Context, id job.ID, accountID string, wait time.Duration) (*job.Job, uint64, error) {
	j, token, known, err := s.front.lookup(ctx, id, accountID, wait)
	if err != nil && fault.Is(err, fault.Canceled) {
		return nil, 0, err
	}
	if !known {
		token = 0
		var inArchive error
		if j, inArchive = s.archived(ctx, id); inArchive != nil {
			switch {
			case err != nil:
				return nil, 0, err // the leader's silence weighs more
			case !fault.Is(inArchive, fault.NotFound):
				return nil, 0, inArchive
			case isFresh(id, time.Now()):
				return nil, 0, &fault.Error{
					Kind: fault.Unavailable, RetryAfter: 2 * time.Second,
					Detail: "this id is new and not known yet; if it is not there later, it was not accepted",
				}
			}
			return nil, 0, noJob()
		}
	}
	if j.Account != accountID {
		return nil, 0, noJob()
	}
	if err := retained(j, time.Now()); err != nil {
		return nil, 0, err
	}
	return j, token, nil
}

// retained is nil while the retention of a job lasts. Its row may be there for
// a while longer.
func retained(j *job.Job, now time.Time) error {
	if j.ExpiresAt.IsZero() || now.Before(j.ExpiresAt) {
		return nil
	}
	return fault.New(fault.Gone, "the job's retention ended at %s", j.ExpiresAt.UTC().Format(time.RFC3339))
}

// isFresh reports an id that may have been made moments ago, here or on a
// replica whose clock is a little ahead.
func isFresh(id job.ID, now time.Time) bool {
	return now.Sub(id.Time()).Abs() < fresh
}

// archived asks the archive.
func (s *Server) archived(ctx context.Context, id job.ID) (*job.Job, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	j, err := s.deps.Store.Job(ctx, id)
	if err != nil {
		return nil, unavailable(err, "the archive does not answer at the moment; try again")
	}
	return j, nil
}

// await is find until the job has ended or the wait is over, also when the
// leader changes meanwhile. When enough is closed it answers with what is
// there: a long poll need not hold up a drain. accepted says that the caller
// knows of the job's acceptance, so that an unavailable answer will pass; of
// any other id one that comes at once is the answer.
func (s *Server) await(ctx context.Context, id job.ID, accountID string, wait time.Duration, enough <-chan struct{}, accepted bool) (*job.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting, over := context.WithTimeout(ctx, wait)
	defer over()
	go func() {
		select {
		case <-enough:
			over()
		case <-waiting.Done():
		}
	}()
	began := time.Now()
	until := began.Add(wait)
	for waiting.Err() == nil {
		j, err := s.find(waiting, id, accountID, time.Until(until))
		if err == nil && j.State.Terminal() {
			return j, nil
		}
		accepted = accepted || err == nil || time.Since(began) > retryPause
		if err != nil && waiting.Err() == nil && !(accepted && fault.Is(err, fault.Unavailable)) {
			return nil, err
		}
		select {
		case <-waiting.Done():
		case <-time.After(retryPause):
		}
	}
	return s.find(ctx, id, accountID, 0)
}

// getJob is GET /v1/jobs/{id}.
func (s *Server) getJob(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	wait, applied, err := waitFrom(r, c.query)
	if err != nil {
		return err
	}
	var j *job.Job
	if wait == 0 {
		j, err = s.find(r.Context(), id, c.account.ID, 0)
	} else {
		linger(w, wait)
		j, err = s.await(r.Context(), id, c.account.ID, wait, s.draining, false)
	}
	if err != nil {
		return err
	}
	return s.writeJob(w, http.StatusOK, j, applied)
}

// cancelJob is DELETE /v1/jobs/{id}.
func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := jobID(r)
	if err != nil {
		return err
	}
	j, known, err := s.front.cancel(r.Context(), id, c.account.ID)
	if err != nil && !fault.Is(err, fault.Unavailable) {
		return err
	}
	if !known {
		// It may have ended long ago: the archive knows, and find knows how to
		// say no. An unfinished job that appears now was decided after our
		// question, or its leader is gone.
		later, findErr := s.find(r.Context(), id, c.account.ID, 0)
		switch {
		case findErr != nil:
			return findErr
		case !later.State.Terminal():
			return noLeader()
		}
		j = later
	}
	if j.Account != c.account.ID {
		return noJob()
	}
	if j.State != job.Canceled {
		return &fault.Error{
			Kind: fault.Conflict, Code: "already_finished", Detail: "the job has ended as " + string(j.State) + "; there is nothing to cancel",
			Extra: map[string]any{"job_status": j.State},
		}
	}
	return s.writeJob(w, http.StatusOK, j, "")
}
