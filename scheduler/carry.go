package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// carryShare of a stream, pinned by unfinished jobs, makes carrying worth a
	// look: one in so many bytes.
	carryShare = 4
	// carryCost is about what a carried job takes beside its record.
	carryCost = 256
	// carryUntil is how full the ledger may be, in hundredths, for more to be
	// carried: the rest is for the ends of what runs.
	carryUntil = 90
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
		if len(todo) == 0 {
			continue
		}
		l.s.log.Info("carrying old jobs", "count", len(todo))
		if err := l.carryAll(ctx, todo); err != nil {
			return err
		}
	}
}

// toCarry looks at the board, which takes its lock for as long as it says.
func (l *leader) toCarry(ctx context.Context) ([]carriedJob, time.Duration) {
	jobs, ledger, err := l.s.states(ctx)
	if err != nil {
		return nil, 0
	}
	l.enter()
	defer l.leave()
	todo := l.board.worthCarrying(jobs, ledger, l.marks.base.bytes)
	return todo, time.Since(l.now)
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

// carriedJob is a job to carry, as long as it needs what it needed.
type carriedJob struct {
	id  string
	pin uint64
}

// worthCarrying lists the oldest jobs that keep so much of a stream, of which
// they are less than half: the ones with which most is won. The ledger is what
// ends at "until", in the fold's bytes: what is behind that stays anyhow.
func (b *board) worthCarrying(jobs, ledger stream.State, until uint64) []carriedJob {
	if carryFull(ledger) {
		return nil
	}
	if todo := b.worthForJobs(jobs); len(todo) > 0 {
		return todo
	}
	return b.worthForLedger(ledger, until)
}

func carryFull(ledger stream.State) bool {
	return ledger.MaxBytes > 0 && ledger.Bytes/carryUntil > uint64(ledger.MaxBytes)/100
}

func (b *board) worthForJobs(st stream.State) []carriedJob {
	first := b.fresh.Front()
	if st.MaxBytes <= 0 || first == nil || st.Bytes <= uint64(st.MaxBytes)/carryShare {
		return nil
	}
	// All that is in JOBS before the last decided record is either these jobs'
	// or of nobody any more. How large each of the others is nobody remembers.
	unfinished := uint64(0)
	for el := first; el != nil; el = el.Next() {
		unfinished += uint64(el.Value.(*entry).jobsBytes)
	}
	from := max(first.Value.(*entry).jobsSeq, st.First)
	others := st.Last - from + 1 - min(uint64(b.fresh.Len()), st.Last-from+1)
	if others == 0 {
		return nil
	}
	each := (st.Bytes - min(st.Bytes, unfinished)) / others
	best := choice{}
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

func (b *board) worthForLedger(st stream.State, until uint64) []carriedJob {
	best := choice{}
	var last *entry
	add := func(behind uint64) {
		best.add(last, behind-last.pin.offset, uint64(last.jobsBytes)+carryCost)
	}
	for e := range b.byFrame() {
		if e.pin.offset >= until {
			break
		}
		switch {
		case last != nil:
			add(e.pin.offset)
		case st.MaxBytes <= 0 || until-e.pin.offset <= uint64(st.MaxBytes)/carryShare:
			return nil
		}
		last = e
	}
	if last == nil {
		return nil
	}
	add(until)
	return best.jobs()
}

// choice finds how many of the oldest jobs to carry: those that free most
// beyond twice what they take.
type choice struct {
	all  []carriedJob
	won  int64
	most int64
	n    int
}

func (c *choice) add(e *entry, freed, cost uint64) {
	c.all = append(c.all, carriedJob{e.id, e.pin.token})
	if c.won += int64(freed) - 2*int64(cost); c.won > c.most {
		c.most, c.n = c.won, len(c.all)
	}
}

func (c *choice) jobs() []carriedJob { return c.all[:c.n] }

// carryAll carries these jobs, a frame's worth at a time: the next waits until
// the last is durable, so that what is carried stands in nobody's way.
func (l *leader) carryAll(ctx context.Context, todo []carriedJob) error {
	for len(todo) > 0 {
		_, ledger, err := l.s.states(ctx)
		if err != nil || carryFull(ledger) {
			return ctx.Err() // the next look goes on from here
		}
		for room := frameBytes; room > 0 && len(todo) > 0; todo = todo[1:] {
			room -= l.carryOne(ctx, todo[0])
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
func (l *leader) carryOne(ctx context.Context, job carriedJob) (bytes int) {
	l.enter()
	e := l.board.entries[job.id]
	loaded := e != nil && e.body != nil
	l.leave()
	if e == nil {
		return 0
	}
	l.withBody(ctx, job.id, func(e *entry) {
		if e == nil || l.over || e.end != nil || e.pin.token != job.pin {
			return
		}
		l.emit(&pb.Event{Fact: &pb.Event_Carried{Carried: carriedNow(e, e.body)}})
		bytes = int(e.jobsBytes) + carryCost
		if !loaded {
			// It was read for this alone, and there may be more of them than fit
			// the memory.
			l.after(func() {
				if e.pin.carried && e.lease == nil {
					e.body = nil
				}
			})
		}
	})
	return bytes
}
