package scheduler

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// memory is both streams and the heartbeats in memory, for tests in a bubble
// of synctest, where no server can be. TestStreams holds it to what the real
// ones do.
type memory struct {
	mu         sync.Mutex
	changed    chan struct{} // closed and made anew with every change
	records    []*pb.Record
	frames     [][]byte
	jobsFirst  uint64
	frameFirst uint64
	beats      []*pb.Heartbeat
	slow       time.Duration // what reading a record takes; set before anybody reads
	jobsMax    int64         // bytes; 0: no bound. Set before anybody reads
	ledgerMax  int64
	held       chan struct{} // frames are stored, and acknowledged only once it is closed; nil: at once
}

func newMemory() *memory { return &memory{changed: make(chan struct{}), jobsFirst: 1, frameFirst: 1} }

// change does something under the lock and wakes those who read.
func (m *memory) change(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
	close(m.changed)
	m.changed = make(chan struct{})
}

// wait calls look under the lock, now and after each change, until it has
// something to do outside of it.
func (m *memory) wait(ctx context.Context, look func() (func() error, bool)) error {
	for {
		m.mu.Lock()
		do, found := look()
		changed := m.changed
		m.mu.Unlock()
		if found {
			return do()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m *memory) publish(rec *pb.Record) {
	m.change(func() { m.records = append(m.records, rec) })
}

func (m *memory) Tail(ctx context.Context, seq uint64, fn func([]stream.Submitted)) error {
	for {
		err := m.wait(ctx, func() (func() error, bool) {
			var out []stream.Submitted
			for next := max(seq+1, m.jobsFirst); next <= uint64(len(m.records)); next++ {
				out = append(out, stream.Submitted{Seq: next, Size: proto.Size(m.records[next-1]), Record: proto.CloneOf(m.records[next-1])})
				seq = next
			}
			return func() error { fn(out); return nil }, len(out) > 0
		})
		if err != nil {
			return err
		}
	}
}

func (m *memory) Record(_ context.Context, seq uint64) (*pb.Record, error) {
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq < m.jobsFirst || seq > uint64(len(m.records)) {
		return nil, stream.ErrNoRecord
	}
	return proto.CloneOf(m.records[seq-1]), nil
}

func (m *memory) JobsState(context.Context) (stream.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := stream.State{First: m.jobsFirst, Last: uint64(len(m.records)), MaxBytes: m.jobsMax}
	for _, rec := range m.records[m.jobsFirst-1:] {
		st.Bytes += uint64(proto.Size(rec))
	}
	return st, nil
}

func (m *memory) PurgeJobs(_ context.Context, seq uint64) error {
	m.change(func() { m.jobsFirst = max(m.jobsFirst, min(seq, uint64(len(m.records))+1)) })
	return nil
}

func (m *memory) Append(f stream.Sealed) (jetstream.PubAckFuture, error) {
	m.change(func() {
		if f.Seq == uint64(len(m.frames))+1 && (m.ledgerMax == 0 || m.ledgerBytes()+int64(len(f.Data)) <= m.ledgerMax) {
			m.frames = append(m.frames, f.Data)
		}
	})
	return nil, nil //nolint:nilnil // Settle finds out what became of it
}

func (m *memory) Settle(ctx context.Context, f stream.Sealed, _ jetstream.PubAckFuture) error {
	if _, err := m.Append(f); err != nil {
		return err
	}
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-held:
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.Seq == uint64(len(m.frames))+1 {
		return stream.ErrFull
	}
	if f.Seq > uint64(len(m.frames)) || !bytes.Equal(m.frames[f.Seq-1], f.Data) {
		return stream.ErrDeposed
	}
	return nil
}

// hold withholds acknowledgements until release is called.
func (m *memory) hold() (release func()) {
	held := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = held
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held = nil
		close(held)
	}
}

func (m *memory) link(seq uint64) (stream.Link, error) {
	data := m.frames[seq-1]
	l := stream.Link{Seq: seq, Size: len(data), Chain: stream.Chain(binary.BigEndian.Uint32(data)), Frame: new(pb.Frame)}
	return l, proto.Unmarshal(data[4:], l.Frame)
}

func (m *memory) Follow(ctx context.Context, seq uint64, _ stream.Chain, fn func([]stream.Link) error) error {
	trust := seq == 0
	for {
		err := m.wait(ctx, func() (func() error, bool) {
			first := max(seq+1, m.frameFirst)
			if first > uint64(len(m.frames)) {
				return nil, false
			}
			if !trust && first != seq+1 {
				return func() error { return stream.ErrGap }, true
			}
			var out []stream.Link
			for next := first; next <= uint64(len(m.frames)); next++ {
				l, err := m.link(next)
				if err != nil {
					return func() error { return err }, true
				}
				out = append(out, l)
			}
			trust, seq = false, uint64(len(m.frames))
			return func() error { return fn(out) }, true
		})
		if err != nil {
			return err
		}
	}
}

func (m *memory) LedgerState(context.Context) (stream.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return stream.State{
		First: m.frameFirst, Last: uint64(len(m.frames)), Bytes: uint64(m.ledgerBytes()), MaxBytes: m.ledgerMax,
	}, nil
}

// ledgerBytes is what LEDGER holds; m.mu is held.
func (m *memory) ledgerBytes() (sum int64) {
	for _, data := range m.frames[m.frameFirst-1:] {
		sum += int64(len(data))
	}
	return sum
}

func (m *memory) ChainAt(_ context.Context, seq uint64) (stream.Chain, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq < m.frameFirst || seq > uint64(len(m.frames)) {
		return 0, false, nil
	}
	l, err := m.link(seq)
	return l.Chain, err == nil, err
}

func (m *memory) Frame(_ context.Context, seq uint64) (*pb.Frame, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq < m.frameFirst || seq > uint64(len(m.frames)) {
		return nil, stream.ErrNoFrame
	}
	l, err := m.link(seq)
	return l.Frame, err
}

func (m *memory) PurgeLedger(_ context.Context, seq uint64) error {
	m.change(func() { m.frameFirst = max(m.frameFirst, min(seq, uint64(len(m.frames))+1)) })
	return nil
}

func (m *memory) Beat(hb *pb.Heartbeat) error {
	m.change(func() { m.beats = append(m.beats, proto.CloneOf(hb)) })
	return nil
}

func (m *memory) Heartbeats(ctx context.Context, fn func(*pb.Heartbeat)) error {
	m.mu.Lock()
	heard := len(m.beats)
	m.mu.Unlock()
	for {
		err := m.wait(ctx, func() (func() error, bool) {
			fresh := m.beats[heard:]
			heard = len(m.beats)
			return func() error {
				for _, hb := range fresh {
					fn(hb)
				}
				return nil
			}, len(fresh) > 0
		})
		if err != nil {
			return err
		}
	}
}

// TestStreams is what the scheduler takes for granted of its streams: the real
// ones on a NATS server, and the ones in memory that stand in for them.
func TestStreams(t *testing.T) {
	t.Run("nats", func(t *testing.T) {
		srv, err := nats.New(nats.Config{Dir: t.TempDir(), MaxStore: 64 << 20, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(srv.Close)
		nc, err := srv.Connect()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		s, err := stream.Open(t.Context(), nc, stream.Config{JobsMaxBytes: 8 << 20, LedgerMaxBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		pub := s.Publisher()
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { pub.Run(ctx) }) //nolint:errcheck // ends with ctx
		t.Cleanup(func() { cancel(); wg.Wait() })
		testStreams(t, s, func(rec *pb.Record) {
			if _, err := pub.Publish(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("memory", func(t *testing.T) {
		m := newMemory()
		testStreams(t, m, m.publish)
	})
}

func testStreams(t *testing.T, s Streams, publish func(*pb.Record)) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	want := func(what string, ok bool, err error) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
	}
	st, err := s.LedgerState(ctx)
	want("an empty ledger", st.Last == 0, err)

	var chain stream.Chain
	seal := func(seq uint64, prev stream.Chain, epoch uint64) (stream.Sealed, stream.Chain) {
		data, next, err := stream.Seal(prev, &pb.Frame{Epoch: epoch, Jobs: seq})
		if err != nil {
			t.Fatal(err)
		}
		return stream.Sealed{Seq: seq, Data: data}, next
	}
	var sealed []stream.Sealed
	for seq := uint64(1); seq <= 3; seq++ {
		f, next := seal(seq, chain, 1)
		ack, err := s.Append(f)
		if err != nil {
			t.Fatal(err)
		}
		want("settling a frame", true, s.Settle(ctx, f, ack))
		sealed, chain = append(sealed, f), next
	}
	want("the same frame again", true, s.Settle(ctx, sealed[2], nil))
	rival, _ := seal(3, chain, 2)
	want("another frame in its place", s.Settle(ctx, rival, nil) == stream.ErrDeposed, nil)
	early, _ := seal(5, chain, 2)
	want("a frame behind a hole", s.Settle(ctx, early, nil) == stream.ErrDeposed, nil)
	got, ok, err := s.ChainAt(ctx, 3)
	want("the chain at the last frame", ok && got == chain, err)

	follow := func(after uint64, prev stream.Chain) (first, last uint64, err error) {
		stop := context.Canceled
		err = s.Follow(ctx, after, prev, func(links []stream.Link) error {
			if first == 0 {
				first = links[0].Seq
			}
			if last = links[len(links)-1].Seq; last == 3 {
				return stop
			}
			return nil
		})
		if err == stop {
			err = nil
		}
		return first, last, err
	}
	first, last, err := follow(0, 0)
	want("following from the front", first == 1 && last == 3, err)
	frame, err := s.Frame(ctx, 2)
	want("a frame", frame.GetJobs() == 2, err)
	want("trimming the ledger", true, s.PurgeLedger(ctx, 3))
	_, err = s.Frame(ctx, 2)
	want("a frame that is gone", errors.Is(err, stream.ErrNoFrame), nil)
	first, last, err = follow(0, 0)
	want("following from what is left", first == 3 && last == 3, err)
	_, _, err = follow(1, stream.Chain(binary.BigEndian.Uint32(sealed[0].Data)))
	want("following over a gap", err != nil, nil)
	st, err = s.LedgerState(ctx)
	want("a trimmed ledger", st.First == 3 && st.Last == 3, err)

	for _, id := range []string{"a", "b", "c"} {
		publish(&pb.Record{Envelope: &pb.Envelope{Id: id}, Body: &pb.Body{CustomId: id}})
	}
	tail, stop := context.WithCancel(ctx)
	ids := ""
	err = s.Tail(tail, 1, func(recs []stream.Submitted) {
		for _, r := range recs {
			if ids += r.Record.Envelope.Id; r.Seq == 3 {
				stop()
			}
		}
	})
	want("tailing after the first record", ids == "bc" && err == context.Canceled, nil)
	rec, err := s.Record(ctx, 2)
	want("a record", rec.GetBody().GetCustomId() == "b", err)
	want("trimming the door", true, s.PurgeJobs(ctx, 3))
	_, err = s.Record(ctx, 2)
	want("a record that is gone", err != nil, nil)
	st, err = s.JobsState(ctx)
	want("a trimmed door", st.First == 3 && st.Last == 3, err)

	beats, silent := context.WithCancel(ctx)
	heard := make(chan string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		s.Heartbeats(beats, func(hb *pb.Heartbeat) { heard <- hb.Address }) //nolint:errcheck // ends with beats
	})
	for address := ""; address == ""; { // until it listens
		want("a heartbeat", true, s.Beat(&pb.Heartbeat{Address: "here"}))
		select {
		case address = <-heard:
		case <-time.After(time.Millisecond):
		}
	}
	silent()
	wg.Wait()
}
