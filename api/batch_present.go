package api

import (
	"time"

	"github.com/tintype/tintype/pkg/batch"
)

// presentBatch is a batch as the API shows it. Running is how many of its jobs
// have a seat now, and end when it will have ended; zero where nobody knows.
func presentBatch(b *batch.Batch, running int64, end time.Time, base string) *Batch {
	counts := b.Counts(running)
	self := base + "/v1/batches/" + b.ID
	v := &Batch{
		Id: b.ID, Status: BatchStatus(b.State), PausedReason: orNull(b.PausedReason), ResumeAt: timeOrNull(b.ResumeAt),
		CreatedAt: Time{b.CreatedAt}, StartedAt: timeOrNull(b.StartedAt), FinishedAt: timeOrNull(b.FinishedAt),
		ExpiresAt: Time{b.ExpiresAt}, KeptUntil: timeOrNull(b.KeptUntil),
		Format: BatchFormat(b.Format), OnError: OnError(b.OnError), CustomId: orNull(b.CustomID), Metadata: b.Metadata,
		Counts: BatchCounts{
			Total: counts.Total, Queued: counts.Queued, Running: counts.Running, Succeeded: counts.Succeeded,
			Failed: counts.Failed, Canceled: counts.Canceled, Expired: counts.Expired,
		},
		EstimatedEndAt: timeOrNull(end), Pass: b.Pass, InvalidLines: b.Invalid, Failure: orNull(b.Failure),
		Links: BatchLinks{
			Self: self, Results: self + "/results", Errors: self + "/errors", Events: self + "/events",
			Cancel: self + "/cancel", Pause: self + "/pause", Resume: self + "/resume", RetryFailed: self + "/retry-failed",
		},
	}
	if b.State != batch.Paused {
		v.PausedReason = nil // of one that expires it says how it ends
	}
	if b.State != batch.Paused || b.PausedReason != batch.PausedQuota {
		v.ResumeAt = nil // it is when others are looked at again
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	switch {
	case b.State.Ended():
		v.Progress = 1
	case counts.Total > 0:
		v.Progress = float64(counts.Total-counts.Queued-counts.Running) / float64(counts.Total)
	}
	return v
}
