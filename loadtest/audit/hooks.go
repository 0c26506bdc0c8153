package audit

import (
	"slices"
	"time"
)

// Place is where messages go that an account asked for: an endpoint of every
// type of message, or the URL that some of its jobs or batches name.
type Place struct {
	Account string
	Own     bool // of jobs that name it themselves
}

// Hook is one message that arrived.
type Hook struct {
	Place   string // of Run.Places
	ID      string // webhook-id
	Type    string
	Subject string // id of the job or batch; empty: it is about a quota
	At      time.Time
	Asked   bool   // the archive answered while the message waited for its own answer
	Filed   bool   // and had what it tells of
	Broken  string // what is wrong with it
}

// Delivery is a message as the archive has it.
type Delivery struct {
	ID, Account, Type, Subject, State string
	Attempts                          int
	Ended                             time.Time // zero: it has not
}

// quotaHook is what an account is told of when it has come to so much of its
// quota, in percent.
var quotaHook = map[uint32]string{80: "quota.warning", 100: "quota.exceeded"}

// toldOf is one thing that is told to one place.
type toldOf struct{ place, kind, subject string }

// hooks: every end is told to whoever asked, at least once, under one id, and
// not before the archive had it; and nothing else is told.
func (a *auditor) hooks() {
	arrived := a.arrived()
	due := map[toldOf]int{} // how many messages
	for id, h := range a.books.jobs {
		if h.end == nil {
			continue
		}
		for name, p := range a.Places {
			if p.Account != h.accepted.Envelope.Account || p.Own && h.end.Job.GetBody().GetWebhook().GetUrl() != a.urlOf(name) {
				continue
			}
			if p.Own && h.accepted.Envelope.Batch != "" {
				continue // its batch may or may not let its lines speak for themselves
			}
			due[toldOf{name, "job." + h.end.Job.State, id}]++
		}
	}
	for of, s := range a.books.spent {
		for _, percent := range s.told {
			for name, p := range a.Places {
				if kind := quotaHook[percent]; p.Account == of.id && !p.Own && kind != "" {
					due[toldOf{name, kind, ""}]++
				}
			}
		}
	}
	for i := range a.Batches {
		for name, p := range a.Places {
			if b := &a.Batches[i]; p.Account == b.Account && !p.Own {
				due[toldOf{name, "batch.completed", b.ID}] += b.Ends
			}
		}
	}
	for of, n := range due {
		if got := len(arrived[of]); got != n {
			a.wrong("I17", "%s of %q is told to %s by %d messages, want %d", of.kind, of.subject, of.place, got, n)
		}
		delete(arrived, of)
	}
	for of, ids := range arrived {
		if p, known := a.Places[of.place]; !known || !p.Own { // what lines say for themselves was left out above
			a.wrong("I17", "%s is told of %s %q, which has not happened, by %v", of.place, of.kind, of.subject, ids)
		}
	}
	a.deliveries()
}

// urlOf is the URL that jobs name for a place.
func (a *auditor) urlOf(place string) string { return a.HookURL + place }

// arrived gathers the ids of what arrived, each once, and says what no message
// may be.
func (a *auditor) arrived() map[toldOf][]string {
	arrived := map[toldOf][]string{}
	for _, h := range a.Hooks {
		a.report.Hooks++
		if h.Broken != "" {
			a.wrong("I17", "a message to %s: %s", h.Place, h.Broken)
			continue
		}
		if h.Asked {
			a.report.HooksAsked++
		}
		if h.Asked && !h.Filed {
			a.wrong("I17", "%s of %s is told to %s before the archive has it", h.Type, h.Subject, h.Place)
		}
		of := toldOf{h.Place, h.Type, h.Subject}
		if slices.Contains(arrived[of], h.ID) {
			a.report.HooksAgain++
			continue
		}
		arrived[of] = append(arrived[of], h.ID)
	}
	return arrived
}

// deliveries: what the archive calls delivered has arrived, and in the end
// nothing is left.
func (a *auditor) deliveries() {
	came := map[string]bool{}
	for _, h := range a.Hooks {
		came[h.ID] = true
	}
	seen := map[string]bool{}
	for _, d := range a.Deliveries {
		seen[d.ID] = true
		switch {
		case d.State != "delivered":
			a.wrong("I17", "%s, %s of %s, is %s after %d attempts", d.ID, d.Type, d.Subject, d.State, d.Attempts)
		case !came[d.ID]:
			a.wrong("I17", "%s, %s of %s, counts as delivered and never arrived", d.ID, d.Type, d.Subject)
		}
	}
	for _, h := range a.Hooks {
		if h.ID != "" && !seen[h.ID] {
			a.wrong("I17", "%s arrived as %s, of which the archive knows nothing", h.Type, h.ID)
			seen[h.ID] = true
		}
	}
}

// untold: a message had arrived, or was under way, and was not yet written down
// as delivered.
func (a *auditor) untold(k Kill) bool {
	if k.Kind != "api" && k.Kind != "up" {
		return false
	}
	ended := map[string]time.Time{}
	for _, d := range a.Deliveries {
		ended[d.ID] = d.Ended
	}
	return slices.ContainsFunc(a.Hooks, func(h Hook) bool {
		return h.At.Before(k.At) && h.At.After(k.At.Add(-10*time.Second)) && ended[h.ID].After(k.At)
	})
}
