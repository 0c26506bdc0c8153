package audit

import "time"

// Windows are the moments that a run must have killed in.
var Windows = []string{
	"open lease", "unacked publish", "accepted and unanswered", "refused and unanswered", "finished and not projected", "during an upload",
	"told and not marked", "batch half fed",
}

// windows counts the kills that fell between two things, by what the records
// say and not by what the run meant to hit.
func (a *auditor) windows() {
	a.report.Windows = map[string]int{}
	for _, name := range Windows {
		a.report.Windows[name] = 0
	}
	for _, k := range a.Kills {
		a.report.Kills[k.Kind]++
		for name, hit := range map[string]func(Kill) bool{
			"open lease": a.hadLease, "unacked publish": a.hadPublish,
			"accepted and unanswered":    func(k Kill) bool { return a.unanswered(k, true) },
			"refused and unanswered":     func(k Kill) bool { return a.unanswered(k, false) },
			"finished and not projected": a.unprojected, "during an upload": a.uploading,
			"told and not marked": a.untold, "batch half fed": a.fed,
		} {
			if hit(k) {
				a.report.Windows[name]++
			}
		}
	}
}

// openAt lists the leases that were open then.
func (a *auditor) openAt(at time.Time, each func(id string, l *lease) bool) bool {
	for id, h := range a.books.jobs {
		for _, l := range h.leases {
			if !l.began.After(at) && (l.ended.IsZero() || l.ended.After(at)) && each(id, l) {
				return true
			}
		}
	}
	return false
}

// hadLease: a scheduler was killed beside open leases, or a worker with one.
func (a *auditor) hadLease(k Kill) bool {
	return a.openAt(k.At, func(_ string, l *lease) bool {
		return k.Kind == "scheduler" || k.Kind == "up" || k.Kind == "worker" && l.worker == k.Name
	})
}

// hadPublish: what the killed process had sent was stored after its death, so
// nobody was left to take the acknowledgement.
func (a *auditor) hadPublish(k Kill) bool {
	switch k.Kind {
	case "api":
		for i := range a.Submissions {
			s := &a.Submissions[i]
			if r := a.books.byName[s.Name]; s.Key == "" && s.API == k.Name && s.inFlight(k.At) && r != nil && r.stored.After(k.At) {
				return true
			}
		}
	case "scheduler":
		epoch := uint64(0)
		for _, f := range a.books.frames {
			if !f.stored.After(k.At) {
				epoch = f.epoch
			} else {
				return f.epoch == epoch && f.address == k.Address
			}
		}
	}
	return false
}

// unanswered: a submission was decided, durably, and its client not told.
func (a *auditor) unanswered(k Kill, accepted bool) bool {
	if k.Kind != "api" && k.Kind != "scheduler" && k.Kind != "up" {
		return false
	}
	decided := uint64(0)
	for _, f := range a.books.frames {
		if f.stored.After(k.At) {
			break
		}
		decided = f.jobs
	}
	for i := range a.Submissions {
		s := &a.Submissions[i]
		if s.Key != "" || !s.inFlight(k.At) || k.Kind == "api" && s.API != k.Name {
			continue
		}
		r := a.books.byName[s.Name]
		if r == nil || r.seq > decided {
			continue
		}
		h := a.books.jobs[r.Envelope.Id]
		if accepted && h != nil && !h.stored.After(k.At) || !accepted && h == nil {
			return true
		}
	}
	return false
}

// unprojected: an end was durable and not yet in the archive.
func (a *auditor) unprojected(k Kill) bool {
	if !k.Known {
		return false
	}
	for _, h := range a.books.jobs {
		if h.end != nil && h.endSeq > k.Projected && !h.endAt.After(k.At) {
			return true
		}
	}
	return false
}

// uploading: a worker was killed with an open lease that brought no end, and
// whose object is there all the same.
func (a *auditor) uploading(k Kill) bool {
	if k.Kind != "worker" && k.Kind != "up" {
		return false
	}
	stored := map[uint64]bool{}
	for _, o := range a.Objects {
		if _, tok, err := leaseOf(o.Key); err == nil {
			stored[tok] = true
		}
	}
	return a.openAt(k.At, func(id string, l *lease) bool {
		return (k.Kind == "up" || l.worker == k.Name) && stored[l.token] && a.books.jobs[id].end.GetToken() != l.token
	})
}
