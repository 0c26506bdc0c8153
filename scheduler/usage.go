package scheduler

import (
	"maps"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
)

// usageBack is how far back the periods begin that are read: the present one
// and the one before it, whichever day they begin on. A job that waits may end
// in the period after its own.
const usageBack = 63 * 24 * time.Hour

// usage is what the archive says that an account has used, as of a frame. What
// was charged after that frame is in the fold. It is never changed: who adds to
// it makes another one.
type usage struct {
	seq   uint64
	units map[int32]int64    // by period
	told  map[int32][]uint32 // steps that the account was told of
}

func usageOf(x store.Tenant) *usage {
	u := &usage{seq: x.Seq, units: map[int32]int64{}, told: map[int32][]uint32{}}
	for _, m := range x.Periods {
		day := account.DayNumber(m.Begins)
		u.units[day] = m.Units
		for _, percent := range m.Reached {
			u.told[day] = append(u.told[day], uint32(percent))
		}
	}
	return u
}

// usageOf is what is known of an account's usage; nil when nothing is that
// goes with these facts. It is read soon then.
func (t *tenants) usageOf(id string, f *facts) *usage {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.known[id]
	if r == nil || r.usage == nil || r.usage.seq < f.bills.since {
		t.missing[id] = true
		return nil
	}
	return r.usage
}

// cut is for a fold that begins: usage of before its first frame says nothing
// any more, since what was charged between the two is nowhere.
func (t *tenants) cut(since uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = since
	for _, r := range t.known {
		if r.usage != nil && r.usage.seq < since {
			r.usage = nil
		}
	}
}

// absorb adds to all that was read what the fold is about to forget, up to a
// frame: so an account's usage stays known for as long as nobody can read it.
func (t *tenants) absorb(f *facts, to uint64) {
	if to <= f.bills.since {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = to
	grown := map[string]*usage{}
	for p, b := range f.bills.of {
		r := t.known[p.account]
		if r == nil || r.usage == nil || r.usage.seq < f.bills.since || r.usage.seq >= to {
			continue
		}
		u := grown[p.account]
		if u == nil {
			u = &usage{seq: to, units: maps.Clone(r.usage.units), told: maps.Clone(r.usage.told)}
			grown[p.account] = u
		}
		u.units[p.day] += b.at(to) - b.at(r.usage.seq)
		for _, s := range b.told {
			if s.seq > r.usage.seq && s.seq <= to {
				u.told[p.day] = append(slices.Clone(u.told[p.day]), s.percent)
			}
		}
	}
	for id, r := range t.known {
		switch {
		case r.usage == nil || r.usage.seq >= to:
		case r.usage.seq < f.bills.since:
			r.usage = nil
		case grown[id] != nil:
			r.usage = grown[id]
		default:
			r.usage = &usage{seq: to, units: r.usage.units, told: r.usage.told}
		}
	}
}

// newest is what to keep of an account's usage: what was read, or what is known
// already. t.mu is held.
func (t *tenants) newest(id string, read *usage) *usage {
	if old := t.known[id]; old != nil && old.usage != nil && (read == nil || read.seq < old.usage.seq) {
		return old.usage
	}
	if read != nil && read.seq < t.since {
		return nil // the read took longer than anybody remembers what was charged meanwhile
	}
	return read
}

// forget drops what the archive has had for long enough, having added it up.
func (s *Scheduler) forget(f *facts, now time.Time) {
	upTo := s.filed.upTo(s.projected.Load(), now)
	s.tenants.absorb(f, min(upTo, f.seq))
	f.forget(upTo)
}
