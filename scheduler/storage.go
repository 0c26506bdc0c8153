package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/stream"
)

const (
	storageEvery = time.Second
	// Hundredths of a stream's bound beyond which nothing is accepted. What was
	// accepted needs room in the ledger for its way to the end, so the ledger's
	// is lower; beyond ledgerStarts nothing is started either, and the rest is
	// for the ends of what runs.
	jobsAccepts   = 80
	ledgerAccepts = 50
	ledgerStarts  = 80
	// diskLeast is how much of the disk, in hundredths, is left alone.
	diskLeast = 10
	// storageRetry is when a refused client may try again: purge looks more often
	// and a frame is kept for a minute.
	storageRetry = 30 * time.Second
	// fullFor is how long a reign holds out at a full ledger: until the youngest
	// frames may go.
	fullFor  = purgeMinAge + 2*filedFor + 3*purgeEvery
	fullRest = time.Second
)

// storage is what the stores hold, as it was a moment ago.
type storage struct {
	jobs, ledger stream.State
	free, size   uint64 // of the disk; size 0: not known
}

// full is why nothing may be accepted; empty when it may.
func (s *storage) full() string {
	switch {
	case over(s.jobs, jobsAccepts):
		return fmt.Sprintf("%s holds %d of %d bytes", stream.JobsName, s.jobs.Bytes, s.jobs.MaxBytes)
	case over(s.ledger, ledgerAccepts):
		return fmt.Sprintf("%s holds %d of %d bytes", stream.LedgerName, s.ledger.Bytes, s.ledger.MaxBytes)
	case s.size > 0 && s.free < s.size/100*diskLeast:
		return fmt.Sprintf("the disk has %d of %d bytes free", s.free, s.size)
	}
	return ""
}

// hold reports whether nothing may be started.
func (s *storage) hold() bool { return over(s.ledger, ledgerStarts) }

// over reports whether a stream holds more than so many hundredths of its
// bound.
func over(st stream.State, hundredths uint64) bool {
	return st.MaxBytes > 0 && st.Bytes > uint64(st.MaxBytes)/100*hundredths
}

// watchStorage keeps what there is room for up to date. While nobody can tell,
// it stays as it was: the streams refuse by themselves when they are full.
func (l *leader) watchStorage(ctx context.Context) error {
	t := time.NewTicker(storageEvery)
	defer t.Stop()
	for {
		if now, err := l.s.measure(ctx); err == nil {
			l.enter()
			l.setStorage(now)
			l.leave()
		} else if ctx.Err() == nil {
			l.s.log.Warn("nobody says how full the stores are", "err", err)
		}
		l.enter()
		l.backlog.look(l.seq, l.s.projected.Load(), l.now)
		l.leave()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (s *Scheduler) measure(ctx context.Context) (storage, error) {
	jobs, ledger, err := s.states(ctx)
	if err != nil {
		return storage{}, err
	}
	now := storage{jobs: jobs, ledger: ledger}
	if s.cfg.Disk != nil {
		ctx, cancel := context.WithTimeoutCause(ctx, stateWait, errors.New("asking how full the disk is"))
		defer cancel()
		if now.free, now.size, err = s.cfg.Disk(ctx); err != nil {
			s.log.Warn("nobody says how full the disk is", "err", err)
		}
	}
	return now, nil
}

// setStorage takes a new measurement, and tells the log what it changes.
func (l *leader) setStorage(now storage) {
	was := l.storage
	l.storage = now
	switch full := now.full(); {
	case was.full() == "" && full != "":
		l.s.log.Error("nothing is accepted: the storage is nearly full", "err", full)
	case was.full() != "" && full == "":
		l.s.log.Info("there is room again, jobs are accepted")
	}
	switch {
	case !was.hold() && now.hold():
		l.s.log.Error("nothing is started: the ledger is nearly full", "err", now.full())
	case was.hold() && !now.hold():
		l.s.log.Info("there is room again, jobs are started")
	}
}

// grew counts a stored frame until the next measurement.
func (l *leader) grew(bytes int) {
	now := l.storage
	now.ledger.Bytes += uint64(bytes)
	l.setStorage(now)
}

// storageFull is what a submission hears meanwhile.
func storageFull() *fault.Error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "storage_full", RetryAfter: storageRetry,
		Detail: "the farm's storage is nearly full; nothing was accepted, try again later",
	}
}

// append waits until a frame is stored. At a full ledger it is tried again,
// byte for byte, while purge makes room, as long as that can help.
func (l *leader) append(ctx context.Context, f *frame) error {
	since := time.Now()
	for {
		err := l.s.streams.Settle(ctx, f.sealed, f.ack)
		if !errors.Is(err, stream.ErrFull) {
			return err
		}
		if l.s.projected.Load()+1 < f.sealed.Seq {
			since = time.Now() // the archive is behind, and only a leader brings it up, which makes room
		}
		if time.Since(since) > fullFor {
			return fmt.Errorf("nothing in the ledger could be dropped for %s; raise its bound: %w", fullFor, err)
		}
		l.s.log.Error("the ledger is full; waiting until something can be dropped", "err", err)
		f.ack = nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fullRest):
		}
	}
}

// makeRoom drops what nobody needs from a full ledger that nobody leads, so
// that somebody can. Its floors are those of purge: the fold is of acknowledged
// frames alone, and when the last one is a minute old all are.
func (s *Scheduler) makeRoom(ctx context.Context, f *facts) {
	s.log.Error("the ledger is full, and nobody can lead until something can be dropped")
	now := time.Now()
	if now.UnixMicro()-f.timeUS < purgeMinAge.Microseconds() {
		return
	}
	seq, _ := f.needs(min(f.seq, s.filed.upTo(s.projected.Load(), now)), 0)
	if seq == 0 {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, purgeWait, errors.New("purging a full ledger"))
	defer cancel()
	if err := s.streams.PurgeLedger(ctx, seq); err != nil {
		s.log.Warn("a stream was not trimmed", "err", err)
	}
}
