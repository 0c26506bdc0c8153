// Package wire turns the domain into the messages that tiers exchange, and
// back.
//
// It promises that a round trip loses nothing a client may see, that a fault's
// cause never travels, and that an unknown name from a newer release becomes
// the safe one (Internal). It holds no connection and no state.
package wire

import (
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Micros is t as the wire has it: microseconds since 1970, 0 for the zero
// time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of Micros, in UTC.
func Time(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// FromJob reads a job off the wire. Evidence that does not parse is left out:
// it came from a worker.
func FromJob(p *pb.Job) *job.Job {
	if p == nil {
		return nil
	}
	j := &job.Job{
		ID: job.ID(p.Id), Account: p.Account, State: job.State(p.State), WaitingFor: job.WaitingFor(p.WaitingFor),
		Position: int(p.Position), StartsAt: Time(p.EstimatedStartUs), Tier: int(p.Tier),
		CreatedAt: Time(p.AcceptedUs), StartedAt: Time(p.StartedUs), FinishedAt: Time(p.FinishedUs), ExpiresAt: Time(p.ExpiresUs),
		Attempts: int(p.Attempts), Cached: p.Cached,
		CustomID: p.GetBody().GetCustomId(), Metadata: p.GetBody().GetMetadata(), Options: p.GetBody().GetSpec(),
		Batch: p.Batch, Line: int(p.Line), Pass: int(p.Pass), Webhook: FromWebhook(p.GetBody().GetWebhook()),
		Result: FromResult(p.Result), Failure: FromFailure(p.Failure), Timings: FromTimings(p.Timings), Evidence: FromEvidence(p.Evidence),
	}
	if p.FinishedUs != 0 {
		billable := p.Billable
		j.Billable = &billable
	}
	return j
}

// Job puts a job on the wire.
func Job(j *job.Job) *pb.Job {
	if j == nil {
		return nil
	}
	return &pb.Job{
		Id: string(j.ID), Account: j.Account, State: string(j.State), WaitingFor: string(j.WaitingFor),
		Position: uint32(j.Position), EstimatedStartUs: Micros(j.StartsAt), Tier: int32(j.Tier),
		AcceptedUs: Micros(j.CreatedAt), StartedUs: Micros(j.StartedAt), FinishedUs: Micros(j.FinishedAt), ExpiresUs: Micros(j.ExpiresAt),
		Attempts: uint32(j.Attempts), Cached: j.Cached, Billable: j.Billable != nil && *j.Billable,
		Batch: j.Batch, Line: uint32(j.Line), Pass: uint32(j.Pass),
		Body:   &pb.Body{Spec: j.Options, CustomId: j.CustomID, Metadata: j.Metadata, Webhook: Webhook(j.Webhook)},
		Result: Result(j.Result), Failure: Failure(j.Failure), Timings: Timings(j.Timings), Evidence: Evidence(j.Evidence),
	}
}

// Webhook puts a job's own webhook on the wire.
func Webhook(w *job.Webhook) *pb.Webhook {
	if w == nil {
		return nil
	}
	return &pb.Webhook{Url: w.URL, Events: w.Events}
}

// FromWebhook is the inverse of Webhook.
func FromWebhook(p *pb.Webhook) *job.Webhook {
	if p == nil {
		return nil
	}
	return &job.Webhook{URL: p.Url, Events: p.Events}
}

// Result puts an artifact's description on the wire.
func Result(r *job.Result) *pb.Result {
	if r == nil {
		return nil
	}
	sum, _ := hex.DecodeString(r.SHA256) // our own hex; a wrong one becomes an empty digest and fails the check at delivery
	return &pb.Result{
		Object: r.Object, ContentType: r.ContentType, Width: uint32(r.Width), Height: uint32(r.Height),
		Pages: uint32(r.Pages), SizeBytes: r.SizeBytes, Sha256: sum,
	}
}

// FromResult is the inverse of Result.
func FromResult(p *pb.Result) *job.Result {
	if p == nil {
		return nil
	}
	return &job.Result{
		Object: p.Object, ContentType: p.ContentType, Width: int(p.Width), Height: int(p.Height),
		Pages: int(p.Pages), SizeBytes: p.SizeBytes, SHA256: hex.EncodeToString(p.Sha256),
	}
}

// Failure puts a job's failure on the wire.
func Failure(f *job.Failure) *pb.Failure {
	if f == nil {
		return nil
	}
	return &pb.Failure{Code: string(f.Code), Stage: string(f.Stage), Detail: f.Detail}
}

// FromFailure is the inverse of Failure. A code that is not in job.Codes is
// Internal: workers run strangers' code.
func FromFailure(p *pb.Failure) *job.Failure {
	if p == nil {
		return nil
	}
	code := job.Code(p.Code)
	if _, known := job.Codes[code]; !known {
		code = job.Internal
	}
	return job.Fail(code, job.Stage(p.Stage), "%s", p.Detail)
}

// Timings puts an attempt's stages on the wire.
func Timings(t *job.Timings) *pb.Timings {
	if t == nil {
		return nil
	}
	return &pb.Timings{QueueMs: t.QueueMS, NavigateMs: t.NavigateMS, WaitMs: t.WaitMS, CaptureMs: t.CaptureMS, UploadMs: t.UploadMS, TotalMs: t.TotalMS}
}

// FromTimings is the inverse of Timings.
func FromTimings(p *pb.Timings) *job.Timings {
	if p == nil {
		return nil
	}
	return &job.Timings{QueueMS: p.QueueMs, NavigateMS: p.NavigateMs, WaitMS: p.WaitMs, CaptureMS: p.CaptureMs, UploadMS: p.UploadMs, TotalMS: p.TotalMs}
}

// Evidence puts evidence on the wire, cleaned.
func Evidence(e *job.Evidence) []byte {
	if e == nil {
		return nil
	}
	e.Clean()
	b, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return b
}

// FromEvidence reads evidence off the wire and cleans it; nil when it does
// not parse.
func FromEvidence(b []byte) *job.Evidence {
	if len(b) == 0 {
		return nil
	}
	e := new(job.Evidence)
	if json.Unmarshal(b, e) != nil {
		return nil
	}
	e.Clean()
	return e
}

// Fault puts a fault on the wire, without its cause.
func Fault(e *fault.Error) *pb.Fault {
	p := &pb.Fault{
		Kind: e.Kind.String(), Code: e.Code, Detail: e.Detail, Policy: e.Policy,
		RetryAfterMs: e.Wait().Milliseconds(),
	}
	if q := e.Quota; q != nil {
		p.Quota = &pb.Quota{Used: q.Used, Limit: q.Limit, ResetsUs: Micros(q.ResetsAt), Unit: q.Unit}
	}
	return p
}

// FromFault is the inverse of Fault.
func FromFault(p *pb.Fault) *fault.Error {
	e := &fault.Error{
		Kind: fault.ParseKind(p.GetKind()), Code: p.GetCode(), Detail: p.GetDetail(), Policy: p.GetPolicy(),
		RetryAfter: time.Duration(p.GetRetryAfterMs()) * time.Millisecond,
	}
	if q := p.GetQuota(); q != nil {
		e.Quota = &fault.Quota{Used: q.Used, Limit: q.Limit, ResetsAt: Time(q.ResetsUs), Unit: q.Unit}
	}
	return e
}
