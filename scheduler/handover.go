package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// closeWithin bounds the wait for a reign's last frame. Without NATS it
	// never comes, and the stop is then what a kill is.
	closeWithin = 2 * time.Second
	// heirWithin is how long a leader that has closed its reign keeps its
	// streams, to send them to the next one instead of away. With no standby
	// there is no next one.
	heirWithin = 500 * time.Millisecond
)

var errHandedOver = errors.New("scheduler: the reign was handed over")

// handOver ends the reign on purpose once stop is done. Its last frame says
// that it is over, so a standby that has read it has read everything and leads
// at once, by an append like any other's. Workers are told where to go when
// the next leader is heard of; API replicas hear it themselves.
//
// Nothing new is decided, started or finished meanwhile: records wait in JOBS
// for the next leader, reports are kept by their workers, questions are asked
// again.
func (l *leader) handOver(ctx context.Context, stop <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-stop:
	}
	began := time.Now()
	patience := time.NewTimer(closeWithin)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		return fmt.Errorf("scheduler: the last frame of the reign was not acknowledged within %s", closeWithin)
	case <-l.close():
		l.s.log.Info("reign closed", "epoch", l.epoch, "took", time.Since(began))
	}
	if l.s.cfg.Alone {
		return errHandedOver
	}
	patience.Reset(heirWithin)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-patience.C:
		l.s.log.Info("no other scheduler took over", "epoch", l.epoch)
	case <-l.heir:
		l.s.log.Info("handed over", "epoch", l.epoch, "took", time.Since(began))
	}
	return errHandedOver
}

// close appends the reign's last frame, which holds all that has happened so
// far. The channel is closed once it is durable, and everything before it told.
func (l *leader) close() <-chan struct{} {
	l.enter()
	defer l.leave()
	closed := make(chan struct{})
	if l.over {
		return closed // deposed: the reign ends by itself
	}
	l.emit(&pb.Event{Fact: &pb.Event_EpochClosed{EpochClosed: &pb.EpochClosed{Scheduler: l.s.boot}}})
	f := l.frames[len(l.frames)-1]
	f.effects = append(f.effects, func() { close(closed) })
	l.seal(f)
	l.over, l.last = true, f.sealed.Seq
	return closed
}

// horizon is what the end of the ledger says of who may lead next.
type horizon struct {
	closed bool   // the last reign ended on purpose: nobody leads
	newer  uint64 // a frame with an event that this release does not know; 0: none
}

// meet takes a frame in.
func (h *horizon) meet(l stream.Link) {
	for _, ev := range l.Frame.Events {
		switch ev.Fact.(type) {
		case *pb.Event_EpochOpened:
			h.closed = false
		case *pb.Event_EpochClosed:
			h.closed = true
		case nil:
			h.newer = l.Seq
		}
	}
}
