package audit

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func chargedEvent(c *pb.Charged) *pb.Event {
	return &pb.Event{Fact: &pb.Event_Charged{Charged: c}}
}

// calls charges calls in the last frame, in the archive too.
func (f *forge) calls(id string, units, count int64) {
	last := f.frames[len(f.frames)-1]
	last.Events = append(last.Events, chargedEvent(&pb.Charged{Id: id, Account: "acc", Period: dayOf(month), Units: units, Reason: "call", Count: count}))
	f.run.Events = append(f.run.Events, Event{ID: id, Account: "acc", Period: month, Units: units, Reason: "call", Count: count})
	f.run.Months[0].Units += units
	f.run.Days[0].Units += units
	left := (480 - f.run.Months[0].Units) / 120
	f.run.Usages[0].Units, f.run.Usages[0].Remaining, f.run.Usages[0].Headers.Remaining = f.run.Months[0].Units, left, left
}

// fourth is a job that comes behind the others: from the cache, or as a follower.
func (f *forge) fourth(place pb.Place, change func(*pb.Accepted, *pb.Finished)) {
	key := []byte("picture of a")
	f.records[0].Envelope.CacheKey = key
	env := &pb.Envelope{Id: "job_d", Account: "acc", Api: "api", CacheKey: key}
	f.records = append(f.records, &pb.Record{Envelope: env, Body: &pb.Body{CustomId: "name-job_d"}})
	first := f.frames[3].Events[0].GetFinished().Job.Result
	acc := acceptedEvent(env, 4).GetAccepted()
	acc.Place = place
	fin := finishedEvent("job_d", 0, 0, nil).GetFinished()
	fin.Units, fin.Job.Billable, fin.Job.Cached, fin.Job.Result = 0, false, true, first
	if place == pb.Place_PLACE_CACHED {
		acc.Units = 0
	}
	change(acc, fin)
	accepted := &pb.Event{Fact: &pb.Event_Accepted{Accepted: acc}}
	f.frame(4, accepted, &pb.Event{Fact: &pb.Event_Finished{Finished: fin}})
	f.run.Rules.Plans["acc"] = Plan{Tier: 1, Threads: 2, Quota: 480, Cache: time.Minute}
	f.run.Submissions = append(f.run.Submissions, Submission{Name: "name-job_d", Account: "acc", API: "api1", Sent: at(0), Answered: at(100), Status: 200, ID: "job_d"})
	f.run.Rows = append(f.run.Rows, Row{
		ID: "job_d", Account: "acc", State: "succeeded", CustomID: "name-job_d", Tier: 1, Billable: fin.Job.Billable,
		Size: 7, SHA256: sum[:], Object: fin.Job.Result.Object,
	})
	f.run.Days[0].Cached++
}

// asIs changes nothing.
func asIs(*pb.Accepted, *pb.Finished) {}

func TestCleanLimits(t *testing.T) {
	for name, build := range map[string]func(*forge){
		"calls":             func(f *forge) { f.calls("chg_1", 60, 5) },
		"given back":        func(f *forge) { f.calls("chg_1", 120, 1); f.calls("lost_job_a", -120, 1) },
		"summed up too far": func(f *forge) { f.calls("chg_1", 240, 2); f.calls("chg_2", -120, 1) }, // the second call came after the give-back
		"charged again": func(f *forge) {
			f.calls("named", 60, 1)
			f.frames[8].Events = append(f.frames[8].Events, chargedEvent(&pb.Charged{Id: "named", Account: "acc", Period: dayOf(month), Units: 60}))
		},
		"from the cache": func(f *forge) { f.fourth(pb.Place_PLACE_CACHED, asIs) },
		"a follower":     func(f *forge) { f.fourth(pb.Place_PLACE_FOLLOWER, asIs) },
		"a follower of the last one that the quota has": func(f *forge) {
			f.fourth(pb.Place_PLACE_FOLLOWER, asIs)
			f.run.Rules.Plans["acc"] = Plan{Tier: 1, Threads: 2, Quota: 360, Cache: time.Minute}
			f.run.Usages[0] = Usage{Account: "acc", Units: 360, Limit: 3}
		},
		"told": func(f *forge) {
			f.calls("chg_1", 120, 1)
			f.frames[8].Events = append(f.frames[8].Events, toldEvent(80, 480), toldEvent(100, 480))
		},
		"nobody answered with headers": func(f *forge) { f.run.Usages[0].Headers = nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge()
			build(f)
			if r := f.check(t); len(r.Violations) > 0 {
				t.Errorf("%q", r.Violations)
			}
		})
	}
}

func toldEvent(percent uint32, used int64) *pb.Event {
	return &pb.Event{Fact: &pb.Event_QuotaReached{QuotaReached: &pb.QuotaReached{
		Account: "acc", Period: dayOf(month), Percent: percent, Used: used, Limit: 480,
	}}}
}

// Whatever is forged about money, quotas, the cache and rates, the auditor
// cries out, for the right reason.
func TestForgedLimits(t *testing.T) {
	plan := func(change func(*Plan)) func(*forge) {
		return func(f *forge) {
			p := f.run.Rules.Plans["acc"]
			change(&p)
			f.run.Rules.Plans["acc"] = p
		}
	}
	for name, test := range map[string]struct {
		want  string
		forge func(f *forge)
	}{
		"over the quota":             {"I7", plan(func(p *Plan) { p.Quota = 240 })},
		"over it by what is pending": {"I7: with job_b", plan(func(p *Plan) { p.Quota = 120 })},
		"over it by calls":           {"I7: at the end of frame 9", func(f *forge) { f.calls("chg_1", 121, 2) }},
		"a failure that costs": {"I7", func(f *forge) {
			f.frames[3].Events[0].GetFinished().Job.State, f.run.Rows[0].State = "failed", "failed"
		}},
		"a hit that costs": {"I7", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, func(_ *pb.Accepted, fin *pb.Finished) { fin.Units, fin.Job.Billable = 120, true })
		}},
		"a follower that costs": {"I7", func(f *forge) {
			f.fourth(pb.Place_PLACE_FOLLOWER, func(_ *pb.Accepted, fin *pb.Finished) { fin.Units, fin.Job.Billable = 120, true })
		}},
		"a hit that reserves": {"I7", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, func(acc *pb.Accepted, _ *pb.Finished) { acc.Units = 120 })
		}},
		"another's artifact": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, asIs)
			f.records[0].Envelope.Account, f.run.Rules.Plans["other"] = "other", f.run.Rules.Plans["acc"]
		}},
		"another picture": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, asIs)
			f.records[0].Envelope.CacheKey = []byte("else")
		}},
		"no cache key": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, asIs)
			f.records[0].Envelope.CacheKey, f.records[3].Envelope.CacheKey = nil, nil
		}},
		"too old a picture": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, asIs)
			p := f.run.Rules.Plans["acc"]
			p.Cache = time.Millisecond
			f.run.Rules.Plans["acc"] = p
		}},
		"nobody's artifact": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, func(_ *pb.Accepted, fin *pb.Finished) {
				fin.Job.Result = &pb.Result{Object: "r/acc/job_x/1.png", SizeBytes: 7, Sha256: sum[:]}
			})
		}},
		"a lost lease's artifact": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, func(_ *pb.Accepted, fin *pb.Finished) {
				fin.Job.Result = &pb.Result{Object: "r/acc/job_c/327681.png", SizeBytes: 7, Sha256: sum[:]}
			})
		}},
		"queued and from the cache": {"I6", func(f *forge) { f.fourth(pb.Place_PLACE_QUEUE, asIs) }},
		"rendered and cached":       {"I6", func(f *forge) { f.frames[3].Events[0].GetFinished().Job.Cached = true }},
		"a hit that waits": {"I6", func(f *forge) {
			f.fourth(pb.Place_PLACE_CACHED, asIs)
			last := f.frames[9]
			end := last.Events[1]
			last.Events = last.Events[:1]
			f.frame(4, end)
		}},
		"another price":          {"I7", func(f *forge) { f.frames[1].Events[0].GetAccepted().Units = 60 }},
		"the price of a call":    {"I7", plan(func(p *Plan) { p.PerCall = true })},
		"another month":          {"I7", func(f *forge) { f.frames[1].Events[0].GetAccepted().Period-- }},
		"an end in another one":  {"I7", func(f *forge) { f.frames[3].Events[0].GetFinished().Period = 0 }},
		"filed in another one":   {"I7", func(f *forge) { f.run.Events[0].Period = month.AddDate(0, 1, 0) }},
		"carried at a discount":  {"I9", func(f *forge) { c := carried(f); c.Units = 0; f.frames[4].Events = append(f.frames[4].Events, of(c)) }},
		"carried to next month":  {"I9", func(f *forge) { c := carried(f); c.Period++; f.frames[4].Events = append(f.frames[4].Events, of(c)) }},
		"a call not filed":       {"I7", func(f *forge) { f.calls("chg_1", 60, 1); f.run.Events = f.run.Events[:3] }},
		"a call nobody made":     {"I7", func(f *forge) { f.calls("chg_1", 60, 1); f.frames[8].Events = f.frames[8].Events[:1] }},
		"a call at another rate": {"I7", func(f *forge) { f.calls("chg_1", 60, 1); f.run.Events[3].Units = 61 }},
		"another's call":         {"I7", func(f *forge) { f.calls("chg_1", 60, 1); f.run.Events[3].Account = "other" }},
		"fewer calls":            {"I7", func(f *forge) { f.calls("chg_1", 60, 2); f.run.Events[3].Count = 1 }},
		"more back than charged": {"I7", func(f *forge) { f.calls("lost_job_a", -481, 1) }},
		"days of another sum":    {"I7", func(f *forge) { f.run.Days[0].Units-- }},
		"no days":                {"I7", func(f *forge) { f.run.Days = nil }},
		"days of nobody": {"I7", func(f *forge) {
			f.run.Days = append(f.run.Days, Day{Account: "x", Period: month, Day: epoch, Units: 1})
		}},
		"an end that no day has": {"I7", func(f *forge) { f.run.Days[0].Succeeded-- }},
		"an end of another kind": {"I7", func(f *forge) { f.run.Days[0].Succeeded--; f.run.Days[0].Failed++ }},
		"an end on another day":  {"I7", func(f *forge) { f.run.Days[0].Day = epoch.AddDate(0, 0, 1) }},
		"told of less":           {"I7", func(f *forge) { f.run.Usages[0].Units-- }},
		"told of another quota":  {"I7", func(f *forge) { f.run.Usages[0].Limit++ }},
		"told of more left":      {"I7", func(f *forge) { f.run.Usages[0].Remaining++ }},
		"headers of their own":   {"I7", func(f *forge) { f.run.Usages[0].Headers.Remaining++ }},
		"a limit of their own":   {"I7", func(f *forge) { f.run.Usages[0].Headers.Limit++ }},
		"headers without quota":  {"I7", plan(func(p *Plan) { p.Quota = 0 })},
		"nobody was asked":       {"I7", func(f *forge) { f.run.Usages = nil }},
		"told too early": {"I7", func(f *forge) {
			f.frames[8].Events = append(f.frames[8].Events, toldEvent(80, 360))
		}},
		"told again": {"I7", func(f *forge) {
			f.calls("chg_1", 120, 1)
			f.frames[8].Events = append(f.frames[8].Events, toldEvent(80, 480), toldEvent(80, 480))
		}},
		"too fast":               {"rate", plan(func(p *Plan) { p.Rate.Burst = 2 })},
		"too many for a window":  {"rate", plan(func(p *Plan) { p.Rate = Rate{Requests: 2, Window: time.Minute} })},
		"an unread slow refill":  {"rate", plan(func(p *Plan) { p.Rate = Rate{Requests: 1, Window: time.Hour, Burst: 2} })},
		"two where one may pass": {"rate", plan(func(p *Plan) { p.Rate = Rate{Requests: 1, Window: time.Second, Burst: 1} })},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge()
			test.forge(f)
			r := f.check(t)
			prefix := test.want
			if !strings.Contains(prefix, ":") {
				prefix += ":"
			}
			if !slices.ContainsFunc(r.Violations, func(v string) bool { return strings.HasPrefix(v, prefix) }) {
				t.Errorf("%q, want one of %s", r.Violations, test.want)
			}
		})
	}
}

// A rate holds across leaders, if the next one was a standby before; a leader
// that saw nothing may let one burst more through, and no more than that.
func TestRateAcrossReigns(t *testing.T) {
	const second = 1_000_000
	for name, test := range map[string]struct {
		more   int // accepted by the second reign, at once
		starts []Start
		ok     bool
	}{
		"a standby":               {1, []Start{{epoch.Add(-time.Hour), "here"}, {epoch.Add(-time.Hour), "there"}}, false},
		"none too many":           {0, []Start{{epoch.Add(-time.Hour), "there"}}, true},
		"a fresh one":             {3, []Start{{epoch.Add(-time.Hour), "there"}, {at(3), "there"}}, true},
		"one that nobody started": {3, nil, true},
		"a fresh one, too much":   {4, []Start{{at(3), "there"}}, false},
		"another one is fresh":    {3, []Start{{at(3), "here"}, {epoch.Add(-time.Hour), "there"}}, false},
		"a whole farm":            {3, []Start{{at(3), ""}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			run := &Run{Rules: Rules{Length: 9, Plans: map[string]Plan{"acc": {Rate: Rate{Requests: 1, Window: time.Hour, Burst: 3}}}}, Starts: test.starts}
			a := &auditor{Run: run, said: map[string]int{}, books: &books{
				jobs:   map[string]*history{},
				reigns: []reign{{began: at(1), address: "here"}, {began: at(4), ended: at(3), address: "there"}},
			}}
			accept := func(n, reign int) {
				for i := range n {
					id := fmt.Sprint(reign, "-", i)
					h := &history{accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: "acc"}}, order: uint64(reign*100 + i), reign: reign}
					h.timeUS, h.stored = at(2+3*reign).UnixMicro(), at(2+3*reign).Add(second)
					a.books.jobs[id] = h
				}
			}
			accept(3, 0)
			accept(test.more, 1)
			a.rates()
			if (len(a.report.Violations) == 0) != test.ok {
				t.Errorf("%q", a.report.Violations)
			}
		})
	}
}
