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

// money: the months are the sums of the charges, and the charges are those of
// the ends.
func (a *auditor) money() {
	type month struct {
		account string
		period  time.Time
	}
	owed, charged := map[month]int64{}, map[string]bool{}
	for _, e := range a.Events {
		owed[month{e.Account, e.Period.UTC()}] += e.Units
		h := a.books.jobs[e.ID]
		switch {
		case charged[e.ID]:
			a.wrong("I7", "%s is charged twice", e.ID)
		case h == nil || h.end == nil:
			a.wrong("I7", "%s is charged and has no end", e.ID)
		case h.end.Units != e.Units || h.end.Job.Account != e.Account:
			a.wrong("I7", "%s is charged with %d units to %s, its end says %d to %s", e.ID, e.Units, e.Account, h.end.Units, h.end.Job.Account)
		}
		charged[e.ID] = true
	}
	for id, h := range a.books.jobs {
		if h.end == nil {
			continue
		}
		if (h.end.Units > 0) != charged[id] {
			a.wrong("I7", "%s costs %d units, and charged is %t", id, h.end.Units, charged[id])
		}
		if fresh := h.end.Job.State == "succeeded" && !h.end.Job.Cached; h.end.Job.Billable != fresh || (h.end.Units > 0) != fresh {
			a.wrong("I7", "%s ended as %s: billable %t, %d units", id, h.end.Job.State, h.end.Job.Billable, h.end.Units)
		}
	}
	for _, m := range a.Months {
		key := month{m.Account, m.Period.UTC()}
		if owed[key] != m.Units {
			a.wrong("I7", "%s owes %d units for %s, the charges are %d", m.Account, m.Units, m.Period.Format("2006-01"), owed[key])
		}
		delete(owed, key)
	}
	for key, units := range owed {
		a.wrong("I7", "%s owes nothing for %s, the charges are %d", key.account, key.period.Format("2006-01"), units)
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
		if of, tok, err := leaseOf(r.GetObject()); err != nil || of != id || tok != h.end.Token {
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
