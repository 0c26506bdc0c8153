package job

// A State is where a job stands. The edges are in Edges and are drawn in
// docs/states.md; a test keeps the two equal.
type State string

const (
	// Queued: accepted and durable; waits for what WaitingFor says.
	Queued State = "queued"
	// Running: a worker holds the job's lease. A lost lease sends it back to
	// Queued while attempts are left.
	Running State = "running"
	// Succeeded: the artifact is stored and its Finished event is durable.
	Succeeded State = "succeeded"
	// Failed: the page, or the farm after its last attempt, could not produce
	// an artifact; Failure says which.
	Failed State = "failed"
	// Canceled: the account asked for it before the job ended.
	Canceled State = "canceled"
	// Expired: it waited longer than its time to live.
	Expired State = "expired"
)

// Terminal reports whether s is an end. A job ends once.
func (s State) Terminal() bool {
	switch s {
	case Succeeded, Failed, Canceled, Expired:
		return true
	}
	return false
}

// Edges lists, for each state, the states that may follow it.
var Edges = map[State][]State{
	Queued:  {Running, Succeeded, Failed, Canceled, Expired},
	Running: {Queued, Succeeded, Failed, Canceled},
}

// WaitingFor says what a queued job waits for.
type WaitingFor string

const (
	WaitingForSlot   WaitingFor = "slot"   // the account's threads are all in use: parked
	WaitingForWorker WaitingFor = "worker" // it has its slot; no seat is free yet
	WaitingForRetry  WaitingFor = "retry"  // an attempt was lost; its back-off runs
	WaitingForTwin   WaitingFor = "twin"   // an identical job in flight will finish it
)
