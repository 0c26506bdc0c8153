package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// refreshPause is how long after a refresh was submitted here no other one of
// its picture is: the leader would drop it, but each costs a record.
const refreshPause = time.Second

// refreshes are the pictures that are being made anew behind a stale answer.
// Its zero value is none.
type refreshes struct {
	mu    sync.Mutex
	until map[string]time.Time // by cache key; guarded by mu
}

// take reports whether a refresh of this picture is due.
func (r *refreshes) take(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, until := range r.until {
		if !now.Before(until) {
			delete(r.until, other)
		}
	}
	if _, pending := r.until[key]; pending {
		return false
	}
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	r.until[key] = now.Add(refreshPause)
	return true
}

// begin has what was answered with a stale result rendered anew, as a job of
// the same account that nobody waits for. What the leader refuses of it, for
// threads, for quota or because one is under way, is refused silently.
func (r *refreshes) begin(s *Server, of *pb.Envelope, spec job.Spec) {
	if !r.take(string(of.CacheKey), time.Now()) {
		return
	}
	env := &pb.Envelope{
		Id: string(job.NewID()), Account: of.Account, Api: s.boot, Host: of.Host, ContentType: of.ContentType,
		Key: of.Key, Address: of.Address, CacheKey: of.CacheKey, TtlMs: of.TtlMs, Revalidate: true,
	}
	s.active.Add(1) // by a request, so that a drain does not wait for it and miss this
	go func() {
		defer s.active.Done()
		if err := s.refresh(env, spec); err != nil {
			s.log.Debug("a stale result is not refreshed", "job", env.Id, "account", env.Account, "err", err)
		}
	}()
}

func (s *Server) refresh(env *pb.Envelope, spec job.Spec) (err error) {
	ctx, cancel := s.detached(context.Background(), decideWithin, errors.New("no decision came in time"))
	defer cancel()
	if env.SentUs, err = s.front.clock(); err != nil {
		return err
	}
	j := &job.Job{ID: job.ID(env.Id), Account: env.Account, State: job.Queued, Options: spec.Marshal()}
	decision, err := s.front.expect(ctx, j.ID)
	if err != nil {
		return err
	}
	defer decision.forget()
	rec := &pb.Record{Envelope: env, Body: new(pb.Body)}
	if err := s.placeSpec(ctx, j, spec, rec.Body); err != nil {
		return err
	}
	if err = s.publish(ctx, rec, decision); err == nil {
		err = accepted(decision.verdict, j)
	}
	if rec.Body.SpecObject != "" && surelyRefused(err) {
		s.discard(rec.Body.SpecObject)
	}
	return err
}
