package scheduler

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/stream"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// staleAfter is how old a record may be, by its own word, when it is decided.
// Its caller waited 10 s and has gone.
const staleAfter = 12 * time.Second

// recordMost bounds a record, in bytes: its body comes back in the ledger with
// the job's end, and a frame must hold that. What the API publishes is far
// smaller; larger specs go by way of the bucket.
const recordMost = 256 << 10

// acceptedRoom is what an Accepted has beside its envelope, in bytes, at most:
// what it goes into is known before it is made, and so is its time.
const acceptedRoom = 100

// decide judges what the door let in, in stream order. The whole batch is one
// step: its decisions are told once the frame that covers it is durable.
func (l *leader) decide(ctx context.Context, recs []stream.Submitted) {
	var ids []string
	seen := map[string]bool{}
	for _, r := range recs {
		if r.Record != nil && !seen[r.Record.Envelope.Account] {
			seen[r.Record.Envelope.Account] = true
			ids = append(ids, r.Record.Envelope.Account)
		}
	}
	tenants := l.s.tenants.views(ctx, ids)
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	l.refill() // before a new job could overtake those that wait
	for _, r := range recs {
		if r.Seq <= l.decided {
			continue
		}
		if r.Record != nil {
			l.deciding = deciding{env: r.Record.Envelope}
			l.decideOne(r, tenants[r.Record.Envelope.Account])
			l.deciding = deciding{}
		}
		l.decided = r.Seq
	}
	l.open().wanted = true
}

// decideOne is one record's way through the checks, in their published order:
// known → too large → too old → key not looked up → suspended or blocked → storage →
// rate → cached → twin → quota → slots → tier depth.
func (l *leader) decideOne(r stream.Submitted, t tenantView) {
	env := r.Record.Envelope
	if e := l.board.entries[env.Id]; e != nil {
		l.tell(env.Api, accepted(e)) // a second record of an id changes nothing
		return
	}
	if id, known := l.board.keys[string(env.KeyHash)]; known && len(env.KeyHash) > 0 {
		if l.sameRequest(id, env) {
			l.tell(env.Api, &pb.Decision{Id: env.Id, Verdict: &pb.Decision_SameAs{SameAs: id}})
			return
		}
		l.refuse(env, &fault.Error{
			Kind: fault.KeyReused, Code: "idempotency_key_reused",
			Detail: "this Idempotency-Key was used for another request; use a new key for a new request",
		})
		return
	}
	if r.Size > recordMost {
		l.refuse(env, fault.New(fault.TooLarge, "the job's record has %d bytes, and the farm takes %d", r.Size, recordMost))
		return
	}
	if age := time.Duration(l.nowUS()-env.SentUs) * time.Microsecond; age > staleAfter {
		l.refuse(env, fault.New(fault.Unavailable, "the queue was too slow to decide; try again"))
		return
	}
	if len(env.KeyHash) > 0 && env.ArchiveUnread {
		// A job of this key may have ended long ago. A second render is worse
		// than a wait.
		l.refuse(env, fault.New(fault.Unavailable, "the archive does not answer at the moment, so nobody can tell whether this Idempotency-Key was used; try again with the same key"))
		return
	}
	if t.fault != nil {
		l.refuse(env, t.fault)
		return
	}
	if f := l.barred(env.Account, env.Key, env.Address); f != nil {
		l.refuse(env, f)
		return
	}
	if !l.bansRead {
		l.refuse(env, fault.New(fault.Unavailable, "the archive does not answer at the moment, so nobody can tell who is banned; try again"))
		return
	}
	if l.storage.full() != "" {
		l.refuse(env, storageFull())
		return
	}
	if f := l.chargeRate(t.plan.Rate, env); f != nil {
		l.refuse(env, f)
		return
	}
	if hit := l.cached(env); hit != nil {
		e := l.answerCached(r, t, hit)
		l.deciding.taken.giveBack()
		l.s.metrics.decided.WithLabelValues("cached").Inc()
		l.tell(env.Api, accepted(e))
		return
	}
	env.Hit = nil
	units := t.plan.Quota.RenderUnits()
	at := l.room(proto.Size(env) + acceptedRoom).body.TimeUs
	p, ends := periodAt(env.Account, t, at)
	terms := terms{refuse: t.plan.OverThreads.Action == account.Refuse, backlog: t.plan.OverThreads.Backlog}
	if env.Batch != "" {
		terms.backlog = shareOfBacklog(terms.backlog)
	}
	a := &pb.Accepted{Envelope: env, JobsSeq: r.Seq, Tier: int32(t.plan.Tier), Bytes: uint32(r.Size), Units: units, Period: p.day}
	if l.follow(a, r.Record.Body, terms) {
		return
	}
	if f := l.overQuota(p, t, units, ends); f != nil {
		l.refuse(env, f)
		return
	}
	a.Place = pb.Place_PLACE_QUEUE
	switch l.board.judge(env.Account, env.Key, env.Host, int32(t.plan.Tier), terms) {
	case mayPark:
		a.Place = pb.Place_PLACE_PARKED
	case threadsFull:
		l.refuse(env, &fault.Error{
			Kind: fault.ThreadsFull, Code: "concurrency_limit_exceeded", Policy: account.LimitThreads, RetryAfter: l.board.slotIn(env.Account, env.Key, l.now),
			Detail: "the account has as many jobs under way as its plan has threads; wait for one to finish",
		})
		return
	case backlogFull:
		l.refuseBacklog(env, terms)
		return
	case queueFull:
		l.refuse(env, &fault.Error{
			Kind: fault.QueueFull, Code: "queue_full", Policy: "queue", RetryAfter: l.board.roomIn(int32(t.plan.Tier), l.now),
			Detail: fmt.Sprintf("%d of the queue's %d places at tier %d and above are taken, and nothing was accepted; GET /v1/queue shows when there is room",
				l.board.ahead(int32(t.plan.Tier)), l.board.queue.Length, t.plan.Tier),
		})
		return
	}
	l.accept(a, r.Record.Body)
}

// accept makes a job the farm's, and says so.
func (l *leader) accept(a *pb.Accepted, body *pb.Body) {
	e := l.board.accept(a, body, l.now)
	e.taken = l.deciding.taken
	l.s.metrics.decided.WithLabelValues("accepted").Inc()
	l.tell(a.Envelope.Api, accepted(e))
}

func (l *leader) refuseBacklog(env *pb.Envelope, terms terms) {
	l.refuse(env, &fault.Error{
		Kind: fault.ThreadsFull, Code: "backlog_full", Policy: "backlog", RetryAfter: l.board.backlogIn(env.Account, env.Key, terms, l.now),
		Detail: "the account has as many jobs waiting as its plan allows; wait for some to finish",
	})
}

// sameRequest compares a keyed request with the job its key names.
func (l *leader) sameRequest(id string, env *pb.Envelope) bool {
	e := l.board.entries[id]
	if e.end != nil {
		return bytes.Equal(e.end.Fingerprint, env.Fingerprint)
	}
	return bytes.Equal(e.env.Fingerprint, env.Fingerprint)
}

func accepted(e *entry) *pb.Decision {
	v := &pb.Verdict{Tier: e.tier, Place: e.place, AcceptedUs: e.acceptedUS}
	if e.place == pb.Place_PLACE_CACHED && e.end != nil {
		v.Ended = e.end.Job
	}
	return &pb.Decision{Id: e.id, Verdict: &pb.Decision_Accepted{Accepted: v}}
}

// refuse tells a record's replica that it was not accepted. A rate that counts
// successes alone gets back what the record took.
func (l *leader) refuse(env *pb.Envelope, f *fault.Error) {
	l.deciding.taken.giveBack()
	l.s.metrics.decided.WithLabelValues(f.Kind.String()).Inc()
	l.tell(env.Api, &pb.Decision{Id: env.Id, Verdict: &pb.Decision_Refused{Refused: wire.Fault(f)}})
}

// tell sends a decision to the API replica that asked, once the open frame,
// whose header covers the record, is durable. A replica that is not connected
// asks again when it is.
func (l *leader) tell(api string, d *pb.Decision) {
	if env := l.deciding.env; env != nil {
		d.Meters = l.meters(env.Account, env.Key, env.Address)
	} else if e := l.board.entries[d.Id]; e != nil && e.env != nil {
		d.Meters = l.meters(e.account, e.env.Key, e.env.Address)
	}
	size := proto.Size(d)
	l.open()
	l.after(func() {
		if f := l.fronts[api]; f != nil {
			f.out.put(size, func(m *pb.FrontDown) { m.Decisions = append(m.Decisions, d) })
		}
	})
}

// threadsOf is how many slots an account has, today. One that has never been
// read has none: more than its plan gives would break the bound, and what it
// has waiting is parked until the archive answers.
func (l *leader) threadsOf(id string) int {
	plan, known := l.s.tenants.planOf(id)
	if !known {
		return 0
	}
	return l.threads(plan)
}

// slotsByKey reports whether each key of an account has the plan's slots.
func (l *leader) slotsByKey(id string) bool {
	plan, known := l.s.tenants.planOf(id)
	return known && plan.SlotsBy == account.ByKey
}

// threads is how many slots a plan gives, today: all seats of the farm where
// the plan says no number. With no worker it is one, so that a queue forms.
func (l *leader) threads(p account.Plan) int {
	if p.Threads > 0 {
		return p.Threads
	}
	return max(l.seats(), 1)
}

// seats is how many seats the connected workers have.
func (l *leader) seats() int {
	n := 0
	for _, w := range l.workers {
		n += w.seats
	}
	return n
}
