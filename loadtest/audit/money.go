package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// rows: the archive holds one row for each end, and the same.
func (a *auditor) rows() {
	seen := map[string]bool{}
	for _, row := range a.Rows {
		h := a.books.jobs[row.ID]
		switch {
		case seen[row.ID]:
			a.wrong("I7", "%s has two rows", row.ID)
		case h == nil || h.end == nil:
			a.wrong("I7", "%s has a row and no end", row.ID)
		default:
			j := h.end.Job
			if row.Account != j.Account || row.State != j.State || row.Tier != j.Tier || row.Attempts != int32(j.Attempts) ||
				row.Billable != j.Billable || row.Object != j.GetResult().GetObject() || row.Size != j.GetResult().GetSizeBytes() ||
				!bytes.Equal(row.SHA256, j.GetResult().GetSha256()) || !bytes.Equal(row.KeyHash, h.end.KeyHash) ||
				!bytes.Equal(row.KeyHash, h.accepted.Envelope.KeyHash) || row.CustomID != a.nameOf(row.ID) {
				a.wrong("I7", "the row of %s is not its end: %+v", row.ID, row)
			}
		}
		seen[row.ID] = true
	}
	for id, h := range a.books.jobs {
		if h.end != nil && !seen[id] {
			a.wrong("I1", "%s has ended and has no row", id)
		}
	}
	// Frames behind it may be without ends; each end has its row, or was named.
	if chain, known := a.books.chains[a.Projection.Seq]; !known || chain != a.Projection.Chain {
		a.wrong("I7", "the archive is at frame %d (%08x), which the ledger has as %08x", a.Projection.Seq, a.Projection.Chain, chain)
	}
}

// money: the charges are those of the ledger, each once, and months and days are
// their sums.
func (a *auditor) money() {
	type month struct {
		account string
		period  time.Time
	}
	owed, byDay, charged := map[month]int64{}, map[month]int64{}, map[string]bool{}
	for _, e := range a.Events {
		owed[month{e.Account, e.Period.UTC()}] += e.Units
		if charged[e.ID] {
			a.wrong("I7", "%s is charged twice", e.ID)
		}
		charged[e.ID] = true
		units, of, period, count := int64(0), "", int32(0), int64(1)
		switch h, c := a.books.jobs[e.ID], a.books.charges[e.ID]; {
		case c != nil:
			units, of, period, count = c.Units, c.Account, c.Period, max(c.Count, 1)
		case h != nil && h.end != nil:
			units, of, period = h.end.Units, h.end.Job.Account, h.end.Period
		default:
			a.wrong("I7", "%s is charged, and the ledger knows nothing of it", e.ID)
			continue
		}
		if units != e.Units || of != e.Account || period != dayOf(e.Period) || count != e.Count {
			a.wrong("I7", "%s is charged with %d units to %s for day %d, %d times; the ledger says %d to %s for %d, %d times",
				e.ID, e.Units, e.Account, dayOf(e.Period), e.Count, units, of, period, count)
		}
	}
	for id, h := range a.books.jobs {
		if h.end != nil && (h.end.Units > 0) != charged[id] {
			a.wrong("I7", "%s costs %d units, and charged is %t", id, h.end.Units, charged[id])
		}
	}
	for id, c := range a.books.charges {
		if c.Units != 0 && !charged[id] {
			a.wrong("I7", "%s costs %s %d units, and is not charged", id, c.Account, c.Units)
		}
	}
	for _, d := range a.Days {
		byDay[month{d.Account, d.Period.UTC()}] += d.Units
	}
	for _, m := range a.Months {
		key := month{m.Account, m.Period.UTC()}
		if owed[key] != m.Units {
			a.wrong("I7", "%s owes %d units for %s, the charges are %d", m.Account, m.Units, m.Period.Format("2006-01"), owed[key])
		}
		if byDay[key] != m.Units {
			a.wrong("I7", "%s owes %d units for %s, the days are %d", m.Account, m.Units, m.Period.Format("2006-01"), byDay[key])
		}
		delete(owed, key)
		delete(byDay, key)
	}
	for _, left := range []map[month]int64{owed, byDay} {
		for key, units := range left {
			if units != 0 {
				a.wrong("I7", "%s owes nothing for %s, the charges are %d", key.account, key.period.Format("2006-01"), units)
			}
		}
	}
	a.outcomes()
}

// outcomes: the days count every end, once, on the day it came.
func (a *auditor) outcomes() {
	type cell struct {
		account string
		day     int32
		state   string
	}
	ends := map[cell]int64{}
	for _, h := range a.books.jobs {
		if h.end != nil {
			state := h.end.Job.State
			if h.end.Job.Cached {
				state = "cached"
			}
			ends[cell{h.end.Job.Account, dayOf(time.UnixMicro(h.end.Job.FinishedUs)), state}]++
		}
	}
	for _, d := range a.Days {
		for state, n := range map[string]int64{"succeeded": d.Succeeded, "cached": d.Cached, "failed": d.Failed, "canceled": d.Canceled, "expired": d.Expired} {
			ends[cell{d.Account, dayOf(d.Day), state}] -= n
		}
	}
	for c, n := range ends {
		if n != 0 {
			a.wrong("I7", "on day %d %d jobs of %s that ended as %s are missing in its days", c.day, n, c.account, c.state)
		}
	}
}

// objects: a success names the object of the lease that ended it, which is
// there, as it was reported; and whatever is there was uploaded by a lease that
// the ledger had opened.
func (a *auditor) objects() {
	stored := map[string]Object{}
	for _, o := range a.Objects {
		stored[o.Key] = o
		id, tok, err := leaseOf(o.Key)
		if err != nil {
			a.wrong("I6", "object %s: %v", o.Key, err)
			continue
		}
		if h := a.books.jobs[id]; h == nil || h.lease(tok) == nil {
			a.wrong("I4", "object %s was uploaded by a lease that the ledger does not know", o.Key)
		}
	}
	for id, h := range a.books.jobs {
		if h.end == nil || h.end.Job.State != "succeeded" {
			continue
		}
		r := h.end.Job.Result
		if of, tok, err := leaseOf(r.GetObject()); !h.end.Job.Cached && (err != nil || of != id || tok != h.end.Token) { // else see shared
			a.wrong("I6", "%s was ended by lease %d and names %s", id, h.end.Token, r.GetObject())
		}
		o, there := stored[r.GetObject()]
		switch {
		case !there:
			a.wrong("I1", "%s succeeded and %s is not there", id, r.GetObject())
		case o.Size != r.GetSizeBytes() || !bytes.Equal(o.SHA256, r.GetSha256()):
			a.wrong("I6", "%s is not what %s reported", o.Key, id)
		}
	}
}

func (h *history) lease(tok uint64) *lease {
	for _, l := range h.leases {
		if l.token == tok {
			return l
		}
	}
	return nil
}

// leaseOf reads r/<account>/<job>/<token>.<ext>.
func leaseOf(key string) (id string, tok uint64, err error) {
	part := strings.Split(key, "/")
	if len(part) != 4 || part[0] != "r" {
		return "", 0, fmt.Errorf("%q is no artifact's name", key)
	}
	number, _, _ := strings.Cut(part[3], ".")
	tok, err = strconv.ParseUint(number, 10, 64)
	return part[2], tok, err
}
