package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const (
	// queueWithin is how long a call that waits for its bytes may be in the
	// queue, beyond the wall budget of its plan.
	queueWithin = 2 * time.Minute
	// cancelWithin bounds the cancel of a job whose client went away.
	cancelWithin = 5 * time.Second
	// lookAgain is how often a drain looks whether a job still runs.
	lookAgain = time.Second
)

// render is /v1/screenshot and /v1/pdf: submit, wait, and answer with the
// bytes. The job is this call's: it is canceled when the client goes away, the
// wait is over, or a drain will not see its end, unless somebody else waits for
// it by then. With an Idempotency-Key it has whoever repeats the call, and goes
// on.
func (s *Server) render(format job.Format) handler {
	return func(w http.ResponseWriter, r *http.Request, c *call) error {
		in := c.query
		if r.Method == http.MethodPost {
			if err := invalid(in.problems...); err != nil {
				return err
			}
			body, err := readBody(w, r)
			if err != nil {
				return err
			}
			if in, err = c.op.decodeBody(body); err != nil {
				return err
			}
		}
		sub, err := submissionFrom(in, format, s.terms(c.account.ID, c.plan))
		if err != nil {
			return err
		}
		limit := c.plan.Wall + queueWithin
		linger(w, decideWithin+limit)
		key, err := s.keyedBy(c, r, in)
		if err != nil {
			return err
		}
		j, replay, err := s.submit(r.Context(), c, sub, key)
		if err != nil {
			s.throttled(c, fault.From(err))
			return err
		}
		sub.tellStale(w.Header())
		w.Header().Set("X-Job-Id", string(j.ID))
		if replay {
			w.Header().Set("X-Idempotent-Replay", "true")
		}
		switch {
		case j.State.Terminal():
		case key != nil:
			// Accepted is accepted: whatever goes wrong while waiting is a 202.
			if later, err := s.await(r.Context(), j.ID, j.Account, limit, s.draining, true); err == nil {
				j = later
			}
			if !j.State.Terminal() {
				return s.writeJob(w, http.StatusAccepted, j, "")
			}
		default:
			if j, err = s.finish(r.Context(), j, limit); err != nil {
				return err
			}
		}
		describe(w.Header(), j)
		c.bill.cached = c.link && j.Cached
		if replay {
			w.Header().Set("X-Render-Billable", "false") // it was billed before, if it was
		}
		switch {
		case j.State != job.Succeeded:
			return failed(j)
		case j.Result.Gone:
			return fault.New(fault.Gone, "the artifact was deleted")
		}
		renderIn(w.Header(), c.plan.Dialect, j, s.node)
		for _, conditional := range []string{"Range", "If-Range", "If-None-Match", "If-Match"} {
			r.Header.Del(conditional) // they are about an artifact, and this was a new one
		}
		return s.sendArtifact(w, r, j)
	}
}

// finish waits for the job's end and cancels it if that does not come.
//
// When a drain begins, a job that runs is waited for until the drain's limit,
// and one that is still queued, or is again, is given up at once. In a process
// with the only worker it could never start; beside workers of their own it
// might, but not surely in time, and its client is better sent to a replica
// that stays while it can still have an answer.
func (s *Server) finish(client context.Context, j *job.Job, limit time.Duration) (*job.Job, error) {
	until := time.Now().Add(limit)
	later, err := s.await(client, j.ID, j.Account, limit, s.draining, true)
	for closed(s.draining) && !closed(s.late) && client.Err() == nil && time.Now().Before(until) {
		if inWork := err == nil && later.State == job.Running; !inWork && !fault.Is(err, fault.Unavailable) {
			break
		}
		later, err = s.await(client, j.ID, j.Account, min(time.Until(until), lookAgain), s.late, true)
	}
	if err == nil && later.State.Terminal() {
		return later, nil
	}
	ctx, cancel := s.detached(client, cancelWithin, errors.New("the cancel took too long"))
	defer cancel()
	ended, known, cancelErr := s.front.abandon(ctx, j.ID, j.Account)
	goesOn := cancelErr == nil && known && !ended.State.Terminal()
	if cancelErr == nil && known && ended.State != job.Canceled && !goesOn {
		return ended, nil // it was faster
	}
	became := "was canceled"
	if goesOn {
		became = "goes on for somebody else who waits for it"
	}
	if cancelErr != nil {
		s.log.Warn("a job that nobody waits for was not canceled", "job", j.ID, "account", j.Account, "err", cancelErr)
	}
	if client.Err() != nil {
		return nil, fault.Wrap(fault.Canceled, client.Err(), "the client went away")
	}
	switch {
	case err != nil:
	case closed(s.draining):
		err = &fault.Error{
			Kind: fault.Unavailable, RetryAfter: 2 * time.Second,
			Detail: "this server is stopping; the job has not ended and " + became + "; send the request again",
		}
	default:
		err = &fault.Error{
			Kind: fault.Timeout, Detail: fmt.Sprintf("the job did not end within %s and %s; POST /v1/jobs waits in the queue for as long as it takes", limit, became),
		}
	}
	f := fault.From(err)
	f.Extra = map[string]any{"job_id": j.ID}
	return nil, f
}

// describe says in headers what the render cost and where its time went.
func describe(h http.Header, j *job.Job) {
	h.Set("X-Render-Cached", strconv.FormatBool(j.Cached))
	h.Set("X-Render-Billable", strconv.FormatBool(j.Billable != nil && *j.Billable))
	timing(h, j)
}

// timing tells where the time of the attempt that ended the job went.
func timing(h http.Header, j *job.Job) {
	if t := j.Timings; t != nil {
		var stages []string
		for _, stage := range []struct {
			name string
			ms   int64
		}{
			{"queue", t.QueueMS},
			{"navigate", t.NavigateMS},
			{"wait", t.WaitMS},
			{"capture", t.CaptureMS},
			{"upload", t.UploadMS},
			{"total", t.TotalMS},
		} {
			stages = append(stages, fmt.Sprintf("%s;dur=%d", stage.name, stage.ms))
		}
		h.Set("Server-Timing", strings.Join(stages, ", "))
	}
}
