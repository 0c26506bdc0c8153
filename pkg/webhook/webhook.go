// Package webhook is the noun of notifications: what is told, to whom, when a
// message is tried again, and how it is signed.
//
// It promises that a message's id follows from what it says and to whom, that
// the time of the next attempt is a pure function, and that signatures are those
// of Standard Webhooks 1.0.0. It knows no transport and no storage.
package webhook

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/job"
)

// A Type says what a message tells of.
type Type string

// Every type.
const (
	JobSucceeded   Type = "job.succeeded"
	JobFailed      Type = "job.failed"
	JobCanceled    Type = "job.canceled"
	JobExpired     Type = "job.expired"
	BatchCompleted Type = "batch.completed" // it has ended, in whatever state
	QuotaWarning   Type = "quota.warning"   // 80 % of it are used
	QuotaExceeded  Type = "quota.exceeded"
	Test           Type = "webhook.test"
)

// Types are all that an endpoint may be told of; Test goes to any.
var Types = []Type{JobSucceeded, JobFailed, JobCanceled, JobExpired, BatchCompleted, QuotaWarning, QuotaExceeded}

// OfEnd is the type of a job's end.
func OfEnd(s job.State) Type { return Type("job." + string(s)) }

// An Endpoint is where an account wants to be told.
type Endpoint struct {
	ID              string // we_ and 26 Crockford characters
	Account         string
	URL             string
	Description     string
	Events          []Type
	BatchLineEvents bool // also of jobs that are lines of a batch
	Secrets         Secrets
	CreatedAt       time.Time
	UpdatedAt       time.Time
	FailingSince    time.Time // zero: its last delivery arrived
	DisabledAt      time.Time // zero: it is not
	DisabledReason  string    // by_owner, gone or failing
}

// A Change is what becomes of an endpoint. What is nil stays as it is.
type Change struct {
	URL             *string
	Description     *string
	Events          []Type
	BatchLineEvents *bool
	Enabled         *bool // true forgets its failures; false is by its owner
}

// A Delivery is one message to one place.
type Delivery struct {
	ID       string // webhook-id
	Account  string
	Endpoint string // empty: to URL
	URL      string // that a job or a batch named itself
	Lane     string // what fails and waits together
	Type     Type
	Subject  string          // id of the job or batch that it is about
	Data     json.RawMessage // of messages that are not about a job
	Happened time.Time       // what it tells of

	// What becomes of it; none of it matters in a new one.
	Body      string // as it was first sent; empty before
	State     State
	Attempts  int
	Tries     int       // of these, since it was made or last replayed
	NextAt    time.Time // while pending
	Failure   string    // why nothing more is tried, in words
	CreatedAt time.Time
	EndedAt   time.Time // zero while pending
	Log       []Attempt // every attempt, in order
}

// DeliveryID is the id of a message: the same for the same words to the same
// place. of tells apart what has the same type and subject, such as two ends of
// a batch; place is the endpoint's id or the URL.
func DeliveryID(t Type, account, subject, of, place string) string {
	h := sha256.New()
	for _, part := range []string{string(t), account, subject, of, place} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return "msg_" + job.EncodeBase32([16]byte(h.Sum(nil)[:16]))
}

// NewEndpointID makes the id of an endpoint. Ids rise with time.
func NewEndpointID() string {
	return "we_" + job.EncodeBase32(uuid.Must(uuid.NewV7()))
}

// States of a delivery.
const (
	Pending   State = "pending"   // it is tried again and again
	Delivered State = "delivered" // a 2xx was answered
	Failed    State = "failed"    // nothing more is tried, unless it is replayed
)

// A State is how far a delivery has come.
type State string

// An Attempt is one time that a delivery was sent.
type Attempt struct {
	Number int // 1 is the first
	At     time.Time
	Took   time.Duration
	Status int    // of the answer; 0: there was none
	Error  string // why there was none, or it does not count
	Answer string // its first bytes, as text
}

// A Filter picks deliveries; what is empty does not matter.
type Filter struct {
	Endpoint string
	State    State
	Type     Type
	Subject  string
}

// A Place is one in a list of deliveries, which the newest begin.
type Place struct {
	At time.Time
	ID string
}
