package scheduler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// errNoBody says that what a job should render is nowhere. That will not
// change.
var errNoBody = errors.New("scheduler: the body of an accepted job is gone")

const (
	bodyWait = 5 * time.Second
	bodyRest = 200 * time.Millisecond
)

// withBody calls fn under the lock with the job of this id, its body in
// memory; with nil when no such job is known. After a takeover a body is still
// in JOBS, or in the ledger if the job was carried, and is read from there
// first.
func (l *leader) withBody(ctx context.Context, id string, fn func(*entry)) {
	for {
		l.enter()
		e := l.board.entries[id]
		if l.over || e == nil || e.end != nil || e.body != nil {
			fn(e)
			l.leave()
			return
		}
		record, at := e.jobsSeq, e.pin
		l.leave()
		body, err := l.s.body(ctx, id, record, at)
		if ctx.Err() != nil {
			return
		}
		l.enter()
		e = l.board.entries[id]
		moved := e == nil || e.end != nil || err != nil && e.pin.token != at.token // and what it was read from may be purged
		if !moved && e.body == nil {
			e.body = body
		}
		l.leave()
		if err != nil && !moved {
			l.s.log.Error("the body of an accepted job cannot be read", "job", id, "err", err)
		}
	}
}

// body reads what a worker needs of an accepted job. It tries until there is an
// answer; errNoBody comes with an empty one.
func (s *Scheduler) body(ctx context.Context, id string, record uint64, at pin) (*pb.Body, error) {
	for {
		body, err := s.readBody(ctx, id, record, at)
		if err == nil && body == nil {
			err = errNoBody
		}
		switch {
		case err == nil:
			return body, nil
		case errors.Is(err, errNoBody), errors.Is(err, stream.ErrNoRecord), errors.Is(err, stream.ErrNoFrame):
			return &pb.Body{Spec: []byte("{}")}, fmt.Errorf("%w: %w", errNoBody, err)
		}
		s.log.Warn("the body of a job cannot be read yet", "err", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(bodyRest):
		}
	}
}

func (s *Scheduler) readBody(ctx context.Context, id string, record uint64, at pin) (*pb.Body, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bodyWait, errors.New("reading the body of a job"))
	defer cancel()
	if !at.inLedger {
		rec, err := s.streams.Record(ctx, record)
		return rec.GetBody(), err
	}
	f, err := s.carriers.frame(ctx, s.streams, at.frame())
	if err != nil {
		return nil, err
	}
	if i := int(at.token & 0xffff); i < len(f.Events) {
		if c := f.Events[i].GetCarried(); c.GetEnvelope().GetId() == id {
			return c.Body, nil
		}
	}
	return nil, errNoBody
}

// carriers keeps the last frame that a carried body was read from: its
// neighbours are wanted next, and one frame holds up to a thousand.
type carriers struct {
	mu   sync.Mutex
	seq  uint64 // guarded by mu
	last *pb.Frame
}

func (c *carriers) frame(ctx context.Context, streams Streams, seq uint64) (*pb.Frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || c.seq != seq {
		f, err := streams.Frame(ctx, seq)
		if err != nil {
			return nil, err
		}
		c.seq, c.last = seq, f
	}
	return c.last, nil
}
