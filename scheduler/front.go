package scheduler

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// maxLookupWait bounds a look-up; the API asks for a minute at most.
const maxLookupWait = 2 * time.Minute

// frontSession is the stream of one API replica.
type frontSession struct {
	api string
	out *outbox[pb.FrontDown]
}

// lookup is a question that waits for the end of a job.
type lookup struct {
	session *frontSession
	call    uint64
	by      asker
	timer   *time.Timer
}

// Connect serves one API replica for as long as this process leads.
func (s frontService) Connect(stream pb.Front_ConnectServer) error {
	sendAway := func(address string) error {
		return stream.Send(&pb.FrontDown{NotLeader: &pb.NotLeader{Address: address}})
	}
	l, elsewhere := s.s.whoLeads(stream.Context(), nil)
	if l == nil {
		return sendAway(elsewhere)
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.Hello == nil {
		return wire.FaultStatus(fault.New(fault.Invalid, "the first message must be a hello"))
	}
	session := &frontSession{api: first.Hello.Api, out: newOutbox[pb.FrontDown]()}
	if !l.frontHello(session, first.Hello) {
		_, elsewhere = s.s.whoLeads(stream.Context(), l)
		return sendAway(elsewhere)
	}
	defer l.frontGone(session)
	return serve(stream, first, session.out, func(ctx context.Context, m *pb.FrontUp) { l.frontMessage(ctx, session, m) })
}

// frontHello registers a replica and answers what it still waits for. It
// reports false when the reign is over.
func (l *leader) frontHello(f *frontSession, h *pb.FrontHello) bool {
	l.enter()
	defer l.leave()
	if l.over {
		return false
	}
	if old := l.fronts[f.api]; old != nil {
		old.out.close()
	}
	l.fronts[f.api] = f
	f.out.put(8, func(m *pb.FrontDown) { m.Welcome = &pb.FrontWelcome{Epoch: l.epoch} })
	for b := range l.ladder.InForce(l.clock()) {
		f.tellBlock(blockOf(b))
	}
	for _, p := range h.Pending {
		switch e := l.board.entries[p.Id]; {
		case e != nil:
			l.tell(f.api, accepted(e))
		case p.JobsSeq != 0 && p.JobsSeq <= l.decided:
			l.tell(f.api, &pb.Decision{Id: p.Id, Verdict: &pb.Decision_Refused{Refused: wire.Fault(
				fault.New(fault.Unavailable, "the job was refused while the scheduler changed; try again"))}})
		}
	}
	return true
}

func (l *leader) frontGone(f *frontSession) {
	l.enter()
	defer l.leave()
	if l.fronts[f.api] == f {
		delete(l.fronts, f.api)
	}
	for id := range l.waiting {
		l.dropLookups(id, func(w *lookup) bool { return w.session == f })
	}
}

func (l *leader) frontMessage(ctx context.Context, f *frontSession, m *pb.FrontUp) {
	for _, q := range m.Lookups {
		l.withBody(ctx, q.Id, func(e *entry) { l.lookup(f, q, e) })
	}
	if len(m.Forget) > 0 { // before the cancels: who has gone away waits no more
		l.forgetLookups(f, m.Forget)
	}
	for _, c := range m.Cancels {
		l.withBody(ctx, c.Id, func(e *entry) { l.cancel(f, c, e) })
	}
	for _, q := range m.Lists {
		l.list(f, q)
	}
	for _, q := range m.Queues {
		l.tellQueue(f, q)
	}
	if len(m.Strikes) > 0 {
		l.takeStrikes(m.Strikes)
	}
	for _, c := range m.Bans {
		l.changeBan(f, c)
	}
	if len(m.Counts) > 0 {
		l.takeCounts(ctx, f, m.Counts)
	}
	if len(m.Touched) > 0 {
		l.touch(ctx, m.Touched)
	}
}

// forgetLookups drops questions whose answers nobody wants any more.
func (l *leader) forgetLookups(f *frontSession, calls []uint64) {
	l.enter()
	defer l.leave()
	for id := range l.waiting {
		l.dropLookups(id, func(w *lookup) bool { return w.session == f && slices.Contains(calls, w.call) })
	}
}

// dropLookups forgets the waits on a job that match.
func (l *leader) dropLookups(id string, match func(*lookup) bool) {
	rest := slices.DeleteFunc(l.waiting[id], func(w *lookup) bool {
		if match(w) {
			w.timer.Stop()
			return true
		}
		return false
	})
	if len(rest) == 0 {
		delete(l.waiting, id)
	} else {
		l.waiting[id] = rest
	}
}

// lookup answers at once, or leaves the question until the job has ended.
// Nobody waits for another account's job.
func (l *leader) lookup(f *frontSession, q *pb.Lookup, e *entry) {
	wait, by := min(time.Duration(q.WaitMs)*time.Millisecond, maxLookupWait), asker{q.Account, q.Key, q.Address}
	if l.over {
		return
	}
	if e == nil || e.end != nil || wait == 0 || q.Account != "" && q.Account != e.account {
		l.answerNow(f, q.Call, e, by)
		return
	}
	w := &lookup{session: f, call: q.Call, by: by}
	w.timer = time.AfterFunc(wait, func() {
		l.enter()
		defer l.leave()
		if l.over || !slices.Contains(l.waiting[q.Id], w) {
			return
		}
		l.dropLookups(q.Id, func(other *lookup) bool { return other == w })
		l.answerNow(f, q.Call, l.board.entries[q.Id], by)
	})
	l.waiting[q.Id] = append(l.waiting[q.Id], w)
}

// answerNow answers with the job as it stands.
func (l *leader) answerNow(f *frontSession, call uint64, e *entry, by asker) {
	a := &pb.Answer{Call: call, Answer: &pb.Answer_Unknown{Unknown: true}, Meters: l.metersOf(by)}
	if e != nil {
		a.Answer = &pb.Answer_Job{Job: l.snapshot(e)}
	}
	l.answer(f, call, a)
}

// answer tells a replica something once all that it shows is durable.
func (l *leader) answer(f *frontSession, call uint64, a *pb.Answer) {
	a.Token = l.here()
	size := proto.Size(a)
	l.after(func() {
		f.out.put(size, func(m *pb.FrontDown) { m.Answers = append(m.Answers, a) })
	})
}

// cancel ends a job for its account.
func (l *leader) cancel(f *frontSession, c *pb.Cancel, e *entry) {
	by := asker{c.Account, c.Key, c.Address}
	switch {
	case l.over:
		return
	case e == nil || e.account != c.Account:
		l.answerNow(f, c.Call, nil, by)
		return
	case e.end != nil:
	case c.Abandoned && len(l.waiting[e.id]) > 0:
	case c.Abandoned && l.board.followed(e):
		e.orphan = true
	default:
		l.cancelNow(e)
	}
	l.answerNow(f, c.Call, e, by)
}

// cancelNow ends a job that nobody wants any more.
func (l *leader) cancelNow(e *entry) {
	if le := e.lease; le != nil {
		if w := l.workers[le.worker]; w != nil && le.assigned {
			defer l.afterTell(w, func(m *pb.WorkDown) { m.Revoke = append(m.Revoke, le.token) })
		}
	}
	l.finish(e, ending{state: job.Canceled})
}

// cancelOrphan ends the oldest job of a picture if whoever sent it has gone away
// and it went on only for those that followed it, of which none is left.
func (l *leader) cancelOrphan(cacheKey []byte) {
	head := l.board.twin(cacheKey)
	if head != nil && head.orphan && len(l.waiting[head.id]) == 0 && !l.board.followed(head) {
		l.cancelNow(head)
	}
}
