package scheduler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A leader that is told to stop is followed at once, not after silence; it says
// so to its peers, and what they hold goes on.
func TestHandOver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, stop, _ := b.run("a", Config{})
		api := b.front(first)
		w, _ := b.worker(first, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		held, waiting := b.submit(), b.submit()
		a := assigned(w)
		second, _ := b.start("b", Config{})
		time.Sleep(time.Second)

		told := time.Now()
		b.wg.Go(stop)
		b.leading(second)
		if took := time.Since(told); took > 50*time.Millisecond {
			t.Errorf("the standby led after %s", took)
		}
		if to := await(w, "not leader", func(m *pb.WorkDown) (*pb.NotLeader, bool) { return m.NotLeader, m.NotLeader != nil }); to.Address != "b" {
			t.Errorf("the worker is sent to %q", to.Address)
		}
		await(api, "not leader", func(m *pb.FrontDown) (bool, bool) { return true, m.NotLeader != nil })
		w, _ = connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: second}.Connect(p) }, &pb.WorkUp{
			Hello: hello("b1", &pb.Held{Token: a.Token, Job: a.Job}),
		})
		b.want(second, "its worker holds it", held, job.Running, 1)
		w.send(done(a))
		committed(w, a.Token)
		w.send(&pb.WorkUp{Credit: 1})
		if next := assigned(w); next.Job != waiting || next.Attempt != 1 {
			t.Errorf("assigned %v", next)
		}
	})
}

// With no standby a planned stop takes a moment and loses nothing, and the next
// start does not wait for silence: nobody can lead.
func TestStopWithoutHeir(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, stop, _ := b.run("a", Config{})
		w, _ := b.worker(first, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		a := assigned(w)
		told := time.Now()
		stop()
		if took := time.Since(told); took > heirWithin+50*time.Millisecond {
			t.Errorf("it stopped after %s", took)
		}
		late := b.submit()

		started := time.Now()
		second, _ := b.start("b", Config{})
		b.leading(second)
		if took := time.Since(started); took > 50*time.Millisecond {
			t.Errorf("the next one led after %s", took)
		}
		b.want(second, "its worker may still hold it", id, job.Running, 1)
		b.want(second, "submitted while nobody led", late, job.Queued, 0)
		w, _ = connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: second}.Connect(p) }, &pb.WorkUp{
			Hello: hello("b1", &pb.Held{Token: a.Token, Job: a.Job}),
		})
		w.send(done(a))
		committed(w, a.Token)
	})
}

// A leader that cannot append its last frame stops all the same.
func TestStopWithoutStreams(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, stop, _ := b.run("a", Config{})
		b.leading(first)
		synctest.Wait()
		b.streams.hold() // for good
		told := time.Now()
		stop()
		if took := time.Since(told); took < closeWithin || took > closeWithin+time.Second {
			t.Errorf("it stopped after %s", took)
		}
	})
}

// After its last frame a reign appends nothing more, whatever comes in.
func TestClosedReignIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, stop, _ := b.run("a", Config{})
		api := b.front(first)
		w, _ := b.worker(first, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		a := assigned(w)
		l := first.leader.Load()
		b.wg.Go(stop)
		synctest.Wait() // closed, and waiting for an heir
		frames := len(b.streams.frames)
		api.send(&pb.FrontUp{
			Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}, Lookups: []*pb.Lookup{{Call: 2, Id: id}, {Call: 3, Id: "job_nobody"}},
		})
		w.send(done(a))
		b.submit()
		l.probe()
		synctest.Wait()
		if now := len(b.streams.frames); now != frames {
			t.Errorf("%d frames behind the last one", now-frames)
		}
		for {
			m, open := <-api.down
			if !open {
				break
			}
			if len(m.Answers) > 0 {
				t.Errorf("a question was answered: %v", m)
			}
			if m.NotLeader != nil {
				break
			}
		}
	})
}

// A standby that meets an event of a newer release stands by.
func TestNewerReleaseIsNotLed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.append(
			&pb.Event{Fact: &pb.Event_EpochOpened{EpochOpened: &pb.EpochOpened{Scheduler: "newer"}}},
			unknownEvent(),
			&pb.Event{Fact: &pb.Event_EpochClosed{EpochClosed: &pb.EpochClosed{Scheduler: "newer"}}},
		)
		s, _ := b.start("a", alone())
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.Leading() {
			t.Error("it leads and does not know what it folded")
		}
	})
}

// unknownEvent is one of a kind that only a newer release has.
func unknownEvent() *pb.Event {
	ev := new(pb.Event)
	ev.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "news"))
	return ev
}

// append writes frames of one event each to the ledger.
func (b *bubble) append(events ...*pb.Event) {
	for _, ev := range events {
		data, _, err := stream.Seal(0, &pb.Frame{Epoch: 1, Events: []*pb.Event{ev}})
		if err != nil {
			b.t.Fatal(err)
		}
		b.streams.change(func() { b.streams.frames = append(b.streams.frames, data) })
	}
}

// A standby sends peers to the leader that it hears; when that falls silent it
// keeps them until it leads itself, and it lets them go when it stops.
func TestStandbyKeepsPeers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		to := func(s *Scheduler) *peer[pb.WorkUp, pb.WorkDown] {
			p, _ := connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) }, nil)
			b.wg.Go(func() { p.stream.Send(&pb.WorkUp{Hello: hello("b1")}) }) //nolint:errcheck // it may be sent away before it is heard
			return p
		}
		next := func(p *peer[pb.WorkUp, pb.WorkDown]) (m *pb.WorkDown, after time.Duration) {
			began := time.Now()
			return <-p.down, time.Since(began)
		}
		first, kill := b.start("a", Config{})
		b.leading(first)
		second, killSecond := b.start("b", Config{})
		time.Sleep(time.Second)
		if m, after := next(to(second)); m.NotLeader.GetAddress() != "a" || after != 0 {
			t.Errorf("while another one leads: %v after %s", m, after)
		}
		kill()
		time.Sleep(hintFor + time.Millisecond)
		w := to(second)
		b.leading(second)
		if m, after := next(w); m.Welcome == nil || after != 0 {
			t.Errorf("when it leads: %v after %s", m, after)
		}

		killSecond()
		b.append(unknownEvent()) // so that the next one stands by
		third, stop, _ := b.run("c", Config{})
		time.Sleep(hintFor + time.Millisecond)
		w = to(third)
		if m, after := next(w); m.NotLeader == nil || m.NotLeader.Address != "" || after != holdFor {
			t.Errorf("a standby that knows nothing: %v after %s", m, after)
		}
		w = to(third)
		synctest.Wait()
		stop()
		if m, after := next(w); m.NotLeader == nil || after != 0 {
			t.Errorf("a standby that stopped: %v after %s", m, after)
		}
	})
}

// TestHandOverUnderLoad stops one leader after the other while jobs come in,
// run and end, on a real NATS and over gRPC.
func TestHandOverUnderLoad(t *testing.T) {
	const clients, perReign, reigns = 4, 25, 3
	f := newFarm(t)
	c := &crowd{farm: f, nodes: map[string]*node{"a": f.start("a", Config{}), "b": f.start("b", Config{})}}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	api, w := newReplica(), &steadyWorker{owed: map[uint64]*pb.Assign{}, keep: make(chan struct{})}
	load.Go(func() { c.replica(ctx, api) })
	load.Go(func() { c.worker(ctx, w) })
	ended, enough := make(chan string, clients), make(chan struct{})
	var clientsLeft sync.WaitGroup
	for range clients {
		clientsLeft.Go(func() { c.client(api, ended, enough) })
	}
	load.Go(func() { clientsLeft.Wait(); close(ended) })

	var ids []string
	for reign := range reigns {
		for range perReign {
			id, ok := <-ended
			if !ok {
				t.Fatal("no client is left")
			}
			ids = append(ids, id)
		}
		if reign == reigns-1 {
			break
		}
		c.stopLeader()
		if name := string(rune('c' + reign)); reign < reigns-2 {
			c.add(name, f.start(name, Config{}))
		}
	}
	close(w.keep) // the lease that was open all the time
	close(enough)
	for id := range ended {
		ids = append(ids, id)
	}
	stop()
	if !slices.Contains(ids, w.firstJob()) {
		t.Error("the job of the long lease has no end")
	}
	for _, id := range ids {
		if j := f.archived(c.leader().Scheduler, id); j.State != job.Succeeded || j.Attempts != 1 {
			t.Errorf("%s ended as %s after %d attempts", id, j.State, j.Attempts)
		}
	}
	// The reigns followed each other with nothing in between.
	var kinds []string
	read := errors.New("read to the end")
	st, err := f.streams.LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = f.streams.Follow(t.Context(), 0, 0, func(links []stream.Link) error {
		for _, l := range links {
			for _, ev := range l.Frame.Events {
				switch {
				case ev.GetEpochOpened() != nil:
					kinds = append(kinds, "opened by "+ev.GetEpochOpened().Address)
				case len(kinds) > 0 && kinds[len(kinds)-1] == "closed":
					t.Errorf("frame %d stands between two reigns", l.Seq)
				case ev.GetEpochClosed() != nil:
					kinds = append(kinds, "closed")
				}
			}
			if l.Seq >= st.Last {
				return read
			}
		}
		return nil
	})
	if !errors.Is(err, read) {
		t.Fatal(err)
	}
	if len(kinds) != 2*reigns-1 {
		t.Errorf("%q, want each reign opened and all but the last closed", kinds)
	}
}

// crowd is API replicas, workers and clients of a farm whose leaders change.
type crowd struct {
	*farm
	mu    sync.Mutex
	nodes map[string]*node // guarded by mu
}

func (c *crowd) add(name string, n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[name] = n
}

// leader waits until one of the nodes leads.
func (c *crowd) leader() *node {
	for c.t.Context().Err() == nil {
		c.mu.Lock()
		for _, n := range c.nodes {
			if n.Leading() {
				c.mu.Unlock()
				return n
			}
		}
		c.mu.Unlock()
	}
	c.t.Fatal("nobody leads")
	return nil
}

// stopLeader stops whoever leads, as SIGTERM does.
func (c *crowd) stopLeader() {
	n := c.leader()
	c.mu.Lock()
	delete(c.nodes, n.cfg.Address)
	c.mu.Unlock()
	n.stop()
}

// conns are the connections to try: of the scheduler that was named, or all.
func (c *crowd) conns(hint string) []*grpc.ClientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[hint]; n != nil {
		return []*grpc.ClientConn{n.conn}
	}
	var out []*grpc.ClientConn
	for _, n := range c.nodes {
		out = append(out, n.conn)
	}
	return out
}

// replica is an API replica that follows the leader.
type replica struct {
	mu      sync.Mutex
	await   map[string]*request // guarded by mu
	numbers map[uint64]string   // guarded by mu: calls by number
	last    uint64              // guarded by mu
	send    func(*pb.FrontUp)   // guarded by mu; nil: no stream that was welcomed
	welcome *sync.Cond          // of mu: send is set
}

type request struct {
	seq     uint64
	decided chan *pb.Decision // capacity 1
	ended   chan *pb.Job      // capacity 1
	look    bool              // its end is asked for
}

func newReplica() *replica {
	r := &replica{await: map[string]*request{}, numbers: map[uint64]string{}}
	r.welcome = sync.NewCond(&r.mu)
	return r
}

func (c *crowd) replica(ctx context.Context, r *replica) {
	hint := ""
	for ctx.Err() == nil {
		conns := c.conns(hint)
		hint = ""
		for _, conn := range conns {
			s, err := pb.NewFrontClient(conn).Connect(ctx)
			if err == nil {
				hint = r.session(s)
			}
		}
	}
}

// session serves one stream until it ends; it returns where to go on.
func (r *replica) session(s grpc.BidiStreamingClient[pb.FrontUp, pb.FrontDown]) (hint string) {
	r.mu.Lock()
	up := &pb.FrontUp{Hello: &pb.FrontHello{Api: "api"}}
	for id, q := range r.await {
		up.Hello.Pending = append(up.Hello.Pending, &pb.Pending{Id: id, JobsSeq: q.seq})
		if q.look {
			up.Lookups = append(up.Lookups, r.lookup(id))
		}
	}
	_ = s.Send(up) // a broken stream shows in Recv
	r.mu.Unlock()
	for {
		m, err := s.Recv()
		r.mu.Lock()
		if err != nil || m.NotLeader != nil {
			r.send = nil
			r.mu.Unlock()
			return m.GetNotLeader().GetAddress()
		}
		if m.Welcome != nil {
			r.send = func(m *pb.FrontUp) { _ = s.Send(m) }
			r.welcome.Broadcast()
		}
		for _, d := range m.Decisions {
			if q := r.await[d.Id]; q != nil {
				select {
				case q.decided <- d:
				default: // told again after a reconnect
				}
			}
		}
		for _, a := range m.Answers {
			if q := r.await[r.numbers[a.Call]]; q != nil && a.GetJob().GetFinishedUs() != 0 {
				q.ended <- a.GetJob()
				delete(r.await, a.GetJob().Id)
			}
		}
		r.mu.Unlock()
	}
}

// lookup asks for a job's end. r.mu is held.
func (r *replica) lookup(id string) *pb.Lookup {
	r.last++
	r.numbers[r.last] = id
	return &pb.Lookup{Call: r.last, Id: id, WaitMs: 60_000}
}

// client submits one job after the other and waits for its end, until there
// are enough.
func (c *crowd) client(r *replica, ended chan<- string, enough <-chan struct{}) {
	for {
		select {
		case <-enough:
			return
		default:
		}
		rec := c.record()
		id := rec.Envelope.Id
		q := &request{decided: make(chan *pb.Decision, 1), ended: make(chan *pb.Job, 1)}
		r.mu.Lock()
		for r.send == nil { // a hello asks only for what was there before it
			r.welcome.Wait()
		}
		r.await[id] = q
		r.mu.Unlock()
		seq, err := c.pub.Publish(c.t.Context(), rec)
		if err != nil {
			c.t.Error(err)
			return
		}
		r.mu.Lock()
		q.seq = seq
		r.mu.Unlock()
		patience := time.After(20 * time.Second)
		select {
		case d := <-q.decided:
			if d.GetAccepted() == nil {
				c.t.Errorf("%s: %v", id, d)
				return
			}
		case <-patience:
			c.t.Errorf("%s: no decision", id)
			return
		}
		r.mu.Lock()
		q.look = true
		if r.send != nil {
			r.send(&pb.FrontUp{Lookups: []*pb.Lookup{r.lookup(id)}})
		}
		r.mu.Unlock()
		select {
		case <-q.ended:
			ended <- id
		case <-time.After(60 * time.Second):
			c.t.Errorf("%s: no end", id)
			return
		}
	}
}

// steadyWorker is a worker of two seats that follows the leader. One of them
// is busy with the first job until keep is closed.
type steadyWorker struct {
	keep  chan struct{}
	mu    sync.Mutex
	owed  map[uint64]*pb.Assign // guarded by mu: held, or not yet committed
	first *pb.Assign            // guarded by mu
}

func (w *steadyWorker) firstJob() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first.GetJob()
}

func (c *crowd) worker(ctx context.Context, w *steadyWorker) {
	hint := ""
	for ctx.Err() == nil {
		conns := c.conns(hint)
		hint = ""
		for _, conn := range conns {
			s, err := pb.NewWorkClient(conn).Connect(ctx)
			if err == nil {
				hint = c.work(ctx, w, s)
			}
		}
	}
}

func (c *crowd) work(ctx context.Context, w *steadyWorker, s grpc.BidiStreamingClient[pb.WorkUp, pb.WorkDown]) (hint string) {
	var sending sync.Mutex
	send := func(m *pb.WorkUp) {
		sending.Lock()
		defer sending.Unlock()
		_ = s.Send(m) // a broken stream shows in Recv
	}
	w.mu.Lock()
	up := &pb.WorkUp{Hello: hello("b1"), Credit: 2}
	for tok, a := range w.owed {
		up.Hello.Held = append(up.Hello.Held, &pb.Held{Token: tok, Job: a.Job})
		if a != w.first {
			up.Done = append(up.Done, done(a).Done...)
		} else {
			up.Credit--
		}
	}
	first := w.first
	w.mu.Unlock()
	send(up)
	over, end := context.WithCancel(ctx)
	var later sync.WaitGroup
	defer later.Wait()
	defer end()
	finishFirst := func(a *pb.Assign) {
		later.Go(func() {
			select {
			case <-over.Done():
			case <-w.keep:
				send(done(a))
			}
		})
	}
	if first != nil {
		finishFirst(first)
	}
	later.Go(func() { // a reign on a busy machine is longer than a lease that nobody prolongs
		beat := time.NewTicker(time.Second)
		defer beat.Stop()
		for n := uint64(1); ; n++ {
			select {
			case <-over.Done():
				return
			case <-w.keep: // it ends now, and a beat would come too late for it
				return
			case <-beat.C:
			}
			w.mu.Lock()
			first := w.first
			w.mu.Unlock()
			if first != nil {
				send(&pb.WorkUp{Beat: &pb.Beat{Number: n, Tokens: []uint64{first.Token}}})
			}
		}
	})
	for {
		m, err := s.Recv()
		if err != nil {
			return ""
		}
		for _, a := range m.Assign {
			if a.Attempt != 1 {
				c.t.Errorf("attempt %d of %s", a.Attempt, a.Job)
			}
			w.mu.Lock()
			w.owed[a.Token] = a
			isFirst := w.first == nil
			if isFirst {
				w.first = a
			}
			w.mu.Unlock()
			if isFirst {
				finishFirst(a)
				continue
			}
			send(done(a))
		}
		for _, tok := range m.Committed {
			w.mu.Lock()
			again := w.owed[tok] != w.first
			delete(w.owed, tok)
			w.mu.Unlock()
			if again {
				send(&pb.WorkUp{Credit: 1})
			}
		}
		for _, tok := range m.Stale {
			c.t.Errorf("lease %d is stale", tok)
		}
		if m.NotLeader != nil {
			return m.NotLeader.Address
		}
	}
}
