package api

import (
	"fmt"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// retold is how long after a welcome the leader has told all blocks that are
	// in force: what it did not tell again is over.
	retold = 2 * time.Second
)

// blocks are the steps of the abuse ladder that are in force, as the leader
// tells them. They are kept without it too, until they end.
type blocks struct {
	mu     sync.Mutex
	of     map[account.Subject]block // guarded by mu
	reign  int                       // counts welcomes; guarded by mu
	sweeps time.Time                 // when what earlier reigns told is over; guarded by mu
}

type block struct {
	until time.Time // zero: for good
	reign int
}

// welcomed begins a reign, whose leader tells all blocks anew.
func (b *blocks) welcomed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reign++
	b.sweeps = now.Add(retold)
}

// find is the refusal of a blocked subject; nil where it is none.
func (b *blocks) find(s account.Subject, now time.Time) *fault.Error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.of) == 0 {
		return nil
	}
	known, ok := b.of[s]
	switch {
	case !ok:
		return nil
	case known.reign != b.reign && now.After(b.sweeps), !known.until.IsZero() && !now.Before(known.until):
		delete(b.of, s)
		return nil
	}
	if known.until.IsZero() {
		return &fault.Error{
			Kind: fault.Forbidden, Code: "banned",
			Detail: fmt.Sprintf("this %s is banned, for going on although it was throttled and blocked, or by the operator of this service, who can lift that", s.Kind),
		}
	}
	return &fault.Error{
		Kind: fault.Blocked, RetryAfter: known.until.Sub(now),
		Detail: fmt.Sprintf("this %s is blocked until %s, for requests it made while it was throttled, or by the operator of this service; wait for as long as Retry-After says",
			s.Kind, known.until.UTC().Format(time.RFC3339)),
	}
}

// none reports that nobody is blocked.
func (b *blocks) none() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.of) == 0
}

// keep takes in a block, or its end.
func (b *blocks) keep(s account.Subject, until time.Time, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if over {
		delete(b.of, s)
		return
	}
	if b.of == nil {
		b.of = make(map[account.Subject]block)
	}
	b.of[s] = block{until, b.reign}
}

// blocked takes in a step of the ladder. ahead is how far the leader's clock is
// ahead of ours.
func (s *Server) blocked(p *pb.Block, ahead time.Duration) {
	who, err := account.ParseSubject(p.Subject)
	if err != nil {
		s.log.Warn("a block is of nobody that can be read", "subject", p.Subject, "err", err)
		return
	}
	now := time.Now()
	var until time.Time
	if p.UntilUs != 0 {
		until = time.UnixMicro(p.UntilUs).Add(-ahead)
	}
	cooling := limited{Subject: who, policy: account.LimitCooling}
	if p.Step == pb.Block_STEP_COOLING {
		s.blocks.keep(who, time.Time{}, true)
		s.throttles.impose(cooling, &fault.Error{
			Kind: fault.RateLimited, Policy: account.LimitCooling,
			Detail: "requests were made while throttled, so that the wait is longer now; wait for Retry-After",
		}, until, now)
		return
	}
	s.throttles.lift(cooling)
	s.blocks.keep(who, until, p.Step != pb.Block_STEP_BLOCKED && p.Step != pb.Block_STEP_BANNED)
}
