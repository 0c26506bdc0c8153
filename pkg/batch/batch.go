// Package batch is the noun of bulk uploads: many jobs from one file, fed
// through the farm's normal door.
//
// It promises that the job of a line follows from the batch, the line and the
// pass alone, so that whoever feeds a line twice makes one job, and that the
// counts of a batch always add up to its total. It knows no transport and no
// storage.
package batch

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// Bounds of an input.
const (
	// MaxLines is how many lines with something on them there may be.
	MaxLines = 1_000_000
	// MaxLine is how long one may be, in bytes, without its end.
	MaxLine = 64 << 10
	// MaxNumber is the highest number of a line, blank ones counted: what fits
	// into a job's id.
	MaxNumber = 1<<24 - 1
)

// A State is where a batch stands.
type State string

// Every state. A batch that has ended may run again, when its failed lines are
// tried again.
const (
	Validating State = "validating" // its lines are read; none has become a job
	Running    State = "running"
	Paused     State = "paused"     // jobs that it has go on
	Finalizing State = "finalizing" // every job has ended, what the end wants is being done
	Completed  State = "completed"
	Canceling  State = "canceling" // nothing is fed, its jobs are being ended
	Canceled   State = "canceled"
	Expired    State = "expired"
	Failed     State = "failed" // no line became a job
)

// Ended reports a state in which nothing happens by itself any more.
func (s State) Ended() bool {
	switch s {
	case Completed, Canceled, Expired, Failed:
		return true
	}
	return false
}

// Why a batch is paused.
const (
	PausedByOwner   = "by_owner"
	PausedQuota     = "quota_exceeded" // until the quota's reset
	PausedSuspended = "suspended"      // the account, its key or its plan: until that is changed
)

// A Format is how the lines of an input are written.
type Format string

// Every format.
const (
	JSONL Format = "jsonl" // a JSON object a line, as POST /v1/jobs takes it
	CSV   Format = "csv"   // RFC 4180; the first record names the fields
	Text  Format = "text"  // a URL a line
)

// OnError is what lines that no job can be made of do to their batch.
type OnError string

// Every OnError.
const (
	Reject OnError = "reject" // one of them and no job is made
	Skip   OnError = "skip"   // they fail alone
)

// Counts of lines. They add up to Total.
type Counts struct {
	Total, Queued, Running, Succeeded, Failed, Canceled, Expired int64
}

// A Batch is everything an account may know of one batch, and what feeding it
// needs.
type Batch struct {
	ID           string // batch_ and 26 Crockford characters
	Account      string
	Key          string // that submitted it
	Address      string // identity of the client's address; empty when it is nobody's
	State        State
	PausedReason string
	ResumeAt     time.Time // of a pause that ends by itself; else zero
	Failure      string    // why it failed, in words
	Format       Format
	Gzip         bool
	OnError      OnError
	Defaults     json.RawMessage // fields for all lines, as they were sent, but for secrets
	Sealed       []byte          // these, as a JSON object, sealed as those of a line; nil: none
	Webhook      *job.Webhook    // told of the end of the batch; nil: only endpoints are
	LineEvents   bool            // webhooks of its lines are told of their ends
	CustomID     string
	Metadata     map[string]string
	File         string // the upload that it was made of; empty where the body was
	Input        string // object: what was uploaded
	InputBytes   int64
	Lines        string // object: a Line for each line; empty until validated
	Total        int64  // lines of input, as far as they are known
	Invalid      int64  // of these, lines that no job can be made of
	Refused      int64  // of these, lines that the farm refused for good
	Pass         int    // 1; one more each time failed lines are tried again
	PassObject   string // object: the lines of this pass
	PassTotal    int64  // jobs to be made in this pass
	Fed          int64  // of these, decided
	FedOffset    int64  // in PassObject, behind the last line fed; bytes
	LeftOut      int64  // lines that a cancel or the expiry left unfed
	Ends         Ends   // of its jobs
	CreatedAt    time.Time
	StartedAt    time.Time // zero until the first line is fed
	FinishedAt   time.Time // zero before the end
	ExpiresAt    time.Time // what is not finished by then is left out
	KeptUntil    time.Time // zero before the end
}

// Ends counts jobs of a batch by how they ended.
type Ends struct {
	Succeeded, Failed, Canceled, Expired int64
}

// Counts of a batch, of whose jobs running have a seat now.
func (b *Batch) Counts(running int64) Counts {
	c := Counts{
		Total: b.Total, Succeeded: b.Ends.Succeeded, Failed: b.Ends.Failed + b.Invalid + b.Refused,
		Canceled: b.Ends.Canceled, Expired: b.Ends.Expired,
	}
	if b.State == Expired {
		c.Expired += b.LeftOut
	} else {
		c.Canceled += b.LeftOut
	}
	open := max(c.Total-c.Succeeded-c.Failed-c.Canceled-c.Expired, 0)
	c.Running = min(running, open)
	c.Queued = open - c.Running
	return c
}

// A Line is one line of input as it was understood, a JSON object a line in
// the object Batch.Lines, in the order of the input. One with Errors makes no
// job.
type Line struct {
	Number   int               `json:"line"` // of the input, blank ones counted; 1 is the first
	CustomID string            `json:"custom_id,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Spec     json.RawMessage   `json:"spec,omitempty"`    // normalised job.Spec
	Secrets  []byte            `json:"secrets,omitempty"` // job.Secrets, sealed as in pb.Body
	TTLS     *int              `json:"ttl_s,omitempty"`
	Force    bool              `json:"force,omitempty"`
	Webhook  *job.Webhook      `json:"webhook,omitempty"`
	Errors   []LineError       `json:"errors,omitempty"`
}

// A LineError is one thing that is wrong with a line.
type LineError struct {
	Line   int    `json:"line"`
	Column int    `json:"column,omitempty"` // in bytes; 1 is the first, 0 is unknown
	Code   string `json:"code"`             // as of a problem document
	fault.Field
}

// NewID makes a fresh id.
func NewID() string { return "batch_" + job.EncodeBase32(uuid.Must(uuid.NewV7())) }

// JobID is the id of the job that a line becomes in a pass. It has the time of
// the batch, so that all of its jobs are filed under one day, then the line, so
// that they sort by it.
func JobID(batch string, created time.Time, line, pass int) job.ID {
	h := sha256.New()
	h.Write([]byte(batch))
	_ = binary.Write(h, binary.BigEndian, [2]uint64{uint64(line), uint64(pass)}) // a hash takes all
	sum := h.Sum(nil)
	ms := uint64(created.UnixMilli())
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], ms<<16|7<<12|uint64(line)>>12&0xfff)
	binary.BigEndian.PutUint64(u[8:], 0b10<<62|uint64(line)&0xfff<<50|binary.BigEndian.Uint64(sum)>>14)
	return job.FromUUID(u)
}
