package audit

import pb "github.com/tintype/tintype/proto/tintype/v1"

// Batch is one upload, as its client made it and as it read it at its end.
type Batch struct {
	ID, Account string
	Lines       int
	Bad         map[int]bool // lines that no job can be made of
	Passes      int          // 1, and one more for each time failed lines were tried again
	Ends        int          // how often it was seen to end
	State       string       // at its end; empty: it had none
	Counts      map[string]int
	Results     []BatchLine
	Wrong       []string // what its client found wrong with them
}

// BatchLine is one line of a batch's results.
type BatchLine struct {
	Line          int
	ID, State     string
	Digest, Error string
}

// batches: each line of a batch is one job in each pass at most, its result is
// that of the last, and what the batch counts is what the ledger says.
func (a *auditor) batches() {
	type key struct {
		batch      string
		line, pass uint32
	}
	jobs := map[key]string{}
	last := map[key]string{} // with pass 0
	known := map[string]*Batch{}
	for i := range a.Batches {
		known[a.Batches[i].ID] = &a.Batches[i]
	}
	for id, h := range a.books.jobs {
		env := h.accepted.Envelope
		if env.Batch == "" {
			continue
		}
		at := key{env.Batch, env.Line, env.Pass}
		b := known[env.Batch]
		switch {
		case jobs[at] != "":
			a.wrong("batch", "line %d of %s is %s and %s in pass %d", env.Line, env.Batch, jobs[at], id, env.Pass)
		case b == nil:
			a.wrong("batch", "%s is of batch %s, which nobody uploaded", id, env.Batch)
		case env.Account != b.Account || env.Line < 1 || int(env.Line) > b.Lines || b.Bad[int(env.Line)] || env.Pass < 1 || int(env.Pass) > b.Passes:
			a.wrong("batch", "%s is of line %d of %s in pass %d, which is none", id, env.Line, env.Batch, env.Pass)
		}
		jobs[at] = id
		a.report.BatchJobs++
		of := key{env.Batch, env.Line, 0}
		if before := a.books.jobs[last[of]]; before == nil || before.accepted.Envelope.Pass < env.Pass {
			last[of] = id
		}
	}
	for at, id := range jobs {
		before := a.books.jobs[jobs[key{at.batch, at.line, at.pass - 1}]]
		if before != nil && before.end.GetJob().GetState() == "succeeded" {
			a.wrong("batch", "line %d of %s succeeded, and is tried again as %s", at.line, at.batch, id)
		}
	}
	for i := range a.Batches {
		b := &a.Batches[i]
		if b.State == "" {
			a.wrong("batch", "%s has no end", b.ID)
			continue
		}
		for _, what := range b.Wrong {
			a.wrong("batch", "%s: %s", b.ID, what)
		}
		counts := map[string]int{}
		for _, l := range b.Results {
			counts[l.State]++
			id := last[key{b.ID, uint32(l.Line), 0}]
			if l.ID != id && !(l.ID == "" || id == "" && l.State == "canceled") {
				a.wrong("batch", "line %d of %s is answered with %s, its job is %q", l.Line, b.ID, l.ID, id)
				continue
			}
			h := a.books.jobs[id]
			switch {
			case id == "" && l.State != "canceled" && !b.Bad[l.Line]:
				a.wrong("batch", "line %d of %s is %s and never was a job", l.Line, b.ID, l.State)
			case h != nil && (h.end.GetJob().GetState() != l.State || errorOf(h.end.GetJob()) != l.Error):
				a.wrong("batch", "line %d of %s is answered as %s %s, and %s ended as %s %s", l.Line, b.ID, l.State, l.Error, id,
					h.end.GetJob().GetState(), h.end.GetJob().GetFailure().GetCode())
			}
		}
		for _, state := range []string{"succeeded", "failed", "canceled", "expired"} {
			if counts[state] != b.Counts[state] {
				a.wrong("batch", "%s counts %d lines as %s, its results %d", b.ID, b.Counts[state], state, counts[state])
			}
		}
		a.report.Batches++
		a.report.BatchLines += len(b.Results)
	}
}

// fed: the API was killed while lines of a batch were on their way in.
func (a *auditor) fed(k Kill) bool {
	if k.Kind != "api" && k.Kind != "up" {
		return false
	}
	type reach struct{ before, after bool }
	of := map[string]reach{}
	for _, h := range a.books.jobs {
		if env := h.accepted.Envelope; env.Batch != "" {
			r := of[env.Batch]
			if h.stored.Before(k.At) {
				r.before = true
			} else {
				r.after = true
			}
			of[env.Batch] = r
		}
	}
	for _, r := range of {
		if r.before && r.after {
			return true
		}
	}
	return false
}

// errorOf is the error of a job's line in results: what failed, or that it was
// ended. Empty where there is none.
func errorOf(j *pb.Job) string {
	switch j.GetState() {
	case "canceled", "expired":
		return j.GetState()
	}
	return j.GetFailure().GetCode()
}
