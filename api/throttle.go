package api

import (
	"context"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// answeredFor is how long after the first refusal of an episode was answered
	// requests are taken to have been on their way already.
	answeredFor = 500 * time.Millisecond
	// endSlack is how long before its end an episode counts no strikes: two
	// replicas were told of one end at slightly different times.
	endSlack = 100 * time.Millisecond
	// maxThrottled bounds the subjects that are remembered. A subject too many
	// puts another one out, which costs a question to the leader.
	maxThrottled = 100_000
	// strikesEvery is the least time between two messages of strikes.
	strikesEvery = 250 * time.Millisecond
	// maxStruck bounds the subjects of one such message.
	maxStruck = 10_000
)

// limited is one limit of one subject. What it allows belongs to it: two plans
// may count the same address by different rates, and whose plan or policy is
// changed begins anew, as at the leader.
type limited struct {
	account.Subject
	policy string       // name of the limit, as the leader tells it
	rate   account.Rate // what it allows; zero: of a cool-down
}

// throttles remembers who was refused for a rate, until that is over: such a
// request is answered from here, without asking anybody. It also tells who
// does not heed what it was told.
//
// The time from a refusal to its end is an episode. A request that comes in it
// and cannot have been on its way when the first refusal was answered is a
// strike. Nobody gets one who waits as long as it was told, however many
// requests it had in flight: what was told in the episode before is owed a
// return, since each was told a wait of its own, up to a tenth longer.
type throttles struct {
	mu      sync.Mutex
	told    map[limited]*episode // guarded by mu
	strikes map[strike]uint32    // not sent yet; guarded by mu
	room    int                  // of told, before it is swept; guarded by mu
}

// A strike is whose it is and the address that it came from.
type strike struct {
	account.Subject
	from string
}

// episode is the time in which a limit refuses a subject.
type episode struct {
	fault  *fault.Error
	meters []*pb.Meter // that speak of this subject alone
	since  time.Time   // the first refusal was answered; zero: none was yet
	until  time.Time
	told   int // how many may come back in the next one for what they were told in this
	// owed is how many were told a wait in the episode before, are not back yet
	// and may come in this one, until owedUntil; it began as owing.
	owed, owing int
	owedUntil   time.Time
}

// refusal is a refusal from memory.
type refusal struct {
	fault  fault.Error
	meters []*pb.Meter
}

// find is the refusal that a request of the subject, made at the moment now,
// gets without asking.
func (t *throttles) find(k limited, from string, now time.Time) (refusal, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.told[k]
	if e == nil || !now.Before(e.until) {
		return refusal{}, false
	}
	t.note(k.Subject, e, from, now)
	r := refusal{fault: *e.fault, meters: e.meters}
	r.fault.RetryAfter = e.until.Sub(now)
	return r, true
}

// cooled is what a limit was last said to be, for whom it cools down until
// resetUS, in the leader's clock: there is nothing left of it before.
func (t *throttles) cooled(k limited, resetUS int64) []*pb.Meter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.told[k]; e != nil {
		for _, m := range e.meters {
			if m.Name == k.policy {
				return []*pb.Meter{{Kind: m.Kind, Name: m.Name, Limit: m.Limit, WindowS: m.WindowS, ResetUs: resetUS}}
			}
		}
	}
	return nil
}

// learn takes in that a request, made at the moment arrived, was refused by
// the leader and is answered now.
func (t *throttles) learn(k limited, f *fault.Error, meters []*pb.Meter, from string, arrived, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.told[k]
	if e == nil || !now.Before(e.until) {
		// A later end that others are told during an episode is not taken over:
		// who was told the first one may rely on it.
		e = t.begin(k, f, now.Add(f.Wait()), now)
		e.meters = meters
	}
	if e.since.IsZero() {
		e.since = now
	}
	t.note(k.Subject, e, from, arrived)
}

// impose begins an episode that nobody has been told of yet.
func (t *throttles) impose(k limited, f *fault.Error, until, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.told[k]; e != nil && e.until.Equal(until) {
		return
	}
	t.begin(k, f, until, now)
}

// lift ends an episode.
func (t *throttles) lift(k limited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.told, k)
}

// begin makes an episode. t.mu is held.
func (t *throttles) begin(k limited, f *fault.Error, until, now time.Time) *episode {
	if len(t.told) >= max(t.room, 1024) {
		for k, old := range t.told {
			if now.After(old.until) && now.After(old.mayReturn()) {
				delete(t.told, k)
			}
		}
		for k := range t.told { // any: enough of them that this is seldom
			if len(t.told) <= maxThrottled*7/8 {
				break
			}
			delete(t.told, k)
		}
		t.room = min(2*len(t.told), maxThrottled)
	}
	e := &episode{fault: f, until: until}
	if old := t.told[k]; old != nil {
		e.owing, e.owedUntil = old.told, old.mayReturn()
		e.owed = e.owing
	}
	if t.told == nil {
		t.told = make(map[limited]*episode)
	}
	t.told[k] = e
	return e
}

// mayReturn is when the last of those who were told to wait in an episode is
// back, if it waits no longer than it was told: up to a tenth more than the
// rest of the episode, and never less than a second, in whole seconds.
func (e *episode) mayReturn() time.Time {
	wait := max(e.until.Sub(e.since), 0)
	if e.since.IsZero() {
		wait = 0
	}
	return e.until.Add(max(wait/10+time.Second, 2*time.Second) + answeredFor)
}

// note takes in a request of an episode. t.mu is held.
func (t *throttles) note(s account.Subject, e *episode, from string, arrived time.Time) {
	if e.since.IsZero() {
		e.since = arrived
	}
	late := arrived.Sub(e.since) > answeredFor
	owed := e.owed > 0 && arrived.Before(e.owedUntil)
	if owed {
		e.owed--
	}
	if !late || owed || e.until.Sub(arrived) <= endSlack {
		if !late || e.told < e.owing { // else a flood would be owed more in each episode
			e.told++
		}
		return
	}
	if t.strikes == nil {
		t.strikes = make(map[strike]uint32)
	}
	k := strike{s, from}
	if t.strikes[k] == 0 && len(t.strikes) >= maxStruck {
		return
	}
	t.strikes[k]++
}

// struck takes what has gathered since the last time.
func (t *throttles) struck() []*pb.Strikes {
	t.mu.Lock()
	strikes := t.strikes
	t.strikes = nil
	t.mu.Unlock()
	if len(strikes) == 0 {
		return nil
	}
	out := make([]*pb.Strikes, 0, len(strikes))
	for k, n := range strikes {
		out = append(out, &pb.Strikes{Subject: k.Subject.String(), Address: k.from, Count: n})
	}
	return out
}

// tellStrikes tells the leader who did not wait, until ctx ends. What happens
// while there is none is forgotten.
func (s *Server) tellStrikes(ctx context.Context) error {
	every := time.NewTicker(strikesEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-every.C:
		}
		if strikes := s.throttles.struck(); strikes != nil {
			s.front.report(func(up *pb.FrontUp) { up.Strikes = append(up.Strikes, strikes...) })
		}
	}
}
