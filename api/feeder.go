package api

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// holdFor is how long a batch is a feeder's without another word.
	holdFor = 15 * time.Second
	// renewEvery is how often it says that word, and learns what its account has
	// done to the batch.
	renewEvery = 2 * time.Second
	// lookEvery is how often batches are looked for that nobody works on.
	lookEvery = time.Second
	// feedsMost is how many batches one replica works on at a time; each has some
	// hundred kilobytes in memory.
	feedsMost = 64
	// turnFor is how long a batch keeps its place when all are taken.
	turnFor = 20 * time.Second
	// feederWithin bounds one write to the archive.
	feederWithin = 5 * time.Second
	// deadFor is how long after a feeder's death, or after a record whose fate is
	// open, nothing of it can be accepted any more: the leader refuses what is
	// older than 12 s.
	deadFor = 15 * time.Second
	// askMost is how many lines may be published behind what is saved: after a
	// crash each of them is asked for before it is published.
	askMost = 4096
	// aheadMost bounds them in bytes, but for one.
	aheadMost = 8 << 20
)

// feedStore is what the archive keeps of who feeds what. A batch that is
// somebody else's is store.ErrNotHeld.
type feedStore interface {
	ClaimBatch(ctx context.Context, by string, lease time.Duration) (*store.Claim, error)
	YieldBatch(ctx context.Context, by, id string, unknown bool) error
	BatchValidated(ctx context.Context, by string, b *batch.Batch) (store.Held, error)
	PassMade(ctx context.Context, by string, b *batch.Batch) (store.Held, error)
	SaveFed(ctx context.Context, by string, b *batch.Batch, begins bool, lease time.Duration) (store.Held, error)
	RefuseLine(ctx context.Context, by string, b *batch.Batch, line int, code, detail string) (int64, error)
	Refused(ctx context.Context, b *batch.Batch, lines []int) ([]int, error)
	FailedLines(ctx context.Context, b *batch.Batch, pass, after, limit int) ([]int, error)
	HoldUp(ctx context.Context, by string, b *batch.Batch, reason string, until time.Time) (store.Held, error)
	GoOn(ctx context.Context, by string, b *batch.Batch) (store.Held, error)
	LetExpire(ctx context.Context, by string, b *batch.Batch) (store.Held, error)
	LeaveOut(ctx context.Context, by string, b *batch.Batch, fed int64) (store.Held, error)
	Finalize(ctx context.Context, by string, b *batch.Batch) (store.Held, error)
	EndBatch(ctx context.Context, by, id string, keep time.Duration, data func(*batch.Batch) (json.RawMessage, error)) (*batch.Batch, error)
}

// The feeder makes jobs of the lines of batches, through the same door as any
// request.
//
// It promises that
//  1. a line becomes one job in a pass, whatever dies: its id follows from the
//     batch, the line and the pass; how far a batch is fed is saved only when
//     every line before that is decided; and of lines behind it, leader and
//     archive are asked before they are published;
//  2. one replica at a time feeds a batch. One that was stopped and does not
//     know that it has lost it does no harm: it dates a record, then looks at
//     its lease, then publishes, and the leader refuses what is older than 12 s;
//  3. no line fails for a limit: of a rate, of threads, of the queue, of a quota
//     the feeder waits, no shorter than it is told to;
//  4. what it holds matters to nobody: another replica goes on where it died.
type feeder struct {
	server *Server
	due    chan struct{} // capacity 1: something may be there to work on
	full   atomic.Bool   // batches wait for a place
	rooms  *buffers      // for those that are judged: far fewer than may be fed

	mu   sync.Mutex
	held map[string]*feeding // by batch; guarded by mu
}

func newFeeder(s *Server) *feeder {
	return &feeder{server: s, due: make(chan struct{}, 1), rooms: newBuffers(), held: map[string]*feeding{}}
}

// changed says that an account has made a batch, or done something to it.
func (f *feeder) changed(id string) {
	f.mu.Lock()
	of := f.held[id]
	f.mu.Unlock()
	if of != nil {
		poke(of.look)
	}
	poke(f.due)
}

// run works on batches until ctx ends, and returns when those that it has are
// given back.
func (f *feeder) run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	room := make(chan struct{}, feedsMost)
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		of := f.claim(ctx)
		if of == nil {
			<-room
			select {
			case <-every.C:
			case <-f.due:
			case <-ctx.Done():
				return
			}
			continue
		}
		f.full.Store(len(room) == feedsMost)
		working.Go(func() {
			defer func() { <-room }()
			f.work(ctx, of)
		})
	}
}

// claim takes a batch to work on; nil when there is none.
func (f *feeder) claim(ctx context.Context) *feeding {
	s := f.server
	ctx, cancel := context.WithTimeoutCause(ctx, feederWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	from := time.Now()
	c, err := s.deps.Store.ClaimBatch(ctx, s.boot, holdFor)
	if err != nil {
		if context.Cause(ctx) == nil {
			s.log.Warn("batches that are to be worked on cannot be looked up", "err", err)
		}
		return nil
	}
	if c == nil {
		return nil
	}
	of := &feeding{feeder: f, server: s, batch: c.Batch, unsure: c.Unsure, look: make(chan struct{}, 1), began: from}
	if c.Dead {
		of.openAt = from
	}
	of.hold.renew(from)
	return of
}

// work does what there is to do for a batch, and gives it back.
func (f *feeder) work(ctx context.Context, of *feeding) {
	s, id := f.server, of.batch.ID
	log := s.log.With("batch", id, "account", of.batch.Account)
	f.mu.Lock()
	f.held[id] = of
	f.mu.Unlock()
	s.metrics.batchesHeld.Inc()
	defer func() {
		s.metrics.batchesHeld.Dec()
		f.mu.Lock()
		delete(f.held, id)
		f.mu.Unlock()
	}()
	log.Debug("working on a batch", "state", string(of.batch.State), "unsure", of.unsure)
	err := of.run(ctx)
	switch {
	case errors.Is(err, errEnded):
		log.Info("batch ended", "state", string(of.batch.State), "total", of.batch.Total)
		s.metrics.batchesEnded.WithLabelValues(string(of.batch.State)).Inc()
		return // it was given back with its end
	case errors.Is(err, store.ErrNotHeld), errors.Is(err, errLost):
		log.Warn("another feeder has the batch")
		return
	case err != nil && ctx.Err() == nil:
		log.Warn("a batch is left alone for a while", "err", err)
		of.rest(ctx)
	}
	if !of.openAt.IsZero() && time.Since(of.openAt) < deadFor {
		return // whoever takes it must wait until nothing of it is open: it is left to its lease
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), feederWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	if err := s.deps.Store.YieldBatch(ctx, s.boot, id, of.unsure); err != nil {
		log.Warn("a batch is not given back; its lease ends by itself", "err", err)
	}
}

// hold is how long a batch is ours for sure, on this machine's clock.
type hold struct {
	mu    sync.Mutex
	until time.Time // guarded by mu
}

// renew takes in that the lease was renewed by a question that was asked then.
func (h *hold) renew(asked time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = asked.Add(holdFor)
}

// over reports that it may be somebody else's by now.
func (h *hold) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !time.Now().Before(h.until)
}

var (
	errLost  = errors.New("the lease on the batch is over")
	errEnded = errors.New("the batch has ended")
)
