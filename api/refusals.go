package api

import (
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// fullFor is how long a full tier, or a full storage, is taken to be full
	// without asking: a place that comes free is not left empty for longer.
	fullFor = 100 * time.Millisecond
	// sweepRefusals is how many refusals are kept before those that are over are
	// looked for.
	sweepRefusals = 1024
)

// refusals are what the leader has refused a moment ago. What it would surely
// refuse again is refused here, without a record: a flood against a full tier,
// then costs no stream and delays nobody. Who is throttled is in throttles.
//
// That a tier is full is known of the account that was told: another one's job
// may be parked, where this one's has a free slot. That the storage is full is
// everybody's; each record would fill it further.
type refusals struct {
	mu   sync.Mutex
	told map[asked]unroom // guarded by mu
	room int              // of told, before it is swept; guarded by mu
}

// asked is what was refused; its zero value is anything of anybody.
type asked struct {
	account string
	tier    int    // of its plan, whose queue its job was to enter
	host    string // of its job, where the policy bounds what an account has there
}

// unroom is a refusal for want of room.
type unroom struct {
	fault *fault.Error
	until time.Time
}

// askedBy is what a submission asks for.
func (s *Server) askedBy(acct account.Account, sub *submission) asked {
	policy := s.policy()
	plan, _ := policy.Plan(acct.Plan)
	a := asked{account: acct.ID, tier: plan.Tier}
	if policy.Queue.PerHost > 0 {
		a.host = sub.spec.Host()
	}
	return a
}

// find is the refusal that a gets without asking; nil when it has to ask.
func (r *refusals) find(a asked, now time.Time) *fault.Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range []asked{a, {}} {
		known, ok := r.told[a]
		if left := known.until.Sub(now); ok && left > 0 {
			f := *known.fault
			return &f
		}
	}
	return nil
}

// learn takes in what a's submission came to.
func (r *refusals) learn(a asked, err error, now time.Time) {
	f := fault.From(err)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f == nil:
		delete(r.told, a) // there is room again
		return
	case f.Kind == fault.QueueFull:
		r.keep(a, unroom{f, now.Add(fullFor)}, now)
	case f.Code == "storage_full":
		r.keep(asked{}, unroom{f, now.Add(fullFor)}, now)
	}
}

// keep remembers a refusal. r.mu is held.
func (r *refusals) keep(a asked, known unroom, now time.Time) {
	if len(r.told) >= max(r.room, sweepRefusals) {
		for a, old := range r.told {
			if !now.Before(old.until) {
				delete(r.told, a)
			}
		}
		r.room = 2 * len(r.told)
	}
	if r.told == nil {
		r.told = map[asked]unroom{}
	}
	r.told[a] = known
}
