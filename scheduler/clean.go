package scheduler

import (
	"crypto/sha256"
	"encoding/json"
	"math"
	"slices"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A worker runs strangers' code, so nothing that it reports goes into the
// ledger unbounded: a frame that is too large, or a row that the archive
// refuses, would stop more than the one job.

// cleanEvidence bounds what a worker says of a page; nil when it is no
// evidence.
func cleanEvidence(evidence []byte) []byte {
	ev := wire.FromEvidence(evidence) // cleans it
	if ev == nil {
		return nil
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return nil
	}
	return b
}

// cleanFailure is a failure with a code and a stage that exist and a short
// text.
func cleanFailure(p *pb.Failure) *job.Failure {
	f := wire.FromFailure(p)
	if f == nil {
		return job.Fail(job.Internal, job.StageCapture, "the worker gave no reason")
	}
	if !slices.Contains(job.Stages, f.Stage) {
		f.Stage = job.StageCapture
	}
	f.Detail = job.CleanText(f.Detail)
	return f
}

// cleanResult is a result whose numbers the archive can hold. A digest that is
// none is left out: delivery then finds the artifact lost.
func cleanResult(r *pb.Result) *pb.Result {
	bounded := func(n uint32) uint32 { return min(n, math.MaxInt32) }
	out := &pb.Result{
		Width: bounded(r.GetWidth()), Height: bounded(r.GetHeight()), Pages: bounded(r.GetPages()),
		SizeBytes: max(r.GetSizeBytes(), 0),
	}
	if sum := r.GetSha256(); len(sum) == sha256.Size {
		out.Sha256 = sum
	}
	return out
}
