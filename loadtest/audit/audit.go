// Package audit judges a run of the farm from what it left behind and from
// what its clients saw: the streams JOBS and LEDGER, the rows of Postgres, the
// objects of the bucket, every request and every answer.
//
// It promises that
//  1. it knows the wire formats and the published rules, and nothing of how
//     the farm keeps them: it links neither the scheduler nor pkg/stream, and
//     it works out chain, places, slots and bills on its own;
//  2. it says nothing when it has not seen everything: a ledger that does not
//     begin at its first frame, or fewer jobs than were accepted, is a
//     violation like any other.
//
// The names of its checks are the invariants of the design: I1 nothing
// accepted is lost, I2 the queue's length, I3 threads, I4 one lease, I5 one
// end, I6 stale tokens and what the cache answers with, I7 money and quotas, I8
// the chain, I9 and I13 what clients read, I10 keys, I14 attempts, I15 leases
// end, I17 webhooks; "rate", that no more was accepted than a plan's rate allows;
// and "batch", that each line is one job and has one result.
package audit

import (
	"fmt"
	"slices"
	"time"
)

// Run is all that is known of one run.
type Run struct {
	Rules Rules

	Records     []Message // of JOBS; some may have been trimmed unseen, once they were decided
	Frames      []Message // of LEDGER, from sequence 1
	Rows        []Row
	Events      []Event
	Months      []Month
	Days        []Day
	Usages      []Usage
	Starts      []Start
	Objects     []Object
	Projection  Projection
	Submissions []Submission
	Looks       []Look
	Kills       []Kill

	Batches    []Batch
	Places     map[string]Place // where messages go; a job names one as HookURL and the place
	HookURL    string
	Hooks      []Hook
	Deliveries []Delivery
}

// Rules are the published ones that the farm ran by.
type Rules struct {
	Length   int             // L of the queue
	Plans    map[string]Plan // by account
	Attempts int
	// LeaseGrace is how much longer than its wall budget a lease may be open:
	// 35 s, one failover and what the run itself held the farm up.
	LeaseGrace time.Duration
}

// Plan is an account's share.
type Plan struct {
	Tier    int32
	Threads int
	Quota   int64 // 1/120 credit in each calendar month; 0: none
	PerCall bool  // calls are charged, and jobs are not
	Rate    Rate
	Cache   time.Duration // how long a result answers others; 0: not at all
}

// Rate bounds an account's submissions: so many in each window, evenly, with a
// burst, or in windows that begin at its multiples since 1970. Its zero value
// bounds nothing.
type Rate struct {
	Requests int
	Window   time.Duration
	Burst    int // 0: fixed windows
}

// Message is one message of a stream, as it stands there.
type Message struct {
	Seq    uint64
	Stored time.Time // the server's clock
	Data   []byte
}

// Row is a job in the archive.
type Row struct {
	ID, Account, State, CustomID string
	Tier, Attempts               int32
	Billable                     bool
	KeyHash                      []byte
	Object                       string // empty unless it succeeded
	Size                         int64
	SHA256                       []byte
}

// Event is a charge, and Month the sum of an account's charges.
type Event struct {
	ID, Account string
	Period      time.Time
	Units       int64
	Reason      string
	Count       int64
}

// Day is the part of a month that one day has, and how jobs ended on it.
type Day struct {
	Account                                      string
	Period, Day                                  time.Time
	Units                                        int64
	Succeeded, Cached, Failed, Canceled, Expired int64
}

// Usage is what GET /v1/usage told an account at the end, in its body and in
// its headers.
type Usage struct {
	Account   string
	Units     int64
	Limit     int64  // credits; 0: null
	Remaining int64  // credits
	Headers   *Quota // nil: there were none
}

// Quota is what X-Quota-Limit and X-Quota-Remaining said.
type Quota struct{ Limit, Remaining int64 }

// Start is a scheduler's process that was started.
type Start struct {
	At      time.Time
	Address string // of its gRPC; empty: of an `up`, whose reigns are all its own
}

// Month is what an account owes for a period.
type Month struct {
	Account string
	Period  time.Time
	Units   int64
}

// Projection is how far the archive says it is.
type Projection struct {
	Seq   uint64
	Chain uint32
}

// Object is an artifact in the bucket.
type Object struct {
	Key    string
	Size   int64
	SHA256 []byte
}

// Submission is one POST /v1/jobs. Every one without a key has a custom_id of
// its own; those of one key are the same request.
type Submission struct {
	Name, Account string
	Key           string // Idempotency-Key; empty: none
	API           string // the replica it went to
	Sent          time.Time
	Answered      time.Time // zero: there was no answer
	Failed        time.Time // when the connection broke instead; zero: it did not
	Status        int       // of the answer; 0: there was none
	Code          string    // of a problem
	ID            string    // of the job, accepted or replayed; or of one that may have been accepted
}

// accepted: the answer says that the job is the farm's.
func (s *Submission) accepted() bool { return s.Status == 200 || s.Status == 202 }

// refused: the answer says that nothing was accepted.
func (s *Submission) refused() bool { return s.Status >= 400 && s.ID == "" }

// inFlight: it was sent and not yet answered then.
func (s *Submission) inFlight(at time.Time) bool {
	end := s.Answered
	if end.IsZero() {
		end = s.Failed
	}
	return s.Sent.Before(at) && (end.IsZero() || end.After(at))
}

// Look is one answer to GET or DELETE /v1/jobs/{id}. Those of one job are in
// order, and none was asked before the one before it was answered.
type Look struct {
	ID       string
	Status   int
	State    string
	Attempts int32
	Canceled bool // it answers a DELETE
}

// Kill is one kill -9.
type Kill struct {
	At        time.Time
	Kind      string // scheduler, api, worker, up, nats, postgres, s3
	Name      string
	Address   string // of a scheduler's gRPC
	Projected uint64 // read right after the kill of a scheduler
	Known     bool   // Projected could be read
}

// Report is the auditor's word.
type Report struct {
	Violations []string       `json:"violations"`
	Accepted   int            `json:"accepted"`
	Refused    int            `json:"refused"`
	Ends       map[string]int `json:"ends"`
	Retried    int            `json:"retried"` // leases that ended without an end of their job
	Carried    int            `json:"carried"`
	Cached     int            `json:"cached"`    // answered with another job's artifact
	Spent      map[string]int `json:"spent"`     // in percent of the quota, by account
	Throttled  int            `json:"throttled"` // refused for a rate
	Reigns     int            `json:"reigns"`
	Frames     int            `json:"frames"`
	Records    int            `json:"records"` // of JOBS that were seen
	Looks      int            `json:"looks"`
	Kills      map[string]int `json:"kills"`
	Windows    map[string]int `json:"windows"` // kills that fell between two things
	Batches    int            `json:"batches"`
	BatchLines int            `json:"batch_lines"`
	BatchJobs  int            `json:"batch_jobs"`
	Hooks      int            `json:"hooks"`
	HooksAgain int            `json:"hooks_again"` // of these, that had arrived before
	HooksAsked int            `json:"hooks_asked"` // of these, that the archive was asked about
}

// mostSaid bounds the violations of one check; the rest is a number.
const mostSaid = 20

// auditor gathers violations by check.
type auditor struct {
	*Run
	report Report
	said   map[string]int
	books  *books
}

// wrong notes a violation of an invariant.
func (a *auditor) wrong(invariant, format string, args ...any) {
	a.said[invariant]++
	if a.said[invariant] <= mostSaid {
		a.report.Violations = append(a.report.Violations, invariant+": "+fmt.Sprintf(format, args...))
	}
}

// Check judges the run. Every job must have ended, and been filed, before.
func (r *Run) Check() Report {
	a := &auditor{Run: r, said: map[string]int{}, report: Report{
		Violations: []string{}, Ends: map[string]int{}, Kills: map[string]int{}, Spent: map[string]int{}, Looks: len(r.Looks), Records: len(r.Records),
	}}
	slices.SortFunc(a.Frames, func(x, y Message) int { return int(x.Seq) - int(y.Seq) })
	a.books = a.read()
	a.answers()
	a.keys()
	a.looks()
	a.rows()
	a.money()
	a.usages()
	a.rates()
	a.objects()
	a.batches()
	a.hooks()
	a.windows()
	for name, n := range a.said {
		if n > mostSaid {
			a.report.Violations = append(a.report.Violations, fmt.Sprintf("%s: and %d more", name, n-mostSaid))
		}
	}
	return a.report
}
