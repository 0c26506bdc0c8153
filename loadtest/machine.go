package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// machine watches what a farm cannot be faster than: how long one synced write
// takes, and how late timers fire because the processors are busy.
type machine struct {
	mu    sync.Mutex
	reads []reading // guarded by mu
}

type reading struct {
	at         time.Time
	sync, late time.Duration
}

const readEvery = 50 * time.Millisecond

// watch reads on until ctx ends.
func (m *machine) watch(ctx context.Context, dir string) error {
	f, err := os.Create(filepath.Join(dir, "probe"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 4<<10)
	for {
		due := time.Now().Add(readEvery)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(readEvery):
		}
		r := reading{at: time.Now()}
		r.late = r.at.Sub(due)
		if _, err := f.WriteAt(block, 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		r.sync = time.Since(r.at)
		m.mu.Lock()
		m.reads = append(m.reads, r)
		m.mu.Unlock()
	}
}

// worst is the slowest of each since then.
func (m *machine) worst(since time.Time) (sync, late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.reads) - 1; i >= 0 && m.reads[i].at.After(since); i-- {
		sync, late = max(sync, m.reads[i].sync), max(late, m.reads[i].late)
	}
	return sync, late
}

// summary is of the whole run.
func (m *machine) summary() (sync, late quantiles) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var syncs, lates []time.Duration
	for _, r := range m.reads {
		syncs, lates = append(syncs, r.sync), append(lates, r.late)
	}
	return summarise(syncs), summarise(lates)
}
