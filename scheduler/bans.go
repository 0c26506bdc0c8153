package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// Bans is where blocks and bans of the abuse ladder are kept, and the audit.
type Bans interface {
	Bans(ctx context.Context) ([]account.Ban, error)
	FileBans(ctx context.Context, steps []account.Ban, audit []account.Audit) error
	TrimBans(ctx context.Context) error
}

const (
	// bansFresh is how often a standby reads the bans, so that it knows them when
	// the archive is gone with the leader.
	bansFresh = 15 * time.Second
	bansWait  = 2 * time.Second
	bansRest  = time.Second // after the archive did not answer
	bansTrim  = time.Hour   // between two looks for what is long over
	// unfiledMost bounds the steps that wait for an archive that is away; cool-downs
	// beyond it are in the log alone.
	unfiledMost = 10_000
	// fileMost bounds the steps of one transaction.
	fileMost = 500
)

// knownBans is what this process last read of them.
type knownBans struct {
	mu   sync.Mutex
	list []account.Ban // guarded by mu, as all below
	read bool          // they were read at least once
}

// readBans reads who is kept out.
func (s *Scheduler) readBans(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bansWait, errors.New("reading bans"))
	defer cancel()
	list, err := s.cfg.Bans.Bans(ctx)
	s.bans.mu.Lock()
	defer s.bans.mu.Unlock()
	if err == nil {
		s.bans.list, s.bans.read = list, true
	}
	return err
}

// loadForReign reads, at the same time, the accounts of what waits and who is
// kept out. It reports whether the latter could be read.
func (s *Scheduler) loadForReign(ctx context.Context) bool {
	var both sync.WaitGroup
	var err error
	if s.cfg.Bans != nil {
		both.Go(func() { err = s.readBans(ctx) })
	}
	s.tenants.load(ctx)
	both.Wait()
	if err != nil {
		s.log.Warn("bans cannot be read at the moment", "err", err)
	}
	return err == nil
}

// latest is what was last read, and whether anything was.
func (k *knownBans) latest() ([]account.Ban, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.list, k.read
}

// standByBans keeps a follower's bans fresh, until ctx ends.
func (s *Scheduler) standByBans(ctx context.Context) {
	if s.cfg.Bans == nil {
		return
	}
	t := time.NewTicker(bansFresh)
	defer t.Stop()
	for {
		if err := s.readBans(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("bans cannot be read at the moment", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// unfiled is a step that is in force and not yet in the archive.
type unfiled struct {
	ban   account.Ban
	audit account.Audit
	// tell is called, under the leader's lock, when it is there, or when it could
	// not be put there for now; nil: nobody waits.
	tell func(err error)
}

// file has a step written down soon.
func (l *leader) file(b account.Ban, from string, tell func(error)) {
	if l.s.cfg.Bans == nil {
		if tell != nil {
			tell(nil)
		}
		return
	}
	if b.Step == account.StepCooling && len(l.unfiled) >= unfiledMost {
		return
	}
	detail := map[string]any{"reason": b.Reason}
	if !b.Until.IsZero() {
		detail["until"] = b.Until.UTC()
	}
	if from != "" {
		detail["from"] = from
	}
	l.unfiled = append(l.unfiled, unfiled{ban: b, tell: tell, audit: account.Audit{
		ID: "aud_" + job.EncodeBase32(uuid.Must(uuid.NewV7())), At: b.Since, Actor: b.Actor, Action: string(b.Step), Subject: b.Subject.String(), Detail: detail,
	}})
	select {
	case l.toFile <- struct{}{}:
	default:
	}
}

// keepBans reads the bans, if this reign began without them, and writes down
// the steps of the ladder, again and again while the archive is away: they are
// in force anyhow.
func (l *leader) keepBans(ctx context.Context) error {
	if l.s.cfg.Bans == nil {
		return nil
	}
	away := false
	var trimmed time.Time
	for {
		err := l.readMissingBans(ctx)
		for more := true; more && err == nil; {
			more, err = l.fileSome(ctx)
		}
		if err == nil && time.Since(trimmed) > bansTrim {
			trimmed = time.Now()
			err = l.trimBans(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(bansRest)
			if !away {
				l.s.log.Warn("blocks and bans are in force and cannot be written down at the moment", "err", err)
			}
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again:
		case <-l.toFile:
		}
	}
}

// readMissingBans reads the bans of a reign that began without them, or with
// what a standby had read.
func (l *leader) readMissingBans(ctx context.Context) error {
	l.mu.Lock()
	fresh := l.bansFresh
	l.mu.Unlock()
	if fresh {
		return nil
	}
	if err := l.s.readBans(ctx); err != nil {
		return err
	}
	l.enter()
	defer l.leave()
	l.takeBans(true)
	return nil
}

// takeBans puts in force what was last read, in this reign or before it.
func (l *leader) takeBans(fresh bool) {
	list, read := l.s.bans.latest()
	for _, b := range l.ladder.Load(l.clock(), list) {
		l.tellBlock(b)
	}
	l.bansFresh, l.bansRead = fresh, fresh || read
}

// fileSome writes down the oldest steps. It reports whether there are more.
func (l *leader) fileSome(ctx context.Context) (more bool, err error) {
	l.mu.Lock()
	var steps []account.Ban
	var audit []account.Audit
	for _, u := range l.unfiled[:min(len(l.unfiled), fileMost)] {
		steps, audit = append(steps, u.ban), append(audit, u.audit)
	}
	l.mu.Unlock()
	if len(steps) == 0 {
		return false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, bansWait, errors.New("writing down bans"))
	defer cancel()
	err = l.s.cfg.Bans.FileBans(ctx, steps, audit)
	l.enter()
	defer l.leave()
	for i := range steps {
		if tell := l.unfiled[i].tell; tell != nil {
			l.unfiled[i].tell = nil // who was told that it failed is not told again
			tell(err)
		}
	}
	if err == nil {
		l.unfiled = l.unfiled[len(steps):]
	}
	return len(l.unfiled) > 0, err
}

func (l *leader) trimBans(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bansWait, errors.New("deleting old bans"))
	defer cancel()
	return l.s.cfg.Bans.TrimBans(ctx)
}
