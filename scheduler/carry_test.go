package scheduler

import (
	"container/list"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// carry writes the n oldest jobs anew, with their bodies or without.
func (b *bench) carry(n int, bodies bool) {
	var oldest []*entry
	for el := b.board.frames.Front(); el != nil && len(oldest) < n; el = el.Next() {
		oldest = append(oldest, el.Value.(*entry))
	}
	for _, e := range oldest {
		var body *pb.Body
		if bodies || e.pin.inLedger {
			body = &pb.Body{CustomId: e.id}
		}
		b.emit(&pb.Event{Fact: &pb.Event_Carried{Carried: carriedNow(e, body)}})
	}
}

// purge drops the frames that no unfinished job needs; never the last.
func (b *bench) purge() {
	b.cut()
	if len(b.frames) > 0 {
		seq, _ := b.board.needs(uint64(len(b.frames)), math.MaxUint64)
		b.front = int(seq) - 1
	}
}

// purged is where the ledger began once it had so many frames.
type purged struct{ front, frames int }

func (b *trial) purge() {
	b.bench.purge()
	if b.durable = len(b.frames); b.durable > 0 {
		b.purges = append(b.purges, purged{b.front, b.durable})
	}
}

// told is what a leader's facts said, of a ledger that began at front.
type told struct {
	front int
	text  string
}

// comparePurged has a fold begin where the ledger began after a purge: from
// then on it is at each frame what a fold of all frames is.
func (b *trial) comparePurged(rt *rapid.T) {
	for _, p := range b.purges[max(0, len(b.purges)-4):] {
		whole, part := newFacts(), newFacts()
		for i, l := range b.frames {
			if whole.fold(l); i >= p.front {
				part.fold(l)
			}
			if i+1 < p.frames {
				continue
			}
			if diff := gocmp.Diff(text(whole, p.front, uint64(p.front)), text(part, p.front, uint64(p.front))); diff != "" {
				rt.Fatalf("at frame %d a fold from frame %d is not what one from the start is (-start +purged):\n%s", i+1, p.front+1, diff)
			}
		}
	}
}

// text is all that facts say, of bills what came after frame "since", and
// nothing that a leader adds. Of jobs that
// ended it is what a fold can say that has met no more than their ends, unless
// the ledger has never been purged.
func text(f *facts, front int, since uint64) string {
	var out strings.Builder
	fmt.Fprintf(&out, "seq %d, chain %d, jobs %d, time %d\n", f.seq, f.chain, f.jobs, f.timeUS)
	line := func(e *entry) {
		fmt.Fprintf(&out, "%s %s order %d record %d of %d tier %d %s accepted %d started %d %t attempts %d lost by %v not before %d costs %d in %d",
			e.id, e.account, e.order, e.jobsSeq, e.jobsBytes, e.tier, e.place, e.acceptedUS, e.startedUS, e.began, e.attempts, e.lostBy, e.notBeforeUS,
			e.units, e.period)
		if e.lease != nil {
			fmt.Fprintf(&out, " lease %d %s %s %s", e.lease.token, e.lease.worker, e.lease.boot, e.lease.wall)
		}
	}
	known := map[string]bool{}
	for el := f.unfinished.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		line(e)
		fmt.Fprintf(&out, " needs %d, body in the ledger: %t\n", e.pin.token, e.pin.inLedger)
		known[e.id] = true
	}
	for el := f.ended.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if e.endSeq <= uint64(front) {
			continue
		}
		if front == 0 {
			line(e)
		}
		fmt.Fprintf(&out, "%s of %s, tier %d, accepted %d: %s in %d at %d\n", e.id, e.account, e.tier, e.acceptedUS, e.end.Job.State, e.endSeq, e.endUS)
		known[e.id] = true
	}
	var keys []string
	for hash, id := range f.keys {
		if known[id] {
			keys = append(keys, hash+" is "+id)
		}
	}
	for hash, e := range f.fresh {
		if known[e.id] {
			keys = append(keys, fmt.Sprintf("%q is of %s", hash, e.id))
		}
	}
	for hash, twins := range f.twins {
		for e := range twins.all() {
			keys = append(keys, fmt.Sprintf("%q is wanted by %s, which follows: %t", hash, e.id, f.follows(e)))
		}
	}
	slices.Sort(keys)
	for account, r := range f.rolls {
		for _, id := range r.ids {
			if known[id] {
				keys = append(keys, id+" is on the roll of "+account)
			}
		}
	}
	slices.Sort(keys)
	for _, l := range []*list.List{f.frames, f.records} {
		for el := l.Front(); el != nil; el = el.Next() {
			keys = append(keys, "then "+el.Value.(*entry).id)
		}
	}
	keys = append(keys, billsText(f, since)...)
	return out.String() + strings.Join(keys, "\n")
}

// billsText is all that the bills say of what came after a frame, which is not
// before any that they have forgotten.
func billsText(f *facts, after uint64) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for p, b := range f.bills.of {
		who := fmt.Sprintf("%s in %d", p.account, p.day)
		if b.reserved != 0 {
			say("%s: %d reserved", who, b.reserved)
		}
		for _, s := range b.spent {
			if s.seq > after {
				say("%s: %d spent after %d up to %d", who, s.total-b.at(after), after, s.seq)
			}
		}
		for _, s := range b.told {
			if s.seq > after {
				say("%s: told of %d %% in %d", who, s.percent, s.seq)
			}
		}
	}
	for id, seq := range f.bills.once {
		if seq > after {
			say("event %s in %d", id, seq)
		}
	}
	slices.Sort(out)
	return out
}

// TestCarriedOutlivesItsRecord has a job wait while many end after it, on real
// streams: its record and its frames are purged, the process restarts, and the
// job runs with all that it had.
func TestCarriedOutlivesItsRecord(t *testing.T) {
	f := newFarmOf(t, stream.Config{JobsMaxBytes: 1 << 20, LedgerMaxBytes: 64 << 20})
	cfg := Config{Alone: true, Plans: []account.Plan{{
		Name: "test", Threads: 1, OverThreads: account.OverThreads{Backlog: 1000}, Wall: time.Minute, Retention: time.Hour,
	}}}
	n := f.start("a", cfg)
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	spec := func(fill string) []byte { return []byte(`{"html":"` + strings.Repeat(fill, 16_000) + `"}`) }
	var old []*pb.Record
	for _, fill := range []string{"a", "b", "c"} {
		rec := f.keyed(fill, "request")
		rec.Body.Spec = spec(fill)
		f.publish(rec)
		decision(api, rec.Envelope.Id)
		old = append(old, rec)
	}
	w.send(&pb.WorkUp{Credit: 1})
	held := assigned(w) // the first is carried while it runs
	for range 40 {
		rec := f.record()
		rec.Body.Spec = spec("x")
		f.publish(rec)
		decision(api, rec.Envelope.Id)
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: rec.Envelope.Id, Account: f.account}}})
		answer(api, 1)
	}
	n.carryNow(t, 3)
	n.stop()

	// Cold, and purged up to where the leader would have: not a frame or a
	// record of before is left.
	n = f.start("b", cfg)
	api = n.front(t, &pb.FrontHello{Api: "api"})
	again := f.keyed("c", "request")
	f.publish(again)
	if d := decision(api, again.Envelope.Id); d.GetSameAs() != old[2].Envelope.Id {
		t.Errorf("the key of a job that was carried: %v", d)
	}
	w = n.worker(t, hello("b1", &pb.Held{Token: held.Token, Job: held.Job}))
	w.send(done(held))
	committed(w, held.Token)
	for _, rec := range old[1:] {
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		if a.Job != rec.Envelope.Id || a.Attempt != 1 || string(a.Spec) != string(rec.Body.Spec) {
			t.Errorf("assigned %s, attempt %d, %d bytes of spec; want %s", a.Job, a.Attempt, len(a.Spec), rec.Envelope.Id)
		}
		w.send(done(a))
		committed(w, a.Token)
	}
	for _, rec := range old {
		if j := f.archived(n.Scheduler, rec.Envelope.Id); j.State != job.Succeeded || j.CustomID != "mine" || !strings.Contains(string(j.Options), "aaaaa") && rec == old[0] {
			t.Errorf("archived %+v", j)
		}
	}
}

// carryNow carries what is worth it, of which there are so many, and drops all
// that nobody needs then, without waiting for a frame to be a minute old.
func (n *node) carryNow(t *testing.T, want int) {
	t.Helper()
	l := n.leader.Load()
	todo, _ := l.toCarry(t.Context())
	if len(todo.jobs) != want || !todo.bodies {
		t.Fatalf("%d jobs are worth carrying, with bodies: %t, want %d", len(todo.jobs), todo.bodies, want)
	}
	if err := l.carryAll(t.Context(), todo); err != nil {
		t.Fatal(err)
	}
	l.enter()
	need, before := l.need(), l.board.entries[todo.jobs[0].id].order>>16
	l.leave()
	jobs, ledger, err := n.states(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if need.jobs != jobs.Last+1 || need.seq <= before || need.seq > ledger.Last {
		t.Errorf("after carrying, %+v is needed of %+v and %+v", need, jobs, ledger)
	}
	if err := l.trim(t.Context(), n.streams.PurgeJobs, need.jobs, new(uint64)); err != nil {
		t.Fatal(err)
	}
	for n.projected.Load() < ledger.Last { // an end that is not in the archive is in the ledger
		runtime.Gosched()
	}
	if err := l.trim(t.Context(), n.streams.PurgeLedger, need.seq, new(uint64)); err != nil {
		t.Fatal(err)
	}
}

// A job that waits for an hour does not keep what ended meanwhile: both streams
// stay small, however often it has to be carried, and through a takeover.
func TestOldJobsAreCarried(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.streams.jobsMax, b.streams.ledgerMax = 100<<10, 200<<10
		s, kill := b.start("a", alone())
		api := b.front(s)
		stuck := []string{b.submit(), b.submit(), b.submit()} // nobody renders
		one := func() {
			id := string(job.NewID())
			b.streams.publish(&pb.Record{
				Envelope: &pb.Envelope{Id: id, Account: "acc_busy", Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png"},
				Body:     &pb.Body{Spec: make([]byte, 500)},
			})
			decision(api, id)
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_busy"}}})
			answer(api, 1)
			time.Sleep(2 * time.Second)
		}
		var most [2]uint64
		for n := range 1800 {
			if one(); n == 900 {
				kill()
				s, _ = b.start("b", Config{})
				api = b.front(s)
			}
			synctest.Wait()
			jobs, ledger, err := s.states(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			most = [2]uint64{max(most[0], jobs.Bytes), max(most[1], ledger.Bytes)}
		}
		// A quarter, and what comes until the next look; of the ledger, two
		// minutes that nobody may purge.
		if most[0] > 40<<10 || most[1] > 200<<10 {
			t.Errorf("the streams grew to %d and %d bytes", most[0], most[1])
		}
		l := s.leader.Load()
		l.mu.Lock()
		var order []string
		for el := l.board.unfinished.Front(); el != nil; el = el.Next() {
			e := el.Value.(*entry)
			order = append(order, e.id)
			if !e.pin.inLedger || e.pin.token == e.order {
				t.Errorf("job %s was never carried", e.id)
			}
		}
		l.mu.Unlock()
		if !slices.Equal(order, stuck) {
			t.Errorf("%v wait, want %v", order, stuck)
		}
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 2})
		for _, id := range stuck[:2] {
			if a := assigned(w); a.Job != id || string(a.Spec) != "{}" {
				t.Errorf("assigned %v, want %s", a, id)
			}
		}
	})
}

// However much is carried in one step, no frame is too large for a message.
func TestCarriedFramesFit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		api := b.front(s)
		for range 100 {
			id := string(job.NewID())
			b.streams.publish(&pb.Record{
				Envelope: &pb.Envelope{Id: id, Account: "acc_acme", Api: "api", SentUs: time.Now().UnixMicro()},
				Body:     &pb.Body{Spec: make([]byte, 16<<10)},
			})
			decision(api, id)
		}
		l := s.leader.Load()
		l.enter()
		for range 100 {
			e := l.board.frames.Front().Value.(*entry)
			l.emit(&pb.Event{Fact: &pb.Event_Carried{Carried: carriedNow(e, e.body)}})
		}
		l.leave()
		synctest.Wait()
		f := newFacts()
		for seq := range uint64(len(b.streams.frames)) {
			link, err := b.streams.link(seq + 1)
			if err != nil || link.Size > frameBytes+1<<10 {
				t.Errorf("frame %d has %d bytes, %v", seq+1, link.Size, err)
			}
			f.fold(link)
		}
		if f.frames.Len() != 100 || f.records.Len() != 0 {
			t.Errorf("a fold says that %d jobs need frames and %d records, want 100 and none", f.frames.Len(), f.records.Len())
		}
		if diff := diffFacts(f, l.board.facts); diff != "" {
			t.Errorf("a fresh fold differs from the leader's facts (-fold +leader):\n%s", diff)
		}
	})
}

// A job that is carried again before the first time is stored keeps its body
// until it can be read from where it is now.
func TestCarriedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.Context(), 1)
		n := w.nodes[0]
		lead := func() *leader {
			for {
				f := w.log.fold()
				if won, _ := n.s.campaign(w.ctx, f); won {
					return n.s.newLeader(w.ctx, f, time.Now())
				}
			}
		}
		store := func(l *leader) { // one frame
			f := <-l.sent
			w.log.deliver(len(w.log.net)-1, false)
			l.stored(f)
		}
		first := lead()
		rec := &pb.Record{
			Envelope: &pb.Envelope{Id: "job_00001", Account: "acc_c", Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png"},
			Body:     &pb.Body{Spec: []byte(`{"html":"job_00001"}`)},
		}
		w.log.records = append(w.log.records, rec)
		first.decide(w.ctx, []stream.Submitted{{Seq: 1, Size: 100, Record: rec}})
		store(first)

		l := lead()
		e := l.board.entries["job_00001"]
		spec := func() (spec string) {
			l.withBody(w.ctx, e.id, func(e *entry) { spec = string(e.body.GetSpec()) })
			return spec
		}
		carry := func() {
			if l.carryOne(w.ctx, pinned{e.id, e.pin.token}, true) == 0 {
				t.Fatal("it was not carried")
			}
		}
		carry()
		carry()
		store(l)
		if got := spec(); !strings.Contains(got, e.id) {
			t.Errorf("with the second one on its way the spec is %q", got)
		}
		store(l)
		carry()
		store(l)
		if got := spec(); !strings.Contains(got, e.id) {
			t.Errorf("the spec is %q", got)
		}
	})
}
