package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// forge is a run made by hand: three jobs of one account that went well, the
// last one under a key and at its second attempt.
type forge struct {
	run     *Run
	records []*pb.Record
	frames  []*pb.Frame
}

var (
	epoch  = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	month  = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	sum    = sha256.Sum256([]byte("picture"))
	keySum = sha256.Sum256([]byte("acc\x00k"))
)

func at(n int) time.Time { return epoch.Add(time.Duration(n) * 10 * time.Millisecond) }

func (f *forge) frame(jobs uint64, events ...*pb.Event) {
	f.frames = append(f.frames, &pb.Frame{Epoch: 1, Jobs: jobs, TimeUs: at(len(f.frames) + 1).UnixMicro(), Events: events})
}

func acceptedEvent(env *pb.Envelope, seq uint64) *pb.Event {
	return &pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{
		Envelope: env, JobsSeq: seq, Tier: 1, Place: pb.Place_PLACE_QUEUE, Units: 120, Period: dayOf(month),
	}}}
}

func startedEvent(id string) *pb.Event {
	return &pb.Event{Fact: &pb.Event_Started{Started: &pb.Started{Id: id, Worker: "w", Boot: "b", WallMs: 1000}}}
}

func finishedEvent(id string, tok uint64, attempts uint32, key []byte) *pb.Event {
	return &pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Token: tok, KeyHash: key, Units: 120, Period: dayOf(month), Job: &pb.Job{
		FinishedUs: at(1).UnixMicro(), Id: id, Account: "acc", State: "succeeded", Tier: 1, Attempts: attempts, Billable: true,
		Body:   &pb.Body{CustomId: "name-" + id},
		Result: &pb.Result{Object: fmt.Sprintf("r/acc/%s/%d.png", id, tok), SizeBytes: 7, Sha256: sum[:]},
	}}}}
}

func newForge() *forge {
	f := &forge{run: &Run{Rules: Rules{Length: 2, Attempts: 3, LeaseGrace: 35 * time.Second, Plans: map[string]Plan{
		"acc": {Tier: 1, Threads: 2, Quota: 480, Rate: Rate{Requests: 60, Window: time.Minute, Burst: 3}, Cache: time.Minute},
	}}}}
	for i, id := range []string{"job_a", "job_b", "job_c"} {
		env := &pb.Envelope{Id: id, Account: "acc", Api: "api"}
		key := ""
		if id == "job_c" {
			env.KeyHash, key = keySum[:], "k"
		}
		name := "name-" + id
		f.records = append(f.records, &pb.Record{Envelope: env, Body: &pb.Body{CustomId: name}})
		f.run.Submissions = append(f.run.Submissions, Submission{
			Name: name, Account: "acc", Key: key, API: "api1", Sent: at(0), Answered: at(100), Status: 202, ID: id,
		})
		row := Row{ID: id, Account: "acc", State: "succeeded", CustomID: name, Tier: 1, Attempts: 1, Billable: true, KeyHash: env.KeyHash, Size: 7, SHA256: sum[:]}
		tok := []uint64{3 << 16, 5 << 16, 8 << 16}[i]
		row.Object = fmt.Sprintf("r/acc/%s/%d.png", id, tok)
		if id == "job_c" {
			row.Attempts = 2
		}
		f.run.Rows = append(f.run.Rows, row)
		f.run.Events = append(f.run.Events, Event{ID: id, Account: "acc", Period: month, Units: 120, Reason: "render", Count: 1})
		f.run.Objects = append(f.run.Objects, Object{Key: row.Object, Size: 7, SHA256: sum[:]})
		for _, s := range []string{"queued", "running", "succeeded"} {
			n := int32(1)
			if s == "queued" {
				n = 0
			}
			if id == "job_c" && s == "succeeded" {
				n = 2
			}
			f.run.Looks = append(f.run.Looks, Look{ID: id, Status: 200, State: s, Attempts: n})
		}
	}
	f.run.Months = []Month{{Account: "acc", Period: month, Units: 360}}
	f.run.Days = []Day{{Account: "acc", Period: month, Day: epoch, Units: 360, Succeeded: 3}}
	f.run.Usages = []Usage{{Account: "acc", Units: 360, Limit: 4, Remaining: 1, Headers: &Quota{Limit: 4, Remaining: 1}}}
	env := func(i int) *pb.Envelope { return f.records[i].Envelope }
	f.frame(0, &pb.Event{Fact: &pb.Event_EpochOpened{EpochOpened: &pb.EpochOpened{Scheduler: "s", Address: "here"}}})
	f.frame(2, acceptedEvent(env(0), 1), acceptedEvent(env(1), 2))
	f.frame(2, startedEvent("job_a"))
	f.frame(3, finishedEvent("job_a", 3<<16, 1, nil), acceptedEvent(env(2), 3))
	f.frame(3, startedEvent("job_b"), startedEvent("job_c"))
	f.frame(3, finishedEvent("job_b", 5<<16, 1, nil))
	f.frame(3, &pb.Event{Fact: &pb.Event_Released{Released: &pb.Released{Id: "job_c", Token: 5<<16 | 1, Reason: pb.Released_REASON_LOST}}})
	f.frame(3, startedEvent("job_c"))
	f.frame(3, finishedEvent("job_c", 8<<16, 2, keySum[:]))
	return f
}

// check seals the frames and has the run judged.
func (f *forge) check(t *testing.T) Report {
	t.Helper()
	if f.run.Records == nil {
		for i, r := range f.records {
			data, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			f.run.Records = append(f.run.Records, Message{Seq: uint64(i + 1), Stored: at(1), Data: data})
		}
	}
	chain := uint32(0)
	for i, fr := range f.frames {
		body, err := proto.Marshal(fr)
		if err != nil {
			t.Fatal(err)
		}
		var prev [4]byte
		binary.BigEndian.PutUint32(prev[:], chain)
		chain = crc32.Update(crc32.Checksum(prev[:], castagnoli), castagnoli, body)
		f.run.Frames = append(f.run.Frames, Message{Seq: uint64(i + 1), Stored: at(i + 1), Data: append(binary.BigEndian.AppendUint32(nil, chain), body...)})
		if f.run.Projection.Seq == 0 && i == len(f.frames)-1 {
			f.run.Projection = Projection{Seq: uint64(i + 1), Chain: chain}
		}
	}
	return f.run.Check()
}

func TestCleanRun(t *testing.T) {
	r := newForge().check(t)
	if len(r.Violations) > 0 || r.Accepted != 3 || r.Ends["succeeded"] != 3 || r.Retried != 1 || r.Reigns != 1 {
		t.Errorf("%+v", r)
	}
}

// carried is job_c as it is after its first start, in frame 5.
func carried(f *forge) *pb.Carried {
	return &pb.Carried{
		Envelope: f.records[2].Envelope, JobsSeq: 3, Order: 4<<16 | 1, Tier: 1, Place: pb.Place_PLACE_QUEUE,
		AcceptedUs: at(4).UnixMicro(), StartedUs: at(5).UnixMicro(), Began: true, Attempts: 1, Token: 5<<16 | 1, Units: 120, Period: dayOf(month),
	}
}

func of(c *pb.Carried) *pb.Event { return &pb.Event{Fact: &pb.Event_Carried{Carried: c}} }

// A record that was trimmed before anybody saw it takes nothing away.
func TestTrimmedRecord(t *testing.T) {
	f := newForge()
	f.check(t)
	f.run.Records = f.run.Records[1:]
	if r := f.run.Check(); len(r.Violations) > 0 || r.Records != 2 {
		t.Errorf("%+v", r)
	}
}

func TestCarried(t *testing.T) {
	f := newForge()
	f.frames[4].Events = append(f.frames[4].Events, of(carried(f)), of(carried(f)))
	if r := f.check(t); len(r.Violations) > 0 || r.Carried != 2 {
		t.Errorf("%+v", r)
	}
}

// Whatever is forged, the auditor cries out, and for the right reason.
func TestForgeries(t *testing.T) {
	for name, test := range map[string]struct {
		want  string
		forge func(f *forge)
	}{
		"a doubled Finished":   {"I5", func(f *forge) { f.frame(3, finishedEvent("job_a", 3<<16, 1, nil)) }},
		"a lost id":            {"I1", func(f *forge) { f.run.Submissions[0].ID = "job_x" }},
		"another's id":         {"I1", func(f *forge) { f.run.Submissions[0].ID = "job_b" }},
		"no end":               {"I1", func(f *forge) { f.frames = f.frames[:8]; f.run.Projection.Seq = 0 }},
		"no row":               {"I1", func(f *forge) { f.run.Rows = f.run.Rows[1:] }},
		"two rows":             {"I7", func(f *forge) { f.run.Rows = append(f.run.Rows, f.run.Rows[0]) }},
		"another row":          {"I7", func(f *forge) { f.run.Rows[1].Attempts = 2 }},
		"refused and accepted": {"I1", func(f *forge) { f.run.Submissions[0].Status, f.run.Submissions[0].ID = 503, "" }},
		"404 after 202":        {"I1", func(f *forge) { f.run.Looks = append(f.run.Looks, Look{ID: "job_a", Status: 404}) }},
		"published twice":      {"I1", func(f *forge) { f.records = append(f.records, f.records[0]); f.frames[8].Jobs = 4 }},
		"undecided": {"I1", func(f *forge) {
			f.records = append(f.records, &pb.Record{Envelope: &pb.Envelope{Id: "job_d"}, Body: &pb.Body{}})
		}},
		"fewer than accepted":       {"I1", func(f *forge) { f.run.Rows, f.run.Events = nil, nil }},
		"another name at the end":   {"I9", func(f *forge) { f.frames[3].Events[0].GetFinished().Job.Body.CustomId = "x" }},
		"a queue too long":          {"I2", func(f *forge) { f.run.Rules.Length = 1 }},
		"a wrong tier":              {"I2", func(f *forge) { f.frames[1].Events[0].GetAccepted().Tier = 9 }},
		"more leases than threads":  {"I3", func(f *forge) { f.run.Rules.Plans["acc"] = Plan{Tier: 1, Threads: 1} }},
		"two leases of a job":       {"I4", func(f *forge) { f.frames[4].Events = append(f.frames[4].Events, startedEvent("job_b")) }},
		"an upload before Started":  {"I4", func(f *forge) { f.run.Objects = append(f.run.Objects, Object{Key: "r/acc/job_a/99.png"}) }},
		"an end by a stale token":   {"I6", func(f *forge) { f.frames[8].Events[0].GetFinished().Token = 5<<16 | 1 }},
		"a stale object referenced": {"I6", func(f *forge) { f.frames[8].Events[0].GetFinished().Job.Result.Object = "r/acc/job_c/327681.png" }},
		"another object":            {"I6", func(f *forge) { f.run.Objects[0].SHA256 = nil }},
		"no object":                 {"I1", func(f *forge) { f.run.Objects = f.run.Objects[1:] }},
		"a success of nobody":       {"I6", func(f *forge) { f.frames[3].Events[0].GetFinished().Token = 0 }},
		"a charge too many": {"I7", func(f *forge) {
			f.run.Events = append(f.run.Events, Event{ID: "job_x", Account: "acc", Period: month, Units: 1})
		}},
		"a charge twice":         {"I7", func(f *forge) { f.run.Events = append(f.run.Events, f.run.Events[0]); f.run.Months[0].Units = 480 }},
		"a charge too few":       {"I7", func(f *forge) { f.run.Events = f.run.Events[1:] }},
		"a wrong sum":            {"I7", func(f *forge) { f.run.Months[0].Units = 361 }},
		"no sum":                 {"I7", func(f *forge) { f.run.Months = nil }},
		"a free success":         {"I7", func(f *forge) { f.frames[3].Events[0].GetFinished().Units = 0 }},
		"an archive of another":  {"I7", func(f *forge) { f.run.Projection = Projection{Seq: 4, Chain: 1} }},
		"an old epoch":           {"I8", func(f *forge) { f.frames[4].Epoch = 0 }},
		"an epoch nobody opened": {"I8", func(f *forge) { f.frames[8].Epoch = 2 }},
		"time goes backwards":    {"I8", func(f *forge) { f.frames[4].TimeUs = 1 }},
		"records go backwards":   {"I8", func(f *forge) { f.frames[4].Jobs = 1 }},
		"a record decided twice": {"I8", func(f *forge) { f.frames[3].Events[1].GetAccepted().JobsSeq = 2 }},
		"an order of its own":    {"I13", func(f *forge) { slices.Reverse(f.run.Looks[:3]) }},
		"an attempt nobody made": {"I13", func(f *forge) { f.run.Looks[1].Attempts = 2 }},
		"canceled and succeeded": {"I13", func(f *forge) { f.run.Looks[2].Canceled = true }},
		"carried otherwise":      {"I9", func(f *forge) { c := carried(f); c.Order++; f.frames[4].Events = append(f.frames[4].Events, of(c)) }},
		"carried with a lease":   {"I9", func(f *forge) { f.frames[6].Events = append(f.frames[6].Events, of(carried(f))) }},
		"carried after its end":  {"I9", func(f *forge) { f.frames[8].Events = append(f.frames[8].Events, of(carried(f))) }},
		"behind a reign's end": {"I8", func(f *forge) {
			f.frames[7].Events = append(f.frames[7].Events, &pb.Event{Fact: &pb.Event_EpochClosed{EpochClosed: &pb.EpochClosed{}}})
		}},
		"an event of no kind": {"I8", func(f *forge) { f.frames[7].Events = append(f.frames[7].Events, &pb.Event{}) }},
		"attempts of its own": {"I9", func(f *forge) { f.frames[8].Events[0].GetFinished().Job.Attempts = 1 }},
		"two jobs of a key":   {"I10", func(f *forge) { f.records[0].Envelope.KeyHash = keySum[:] }},
		"two ids of a key": {"I10", func(f *forge) {
			s := f.run.Submissions[2]
			s.ID = "job_a"
			f.run.Submissions = append(f.run.Submissions, s)
		}},
		"too many attempts":   {"I14", func(f *forge) { f.run.Rules.Attempts = 1 }},
		"a lease without end": {"I15", func(f *forge) { f.frames[8].TimeUs += time.Minute.Microseconds() }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge()
			test.forge(f)
			r := f.check(t)
			if !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.HasPrefix(v, test.want+": ") }) {
				t.Errorf("%q, want one of %s", r.Violations, test.want)
			}
		})
	}
}

// A chain that is broken, and a ledger that begins too late, are told.
func TestBrokenLedger(t *testing.T) {
	for name, breakIt := range map[string]func(r *Run){
		"a flipped bit":     func(r *Run) { r.Frames[3].Data[9] ^= 1 },
		"a frame cut out":   func(r *Run) { r.Frames = slices.Delete(r.Frames, 4, 5) },
		"begins too late":   func(r *Run) { r.Frames = r.Frames[1:] },
		"a frame of no use": func(r *Run) { r.Frames[2].Data = nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge()
			f.check(t)
			breakIt(f.run)
			if r := f.run.Check(); !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.HasPrefix(v, "I8: ") }) {
				t.Errorf("%q", r.Violations)
			}
		})
	}
}

// A kill counts for a window when the records say so.
func TestWindows(t *testing.T) {
	for name, test := range map[string]struct {
		kill  Kill
		forge func(r *Run)
		want  []string
	}{
		"a scheduler beside a lease": {Kill{At: at(5).Add(1), Kind: "scheduler"}, nil, []string{"open lease", "accepted and unanswered"}},
		"a worker with a lease":      {Kill{At: at(3).Add(1), Kind: "worker", Name: "w"}, nil, []string{"open lease"}},
		"another worker":             {Kill{At: at(3).Add(1), Kind: "worker", Name: "v"}, nil, nil},
		"an upload without an end": {
			Kill{At: at(5).Add(1), Kind: "worker", Name: "w"},
			func(r *Run) { r.Objects = append(r.Objects, Object{Key: "r/acc/job_c/327681.png"}) },
			[]string{"open lease", "during an upload"},
		},
		"before any record": {Kill{At: at(0).Add(1), Kind: "api", Name: "api1"}, nil, []string{"unacked publish"}},
		"another replica":   {Kill{At: at(0).Add(1), Kind: "api", Name: "api2"}, nil, nil},
		"an append":         {Kill{At: at(5).Add(1), Kind: "scheduler", Address: "here"}, nil, []string{"open lease", "accepted and unanswered", "unacked publish"}},
		"ends not filed":    {Kill{At: at(6).Add(1), Kind: "scheduler", Known: true, Projected: 4}, nil, []string{"open lease", "accepted and unanswered", "finished and not projected"}},
		"ends filed":        {Kill{At: at(6).Add(1), Kind: "scheduler", Known: true, Projected: 6}, nil, []string{"open lease", "accepted and unanswered"}},
		"a store":           {Kill{At: at(6).Add(1), Kind: "nats"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge()
			f.run.Kills = []Kill{test.kill}
			if test.forge != nil {
				test.forge(f.run)
			}
			r := f.check(t)
			for _, w := range Windows {
				if got, want := r.Windows[w] == 1, slices.Contains(test.want, w); got != want {
					t.Errorf("%s: %t, want %t", w, got, want)
				}
			}
		})
	}
	f := newForge() // a record that was refused, its client not told
	f.records = append(f.records, &pb.Record{Envelope: &pb.Envelope{Id: "job_d", Account: "acc"}, Body: &pb.Body{CustomId: "d"}})
	f.frames[8].Jobs = 4
	f.run.Submissions = append(f.run.Submissions, Submission{Name: "d", Account: "acc", API: "api1", Sent: at(0), Failed: at(9).Add(2)})
	f.run.Kills = []Kill{{At: at(9).Add(1), Kind: "api", Name: "api1"}}
	if r := f.check(t); r.Windows["refused and unanswered"] != 1 || len(r.Violations) > 0 {
		t.Errorf("%+v", r)
	}
}
