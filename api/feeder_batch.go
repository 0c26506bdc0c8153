package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// restFor is how long a batch is left alone after something failed.
	restFor = 2 * time.Second
	// barredFor is how long a batch waits whose account or key may do nothing,
	// until that is looked at again.
	barredFor = 30 * time.Second
	// What the judging of one batch has of the memory for that, at least and at
	// most: eight large ones at a time, two of them of one account.
	judgingLeast, judgingMost = 4 << 20, maxShare / 2
)

// feeding is a batch in this replica's hands.
type feeding struct {
	feeder *feeder
	server *Server
	batch  *batch.Batch // as it is in the archive, as far as it is known
	hold   hold
	look   chan struct{} // capacity 1: its account has done something to it
	began  time.Time

	expired bool // the batch's time is over

	// unsure says that lines behind what is saved may have been fed, by whoever
	// had the batch before or by this process.
	unsure bool
	// openAt is when something was published last that may still be accepted
	// without anybody here hearing of it; zero: nothing is open.
	openAt time.Time

	uploader // as they were when feeding began
}

// run goes from state to state until the batch has ended, waits for something
// that takes long, or ctx ends.
func (of *feeding) run(ctx context.Context) error {
	if err := of.renew(ctx, false); err != nil { // by the archive's clock its time may be over
		return err
	}
	for ctx.Err() == nil {
		b := of.batch
		if of.expired && (b.State == batch.Validating || b.State == batch.Running || b.State == batch.Paused) {
			if err := of.write(ctx, of.server.deps.Store.LetExpire); err != nil {
				return err
			}
		}
		var err error
		switch {
		case b.State == batch.Canceling:
			err = of.cutShort(ctx)
		case b.State == batch.Validating && b.Failure != "":
			err = of.end(ctx)
		case b.State == batch.Validating:
			err = of.validate(ctx)
		case b.State == batch.Paused:
			var goesOn bool
			if goesOn, err = of.goOn(ctx); err == nil && !goesOn {
				return nil
			}
		case b.PassObject == "":
			err = of.makePass(ctx)
		case b.Fed < b.PassTotal:
			err = of.feed(ctx)
		default:
			err = of.awaitEnds(ctx)
		}
		if err != nil {
			return err
		}
		if of.feeder.full.Load() && time.Since(of.began) > turnFor {
			return nil // others wait for a place
		}
	}
	return ctx.Err()
}

// took takes in what a write was answered with, to a question that was asked
// then.
func (of *feeding) took(h store.Held) {
	of.batch.State, of.batch.PausedReason, of.batch.Ends, of.expired = h.State, h.PausedReason, h.Ends, h.Expired
}

// write writes to the archive as the batch's feeder. What does not fit its state
// any more changes nothing but what is known of that.
func (of *feeding) write(ctx context.Context, do func(ctx context.Context, by string, b *batch.Batch) (store.Held, error)) error {
	err := of.try(ctx, do)
	if errors.Is(err, store.ErrNotHeld) {
		return of.renew(ctx, false)
	}
	return err
}

func (of *feeding) try(ctx context.Context, do func(ctx context.Context, by string, b *batch.Batch) (store.Held, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, feederWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	h, err := do(ctx, of.server.boot, of.batch)
	if err == nil {
		of.took(h)
	}
	return err
}

// renew says that the batch is still worked on.
func (of *feeding) renew(ctx context.Context, begins bool) error {
	asked := time.Now()
	err := of.try(ctx, func(ctx context.Context, by string, b *batch.Batch) (store.Held, error) {
		return of.server.deps.Store.SaveFed(ctx, by, b, begins, holdFor)
	})
	if err == nil {
		of.hold.renew(asked)
	}
	return err
}

// keep renews the lease beside something that takes long, and ends that when
// the batch is not to be worked on like that any more.
func (of *feeding) keep(ctx context.Context, do func(ctx context.Context) error) error {
	state := of.batch.State
	ctx, stop := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	every := time.NewTicker(renewEvery)
	defer every.Stop()
	for {
		select {
		case err := <-done:
			stop(nil)
			return err
		case <-every.C:
		case <-of.look:
		}
		switch err := of.renew(ctx, false); {
		case err != nil && !errors.Is(err, store.ErrNotHeld) && !of.hold.over():
			continue // the archive is away, and the batch ours
		case err != nil:
			stop(errLost)
			<-done
			return errLost
		case of.batch.State != state:
			stop(nil)
			<-done
			return nil
		}
	}
}

// rest is a pause in which the lease goes on.
func (of *feeding) rest(ctx context.Context) { of.sleep(ctx, restFor) }

// sleep waits, and renews the lease meanwhile. It reports false when there is no
// point in it any more.
func (of *feeding) sleep(ctx context.Context, d time.Duration) bool {
	err := of.keep(ctx, func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return err == nil
}

// validate has the lines judged.
func (of *feeding) validate(ctx context.Context) error {
	judged := *of.batch
	judgedAll := false
	if err := of.keep(ctx, func(ctx context.Context) error {
		release, err := of.feeder.rooms.acquire(ctx, judged.Account, roomFor(&judged))
		if err != nil {
			return err
		}
		defer release()
		err = of.server.validate(ctx, &judged)
		judgedAll = err == nil
		return err
	}); err != nil || !judgedAll {
		return err
	}
	b := of.batch
	b.Lines, b.Total, b.Invalid, b.PassObject, b.PassTotal = judged.Lines, judged.Total, judged.Invalid, judged.PassObject, judged.PassTotal
	b.Failure, b.LeftOut = judged.Failure, judged.LeftOut
	return of.write(ctx, of.server.deps.Store.BatchValidated)
}

// roomFor is about what memory the judging of a batch takes, by the size of its
// input: a large one has a piece of what is written and a million custom_ids.
func roomFor(b *batch.Batch) int64 {
	size := b.InputBytes
	if b.Gzip {
		size *= lines.MaxRatio
	}
	return min(judgingLeast+size, judgingMost)
}

// makePass writes the object of the lines that are tried again: those that
// failed the last time.
func (of *feeding) makePass(ctx context.Context) error {
	b := of.batch
	// A name of its own, as that of lines has: one who has lost the batch and
	// does not know it yet touches nothing of whoever has it now.
	object := fmt.Sprintf("b/%s/%s/pass-%d-%s.jsonl", b.Account, b.ID, b.Pass, job.EncodeBase32(uuid.New()))
	made := int64(-1)
	if err := of.keep(ctx, func(ctx context.Context) error {
		n, err := of.writePass(ctx, object)
		if err == nil {
			made = n
		}
		return err
	}); err != nil || made < 0 {
		return err
	}
	b.PassObject, b.PassTotal = object, made
	return of.write(ctx, of.server.deps.Store.PassMade)
}

// writePass writes it, and says how many lines there are. Whoever does it again
// writes the same, elsewhere.
func (of *feeding) writePass(ctx context.Context, object string) (n int64, err error) {
	s, b := of.server, of.batch
	failed := pager[int]{of: func(line int) int { return line }, page: func(after int) ([]int, error) {
		return paged(ctx, func(ctx context.Context) ([]int, error) {
			return s.deps.Store.FailedLines(ctx, b, b.Pass-1, after, outcomePage)
		})
	}}
	reader, writer := io.Pipe()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := s.deps.Bucket.PutStream(ctx, object, reader, "application/x-ndjson")
		reader.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		err := func() error {
			lines := s.readLines(ctx, b.Lines)
			defer lines.close()
			out := json.NewEncoder(writer)
			out.SetEscapeHTML(false)
			for {
				l, err := lines.next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				_, again, err := failed.at(l.Number)
				if err != nil {
					return err
				}
				if !again {
					continue
				}
				n++
				if err := out.Encode(l); err != nil {
					return err
				}
			}
		}()
		writer.CloseWithError(err)
		return err
	})
	err = g.Wait()
	return n, err
}

// goOn ends a pause whose time has come, if its reason is gone.
func (of *feeding) goOn(ctx context.Context) (bool, error) {
	if of.batch.PausedReason == batch.PausedByOwner {
		return false, nil
	}
	barred, err := of.enter(ctx)
	if err != nil {
		return false, err
	}
	if barred {
		return false, of.holdUp(ctx, batch.PausedSuspended, time.Now().Add(barredFor))
	}
	err = of.write(ctx, of.server.deps.Store.GoOn)
	return of.batch.State != batch.Paused, err // its time may not have come: it was paused only now
}

func (of *feeding) holdUp(ctx context.Context, reason string, until time.Time) error {
	of.server.log.Info("a batch must wait", "batch", of.batch.ID, "account", of.batch.Account, "reason", reason, "until", until.UTC())
	return of.write(ctx, func(ctx context.Context, by string, b *batch.Batch) (store.Held, error) {
		return of.server.deps.Store.HoldUp(ctx, by, b, reason, until)
	})
}

// An uploader is whose batch it is, at one moment.
type uploader struct {
	account account.Account
	plan    account.Plan
	who     caller
}

// enter reads whose batch it is, as they are now. barred says that they may
// submit nothing.
func (of *feeding) enter(ctx context.Context) (barred bool, err error) {
	now, barred, err := of.uploaderNow(ctx)
	if err == nil {
		of.uploader = now
	}
	return barred, err
}

func (of *feeding) uploaderNow(ctx context.Context) (o uploader, barred bool, err error) {
	s, b := of.server, of.batch
	o.who = caller{account: b.Account, key: b.Key, address: b.Address}
	p := s.policy()
	switch {
	case account.Anonymous(b.Account):
		o.account = account.Account{ID: b.Account, Name: b.Account, Plan: p.AnonymousPlan}
		barred = p.AnonymousPlan == ""
	default:
		known, err := s.keys.byID(ctx, b.Key, o.who.identity, time.Now())
		if err != nil && !fault.Is(err, fault.NotFound) {
			return o, false, err
		}
		o.account = known.account
		barred = err != nil || !known.key.Live(time.Now()) || known.account.ID != b.Account || known.account.Suspended
	}
	o.plan, _ = p.Plan(o.account.Plan) // a plan that is gone is the first one, as at the leader
	for _, by := range [...]account.By{account.ByIP, account.ByKey, account.ByAccount} {
		if f := s.blocks.find(o.who.subject(by), time.Now()); f != nil {
			barred = true
		}
	}
	return o, barred, nil
}
