package farm

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

type journal struct {
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func TestPartsCloseLastFirst(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // not what other tests' stores left
	var j journal
	p := newParts(slog.New(slog.DiscardHandler), context.Background())
	p.opened("store", func() error { j.add("store"); return nil })
	p.service("scheduler", func(ctx context.Context) error {
		<-ctx.Done()
		j.add("scheduler")
		return nil
	})
	// The worker drains only when the API has: it shows that both are told to
	// stop before either is waited for, and the scheduler after both.
	apiDone, workerTold := make(chan struct{}), make(chan struct{})
	p.run("worker", func(ctx context.Context) error {
		<-ctx.Done()
		close(workerTold)
		<-apiDone
		j.add("worker")
		return nil
	})
	p.run("api", func(ctx context.Context) error {
		<-ctx.Done()
		<-workerTold
		j.add("api")
		close(apiDone)
		return ctx.Err()
	})
	if err := p.close(); err != nil {
		t.Errorf("a clean stop says %v", err)
	}
	if want := []string{"api", "worker", "scheduler", "store"}; !slices.Equal(j.lines, want) {
		t.Errorf("closed in the order %q, want %q", j.lines, want)
	}
}

func TestPartThatEndsTakesTheRestDown(t *testing.T) {
	for name, ended := range map[string]error{"with an error": errors.New("boom"), "by itself": nil} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // not what other tests' stores left
			p := newParts(slog.New(slog.DiscardHandler), context.Background())
			closed := false
			p.opened("store", func() error { closed = true; return nil })
			p.run("worker", func(context.Context) error { return ended })
			<-p.failed()
			err := p.close()
			if err == nil || !strings.HasPrefix(err.Error(), "worker: ") || ended != nil && !errors.Is(err, ended) {
				t.Errorf("got %v", err)
			}
			if !closed {
				t.Error("the store stayed open")
			}
		})
	}
}

func TestPartsInAHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hurry, now := context.WithCancel(context.Background())
		p := newParts(slog.New(slog.DiscardHandler), hurry)
		closed := false
		p.opened("store", func() error { closed = true; return nil })
		stuck := make(chan struct{})
		p.run("api", func(context.Context) error { <-stuck; return nil })
		start := time.Now()
		time.AfterFunc(time.Minute, now) // bubble time
		if err := p.close(); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != time.Minute+hurriedWithin {
			t.Errorf("took %s", took)
		}
		if !closed {
			t.Error("the store stayed open")
		}
		close(stuck)
	})
}

func TestWatchedPart(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent()) // not what other tests' stores left
	p := newParts(slog.New(slog.DiscardHandler), context.Background())
	ended := make(chan struct{})
	why := errors.New("killed")
	p.watch("postgres", ended, func() error { return why }, func() error { return nil })
	close(ended)
	<-p.failed()
	if err := p.close(); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}

	p = newParts(slog.New(slog.DiscardHandler), context.Background())
	ended = make(chan struct{})
	p.watch("postgres", ended, func() error { return nil }, func() error { close(ended); return nil })
	if err := p.close(); err != nil {
		t.Errorf("a clean stop says %v", err)
	}
}
