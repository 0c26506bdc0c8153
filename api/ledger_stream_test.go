package api

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// memLedger is LEDGER in memory, which the test writes.
type memLedger struct {
	mu      sync.Mutex
	frames  []*pb.Frame // guarded by mu, as all below
	first   uint64      // that is still held; 0 is 1
	lag     uint64      // the newest so many frames are not handed out yet
	away    error       // why it cannot be read
	changed chan struct{}
	readers int // that follow now
	reads   int // that have ever begun
}

func newMemLedger() *memLedger { return &memLedger{changed: make(chan struct{})} }

func (m *memLedger) change(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
	close(m.changed)
	m.changed = make(chan struct{})
}

// add appends a frame and gives its sequence.
func (m *memLedger) add(events ...*pb.Event) (seq uint64) {
	m.change(func() {
		m.frames = append(m.frames, &pb.Frame{Epoch: 7, TimeUs: time.Now().UnixMicro(), Events: events})
		seq = uint64(len(m.frames))
	})
	return seq
}

// next is the token of the next event; 0 of a leader without a ledger.
func (m *memLedger) next() uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.frames)+1) << 16
}

// purge drops all before seq.
func (m *memLedger) purge(seq uint64) { m.change(func() { m.first = seq }) }

// hold keeps back the newest frames from who follows.
func (m *memLedger) hold(n uint64) { m.change(func() { m.lag = n }) }

// setAway makes it unreadable, or readable again.
func (m *memLedger) setAway(err error) { m.change(func() { m.away = err }) }

// following waits until somebody reads.
func (m *memLedger) following(ctx context.Context, want bool) error {
	for {
		m.mu.Lock()
		is, changed := m.readers > 0, m.changed
		m.mu.Unlock()
		if is == want {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memLedger) LedgerState(context.Context) (stream.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return stream.State{First: max(m.first, 1), Last: uint64(len(m.frames))}, m.away
}

func (m *memLedger) FollowFrom(ctx context.Context, seq uint64, fn func([]stream.Link) error) error {
	m.change(func() { m.readers++; m.reads++ })
	defer m.change(func() { m.readers-- })
	for {
		m.mu.Lock()
		away, gone, changed := m.away, seq < m.first, m.changed
		var links []stream.Link
		for ; seq+m.lag <= uint64(len(m.frames)) && len(links) < 10; seq++ {
			links = append(links, stream.Link{Seq: seq, Frame: proto.CloneOf(m.frames[seq-1])})
		}
		m.mu.Unlock()
		switch {
		case away != nil:
			return away
		case gone:
			return stream.ErrGap
		case len(links) > 0:
			if err := fn(links); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
