package scheduler

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// cached is what answers a request without a render: what its replica found in
// the archive, or a result that may have come there too late for that; nil if
// nothing does.
func (l *leader) cached(env *pb.Envelope) *pb.Hit {
	if len(env.CacheKey) == 0 || env.Force || env.Revalidate {
		return nil
	}
	hit := l.recent(env)
	if h := env.Hit; h.GetResult() != nil && h.ExpiresUs > l.nowUS() && (hit == nil || h.MadeUs > hit.MadeUs) {
		hit = h
	}
	return hit
}

// recent is a fresh result that this leader remembers and that was not in the
// archive yet when the request's replica read that. What was there is the
// archive's to give: it alone knows of deletions.
func (l *leader) recent(env *pb.Envelope) *pb.Hit {
	e := l.board.fresh[string(env.CacheKey)]
	if e == nil || e.account != env.Account || l.s.landed.before(e.endSeq, env.SentUs) {
		return nil
	}
	j, now := e.end.Job, l.nowUS()
	if now >= min(e.end.FreshUntilUs, j.FinishedUs+env.TtlMs*1000, j.ExpiresUs) {
		return nil
	}
	return &pb.Hit{Job: e.id, Result: j.Result, MadeUs: j.FinishedUs, ExpiresUs: j.ExpiresUs, Evidence: j.Evidence}
}

// answerCached accepts a job and ends it in the same frame, with the result of
// another one. It takes no slot and costs nothing.
func (l *leader) answerCached(r stream.Submitted, t tenantView, hit *pb.Hit) *entry {
	env := r.Record.Envelope
	env.Hit = nil // the job's end says all of it
	a := &pb.Accepted{Envelope: env, JobsSeq: r.Seq, Tier: int32(t.plan.Tier), Place: pb.Place_PLACE_CACHED, Bytes: uint32(r.Size)}
	l.together(2, proto.Size(a)+proto.Size(r.Record.Body)+proto.Size(hit))
	p, _ := periodAt(env.Account, t, l.open().body.TimeUs)
	a.Period = p.day
	e := l.board.accept(a, r.Record.Body, l.now)
	l.finish(e, shared(hit))
	return e
}

// shared is the end of a job that gets another one's result.
func shared(hit *pb.Hit) ending {
	return ending{state: job.Succeeded, result: hit.Result, evidence: hit.Evidence, cached: true, expiresUS: hit.ExpiresUs}
}

// together makes sure that the next so many events, of about so many bytes,
// go into one frame.
func (l *leader) together(events, bytes int) {
	const each = 512 // of ids, times and the like
	f := l.open()
	if bytes += events * each; f.bytes > 0 && (f.bytes+bytes > frameBytes || len(f.body.Events)+events > frameEvents) {
		l.seal(f)
		l.open()
	}
}

// keep says in a job's end for how long its result answers identical requests.
func keep(fin *pb.Finished, env *pb.Envelope) {
	if len(env.CacheKey) > 0 && env.TtlMs > 0 {
		fin.CacheKey = env.CacheKey
		fin.FreshUntilUs = min(fin.Job.FinishedUs+env.TtlMs*1000, fin.Job.ExpiresUs)
	}
}

// landed remembers when frames came into the archive. Its zero value knows of
// none.
type landed struct {
	mu    sync.Mutex
	marks []landing // guarded by mu; oldest first
}

// landing says that all frames up to seq were in the archive then.
type landing struct {
	seq uint64
	us  int64
}

// note takes in how far the archive is now. What no record can be decided by
// any more, since it would be too old, is summed up.
func (l *landed) note(seq uint64, us int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := us - 2*staleAfter.Microseconds()
	if n := len(l.marks); n > 0 && l.marks[n-1].seq > seq {
		l.marks = nil // another database
	}
	if i := slices.IndexFunc(l.marks, func(m landing) bool { return m.us >= old }); i > 1 {
		l.marks = slices.Delete(l.marks, 0, i-1)
	}
	l.marks = append(l.marks, landing{seq, us})
}

// before reports whether a frame was in the archive before then, so that whoever
// read it after that has met what the frame says.
func (l *landed) before(seq uint64, us int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.marks, seq, func(m landing, seq uint64) int {
		if m.seq < seq {
			return -1
		}
		return 1
	})
	return i < len(l.marks) && l.marks[i].us < us
}

// noteLanded is called whenever the archive has been found to be so far.
func (s *Scheduler) noteLanded(seq uint64) {
	s.projected.Store(seq)
	s.landed.note(seq, time.Now().UnixMicro())
}
