package account

import (
	"math"
	"time"
)

// A Plan is what an account may use. It is data: see Policy.
type Plan struct {
	Name        string
	Tier        int // priority class, higher first
	Threads     int // slots; 0 means all seats of the farm
	OverThreads OverThreads
	Wall        time.Duration // budget of one attempt, upper bound of timeout_ms
	Retention   time.Duration // how long a finished job and its artifact are kept
}

// OverThreads is what becomes of a submission when all the threads of its
// account are in use.
type OverThreads struct {
	Action  Action // "" is Park
	Backlog int    // of Park: jobs that may be parked beyond the threads; Unlimited is bounded by the disk
	// Status and RetryAfter are how the refusal looks over HTTP; the API alone
	// reads them. 0 is the status that such refusals have anyway.
	Status     int
	RetryAfter bool // whether the refusal tells how long to wait
}

// Action is one of Park and Refuse.
type Action string

const (
	// Park accepts a job into its account's own list, where it blocks nobody.
	Park Action = "park"
	// Refuse accepts nothing beyond the threads.
	Refuse Action = "refuse"
)

// Unlimited is a number of jobs that nobody reaches.
const Unlimited = math.MaxInt

// Default is the plan of an installation that names none: the first one of
// the built-in policy.
func Default() Plan { return builtIn().Plans[0] }
