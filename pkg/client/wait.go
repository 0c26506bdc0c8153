package client

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// pollFor is how long one question of Wait waits; a watched one comes back
	// sooner, since a job's way from queue to seat wakes nobody.
	pollFor    = 30 * time.Second
	watchedFor = 2 * time.Second
	// absentFor is how long Wait bears a server that does not answer or is
	// unavailable: a restart or a take-over is shorter.
	absentFor = time.Minute
	pauseFor  = 500 * time.Millisecond
	mostPause = 10 * time.Second
)

// Wait returns the job once it has ended, well or badly. progress, if any, is
// called with each state that is seen on the way. A server that is gone for a
// minute, and any refusal that waiting does not help, is an error.
func (c *Client) Wait(ctx context.Context, id string, progress func(*Job)) (*Job, error) {
	wait := pollFor
	if progress != nil {
		wait = watchedFor
	}
	seen := time.Now()
	for {
		j, err := c.Get(ctx, id, wait)
		if err == nil {
			seen = time.Now()
			if progress != nil {
				progress(j)
			}
			if j.Ended() {
				return j, nil
			}
			continue
		}
		if ctx.Err() != nil { // also where the last answer was a refusal
			return nil, context.Cause(ctx)
		}
		pause, passing := Passes(err)
		pause = min(pause, mostPause)
		if !passing || time.Since(seen) > absentFor {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// Passes reports an error that is worth asking again after, and when: not
// before the server's Retry-After.
func Passes(err error) (time.Duration, bool) {
	if p, ok := errors.AsType[*Problem](err); ok {
		switch p.Status {
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return max(p.RetryAfter, pauseFor), true
		}
		return 0, false
	}
	return pauseFor, errors.Is(err, ErrUnreachable)
}

// Ended reports a job that will not change any more.
func (j *Job) Ended() bool {
	switch j.Status {
	case "succeeded", "failed", "canceled", "expired":
		return true
	}
	return false
}
