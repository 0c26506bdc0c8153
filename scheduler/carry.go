package scheduler

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// carryShare of a stream, pinned by unfinished jobs, makes carrying worth a
	// look: one in so many bytes.
	carryShare = 4
	// carryCost is about what a carried job takes beside its envelope and body.
	carryCost = 60
	// carryUntil is how full the ledger may be, in hundredths, for more to be
	// carried: the rest is for the ends of what runs. Nothing is started long
	// before that, and only carrying frees the front again.
	carryUntil = 98
	// carryRest is how many times as long as a look at the board took it is left
	// alone: a look is taken under the lock, and goes through all that waits.
	carryRest = 100
	stateWait = 5 * time.Second
)

// carry writes the oldest unfinished jobs anew at the ledger's end where they
// keep much more in a stream than they are, so that purge can go on: a few jobs
// that wait for days must not hold all that ended meanwhile.
func (l *leader) carry(ctx context.Context) error {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	var rest time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if time.Now().Before(rest) {
			continue
		}
		todo, took := l.toCarry(ctx)
		rest = time.Now().Add(carryRest * took)
		if len(todo.jobs) == 0 {
			continue
		}
		l.s.log.Info("carrying old jobs", "count", len(todo.jobs))
		if err := l.carryAll(ctx, todo); err != nil {
			return err
		}
	}
}

// toCarry looks at the board, which takes its lock for as long as it says.
func (l *leader) toCarry(ctx context.Context) (todo, time.Duration) {
	jobs, ledger, err := l.s.states(ctx)
	if err != nil {
		return todo{}, 0
	}
	l.enter()
	defer l.leave()
	return l.board.worthCarrying(jobs, ledger, l.marks.base.bytes), time.Since(l.now)
}

// states is the extent of both streams.
func (s *Scheduler) states(ctx context.Context) (jobs, ledger stream.State, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stateWait, errors.New("asking how large the streams are"))
	defer cancel()
	if jobs, err = s.streams.JobsState(ctx); err == nil {
		ledger, err = s.streams.LedgerState(ctx)
	}
	return jobs, ledger, err
}

// todo is what to carry: jobs, as long as they need what they needed.
type todo struct {
	jobs []pinned
	// bodies go along, so that JOBS need not keep them. Else they stay there:
	// the ledger, when it is nearly full, has no room for them.
	bodies bool
}

type pinned struct {
	id    string
	token uint64
}

// worthCarrying finds the oldest jobs that keep so much of a stream, of which
// they are less than half: as many as free most. The ledger is what ends at
// "until", in the fold's bytes: what is behind that stays anyhow.
func (b *board) worthCarrying(jobs, ledger stream.State, until uint64) todo {
	if !over(ledger, ledgerAccepts) { // else nothing is accepted however empty JOBS is
		if c := b.worthForJobs(jobs); len(c) > 0 {
			return todo{c, true}
		}
	}
	return todo{jobs: b.worthForLedger(ledger, until)}
}

func (b *board) worthForJobs(st stream.State) []pinned {
	first := b.records.Front()
	if first == nil || !over(st, 100/carryShare) {
		return nil
	}
	// All that is in JOBS before the last decided record is either these jobs'
	// or of nobody any more. How large each of the others is nobody remembers.
	unfinished := uint64(0)
	for el := first; el != nil; el = el.Next() {
		unfinished += uint64(el.Value.(*entry).jobsBytes)
	}
	from := max(first.Value.(*entry).jobsSeq, st.First)
	others := st.Last - from + 1 - min(uint64(b.records.Len()), st.Last-from+1)
	if others == 0 {
		return nil
	}
	each := (st.Bytes - min(st.Bytes, unfinished)) / others
	best := choice{dear: 2}
	for el := first; el != nil; el = el.Next() {
		e, behind := el.Value.(*entry), b.jobs+1
		if next := el.Next(); next != nil {
			behind = next.Value.(*entry).jobsSeq
		}
		cost := uint64(e.jobsBytes) + carryCost
		best.add(e, cost+each*(behind-min(behind, e.jobsSeq+1)), cost)
	}
	return best.jobs()
}

func (b *board) worthForLedger(st stream.State, until uint64) []pinned {
	best := choice{dear: 2}
	if over(st, ledgerStarts) {
		best.dear = 1 // nothing is started: whatever makes room helps
	}
	first := b.frames.Front()
	if first == nil || st.MaxBytes <= 0 || until < first.Value.(*entry).pin.offset+uint64(st.MaxBytes)/carryShare {
		return nil
	}
	for el := first; el != nil && el.Value.(*entry).pin.offset < until; el = el.Next() {
		e, behind := el.Value.(*entry), until
		if next := el.Next(); next != nil {
			behind = min(behind, next.Value.(*entry).pin.offset)
		}
		cost := uint64(carryCost)
		if e.pin.inLedger {
			cost += uint64(e.jobsBytes)
		} else {
			cost += uint64(proto.Size(e.env))
		}
		best.add(e, behind-e.pin.offset, cost)
	}
	return best.jobs()
}

// choice finds how many of the oldest jobs to carry: those that free most
// beyond so many times what they take.
type choice struct {
	dear int64
	all  []pinned
	won  int64
	most int64
	n    int
}

func (c *choice) add(e *entry, freed, cost uint64) {
	c.all = append(c.all, pinned{e.id, e.pin.token})
	if c.won += int64(freed) - c.dear*int64(cost); c.won > c.most {
		c.most, c.n = c.won, len(c.all)
	}
}

func (c *choice) jobs() []pinned { return c.all[:c.n] }

// carryAll carries these jobs, a frame's worth at a time: the next waits until
// the last is durable, so that what is carried stands in nobody's way.
func (l *leader) carryAll(ctx context.Context, todo todo) error {
	for jobs := todo.jobs; len(jobs) > 0; {
		_, ledger, err := l.s.states(ctx)
		if err != nil || over(ledger, carryUntil) {
			return ctx.Err() // the next look goes on from here
		}
		most := frameBytes
		if ledger.MaxBytes > 0 {
			most = min(most, int(ledger.MaxBytes)/100)
		}
		for room := most; room > 0 && len(jobs) > 0; jobs = jobs[1:] {
			room -= l.carryOne(ctx, jobs[0], todo.bodies)
		}
		stored := make(chan struct{})
		l.enter()
		l.after(func() { close(stored) })
		l.leave()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-stored:
		}
	}
	return nil
}

// carryOne carries a job if it is still what the look found, and returns about
// how many bytes that took.
func (l *leader) carryOne(ctx context.Context, job pinned, withBody bool) (bytes int) {
	emit := func(e *entry, body *pb.Body) (tok uint64) {
		ev := &pb.Event{Fact: &pb.Event_Carried{Carried: carriedNow(e, body)}}
		tok = l.emit(ev)
		bytes = proto.Size(ev)
		return tok
	}
	l.enter()
	e := l.board.entries[job.id]
	if l.over || e == nil || e.end != nil || e.pin.token != job.token {
		l.leave()
		return 0
	}
	if !withBody && !e.pin.inLedger {
		emit(e, nil)
		l.leave()
		return bytes
	}
	loaded := e.body != nil
	l.leave()
	l.withBody(ctx, job.id, func(e *entry) {
		if e == nil || l.over || e.end != nil || e.pin.token != job.token {
			return
		}
		tok := emit(e, e.body)
		if !loaded {
			// It was read for this alone, and there may be more of them than fit
			// the memory. If it has been carried again, what it is read from now
			// may not be stored yet.
			l.after(func() {
				if e.pin.token == tok && e.lease == nil {
					e.body = nil
				}
			})
		}
	})
	return bytes
}
