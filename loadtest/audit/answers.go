package audit

import (
	"crypto/sha256"
	"slices"
)

// answers: what a client was told of a submission is what the ledger says.
func (a *auditor) answers() {
	told, names := map[string]bool{}, map[string]string{}
	for id := range a.books.jobs {
		names[a.nameOf(id)] = id
	}
	for i := range a.Submissions {
		s := &a.Submissions[i]
		switch {
		case s.accepted():
			told[s.ID] = true
			if a.books.jobs[s.ID] == nil {
				a.wrong("I1", "%s was accepted as %q, of which the ledger knows nothing", s.Name, s.ID)
			} else if s.Key == "" && names[s.Name] != s.ID {
				a.wrong("I1", "%s was accepted as %s, and is %s", s.Name, s.ID, names[s.Name])
			}
		case s.refused():
			a.report.Refused++
			if s.Code == "rate_limit_exceeded" {
				a.report.Throttled++
			}
			if id := names[s.Name]; s.Key == "" && id != "" {
				a.wrong("I1", "%s was refused with %d %s, and accepted as %s", s.Name, s.Status, s.Code, id)
			}
		}
	}
	if len(a.books.jobs) < len(told) || len(a.Rows) < len(told) {
		a.wrong("I1", "%d jobs were accepted, %d are seen in the ledger and %d in the archive", len(told), len(a.books.jobs), len(a.Rows))
	}
	for seq, r := range a.books.bySeq {
		if seq > a.books.last && a.books.jobs[r.Envelope.GetId()] == nil {
			a.wrong("I1", "record %d of JOBS is not decided", seq)
		}
	}
}

// nameOf is the custom_id of a job, as its end has it. It is that of its record,
// where that was seen.
func (a *auditor) nameOf(id string) string {
	h := a.books.jobs[id]
	if h == nil {
		return ""
	}
	name := h.end.GetJob().GetBody().GetCustomId()
	if r := a.books.bySeq[h.accepted.JobsSeq]; h.end != nil && r != nil && r.Body.GetCustomId() != name {
		a.wrong("I9", "%s was submitted as %s and ends as %s", id, r.Body.GetCustomId(), name)
	}
	return name
}

// keys: one key, one job, whoever is asked and whatever happens. That there is
// one acceptance for each was checked on the way through the ledger.
func (a *auditor) keys() {
	ids := map[[2]string]string{}
	for i := range a.Submissions {
		s := &a.Submissions[i]
		if s.Key == "" || !s.accepted() {
			continue
		}
		key := [2]string{s.Account, s.Key}
		if first := ids[key]; first != "" && first != s.ID {
			a.wrong("I10", "key %s of %s is %s, and %s", s.Key, s.Account, first, s.ID)
		}
		ids[key] = s.ID
		hash := sha256.Sum256([]byte(s.Account + "\x00" + s.Key))
		if h := a.books.jobs[s.ID]; h != nil && string(h.accepted.Envelope.KeyHash) != string(hash[:]) {
			a.wrong("I10", "%s is answered for key %s, which is not its own", s.ID, s.Key)
		}
	}
}

// looks: what a client read of a job, one answer after the other, is what the
// ledger says, in its order.
func (a *auditor) looks() {
	at := map[string]int{}
	canceled := map[string]bool{}
	for _, l := range a.Looks {
		h := a.books.jobs[l.ID]
		switch {
		case l.Status == 404 || l.Status == 410:
			a.wrong("I1", "%s was accepted and then answered %d", l.ID, l.Status)
			continue
		case l.State == "" || h == nil: // 503, 409, or told by answers
			continue
		}
		steps := h.steps[at[l.ID]:]
		i := slices.Index(steps, step{l.State, l.Attempts})
		if i < 0 {
			a.wrong("I13", "%s was read as %s with %d attempts, after which it had been shown as %v", l.ID, l.State, l.Attempts, h.steps[at[l.ID]])
			continue
		}
		at[l.ID] += i
		if l.Canceled {
			canceled[l.ID] = true
		}
	}
	for id := range canceled {
		if h := a.books.jobs[id]; h.end != nil && h.end.Job.State != "canceled" {
			a.wrong("I13", "%s was answered as canceled and is %s", id, h.end.Job.State)
		}
	}
}
