package scheduler

import (
	"strings"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Reasons of charges.
const (
	reasonRender   = "render" // of a job's own end
	reasonCall     = "call"
	reasonDownload = "download"
	reasonLost     = "lost" // gives back what a job cost whose artifact is lost
)

const (
	chargePrefix = "chg_"
	lostPrefix   = "lost_"
	// eventMost bounds the name of an event that a replica gives, in bytes.
	eventMost = 100
)

// coalesced is what the charges of one frame have in common that are summed up
// in one event. What is given back is an event of its own: the two never make
// nothing of each other.
type coalesced struct {
	period
	reason string
	back   bool
}

// countsOnce reports whether an event has a name of its own.
func countsOnce(c *pb.Charged) bool { return !strings.HasPrefix(c.Id, chargePrefix) }

// charge takes what one request costs, where the plan counts calls, or gives it
// back. A request that would bring the account over its quota is charged
// nothing and gets a fault. Nobody waits for it to be durable: a report that is
// lost in a takeover is free, and so is one when the ledger is nearly full.
func (l *leader) charge(t tenantView, c *pb.Count) *fault.Error {
	switch {
	case c.Account == "":
		return nil
	case c.Reason == reasonLost:
		l.giveBack(c)
		return nil
	case l.storage.hold():
		return nil // what is left of the ledger is for the ends of jobs
	case c.Units == 0 || !t.plan.Quota.PerCall() || len(c.Event) > eventMost || badEvent(c.Event):
		return nil
	}
	p, ends := periodAt(c.Account, t, l.nowUS())
	if c.Event != "" && c.Period != 0 {
		p.day = c.Period
	}
	units := c.Units
	if units > 0 {
		if f := l.overQuota(p, t, units, ends); f != nil {
			return f
		}
	} else {
		// What was charged may have been lost, or belong to the last period.
		used, _, known := l.bill(p)
		if !known {
			used = l.board.bills.met(p)
		}
		if units = max(units, -max(used, 0)); units == 0 {
			return nil
		}
	}
	reason := reasonCall
	// A part that is given back makes a call cheaper, and undoes none.
	if part := units < 0 && units%account.UnitsPerCall != 0; part || c.Reason == reasonDownload {
		reason = reasonDownload
	}
	if l.addCharge(p, reason, units, c.Event) {
		l.settled(p, reason, units)
	}
	return nil
}

// badEvent reports whether a name is none that a replica may give: one of those
// that this package makes, or text that no column takes.
func badEvent(name string) bool {
	return strings.HasPrefix(name, chargePrefix) || strings.HasPrefix(name, lostPrefix) || strings.HasPrefix(name, "job_") ||
		!printable(name)
}

func printable(name string) bool {
	return !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f })
}

// addCharge sums a charge up with those of its kind in the open frame; one with
// a name is an event of its own, and false the second time.
func (l *leader) addCharge(p period, reason string, units int64, name string) bool {
	c := &pb.Charged{Id: name, Account: p.account, Period: p.day, Units: units, Reason: reason, Count: 1}
	if name != "" {
		_, twice := l.board.bills.once[name]
		if !twice {
			l.emit(&pb.Event{Fact: &pb.Event_Charged{Charged: c}})
		}
		return !twice
	}
	key := coalesced{p, reason, units < 0}
	if n := len(l.frames); n > 0 && l.frames[n-1].sealed.Data == nil {
		f := l.frames[n-1]
		if sum := f.charges[key]; sum != nil {
			sum.Units += units
			sum.Count++
			f.wanted = true
			l.board.bills.spend(f.sealed.Seq, p, units)
			return true
		}
	}
	c.Id = chargePrefix + job.EncodeBase32(uuid.Must(uuid.NewV7()))
	l.emit(&pb.Event{Fact: &pb.Event_Charged{Charged: c}})
	f := l.frames[len(l.frames)-1]
	if f.charges == nil {
		f.charges = map[coalesced]*pb.Charged{}
	}
	f.charges[key] = c
	return true
}

// giveBack gives back what a job cost whose artifact is lost, to the period that
// it was charged to, once. The replica has asked the archive what that was, and
// whether it was given back; of a job that is not there yet, or has only been
// for a moment, this process knows both.
func (l *leader) giveBack(c *pb.Count) {
	id, named := strings.CutPrefix(c.Event, lostPrefix)
	if !named || len(id) > eventMost || !printable(id) {
		return
	}
	units, day := -c.Units, c.Period
	if e := l.board.entries[id]; e != nil {
		if e.account != c.Account || e.end == nil {
			return
		}
		units, day = e.end.Units, periodOf(e.end.Period, e.end.Job.AcceptedUs)
	}
	if units <= 0 || day == 0 {
		return
	}
	if p := (period{c.Account, day}); l.addCharge(p, reasonLost, -units, c.Event) {
		l.s.log.Info("giving back what a lost artifact cost", "job", id, "account", c.Account)
		l.settled(p, reasonLost, -units)
	}
}
