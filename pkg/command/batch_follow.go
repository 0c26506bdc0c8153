package command

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/client"
)

const (
	// chunk is after how many lines it is noted how far that is.
	chunk = 64
	// askAfter and askMost bound the pauses in which nothing new has ended.
	askAfter = 200 * time.Millisecond
	askMost  = 5 * time.Second
	// lookEvery is how old what is shown may be while lines come without pause.
	lookEvery = time.Second
)

// A follower takes the results of one batch as they come.
type follower struct {
	*batchRun
	id     string
	folder *resultFolder // nil: lines go to standard output
	cursor string        // where there is no folder

	seen   time.Time // the batch was looked up
	failed []string  // the first lines that have no artifact, in words
	more   int64     // and how many further ones

	mu   sync.Mutex
	lost map[int]string // guarded by mu; lines whose artifact cannot be had, and why
}

// run takes what ends until the batch has ended and nothing is left to take.
func (f *follower) run(ctx context.Context) (*client.Batch, error) {
	pause := askAfter
	for {
		b, err := f.look(ctx)
		if err != nil {
			return nil, err
		}
		taken := 0
		if b.Status != "validating" {
			if taken, err = f.take(ctx); err != nil {
				return nil, err
			}
		}
		switch {
		case taken > 0:
			pause = askAfter
			continue
		case b.Ended():
			return b, nil
		}
		if err := longPause(b, time.Now()); err != nil {
			return nil, err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		pause = min(pause*3/2, askMost)
	}
}

func (f *follower) look(ctx context.Context) (*client.Batch, error) {
	var b *client.Batch
	err := f.try(ctx, func() (err error) {
		b, err = f.c.Batch(ctx, f.id)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.id, err)
	}
	f.seen = time.Now()
	f.show.batch(b)
	return b, nil
}

// take takes the lines that have ended since, and returns how many.
func (f *follower) take(ctx context.Context) (int, error) {
	taken := 0
	err := f.try(ctx, func() error {
		var some []*client.LineResult
		for l, err := range f.c.BatchEnds(ctx, f.id, f.at()) {
			f.alive(err)
			if err != nil {
				if err := f.store(ctx, some); err != nil {
					return err
				}
				taken += len(some)
				return err
			}
			if some = append(some, l); len(some) < chunk {
				continue
			}
			if err := f.store(ctx, some); err != nil {
				return err
			}
			taken += len(some)
			some = some[:0]
			if time.Since(f.seen) > lookEvery {
				if _, err := f.look(ctx); err != nil {
					return err
				}
			}
		}
		taken += len(some)
		return f.store(ctx, some)
	})
	return taken, err
}

func (f *follower) at() string {
	if f.folder != nil {
		return f.folder.state.Cursor
	}
	return f.cursor
}

// store writes what the lines made and notes that it is there.
func (f *follower) store(ctx context.Context, some []*client.LineResult) error {
	if len(some) == 0 {
		return nil
	}
	last := some[len(some)-1].Cursor
	if last == nil {
		return errors.New("the server's answer is not Tintype's: a line without a cursor")
	}
	if f.folder == nil {
		for _, l := range some {
			f.note(l)
			if _, err := f.t.Out.Write(append(l.Raw, '\n')); err != nil {
				return fmt.Errorf("write the results: %w", err)
			}
		}
		f.cursor = *last
		return nil
	}
	if err := f.fetchAll(ctx, some); err != nil {
		return err
	}
	return f.folder.reached(*last)
}
