package account

import "time"

// A Ban keeps a subject out: a step of the abuse ladder, or an admin's word.
type Ban struct {
	Subject Subject
	Step    Step
	Since   time.Time
	Until   time.Time // zero: until it is lifted
	Reason  string
	Actor   string // who did it: ActorLadder or ActorAdmin
	// Blocks are when the ladder has blocked the subject of late, this time too:
	// what a ban comes of.
	Blocks []time.Time
}

// Who takes a step.
const (
	ActorLadder = "ladder"
	ActorAdmin  = "admin"
)

// A Step is what becomes of a subject.
type Step string

// Every step. Whoever is throttled, and waits, has taken none.
const (
	// StepCooling makes the wait longer. It is not kept in the archive.
	StepCooling Step = "cooling"
	// StepBlocked keeps it out for a time.
	StepBlocked Step = "blocked"
	// StepBanned keeps it out until somebody lifts that.
	StepBanned Step = "banned"
	// StepLifted ends any of them.
	StepLifted Step = "lifted"
)

// InForce reports whether it keeps anybody out at that moment. The zero Ban does
// not.
func (b Ban) InForce(at time.Time) bool {
	return b.Step != "" && b.Step != StepLifted && (b.Until.IsZero() || at.Before(b.Until))
}

// An Audit is one thing that was done to somebody, for those who ask why.
type Audit struct {
	ID      string // aud_ + 26 Crockford characters, in order of time
	At      time.Time
	Actor   string
	Action  string // a Step, or what else was done
	Subject string // text of a Subject, or whatever it was done to
	Detail  map[string]any
}
