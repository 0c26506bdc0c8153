// Package account is who uses the farm and how much of it: accounts, their
// keys and the plans that bound them.
//
// It promises that a key's secret is never kept, only its digest. It holds no
// state: rows live in pkg/store, and the leader alone counts.
package account

import "time"

// An Account owns jobs, keys and a bill.
type Account struct {
	ID        string // acc_ + 26 Crockford characters
	Name      string // unique, chosen by the admin
	Plan      string // name of a Plan
	Suspended bool
	CreatedAt time.Time
}

// A Plan is what an account may use. It is data: see Default.
type Plan struct {
	Name      string
	Tier      int           // priority class, higher first
	Threads   int           // slots; 0 means all seats of the farm
	Backlog   int           // jobs that may be parked beyond the threads
	Wall      time.Duration // budget of one attempt, upper bound of timeout_ms
	Retention time.Duration // how long a finished job and its artifact are kept
}

// Default is the plan of an installation that names none.
func Default() Plan {
	return Plan{
		Name: "default", Threads: 0, Backlog: 100_000,
		Wall: time.Minute, Retention: 30 * 24 * time.Hour,
	}
}
