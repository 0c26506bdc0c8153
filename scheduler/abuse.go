package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler/limit"
)

// strikesMost bounds what one report may count.
const strikesMost = 1_000_000

// takeStrikes takes in who went on while throttled.
func (l *leader) takeStrikes(reports []*pb.Strikes) {
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	for _, r := range reports {
		who, err := account.ParseSubject(r.Subject)
		if err != nil {
			l.s.log.Warn("strikes are of nobody that can be read", "subject", r.Subject, "err", err)
			continue
		}
		for _, b := range l.ladder.Strike(l.clock(), who, int(min(r.Count, strikesMost))) {
			l.step(b, r.Address, nil)
		}
	}
}

// step makes a step of the ladder known: in the log, to all replicas, and in
// the archive, of which tell hears. from is the address that the last strikes
// came from.
func (l *leader) step(b account.Ban, from string, tell func(error)) {
	level := slog.LevelWarn
	if b.Step == account.StepCooling || b.Step == account.StepLifted {
		level = slog.LevelInfo
	}
	args := []any{"subject", b.Subject.String(), "step", string(b.Step), "actor", b.Actor, "reason", b.Reason}
	if !b.Until.IsZero() {
		args = append(args, "until", b.Until.UTC())
	}
	l.s.log.Log(context.Background(), level, "abuse ladder", args...)
	l.s.metrics.steps.WithLabelValues(string(b.Step)).Inc()
	l.tellBlock(b)
	l.file(b, from, tell)
}

// tellBlock tells every replica of a step.
func (l *leader) tellBlock(b account.Ban) {
	block := blockOf(b)
	for _, f := range l.fronts {
		f.tellBlock(block)
	}
}

func (f *frontSession) tellBlock(b *pb.Block) {
	f.out.put(64, func(m *pb.FrontDown) { m.Blocks = append(m.Blocks, b) })
}

func blockOf(b account.Ban) *pb.Block {
	p := &pb.Block{Subject: b.Subject.String(), UntilUs: wire.Micros(b.Until)}
	switch b.Step {
	case account.StepCooling:
		p.Step = pb.Block_STEP_COOLING
	case account.StepBlocked:
		p.Step = pb.Block_STEP_BLOCKED
	case account.StepBanned:
		p.Step = pb.Block_STEP_BANNED
	}
	return p
}

// barred refuses who is blocked or banned.
func (l *leader) barred(id, key, address string) *fault.Error {
	now := l.clock()
	b, blocked := l.ladder.Blocked(now, id, key, address)
	switch {
	case !blocked:
		return nil
	case b.Step == account.StepBanned:
		return &fault.Error{
			Kind: fault.Forbidden, Code: "banned",
			Detail: fmt.Sprintf("this %s is banned; ask the operator of this farm to lift that", b.Subject.Kind),
		}
	}
	return &fault.Error{
		Kind: fault.Blocked, Code: "blocked", RetryAfter: wholeMillis(b.Until.Sub(now)),
		Detail: fmt.Sprintf("this %s is blocked for a while, for requests that it made although it was throttled; honour Retry-After", b.Subject.Kind),
	}
}

// cooling refuses a limit's subject whose cool-down is not over.
func (l *leader) cooling(who account.Subject) *fault.Error {
	now := l.clock()
	b, cooling := l.ladder.Cooling(now, who)
	if !cooling {
		return nil
	}
	return l.throttled(account.LimitCooling, limit.Left{Wait: b.Until.Sub(now)}, "requests were made while throttled, so that the wait is longer now")
}

// wholeMillis is a wait as it travels, in milliseconds, and no shorter than it
// is.
func wholeMillis(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// changeBan does what an admin says, and answers when that is in the archive.
func (l *leader) changeBan(f *frontSession, c *pb.BanChange) {
	l.enter()
	defer l.leave()
	if l.over {
		return
	}
	answer := func(a *pb.Answer) {
		a.Call = c.Call
		f.out.put(64, func(m *pb.FrontDown) { m.Answers = append(m.Answers, a) })
	}
	refuse := func(err *fault.Error) { answer(&pb.Answer{Answer: &pb.Answer_Fault{Fault: wire.Fault(err)}}) }
	done := func(err error) {
		if err != nil {
			refuse(fault.New(fault.Unavailable, "it is in force, but the archive does not answer; it is written down when it is back"))
			return
		}
		answer(&pb.Answer{Answer: &pb.Answer_Done{Done: true}})
	}
	who, err := account.ParseSubject(c.Subject)
	if err != nil {
		refuse(fault.New(fault.Invalid, "%s", err))
		return
	}
	until := wire.Time(c.UntilUs)
	switch {
	case c.Lift:
		b, was := l.ladder.Lift(l.clock(), who)
		if !was && l.bansRead {
			answer(&pb.Answer{Answer: &pb.Answer_Done{Done: false}})
			return
		}
		b.Reason = c.Reason
		l.step(b, "", done)
	case !until.IsZero() && !until.After(l.clock()):
		refuse(fault.New(fault.Invalid, "the end of the block is not in the future"))
	default:
		l.step(l.ladder.Set(l.clock(), who, until, c.Reason), "", done)
	}
}
