package scheduler

import (
	"context"
	"time"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// hintFor is how long after its last heartbeat peers are still sent to a
	// leader: three beats. One that fell silent may be dead, and a peer waits
	// long for an answer of a machine that is gone.
	hintFor = 3 * beatLeader
	// holdFor is how long a standby keeps a peer that nobody could send on:
	// longer than it takes a standby to lead, shorter than API replicas wait for
	// a welcome.
	holdFor = 1700 * time.Millisecond
)

// heard is the last heartbeat of another scheduler.
type heard struct {
	at      time.Time
	address string
	epoch   uint64
}

// hint is where to send peers; "" when nobody is known to lead.
func (h heard) hint(now time.Time) string {
	if now.Sub(h.at) > hintFor {
		return ""
	}
	return h.address
}

func (s *Scheduler) hear(hb *pb.Heartbeat) {
	s.mu.Lock()
	now := time.Now()
	if hb.Epoch < s.heard.epoch && s.heard.hint(now) != "" {
		s.mu.Unlock()
		return // of a leader that is about to learn that its reign is over
	}
	moved := s.heard.hint(now) != hb.Address
	s.heard = heard{now, hb.Address, hb.Epoch}
	s.mu.Unlock()
	if moved {
		s.change(func() {})
	}
	if l := s.leader.Load(); l != nil && hb.Epoch > l.epoch {
		select {
		case l.heir <- struct{}{}:
		default:
		}
		l.probe()
	}
}

// change does something to who leads and wakes those who wait for it.
func (s *Scheduler) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
	close(s.changed)
	s.changed = make(chan struct{})
}

// leaderAddress is where the leader beats; "" when none is heard.
func (s *Scheduler) leaderAddress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard.hint(time.Now())
}

// whoLeads is this process's reign, unless it is the one that is over, or where
// another scheduler leads. While nobody does it waits for a moment: peers that
// come to a standby after the leader's death are best kept until there is one,
// instead of asking again and again.
func (s *Scheduler) whoLeads(ctx context.Context, over *leader) (l *leader, address string) {
	patience := time.NewTimer(holdFor)
	defer patience.Stop()
	for {
		s.mu.Lock()
		changed, stopped, address := s.changed, s.stopped, s.heard.hint(time.Now())
		s.mu.Unlock()
		if l := s.leader.Load(); l != nil && l != over {
			return l, ""
		}
		if address != "" || stopped {
			return nil, address
		}
		select {
		case <-ctx.Done():
			return nil, ""
		case <-patience.C:
			return nil, ""
		case <-changed:
		}
	}
}
