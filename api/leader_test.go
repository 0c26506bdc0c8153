package api

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// leader is a scheduler in memory: it decides what is published and answers
// Front as the .proto says, from a map.
type leader struct {
	pb.UnimplementedFrontServer
	t     testing.TB
	beats chan *pb.Heartbeat
	token string
	// ledger is where the test writes what this leader says; nil: nowhere.
	ledger *memLedger

	mu       sync.Mutex
	epoch    uint64
	listener *bufconn.Listener
	grpc     *grpc.Server
	decide   func(rec *pb.Record) *pb.Decision // nil answer: no decision
	publish  func(ctx context.Context, rec *pb.Record) (uint64, error)
	seq      uint64
	records  []*pb.Record
	jobs     map[string]*pb.Job
	waiting  map[uint64]string // call → job
	streams  map[string]pb.Front_ConnectServer
	hellos   chan *pb.FrontHello
	forgot   chan uint64
	looked   chan *pb.Lookup
	canceled chan *pb.Cancel
	mute     bool // answers no look-ups and cancels
	queue    *pb.Queue
	running  bool // lines of batches that have not ended have a seat
	asked    []*pb.QueueQuery
	counting func(q *pb.Count) *pb.Answer // nil: everything may go on
	counts   []*pb.Count
	meters   []*pb.Meter // of look-ups and cancels
	strikes  chan *pb.Strikes
	follow   string
	bans     func(*pb.BanChange) bool // nil: takes any
}

func newLeader(t testing.TB) *leader {
	return &leader{
		t: t, beats: make(chan *pb.Heartbeat), epoch: 7, token: "front-token", decide: acceptAll,
		jobs: make(map[string]*pb.Job), waiting: make(map[uint64]string), streams: make(map[string]pb.Front_ConnectServer),
		hellos: make(chan *pb.FrontHello, 100), forgot: make(chan uint64, 100), looked: make(chan *pb.Lookup, 1000), canceled: make(chan *pb.Cancel, 10_000),
		strikes: make(chan *pb.Strikes, 1000),
	}
}

func acceptAll(rec *pb.Record) *pb.Decision {
	return &pb.Decision{Id: rec.Envelope.Id, Verdict: &pb.Decision_Accepted{Accepted: &pb.Verdict{
		Place: pb.Place_PLACE_QUEUE, AcceptedUs: time.Now().UnixMicro(),
	}}}
}

func refuseAll(f *pb.Fault) func(*pb.Record) *pb.Decision {
	return func(rec *pb.Record) *pb.Decision {
		return &pb.Decision{Id: rec.Envelope.Id, Verdict: &pb.Decision_Refused{Refused: f}}
	}
}

// serve listens and beats until the test ends.
func (l *leader) serve(t testing.TB, s *Server) {
	l.listen()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			l.mu.Lock()
			hb := &pb.Heartbeat{Epoch: l.epoch, Scheduler: "s1", Address: "leader", TimeUs: time.Now().UnixMicro(), FrontToken: l.token}
			l.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case l.beats <- hb:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; l.hangUp() })
}

func (l *leader) listen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener = bufconn.Listen(1 << 20)
	l.grpc = grpc.NewServer()
	pb.RegisterFrontServer(l.grpc, l)
	go l.grpc.Serve(l.listener) //nolint:errcheck // ends with hangUp
}

// hangUp ends every stream, as a crash does.
func (l *leader) hangUp() {
	l.mu.Lock()
	g := l.grpc
	l.grpc = nil
	l.mu.Unlock()
	if g != nil {
		g.Stop()
	}
}

func (l *leader) heartbeats(ctx context.Context, heard func(*pb.Heartbeat)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case hb := <-l.beats:
			heard(hb)
		}
	}
}

func (l *leader) dial(string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///leader", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			l.mu.Lock()
			listener := l.listener
			l.mu.Unlock()
			if listener == nil {
				return nil, errors.New("connection refused")
			}
			return listener.DialContext(ctx)
		}))
}

// Publish is the door: it stores, and the leader decides.
func (l *leader) Publish(ctx context.Context, rec *pb.Record) (uint64, error) {
	l.mu.Lock()
	publish := l.publish
	l.mu.Unlock()
	if publish != nil {
		return publish(ctx, rec)
	}
	return l.store(rec), nil
}

func (l *leader) store(rec *pb.Record) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.records = append(l.records, rec)
	d := l.decide(rec)
	if d == nil {
		return l.seq
	}
	if v := d.GetAccepted(); v != nil {
		state, waiting := "queued", "worker"
		if v.Place == pb.Place_PLACE_PARKED {
			waiting = "slot"
		}
		l.jobs[rec.Envelope.Id] = &pb.Job{
			Id: rec.Envelope.Id, Account: rec.Envelope.Account, State: state, WaitingFor: waiting,
			Tier: v.Tier, AcceptedUs: v.AcceptedUs, Body: rec.Body,
			Batch: rec.Envelope.Batch, Line: rec.Envelope.Line, Pass: rec.Envelope.Pass,
		}
	}
	l.tell(rec.Envelope.Api, &pb.FrontDown{Decisions: []*pb.Decision{d}})
	return l.seq
}

// tell writes down a replica's stream. l.mu is held: streams have one writer.
func (l *leader) tell(api string, m *pb.FrontDown) {
	if s := l.streams[api]; s != nil {
		_ = s.Send(m)
	}
}

func (l *leader) record() *pb.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 {
		l.t.Fatal("nothing was published")
	}
	return l.records[len(l.records)-1]
}

// change changes a job and answers whoever waits for its end.
func (l *leader) change(id string, fn func(*pb.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l.jobs[id])
	if !job.State(l.jobs[id].State).Terminal() {
		return
	}
	for n, waitsFor := range l.waiting {
		if waitsFor == id {
			delete(l.waiting, n)
			l.broadcast(&pb.FrontDown{Answers: []*pb.Answer{l.answer(n, id)}})
		}
	}
}

func (l *leader) broadcast(m *pb.FrontDown) {
	for api := range l.streams {
		l.tell(api, m)
	}
}

func (l *leader) answer(n uint64, id string) *pb.Answer {
	if j := l.jobs[id]; j != nil {
		return &pb.Answer{Call: n, Answer: &pb.Answer_Job{Job: proto.Clone(j).(*pb.Job)}, Meters: l.meters, Token: l.ledger.next()}
	}
	return &pb.Answer{Call: n, Answer: &pb.Answer_Unknown{Unknown: true}, Meters: l.meters}
}

// list answers with at most two ids at a time, whatever is asked for.
func (l *leader) list(q *pb.List) *pb.Listed {
	out := new(pb.Listed)
	ids := slices.Sorted(maps.Keys(l.jobs))
	slices.Reverse(ids)
	for _, id := range ids {
		j := l.jobs[id]
		if j.Account != q.Account || q.Before != "" && id >= q.Before || q.State != "" && j.State != q.State ||
			q.Batch != "" && j.Batch != q.Batch || q.Unfinished && job.State(j.State).Terminal() {
			continue
		}
		if len(out.Ids) == min(2, int(q.Limit)) {
			out.MoreBefore = out.Ids[len(out.Ids)-1]
			break
		}
		out.Ids = append(out.Ids, id)
	}
	return out
}

// inNumbers answers with what the test has set, and counts each account's jobs.
func (l *leader) inNumbers(q *pb.QueueQuery) *pb.Queue {
	out := proto.CloneOf(l.queue)
	if out == nil {
		out = new(pb.Queue)
	}
	for _, account := range q.Accounts {
		of := &pb.QueueAccount{Account: account, Jobs: new(pb.Standing)}
		for _, j := range l.jobs {
			if j.Account == account && j.State == "queued" {
				of.Jobs.Waiting++
			}
		}
		out.Accounts = append(out.Accounts, of)
	}
	for _, of := range q.Batches {
		at := new(pb.Standing)
		for _, j := range l.jobs {
			if j.Account == of.Account && j.Batch == of.Batch && !job.State(j.State).Terminal() {
				if at.Waiting++; l.running {
					at.Waiting, at.Running = at.Waiting-1, at.Running+1
				}
			}
		}
		out.Batches = append(out.Batches, at)
	}
	return out
}

func (l *leader) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, id)
}

// Connect is the Front service.
func (l *leader) Connect(stream pb.Front_ConnectServer) error {
	l.mu.Lock()
	follow := l.follow
	l.mu.Unlock()
	if follow != "" {
		return stream.Send(&pb.FrontDown{NotLeader: &pb.NotLeader{Address: follow}})
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.streams[first.Hello.Api] = stream
	_ = stream.Send(&pb.FrontDown{Welcome: &pb.FrontWelcome{Epoch: l.epoch}})
	for _, p := range first.Hello.Pending {
		if j := l.jobs[p.Id]; j != nil {
			l.tell(first.Hello.Api, &pb.FrontDown{Decisions: []*pb.Decision{{Id: p.Id, Verdict: &pb.Decision_Accepted{
				Accepted: &pb.Verdict{AcceptedUs: j.AcceptedUs, Place: pb.Place_PLACE_QUEUE},
			}}}})
		}
	}
	l.mu.Unlock()
	l.hellos <- first.Hello
	for {
		m, err := stream.Recv()
		if err != nil {
			l.mu.Lock()
			if l.streams[first.Hello.Api] == stream {
				delete(l.streams, first.Hello.Api)
			}
			l.mu.Unlock()
			return nil
		}
		l.heard(stream, m)
	}
}

func (l *leader) heard(stream pb.Front_ConnectServer, m *pb.FrontUp) {
	for _, q := range m.Lookups {
		select {
		case l.looked <- q:
		default: // nobody watches
		}
	}
	for _, c := range m.Cancels {
		l.canceled <- c
	}
	for _, n := range m.Forget {
		l.forgot <- n
	}
	for _, s := range m.Strikes {
		l.strikes <- s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mute {
		return
	}
	down := new(pb.FrontDown)
	for _, q := range m.Counts {
		l.counts = append(l.counts, q)
		a := new(pb.Answer)
		if l.counting != nil {
			a = l.counting(q)
		}
		if a.Answer == nil {
			a.Answer = &pb.Answer_Counted{Counted: new(pb.Counted)}
		}
		a.Call = q.Call
		down.Answers = append(down.Answers, a)
	}
	for _, q := range m.Lookups {
		j := l.jobs[q.Id]
		if j == nil || q.WaitMs == 0 || q.Account != "" && q.Account != j.Account || job.State(j.State).Terminal() {
			down.Answers = append(down.Answers, l.answer(q.Call, q.Id))
			continue
		}
		l.waiting[q.Call] = q.Id
		time.AfterFunc(time.Duration(q.WaitMs)*time.Millisecond, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if _, ok := l.waiting[q.Call]; ok {
				delete(l.waiting, q.Call)
				l.broadcast(&pb.FrontDown{Answers: []*pb.Answer{l.answer(q.Call, q.Id)}})
			}
		})
	}
	for _, n := range m.Forget {
		delete(l.waiting, n)
	}
	if len(m.Touched) > 0 {
		l.broadcast(&pb.FrontDown{Touched: m.Touched})
	}
	for _, q := range m.Lists {
		down.Answers = append(down.Answers, &pb.Answer{Call: q.Call, Answer: &pb.Answer_Listed{Listed: l.list(q)}})
	}
	for _, q := range m.Queues {
		l.asked = append(l.asked, q)
		down.Answers = append(down.Answers, &pb.Answer{Call: q.Call, Answer: &pb.Answer_Queue{Queue: l.inNumbers(q)}})
	}
	for _, c := range m.Bans {
		done := l.bans == nil || l.bans(c)
		down.Answers = append(down.Answers, &pb.Answer{Call: c.Call, Answer: &pb.Answer_Done{Done: done}})
	}
	for _, c := range m.Cancels {
		j := l.jobs[c.Id]
		if j == nil || j.Account != c.Account {
			down.Answers = append(down.Answers, l.answer(c.Call, ""))
			continue
		}
		if !job.State(j.State).Terminal() && !(c.Abandoned && slices.Contains(slices.Collect(maps.Values(l.waiting)), c.Id)) {
			j.State, j.FinishedUs, j.WaitingFor = "canceled", time.Now().UnixMicro(), ""
		}
		down.Answers = append(down.Answers, l.answer(c.Call, c.Id))
	}
	if len(down.Answers) > 0 {
		_ = stream.Send(down)
	}
}
