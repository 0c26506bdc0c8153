package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	maxAttempts = 3
	// maxLosses is how often workers may lose a job until each further loss
	// counts, also one by a worker that is there and loses it again and again.
	maxLosses = 6
)

// ending is what an attempt, or its loss, says about the end of a job.
type ending struct {
	token    uint64 // of the lease whose report this is; 0 when it is nobody's
	state    job.State
	result   *pb.Result
	failure  *job.Failure
	timings  *pb.Timings
	evidence []byte

	cached    bool  // the result is another job's
	expiresUS int64 // end of that job's retention; set with cached
}

// finish appends a job's one end and answers whoever waits for it.
func (l *leader) finish(e *entry, end ending) {
	j := l.snapshot(e)
	nowUS := l.endUS()
	plan, _ := l.s.tenants.planOf(e.account)
	j.State, j.WaitingFor, j.Position, j.EstimatedStartUs = string(end.state), "", 0, 0
	j.FinishedUs, j.ExpiresUs = nowUS, nowUS+plan.Retention.Microseconds()
	j.Result, j.Failure, j.Evidence = end.result, wire.Failure(end.failure), end.evidence
	if j.Timings = end.timings; j.Timings != nil {
		j.Timings = proto.CloneOf(end.timings)
		j.Timings.QueueMs = max(0, (e.startedUS-e.acceptedUS)/1000)
	}
	fin := &pb.Finished{Token: end.token, Job: j, Period: e.period, KeyHash: e.env.KeyHash, Fingerprint: e.env.Fingerprint}
	switch {
	case end.cached:
		j.Cached, j.ExpiresUs = true, min(j.ExpiresUs, end.expiresUS)
	case end.state == job.Succeeded && end.token != 0: // else nobody rendered it
		j.Billable, fin.Units = e.units > 0, e.units
		keep(fin, e.env)
	}
	if end.state != job.Succeeded || j.Cached {
		e.taken.giveBack()
	}
	e.taken = nil
	l.board.finish(e, fin, l.now)
	l.settled(period{e.account, e.period}, reasonRender, fin.Units)
	l.s.metrics.finished.WithLabelValues(string(end.state)).Inc()
	if end.state == job.Failed {
		l.s.log.Info("job failed", "job", e.id, "account", e.account, "kind", end.failure.Code, "attempt", j.Attempts)
	}
	for _, w := range l.waiting[e.id] {
		w.timer.Stop()
		l.answer(w.session, w.call, &pb.Answer{Call: w.call, Answer: &pb.Answer_Job{Job: j}, Meters: l.metersOf(w.by)})
	}
	delete(l.waiting, e.id)
	switch {
	case len(fin.CacheKey) > 0:
		l.endServed(fin.CacheKey)
	case end.state == job.Canceled, end.state == job.Expired:
		l.cancelOrphan(e.env.CacheKey)
	}
}

// attemptFailed takes a worker's failure: the end of the job, or another
// attempt where the farm was at fault and one is left.
func (l *leader) attemptFailed(e *entry, end ending) {
	if end.failure.Code.FarmFault() && e.attempts < maxAttempts {
		l.s.log.Warn("attempt failed", "job", e.id, "attempt", e.attempts, "worker", e.lease.worker, "kind", end.failure.Code)
		l.board.release(e, pb.Released_REASON_FAILED, backOff(e.attempts), l.now, l.nowUS())
		return
	}
	end.state = job.Failed
	l.finish(e, end)
}

// lost ends the lease of a worker that fell silent, or that does not hold it.
func (l *leader) lost(e *entry) {
	le := e.lease
	l.s.metrics.lost.Inc()
	if !le.assigned {
		l.board.release(e, pb.Released_REASON_UNASSIGNED, 0, l.now, l.nowUS())
		return
	}
	l.s.log.Warn("a lease was lost", "job", e.id, "attempt", e.attempts, "worker", le.worker)
	if w := l.workers[le.worker]; w != nil {
		l.afterTell(w, func(m *pb.WorkDown) { m.Stale = append(m.Stale, le.token) })
	}
	reason := pb.Released_REASON_LOST
	if slices.Contains(e.lostBy, le.boot) && len(e.lostBy) < maxLosses {
		reason = pb.Released_REASON_LOST_AGAIN
	}
	if e.attempts < maxAttempts || !counted(reason) {
		l.board.release(e, reason, backOff(e.attempts), l.now, l.nowUS())
		return
	}
	l.finish(e, ending{state: job.Failed, failure: job.Fail(job.AttemptsExhausted, job.StageCapture,
		"the worker was lost on each of %d attempts; if it happens again this page may be what kills it", e.attempts)})
}

// backOff is the wait before the attempt after n: full jitter up to 1 s, 2 s,
// 4 s …, at most a minute.
func backOff(n uint32) time.Duration {
	most := min(time.Second<<min(n, 6), time.Minute)
	return time.Second/4 + rand.N(most)
}

// snapshot is a job as a client may see it now.
func (l *leader) snapshot(e *entry) *pb.Job {
	if e.end != nil {
		return e.end.Job
	}
	j := &pb.Job{
		Id: e.id, Account: e.account, State: string(e.state()), Tier: e.tier,
		AcceptedUs: e.acceptedUS, StartedUs: e.startedUS, Attempts: e.attempts, Body: withoutSecrets(e.body),
		Batch: e.env.GetBatch(), Line: e.env.GetLine(), Pass: e.env.GetPass(),
	}
	if e.lease == nil {
		place := l.board.position(e, l.now)
		j.WaitingFor, j.Position = string(e.waitsFor()), uint32(place)
		if wait := l.board.startIn(e, place, l.now); place > 0 && wait > 0 && l.seats() > 0 {
			j.EstimatedStartUs = l.now.Add(wait).UnixMicro()
		}
	}
	return j
}

// objectKey is where the artifact of an attempt goes. The token is in it, so
// two attempts never share an object.
func objectKey(account, id string, tok uint64, contentType string) string {
	ext := ".png"
	if f := job.FormatOf(contentType); f != "" {
		ext = f.Ext()
	}
	return fmt.Sprintf("r/%s/%s/%d%s", account, id, tok, ext)
}
