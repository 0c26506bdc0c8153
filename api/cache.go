package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// cacheWithin bounds the question what is cached: a render takes little
	// longer than an archive that does not answer sooner.
	cacheWithin = 500 * time.Millisecond
	// cacheRest is how long the archive is not asked after that.
	cacheRest = time.Second
)

// staleHeader tells of a cached result that is older than it may be, while a
// fresh one is being made.
const staleHeader = "X-Render-Stale"

// ttl is for how long a submission takes and keeps results: what it says, or
// what its plan does.
func (sub *submission) ttl(plan account.Plan) time.Duration {
	if sub.ttlS != nil {
		return time.Duration(*sub.ttlS) * time.Second
	}
	return plan.CacheTTL
}

// fillCache writes into the envelope what makes two jobs the same picture, and
// what the archive has of it. Where that does not answer the page is rendered.
func (s *Server) fillCache(ctx context.Context, env *pb.Envelope, sub *submission, plan account.Plan) {
	ttl := sub.ttl(plan)
	if ttl <= 0 {
		return
	}
	env.CacheKey, env.TtlMs, env.Force = sub.spec.CacheKey(env.Account, s.digested(env.Account)), ttl.Milliseconds(), sub.force
	if sub.force {
		return
	}
	a := s.kept(ctx, env.Account, env.CacheKey)
	if a == nil {
		return
	}
	// By the leader's clock, which dated the artifact too.
	now := wire.Time(env.SentUs)
	fresh := a.MadeAt.Add(ttl)
	if a.FreshUntil.Before(fresh) {
		fresh = a.FreshUntil
	}
	if now.Before(fresh.Add(plan.Stale)) && now.Before(a.ExpiresAt) {
		sub.stale = !now.Before(fresh)
		env.Hit = &pb.Hit{
			Job: string(a.Job), Result: wire.Result(a.Result), Evidence: wire.Evidence(a.Evidence),
			MadeUs: wire.Micros(a.MadeAt), ExpiresUs: wire.Micros(a.ExpiresAt),
		}
	}
}

// kept asks the archive for what is cached; nil when there is nothing, or no
// answer.
func (s *Server) kept(ctx context.Context, accountID string, key []byte) *job.Artifact {
	if s.cacheRest.on(time.Now()) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cacheWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	a, err := s.deps.Store.Artifact(ctx, accountID, key)
	switch {
	case err == nil:
		return a
	case !fault.Is(err, fault.NotFound):
		s.cacheRest.begin(time.Now().Add(cacheRest))
		s.log.Warn("the archive was not asked for a cached result", "account", accountID, "err", err)
	}
	return nil
}

// rest is a pause. Its zero value is none.
type rest struct {
	mu    sync.Mutex
	until time.Time // guarded by mu
}

func (r *rest) on(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.until)
}

func (r *rest) begin(until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = until
}

// ended takes in the job that a submission became when it was answered from the
// cache: with what the archive had, or with something newer that the leader did.
func (sub *submission) ended(j *pb.Job, hit *pb.Hit) {
	sub.stale = sub.stale && hit != nil && j.GetResult().GetObject() == hit.Result.Object
}

// tellStale says so in a header.
func (sub *submission) tellStale(h http.Header) {
	if sub.stale {
		h.Set(staleHeader, "true")
	}
}

// owner is the job whose object j's result is: another one's, where that was
// cached.
func owner(j *job.Job) job.ID {
	if parts := strings.Split(j.Result.Object, "/"); len(parts) == 4 {
		if id, err := job.ParseID(parts[2]); err == nil {
			return id
		}
	}
	return j.ID
}

// goneWith says that a result which j shares was deleted with the job that made
// it; nil when it was not.
func (s *Server) goneWith(ctx context.Context, j *job.Job) error {
	id := owner(j)
	if id == j.ID {
		return nil
	}
	maker, err := s.archived(ctx, id)
	switch {
	case fault.Is(err, fault.NotFound): // it has ended a moment ago
		return nil
	case err != nil:
		return err
	case maker.Result != nil && maker.Result.Gone:
		return fault.New(fault.Gone, "the artifact was deleted with %s, which it was cached from", id)
	}
	return nil
}
