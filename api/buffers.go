package api

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// maxBuffered bounds the artifacts that are in memory at once, in bytes.
	maxBuffered = 256 << 20
	// maxShare is how much of that one account can have: its slow readers keep
	// nobody else waiting.
	maxShare = maxBuffered / 4
)

// buffers is the memory that artifacts are read into before they are sent.
type buffers struct {
	all *semaphore.Weighted

	mu     sync.Mutex
	shares map[string]*share // of accounts that hold or wait; guarded by mu
}

type share struct {
	free  *semaphore.Weighted
	users int // guarded by buffers.mu; at 0 the share is forgotten
}

func newBuffers() *buffers {
	return &buffers{all: semaphore.NewWeighted(maxBuffered), shares: make(map[string]*share)}
}

// acquire waits for size bytes until ctx ends. An account waits for its own
// share first, and in front of nobody.
func (b *buffers) acquire(ctx context.Context, accountID string, size int64) (release func(), err error) {
	b.mu.Lock()
	sh := b.shares[accountID]
	if sh == nil {
		sh = &share{free: semaphore.NewWeighted(maxShare)}
		b.shares[accountID] = sh
	}
	sh.users++
	b.mu.Unlock()
	leave := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if sh.users--; sh.users == 0 {
			delete(b.shares, accountID)
		}
	}
	if err := sh.free.Acquire(ctx, size); err != nil {
		leave()
		return nil, err
	}
	if err := b.all.Acquire(ctx, size); err != nil {
		sh.free.Release(size)
		leave()
		return nil, err
	}
	return func() {
		b.all.Release(size)
		sh.free.Release(size)
		leave()
	}, nil
}
