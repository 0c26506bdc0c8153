package audit

import (
	"slices"
	"strings"
	"testing"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// newDelivery is a forge whose first two jobs are lines of a batch, and whose
// account was told of everything.
func newDelivery() *forge {
	f := newForge()
	b := Batch{
		ID: "batch_1", Account: "acc", Lines: 3, Bad: map[int]bool{3: true}, Passes: 1, Ends: 1, State: "completed",
		Counts: map[string]int{"total": 3, "succeeded": 2, "failed": 1},
	}
	for i, r := range f.records {
		id := r.Envelope.Id
		if i < 2 {
			r.Envelope.Batch, r.Envelope.Line, r.Envelope.Pass = b.ID, uint32(i+1), 1
			b.Results = append(b.Results, BatchLine{Line: i + 1, ID: id, State: "succeeded"})
		}
		f.tell("place", "msg_"+id, "job.succeeded", id)
	}
	b.Results = append(b.Results, BatchLine{Line: 3, State: "failed", Error: "invalid_url"})
	f.run.Batches = []Batch{b}
	f.run.Places = map[string]Place{"place": {Account: "acc"}}
	f.tell("place", "msg_batch", "batch.completed", b.ID)
	return f
}

func (f *forge) tell(place, id, kind, subject string) {
	f.run.Hooks = append(f.run.Hooks, Hook{Place: place, ID: id, Type: kind, Subject: subject, At: at(20), Asked: true, Filed: true})
	f.run.Deliveries = append(f.run.Deliveries, Delivery{ID: id, Account: "acc", Type: kind, Subject: subject, State: "delivered", Attempts: 1, Ended: at(21)})
}

func TestDeliveryIsClean(t *testing.T) {
	f := newDelivery()
	f.run.Hooks = append(f.run.Hooks, f.run.Hooks[0]) // at least once
	f.run.Kills = []Kill{{At: at(2).Add(1), Kind: "api", Name: "api1"}, {At: at(20).Add(1), Kind: "api", Name: "api2"}}
	f.records[1].Envelope.Batch = "batch_1"
	r := f.check(t)
	if len(r.Violations) > 0 || r.Hooks != 5 || r.HooksAgain != 1 || r.HooksAsked != 5 || r.BatchJobs != 2 || r.BatchLines != 3 || r.Batches != 1 {
		t.Errorf("%+v", r)
	}
	if r.Windows["told and not marked"] != 1 {
		t.Errorf("%v", r.Windows)
	}
}

// A line that was refused is offered again under its own id; any other id is
// published once.
func TestLinesArePublishedAgain(t *testing.T) {
	f := newDelivery()
	f.records = slices.Insert(f.records, 1, f.records[0])
	for _, fr := range f.frames[1:] { // one more record is decided, a refusal
		fr.Jobs++
		for _, ev := range fr.Events {
			if acc := ev.GetAccepted(); acc != nil {
				acc.JobsSeq++
			}
		}
	}
	if r := f.check(t); len(r.Violations) > 0 {
		t.Errorf("%+v", r.Violations)
	}
}

func TestEachBugOfDelivery(t *testing.T) {
	for name, c := range map[string]struct {
		bug  func(*forge)
		want string
	}{
		"an end is told to nobody": {func(f *forge) {
			f.run.Hooks, f.run.Deliveries = f.run.Hooks[1:], f.run.Deliveries[1:]
		}, "I17: job.succeeded"},
		"marked and never sent":   {func(f *forge) { f.run.Hooks = f.run.Hooks[1:] }, "never arrived"},
		"two ids for one end":     {func(f *forge) { f.tell("place", "msg_other", "job.succeeded", "job_a") }, "2 messages"},
		"told before it is filed": {func(f *forge) { f.run.Hooks[0].Filed = false }, "before the archive has it"},
		"told of another end":     {func(f *forge) { f.run.Hooks[0].Type = "job.failed" }, "which has not happened"},
		"told of a job that is none": {func(f *forge) {
			f.tell("place", "msg_x", "job.succeeded", "job_x")
		}, "which has not happened"},
		"told to a stranger":    {func(f *forge) { f.tell("elsewhere", "msg_x", "job.succeeded", "job_a") }, "elsewhere is told"},
		"a message of nobody's": {func(f *forge) { f.run.Deliveries = f.run.Deliveries[1:] }, "knows nothing"},
		"left in the outbox":    {func(f *forge) { f.run.Deliveries[0].State = "pending" }, "is pending"},
		"given up":              {func(f *forge) { f.run.Deliveries[0].State = "failed" }, "is failed"},
		"a broken message":      {func(f *forge) { f.run.Hooks[0].Broken = "without webhook-id" }, "without webhook-id"},
		"the end of a batch is told to nobody": {func(f *forge) {
			f.run.Hooks, f.run.Deliveries = f.run.Hooks[:3], f.run.Deliveries[:3]
		}, "I17: batch.completed"},
		"the second end of a batch is not told": {func(f *forge) { f.run.Batches[0].Ends = 2 }, "I17: batch.completed"},
		"an own URL is not told": {func(f *forge) {
			f.run.HookURL, f.run.Places["own"] = "http://x/", Place{Account: "acc", Own: true}
			f.own("job_c", "http://x/own")
		}, `"job_c" is told to own by 0`},
		"a line is two jobs":          {func(f *forge) { f.records[1].Envelope.Line = 1 }, "batch: line 1 of batch_1 is job_"},
		"a job of no batch's":         {func(f *forge) { f.records[0].Envelope.Batch = "batch_2" }, "which nobody uploaded"},
		"a job of a line that is bad": {func(f *forge) { f.run.Batches[0].Bad[1] = true }, "which is none"},
		"a job of no line":            {func(f *forge) { f.records[0].Envelope.Line = 4 }, "which is none"},
		"a job of no pass":            {func(f *forge) { f.records[0].Envelope.Pass = 2 }, "which is none"},
		"a success is tried again": {func(f *forge) {
			f.run.Batches[0].Passes = 2
			f.records[1].Envelope.Line, f.records[1].Envelope.Pass = 1, 2
		}, "line 1 of batch_1 succeeded"},
		"a batch without an end":      {func(f *forge) { f.run.Batches[0].State = "" }, "has no end"},
		"results that its client saw": {func(f *forge) { f.run.Batches[0].Wrong = []string{"line 3 has two results"} }, "has two results"},
		"another job's result":        {func(f *forge) { f.run.Batches[0].Results[0].ID = "job_b" }, "answered with job_b"},
		"another state":               {func(f *forge) { f.run.Batches[0].Results[0].State = "failed" }, "answered as failed"},
		"another count":               {func(f *forge) { f.run.Batches[0].Counts["succeeded"] = 3 }, "counts 3 lines"},
		"a line that never was fed":   {func(f *forge) { f.records[0].Envelope.Batch = ""; f.run.Batches[0].Results[0].ID = "" }, "never was a job"},
	} {
		f := newDelivery()
		c.bug(f)
		r := f.check(t)
		if !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.Contains(v, c.want) }) {
			t.Errorf("%s: %q, want %q", name, r.Violations, c.want)
		}
	}
}

// own makes a job name its own webhook.
func (f *forge) own(id, url string) {
	for _, fr := range f.frames {
		for _, ev := range fr.Events {
			if fin := ev.GetFinished(); fin != nil && fin.Job.Id == id {
				fin.Job.Body.Webhook = &pb.Webhook{Url: url}
			}
		}
	}
}
