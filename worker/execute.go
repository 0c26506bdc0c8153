package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/worker/capture"
)

// uploadReserve is kept of the wall budget for the upload, but never more than
// a tenth of it.
const uploadReserve = 5 * time.Second

var (
	errWall   = errors.New("the wall budget is over")
	errRender = errors.New("the wall budget but for the upload is over")
)

// execute takes l on seat s from its assignment to its report.
func (w *Worker) execute(l *lease, s *seat) {
	log := w.log.With("job", l.Job, "account", l.Account, "attempt", l.Attempt)
	r := w.attempt(l, s, log)
	took := time.Since(l.received)
	if l.ctx.Err() != nil || !w.leases.finish(l, r) {
		why, _ := errors.AsType[drop](context.Cause(l.ctx))
		w.metrics.attempts.WithLabelValues(string(why)).Inc()
		log.Info("lease dropped", "took", took, "err", context.Cause(l.ctx))
		return
	}
	if f := r.failed; f != nil {
		w.metrics.attempts.WithLabelValues("failed").Inc()
		log.Info("attempt failed", "code", f.Failure.Code, "stage", f.Failure.Stage, "took", took)
		return
	}
	w.metrics.attempts.WithLabelValues("succeeded").Inc()
	log.Debug("artifact stored", "bytes", r.done.Result.SizeBytes, "took", took)
}

// attempt gets the spec, renders and stores. Its report is worth nothing once
// the lease's context has ended.
func (w *Worker) attempt(l *lease, s *seat, log *slog.Logger) *report {
	budget := time.Duration(l.WallMs) * time.Millisecond
	wall := l.received.Add(budget)
	ctx, cancel := context.WithDeadlineCause(l.ctx, wall, errWall)
	defer cancel()
	renderCtx, cancelRender := context.WithDeadlineCause(ctx, wall.Add(-min(uploadReserve, budget/10)), errRender)
	defer cancelRender()

	spec, failure := w.spec(renderCtx, l, log)
	if failure != nil {
		return l.failed(failure, capture.Outcome{})
	}
	switch {
	case l.ctx.Err() != nil:
		return nil
	case renderCtx.Err() != nil:
		return l.failed(job.Fail(job.WallTimeout, job.StageQueue, "the job's time was over before its page was opened"), capture.Outcome{})
	}
	out := render(renderCtx, s, job.ID(l.Job), spec, log)
	switch {
	case out.Failure != nil:
		return l.failed(out.Failure, out)
	case l.ctx.Err() != nil: // stored, it would be an orphan
		return nil
	}

	begin := time.Now()
	err := w.bucket.put(ctx, l.PutUrl, l.PutHeaders, out.Artifact.Body)
	took := time.Since(begin)
	out.Timings.UploadMS = took.Milliseconds()
	if err != nil {
		if l.ctx.Err() == nil {
			w.metrics.upload.WithLabelValues("failed").Observe(took.Seconds())
			log.Warn("artifact not stored", "took", took, "err", err)
		}
		return l.failed(job.Fail(job.StorageFailed, job.StageUpload, "the page was rendered, but the object store did not take the artifact; try again"), out)
	}
	w.metrics.upload.WithLabelValues("ok").Observe(took.Seconds())
	return l.done(spec, out)
}

// spec is the spec of l, fetched if the leader sent only the place where it is.
func (w *Worker) spec(ctx context.Context, l *lease, log *slog.Logger) (*job.Spec, *job.Failure) {
	raw := l.Spec
	if l.SpecUrl != "" {
		var err error
		if raw, err = w.bucket.fetch(ctx, l.SpecUrl, maxSpec); err != nil {
			if l.ctx.Err() == nil {
				log.Warn("spec not fetched", "err", err)
			}
			return nil, job.Fail(job.StorageFailed, job.StageQueue, "the job's options could not be read from the object store; try again")
		}
	}
	spec, err := job.ParseSpec(raw)
	if err != nil {
		log.Error("spec not readable", "err", err)
		return nil, job.Fail(job.Internal, job.StageQueue, "the job's stored options could not be read")
	}
	if spec.Secrets, err = job.ParseSecrets(l.Secrets); err != nil || !slices.Equal(spec.Secrets.Given(), spec.Secret) {
		log.Error("the secrets of a job are not those that its spec names", "names", spec.Secret, "came", spec.Secrets.Given(), "err", err)
		return nil, job.Fail(job.Internal, job.StageQueue, "what the job says to the page's server did not reach the worker")
	}
	return spec, nil
}

// render renders on s. It returns an outcome with exactly one of artifact and
// failure, also when the seat panics or breaks its promise: that costs one
// attempt, not the worker.
func render(ctx context.Context, s *seat, id job.ID, spec *job.Spec, log *slog.Logger) (out capture.Outcome) {
	internal := job.Fail(job.Internal, job.StageCapture, "the worker failed in this attempt; its log says why")
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic in a render", "err", fmt.Errorf("%v\n%s", p, debug.Stack()))
			out = capture.Outcome{Failure: internal}
		}
	}()
	out = s.Render(ctx, id, spec)
	if out.Failure == nil && (out.Artifact == nil || len(out.Artifact.Body) == 0) {
		log.Error("a render without artifact and failure")
		out.Failure = internal
	}
	return out
}

// done is the report of a stored artifact.
func (l *lease) done(spec *job.Spec, out capture.Outcome) *report {
	a := out.Artifact
	sum := sha256.Sum256(a.Body)
	return &report{done: &pb.Done{
		Token: l.Token, Job: l.Job,
		Result: wire.Result(&job.Result{
			ContentType: spec.Format.ContentType(), Width: a.Width, Height: a.Height, Pages: a.Pages,
			SizeBytes: int64(len(a.Body)), SHA256: hex.EncodeToString(sum[:]),
		}),
		Timings:  l.timings(out),
		Evidence: wire.Evidence(out.Evidence),
	}}
}

// failed is the report of an attempt without an artifact.
func (l *lease) failed(f *job.Failure, out capture.Outcome) *report {
	return &report{failed: &pb.Failed{
		Token: l.Token, Job: l.Job, Failure: wire.Failure(f),
		Timings: l.timings(out), Evidence: wire.Evidence(out.Evidence),
	}}
}

// timings are the seat's, and the whole from the assignment to now. The time in
// the queue is the leader's to know.
func (l *lease) timings(out capture.Outcome) *pb.Timings {
	t := out.Timings
	t.QueueMS, t.TotalMS = 0, time.Since(l.received).Milliseconds()
	return wire.Timings(&t)
}
