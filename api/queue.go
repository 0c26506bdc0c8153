package api

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// queueFresh is how long the leader's answer about the queue is repeated.
	queueFresh = 250 * time.Millisecond
	// queuePause is between two questions about the queue, whoever wants to know
	// what: a question asks for all accounts that have gathered meanwhile.
	queuePause = 25 * time.Millisecond
)

// getQueue is GET /v1/queue.
func (s *Server) getQueue(w http.ResponseWriter, r *http.Request, c *call) error {
	q, own, err := s.busy(r.Context(), c.account.ID)
	if err != nil {
		return err
	}
	out := Queue{Length: int(q.Length), Seats: int(q.Seats), Tiers: make([]QueueTier, len(q.Tiers))}
	for i, t := range q.Tiers {
		jobs := t.Jobs
		out.Tiers[i] = QueueTier{
			Tier: int(t.Tier), Accepting: t.Accepting, Counted: int(t.Counted), DrainPerS: orNull(math.Round(t.DrainPerS*1000) / 1000),
			Waiting: int(jobs.GetWaiting()), Running: int(jobs.GetRunning()), Parked: int(jobs.GetParked()), Retrying: int(jobs.GetRetrying()),
		}
		if jobs.GetWaiting() > 0 {
			out.Tiers[i].OldestAgeMs = &t.OldestMs
		}
		out.Waiting += int(jobs.GetWaiting())
		out.Running += int(jobs.GetRunning())
		out.Parked += int(jobs.GetParked())
		out.Retrying += int(jobs.GetRetrying())
	}
	out.Account = QueueAccount{
		Tier: c.plan.Tier, Threads: c.plan.Threads,
		Waiting: int(own.GetWaiting()), Running: int(own.GetRunning()), Parked: int(own.GetParked()), Retrying: int(own.GetRetrying()),
	}
	if out.Account.Threads == 0 { // as many as the farm has seats
		out.Account.Threads = max(out.Seats, 1)
	}
	return writeJSON(w, http.StatusOK, out)
}

// pressure is GET /pressure. A tier is full before those above it, so the queue
// is when the highest is.
func (s *Server) pressure(w http.ResponseWriter, r *http.Request, _ *call) error {
	q, _, err := s.busy(r.Context(), "")
	if fault.Is(err, fault.Canceled) && r.Context().Err() != nil {
		return err
	}
	out := Pressure{Available: true}
	refuse := func(reason string) { out.Available, out.Reason = false, &reason }
	wait := time.Second
	if err != nil {
		refuse("no_leader")
		wait = fault.From(err).Wait()
	} else {
		var running, queued int
		for _, t := range q.Tiers {
			running += int(t.Jobs.GetRunning())
			queued += int(t.Jobs.GetWaiting() + t.Jobs.GetParked() + t.Jobs.GetRetrying())
		}
		seats := int(q.Seats)
		out.Running, out.Queued, out.Seats = &running, &queued, &seats
		switch {
		case q.StorageFull:
			refuse("storage_full")
		case len(q.Tiers) > 0 && !q.Tiers[0].Accepting:
			refuse("queue_full")
		}
	}
	if closed(s.draining) {
		refuse("draining")
	}
	status := http.StatusOK
	if !out.Available {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter(wait, rand.Float64())))
	}
	return writeJSON(w, status, out)
}

// queueView is what the leader said last about the queue. However many want to
// know it, one question at a time is on its way, for all of them.
type queueView struct {
	mu      sync.Mutex
	last    *pb.Queue // guarded by mu, like all below
	lastAt  time.Time
	own     map[string]ownJobs // by account
	next    *inquiry           // gathers accounts; nil while nobody waits for it
	asking  bool
	askedAt time.Time
}

// ownJobs are an account's, at a moment.
type ownJobs struct {
	jobs *pb.Standing
	at   time.Time
}

// inquiry is one question to the leader.
type inquiry struct {
	accounts map[string]bool
	done     chan struct{} // closed when the rest is written
	queue    *pb.Queue
	own      map[string]*pb.Standing
	err      error
}

// busy is how busy the farm is, and with what of this account; "" is nobody's.
func (s *Server) busy(ctx context.Context, account string) (*pb.Queue, *pb.Standing, error) {
	v := &s.queue
	v.mu.Lock()
	own := v.own[account]
	if time.Since(v.lastAt) < queueFresh && (account == "" || time.Since(own.at) < queueFresh) {
		defer v.mu.Unlock()
		return v.last, own.jobs, nil
	}
	if v.next == nil {
		v.next = &inquiry{accounts: map[string]bool{}, done: make(chan struct{}), own: map[string]*pb.Standing{}}
	}
	n := v.next
	if account != "" {
		n.accounts[account] = true
	}
	if !v.asking {
		v.asking = true
		s.active.Go(s.inquire)
	}
	v.mu.Unlock()
	select {
	case <-n.done:
		return n.queue, n.own[account], n.err
	case <-ctx.Done():
		return nil, nil, fault.Wrap(fault.Canceled, context.Cause(ctx), "the client went away")
	}
}

// inquire asks the leader until nobody waits for an answer any more.
func (s *Server) inquire() {
	v := &s.queue
	for {
		v.mu.Lock()
		pause := queuePause - time.Since(v.askedAt)
		v.mu.Unlock()
		select {
		case <-time.After(pause): // at once when it is over
		case <-s.hard.Done():
		}
		v.mu.Lock()
		n := v.next
		if n == nil {
			v.asking = false
			v.mu.Unlock()
			return
		}
		v.next, v.askedAt = nil, time.Now()
		v.mu.Unlock()
		s.ask(n)
	}
}

// ask puts one question, keeps its answer and hands it out.
func (s *Server) ask(n *inquiry) {
	defer close(n.done)
	accounts := make([]string, 0, len(n.accounts))
	for account := range n.accounts {
		accounts = append(accounts, account)
	}
	ctx, cancel := context.WithTimeoutCause(s.hard, answerWithin, errors.New("the scheduler did not answer in time"))
	defer cancel()
	if n.queue, n.err = s.front.queue(ctx, accounts); n.err != nil {
		return
	}
	v := &s.queue
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	v.last, v.lastAt = n.queue, now
	kept := make(map[string]ownJobs, len(accounts))
	for account, own := range v.own {
		if now.Sub(own.at) < queueFresh {
			kept[account] = own
		}
	}
	for i, account := range accounts {
		n.own[account] = n.queue.Accounts[i].Jobs
		kept[account] = ownJobs{n.own[account], now}
	}
	v.own = kept
}
