package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// world is two or three schedulers that rival for one ledger, an API that
// submits and a worker, all in one goroutine: each step is one process doing one
// thing, and which one the seed says. A process that is not chosen for long
// stands still; the clock is the bubble's.
type world struct {
	t       *testing.T
	ctx     context.Context
	rng     *rand.Rand
	log     *simLog
	shelf   *shelf
	nodes   []*simNode
	made    int
	late    []*pb.Record    // published and not yet stored
	filed   map[string]bool // keys that the archive has
	verdict map[string]string
	twice   map[string]bool // ids with a second record
	held    map[uint64]string
	lost    []*lostReport
	steps   []string
}

// simNode is one scheduler's process: a fold that follows, or a reign.
type simNode struct {
	name   string
	s      *Scheduler
	f      *facts
	l      *leader
	flying *frame
	front  *frontSession
	worker *workSession
	done   floors
}

var simAccounts = []string{"acc_a", "acc_b", "acc_c"}

const simLength = 4

func newWorld(t *testing.T, ctx context.Context, seed uint64) *world {
	rng := rand.New(rand.NewPCG(seed, 7))
	// Some minutes before a new month.
	time.Sleep(31*24*time.Hour - time.Duration(rng.IntN(600))*time.Second)
	w := &world{
		t: t, ctx: ctx, rng: rng, shelf: &shelf{plans: map[string]string{"acc_a": "renders", "acc_b": "calls"}}, filed: map[string]bool{}, verdict: map[string]string{},
		twice: map[string]bool{}, held: map[uint64]string{},
		log: &simLog{rng: rng, jobsFirst: 1, frameFirst: 1, judge: &judge{
			length: simLength, threads: map[string]int{}, jobs: map[string]*judged{}, keys: map[string]string{}, accounts: newAccounts(),
		}},
	}
	for _, a := range simAccounts {
		w.log.judge.threads[a] = 2
	}
	for i := range 2 + rng.IntN(2) {
		w.nodes = append(w.nodes, w.boot(fmt.Sprintf("s%d", i)))
	}
	return w
}

// boot starts a process that knows nothing.
func (w *world) boot(name string) *simNode {
	plan := account.Plan{Name: "test", Threads: 2, OverThreads: account.OverThreads{Backlog: 5}, Wall: time.Minute, Retention: time.Hour}
	renders, calls := plan, plan
	renders.Name, renders.Quota = "renders", account.Quota{Unit: account.UnitRender, Limit: simRenders, Period: account.MonthUTC}
	calls.Name, calls.Quota = "calls", account.Quota{Unit: account.UnitCredit, Limit: simCalls, Period: account.MonthUTC}
	s, err := New(Config{
		Address: name, Log: slog.New(slog.DiscardHandler), Queue: Queue{Length: simLength},
		Plans: []account.Plan{plan, renders, calls},
	}, w.log, w.shelf, presigner{})
	if err != nil {
		w.t.Fatal(err)
	}
	return &simNode{name: name, s: s, f: newFacts()}
}

func (w *world) step() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for _, m := range w.nodes {
		if m.l != nil && w.rng.IntN(3) > 0 {
			n = m
		}
	}
	switch k := w.rng.IntN(1000); {
	case k < 100:
		w.submit()
	case k < 120:
		w.publishLate()
	case k < 200:
		time.Sleep(time.Duration(w.rng.IntN(500)) * time.Millisecond)
	case k < 203:
		time.Sleep(time.Duration(w.rng.IntN(120)) * time.Second)
	case k < 400 && len(w.log.net) > 0:
		w.log.deliver(w.rng.IntN(len(w.log.net)), w.rng.IntN(4) == 0)
	case k < 420 && len(w.log.net) > 0: // lost
		i := w.rng.IntN(len(w.log.net))
		w.log.net = append(w.log.net[:i:i], w.log.net[i+1:]...)
	case k < 430:
		w.project()
	case k < 440:
		w.forget(n)
	case k < 441:
		w.shelf.away = !w.shelf.away
	case k < 450:
		w.lose()
	case k < 453: // kill -9, and start again
		w.say("%s is killed", n.name)
		*n = *w.boot(n.name)
	case n.l == nil:
		w.follow(n)
	default:
		w.reign(n)
	}
	synctest.Wait()
	w.check()
}

func (w *world) say(format string, args ...any) {
	if w.steps = append(w.steps, fmt.Sprintf(format, args...)); len(w.steps) > 60 {
		w.steps = w.steps[1:]
	}
}

// submit publishes a job: at once, or some time later, or twice; now and then
// under a key that is in use.
func (w *world) submit() {
	w.made++
	id := fmt.Sprintf("job_%05d", w.made)
	rec := &pb.Record{
		Envelope: &pb.Envelope{
			Id: id, Account: simAccounts[w.rng.IntN(len(simAccounts))], Api: "api", SentUs: time.Now().UnixMicro(), ContentType: "image/png",
		},
		Body: &pb.Body{Spec: []byte(`{"html":"` + id + `"}`)},
	}
	if w.rng.IntN(3) == 0 {
		key := "key" + strconv.Itoa(w.rng.IntN(5+w.made/20))
		if w.filed[key] {
			return // the API finds it in the archive
		}
		rec.Envelope.KeyHash, rec.Envelope.Fingerprint = []byte(key), []byte("request")
	}
	switch w.rng.IntN(6) {
	case 0:
		w.late = append(w.late, rec)
	case 1:
		w.twice[id] = true
		w.log.records = append(w.log.records, rec)
		w.late = append(w.late, rec)
	case 2:
		w.twice[id] = true
		w.log.records = append(w.log.records, rec, rec)
	default:
		w.log.records = append(w.log.records, rec)
	}
}

func (w *world) publishLate() {
	if len(w.late) > 0 {
		i := w.rng.IntN(len(w.late))
		w.log.records = append(w.log.records, w.late[i])
		w.late = append(w.late[:i:i], w.late[i+1:]...)
	}
}

// project has the archive catch up, as far as whoever leads tells it to.
func (w *world) project() {
	for seq := w.shelf.at.Seq + 1; seq <= uint64(len(w.log.frames)); seq++ {
		l := w.log.link(seq)
		var filing store.Filing
		file(&filing, l.Frame)
		if _, err := w.shelf.Project(w.ctx, w.shelf.at, store.Projection{Seq: seq, Chain: uint32(l.Chain)}, filing); err != nil {
			w.t.Fatal(err)
		}
		for _, ev := range l.Frame.Events {
			if fin := ev.GetFinished(); fin != nil && len(fin.KeyHash) > 0 {
				w.filed[string(fin.KeyHash)] = true
			}
		}
	}
	w.log.judge.accounts.archived(w.log.judge, w.shelf)
	for _, n := range w.nodes {
		n.s.projected.Store(w.shelf.at.Seq)
	}
}

// follow folds some frames, or tries to lead once all are read.
func (w *world) follow(n *simNode) {
	if n.f.seq+1 < w.log.frameFirst && n.f.seq > 0 {
		n.f = newFacts() // purged under it: from the front
	}
	next := max(n.f.seq+1, w.log.frameFirst)
	for range 1 + w.rng.IntN(10) {
		if next > uint64(len(w.log.frames)) {
			break
		}
		n.f.fold(w.log.link(next))
		next++
	}
	patience := 3
	for _, m := range w.nodes {
		if m.l != nil {
			patience = 60 // it is heard; but a rival may not hear it
		}
	}
	if next <= uint64(len(w.log.frames)) || w.rng.IntN(patience) > 0 {
		return
	}
	won, err := n.s.campaign(w.ctx, n.f)
	if err != nil || !won {
		w.say("%s does not win: %v", n.name, err)
		return
	}
	w.say("%s leads epoch %d from frame %d", n.name, n.f.epoch, n.f.seq)
	n.l = n.s.newLeader(w.ctx, n.f, time.Now())
	n.front = &frontSession{api: "api", out: newOutbox[pb.FrontDown]()}
	n.l.frontHello(n.front, &pb.FrontHello{Api: "api"})
	n.worker = &workSession{name: "w1", boot: "b1", seats: 4, out: newOutbox[pb.WorkDown](), assign: make(chan struct{}, 1)}
	hello := &pb.Hello{Worker: "w1", Boot: "b1", Seats: 4}
	for _, tok := range w.tokens() {
		hello.Held = append(hello.Held, &pb.Held{Token: tok, Job: w.held[tok]})
	}
	n.l.workHello(n.worker, hello)
}

// reign is one thing that a leader does, or that is done to it.
func (w *world) reign(n *simNode) {
	l := n.l
	switch w.rng.IntN(14) {
	case 0, 1, 2: // it reads JOBS
		var recs []stream.Submitted
		first := max(l.decided+1, w.log.jobsFirst)
		for seq := first; seq <= uint64(len(w.log.records)) && seq < first+uint64(1+w.rng.IntN(8)); seq++ {
			recs = append(recs, stream.Submitted{Seq: seq, Size: 100, Record: w.log.records[seq-1]})
		}
		l.decide(w.ctx, recs)
	case 3, 4, 5, 6:
		w.settle(n)
	case 7:
		l.workMessage(w.ctx, n.worker, &pb.WorkUp{Credit: 1 + uint32(w.rng.IntN(2)), Beat: &pb.Beat{Tokens: w.tokens()}})
	case 8:
		w.report(n)
	case 9:
		w.sweep(l)
	case 10: // a client cancels
		id := fmt.Sprintf("job_%05d", 1+w.rng.IntN(w.made+1))
		if o := w.log.judge.jobs[id]; o != nil && w.rng.IntN(2) == 0 {
			l.frontMessage(w.ctx, n.front, &pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: o.account}}})
		}
	case 11:
		if w.rng.IntN(2) == 0 {
			var old []pinned
			for el := l.board.frames.Front(); el != nil && len(old) < 3; el = el.Next() {
				old = append(old, pinned{el.Value.(*entry).id, el.Value.(*entry).pin.token})
			}
			for _, j := range old {
				l.carryOne(w.ctx, j, w.rng.IntN(2) == 0)
			}
		}
		if err := l.trimBoth(w.ctx, &n.done); err != nil {
			w.t.Fatal(err)
		}
	case 12:
		w.call(l)
	case 13:
		w.reportLost(l)
	}
	w.hear(n)
}

// tokens are the leases that the worker holds, in an order that the seed alone
// decides.
func (w *world) tokens() []uint64 { return slices.Sorted(maps.Keys(w.held)) }

// settle is what Settle and the leader make of the frame in flight.
func (w *world) settle(n *simNode) {
	if n.flying == nil {
		select {
		case n.flying = <-n.l.sent:
		default:
			n.l.probe()
			return
		}
	}
	f := n.flying
	same, found := w.log.look(f.sealed)
	last := uint64(len(w.log.frames))
	switch {
	case same:
		n.flying = nil
		n.l.stored(f)
	case found, last != f.sealed.Seq-1:
		w.say("%s is deposed at frame %d", n.name, f.sealed.Seq)
		n.l.depose()
		w.hear(n)
		n.l, n.flying, n.f, n.done = nil, nil, newFacts(), floors{}
	default: // in doubt: sent again
		if _, err := w.log.Append(f.sealed); err != nil {
			w.t.Fatal(err)
		}
	}
}

// report has the worker tell of a lease, which may be long gone.
func (w *world) report(n *simNode) {
	if len(w.held) == 0 {
		return
	}
	tok := w.tokens()[w.rng.IntN(len(w.held))]
	id := w.held[tok]
	switch w.rng.IntN(5) {
	case 0:
		n.l.workMessage(w.ctx, n.worker, &pb.WorkUp{Returned: []uint64{tok}})
		delete(w.held, tok)
	case 1:
		n.l.workMessage(w.ctx, n.worker, &pb.WorkUp{Failed: []*pb.Failed{{
			Token: tok, Job: id, Failure: &pb.Failure{Code: string(job.BrowserCrashed), Stage: "capture"},
		}}})
	default:
		n.l.workMessage(w.ctx, n.worker, done(&pb.Assign{Token: tok, Job: id}))
	}
}

func (w *world) sweep(l *leader) {
	l.enter()
	late := l.board.overdue(l.now)
	l.leave()
	for _, e := range late {
		l.withBody(w.ctx, e.id, func(e *entry) {
			if e != nil && e.lease != nil && e.lease.over(l.now) {
				l.lost(e)
			}
		})
	}
	l.enter()
	l.board.ripen(l.now)
	l.leave()
}

// hear takes what a leader has told the API and the worker. It may be told
// only what is in the log.
func (w *world) hear(n *simNode) {
	if n.l == nil {
		return
	}
	n.l.mu.Lock()
	started := n.worker.assigning
	n.worker.assigning = nil
	n.l.mu.Unlock()
	for _, next := range started {
		n.l.assignOne(w.ctx, n.worker, next)
	}
	for _, m := range emptied(n.front.out) {
		for _, d := range m.Decisions {
			what := "refused"
			switch v := d.Verdict.(type) {
			case *pb.Decision_Accepted:
				what = "accepted"
				if w.log.judge.jobs[d.Id] == nil {
					w.log.judge.fail("%s is told to be accepted and is not in the ledger", d.Id)
				}
			case *pb.Decision_SameAs:
				what = "same"
				if w.log.judge.jobs[v.SameAs] == nil {
					w.log.judge.fail("%s is told to be the same as %s, which is not in the ledger", d.Id, v.SameAs)
				}
			}
			if before := w.verdict[d.Id]; before != "" && before != what && !w.twice[d.Id] {
				w.log.judge.fail("%s is told to be %s and then %s", d.Id, before, what)
			}
			w.verdict[d.Id] = what
		}
	}
	for _, m := range emptied(n.worker.out) {
		for _, a := range m.Assign {
			if o := w.log.judge.jobs[a.Job]; o == nil || a.Token > w.log.judge.token {
				w.log.judge.fail("I4: %s is assigned with token %d, which is not in the ledger", a.Job, a.Token)
			}
			if !strings.Contains(string(a.Spec), a.Job) {
				w.log.judge.fail("%s is assigned with the spec %q", a.Job, a.Spec)
			}
			w.held[a.Token] = a.Job
		}
		for _, gone := range [][]uint64{m.Committed, m.Stale, m.Revoke} {
			for _, tok := range gone {
				delete(w.held, tok)
			}
		}
	}
}

// emptied empties an outbox.
func emptied[M any](o *outbox[M]) []*M {
	o.mu.Lock()
	defer o.mu.Unlock()
	msgs := o.msgs
	o.msgs = nil
	return msgs
}

// check looks at all that must hold between any two steps.
func (w *world) check() {
	for _, n := range w.nodes {
		if n.l == nil || n.l.over {
			continue
		}
		if err := n.l.board.check(); err != nil {
			w.log.judge.fail("%s: %v", n.name, err)
		}
		// I9: with nothing on its way and nobody after it, a leader has what a
		// fresh fold has.
		if n.flying == nil && len(n.l.sent) == 0 && len(n.l.frames) == 0 && n.l.acked == uint64(len(w.log.frames)) {
			front := int(w.log.frameFirst - 1)
			n.l.board.chain = n.l.chain // of a leader's own frames it is kept there
			since := max(uint64(front), n.l.board.bills.since)
			if diff := gocmp.Diff(text(w.log.fold(), front, since), text(n.l.board.facts, front, since)); diff != "" {
				w.log.judge.fail("I9: %s has not what a fold has (-fold +leader):\n%s", n.name, diff)
			}
			w.log.judge.accounts.remembered(w.log.judge, n.l)
		}
	}
	for id, what := range w.verdict {
		if what == "refused" && !w.twice[id] && w.log.judge.jobs[id] != nil {
			w.log.judge.fail("%s was refused and is in the ledger", id)
		}
	}
	if len(w.log.judge.faults) > 0 {
		w.t.Fatalf("%s\nafter:\n%s", strings.Join(w.log.judge.faults, "\n"), strings.Join(w.steps, "\n"))
	}
}

// simKept are seeds that once found a bug.
var simKept = []uint64{10852} // a body was dropped whose frame was on its way

// TestRivals runs many worlds. SIM_SEEDS=N runs as many more, from the
// seed SIM_FROM on.
func TestRivals(t *testing.T) {
	from, seeds := uint64(1), uint64(40)
	for name, v := range map[string]*uint64{"SIM_FROM": &from, "SIM_SEEDS": &seeds} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			*v = n
		}
	}
	all := slices.Clone(simKept)
	for seed := from; seed < from+seeds; seed++ {
		all = append(all, seed)
	}
	var accepted, epochs, ended, purged, refused, back, told, full int
	for _, seed := range all {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				w := newWorld(t, ctx, seed)
				for range 1500 {
					w.step()
				}
				for _, o := range w.log.judge.jobs {
					if accepted++; o.ended {
						ended++
					}
				}
				for _, v := range w.verdict {
					if v == "refused" {
						refused++
					}
				}
				epochs += int(w.log.judge.epoch)
				a := w.log.judge.accounts
				back, told = back+a.back, told+len(a.told)
				if a.full {
					full++
				}
				purged += int(w.log.frameFirst - 1)
			})
		})
	}
	t.Logf("%d seeds: %d jobs accepted, %d refused, %d ended, %d reigns, %d frames purged", len(all), accepted, refused, ended, epochs, purged)
	t.Logf("%d charges given back for lost results, %d times told of a quota, %d worlds used one up", back, told, full)
	if back == 0 || told == 0 || full == 0 || accepted == 0 || ended == 0 || refused == 0 || epochs < int(seeds) || purged == 0 {
		t.Error("too little happened for a proof")
	}
}
