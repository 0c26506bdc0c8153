package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg Config) *Streams {
	t.Helper()
	srv, err := nats.New(nats.Config{Dir: t.TempDir(), MaxStore: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	nc, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if cfg.JobsMaxBytes == 0 {
		cfg.JobsMaxBytes = 64 << 20
	}
	if cfg.LedgerMaxBytes == 0 {
		cfg.LedgerMaxBytes = 64 << 20
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }() //nolint:errcheck // ends with ctx
	t.Cleanup(func() { cancel(); <-done })
}

func record(id string) *pb.Record {
	return &pb.Record{Envelope: &pb.Envelope{Id: id}, Body: &pb.Body{Spec: []byte("spec of " + id)}}
}

// TestPublishMany has more submitters than one batch holds: each gets the
// sequence under which its own record is found.
func TestPublishMany(t *testing.T) {
	s := open(t, Config{})
	p := s.Publisher()
	background(t, p.Run)
	var wg sync.WaitGroup
	seqs := make([]uint64, 700)
	for i := range seqs {
		wg.Go(func() {
			seq, err := p.Publish(t.Context(), record(fmt.Sprint(i)))
			if err != nil {
				t.Error(err)
			}
			seqs[i] = seq
		})
	}
	wg.Wait()
	for i, seq := range seqs {
		rec, err := s.Record(t.Context(), seq)
		if err != nil || rec.Envelope.Id != fmt.Sprint(i) {
			t.Fatalf("record %d was acknowledged at %d, where there is %v (%v)", i, seq, rec, err)
		}
	}
	if _, err := s.Record(t.Context(), 701); !errors.Is(err, ErrNoRecord) {
		t.Errorf("a record that is not there: %v", err)
	}
}

func TestTailSeesEveryRecordInOrder(t *testing.T) {
	s := open(t, Config{})
	p := s.Publisher()
	background(t, p.Run)
	for i := range 30 {
		if _, err := p.Publish(t.Context(), record(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PurgeJobs(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	next := uint64(13)
	err := s.Tail(ctx, 12, func(recs []Submitted) {
		for _, r := range recs {
			if r.Seq != next || r.Record.Envelope.Id != fmt.Sprint(next-1) {
				t.Errorf("got %d %v, want %d", r.Seq, r.Record, next)
			}
			next++
		}
		if next == 31 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFullStreamRefuses(t *testing.T) {
	s := open(t, Config{JobsMaxBytes: 8 << 10})
	p := s.Publisher()
	background(t, p.Run)
	for range 100 {
		rec := record("x")
		rec.Body.Spec = make([]byte, 1<<10)
		_, err := p.Publish(t.Context(), rec)
		if err == nil {
			continue
		}
		if f := fault.From(err); f.Kind != fault.Unavailable || f.Code != "storage_full" || f.Wait() == 0 {
			t.Errorf("a full stream answers %v, want storage_full", err)
		}
		return
	}
	t.Error("the stream took more than its bound")
}

func frame(epoch uint64) *pb.Frame { return &pb.Frame{Epoch: epoch, TimeUs: int64(epoch)} }

// append adds a frame as a leader does, and fails the test if it cannot.
func appendFrame(t *testing.T, s *Streams, prev Chain, seq uint64, f *pb.Frame) (Chain, Sealed) {
	t.Helper()
	data, next, err := Seal(prev, f)
	if err != nil {
		t.Fatal(err)
	}
	sealed := Sealed{Seq: seq, Data: data}
	if err := s.Settle(t.Context(), sealed, nil); err != nil {
		t.Fatal(err)
	}
	return next, sealed
}

func TestLedgerIsAChain(t *testing.T) {
	s := open(t, Config{})
	var chain Chain
	var sealed Sealed
	for seq := uint64(1); seq <= 5; seq++ {
		chain, sealed = appendFrame(t, s, chain, seq, frame(seq))
	}
	// Sent again byte for byte: found in the log, which counts as stored.
	if err := s.Settle(t.Context(), sealed, nil); err != nil {
		t.Errorf("the same frame again: %v", err)
	}
	other, _, err := Seal(0, frame(99))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), Sealed{Seq: 5, Data: other}, nil); !errors.Is(err, ErrDeposed) {
		t.Errorf("another frame in its place: %v, want ErrDeposed", err)
	}
	if err := s.Settle(t.Context(), Sealed{Seq: 9, Data: other}, nil); !errors.Is(err, ErrDeposed) {
		t.Errorf("a frame beyond the end: %v, want ErrDeposed", err)
	}
	if c, ok, err := s.ChainAt(t.Context(), 5); err != nil || !ok || c != chain {
		t.Errorf("chain value %x, %v, %v; want %x", c, ok, err, chain)
	}

	until := func(last uint64, follow func(context.Context, func([]Link) error) error) (epochs []uint64, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err = follow(ctx, func(links []Link) error {
			for _, l := range links {
				epochs = append(epochs, l.Frame.Epoch)
				if l.Seq == last {
					cancel()
				}
			}
			return nil
		})
		return epochs, err
	}
	read := func(seq uint64, c Chain, last uint64) (epochs []uint64, err error) {
		return until(last, func(ctx context.Context, fn func([]Link) error) error { return s.Follow(ctx, seq, c, fn) })
	}
	from := func(seq, last uint64) (epochs []uint64, err error) {
		return until(last, func(ctx context.Context, fn func([]Link) error) error { return s.FollowFrom(ctx, seq, fn) })
	}
	if got, err := read(0, 0, 5); len(got) != 5 || !errors.Is(err, context.Canceled) {
		t.Errorf("from the front: %v, %v", got, err)
	}
	if _, err := read(3, 12345, 5); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with a wrong chain value: %v, want ErrCorrupt", err)
	}
	if err := s.PurgeLedger(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if got, err := read(0, 0, 5); len(got) != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("after a purge, from the front: %v, %v", got, err)
	}
	if _, err := read(1, 1, 5); !errors.Is(err, ErrGap) {
		t.Errorf("a reader that the purge overtook: %v, want ErrGap", err)
	}
	if got, err := from(4, 5); len(got) != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("from the first frame that is left: %v, %v", got, err)
	}
	if got, err := from(3, 5); len(got) != 0 || !errors.Is(err, ErrGap) {
		t.Errorf("from a frame that is gone: %v, %v, want ErrGap", got, err)
	}
	for seq := uint64(6); seq <= 8; seq++ {
		chain, _ = appendFrame(t, s, chain, seq, frame(seq))
	}
	if got, err := from(7, 8); len(got) != 2 || got[0] != 7 || !errors.Is(err, context.Canceled) {
		t.Errorf("from the middle, whose chain nobody has told: %v, %v", got, err)
	}
	if err := s.ledger.SecureDeleteMsg(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if _, err := read(0, 0, 8); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "frames 7 to 7 are missing") {
		t.Errorf("a frame is missing from the middle: %v, want ErrCorrupt and which", err)
	}
	if _, err := from(5, 8); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a frame is missing on the way: %v, want ErrCorrupt", err)
	}
	if st, err := s.LedgerState(t.Context()); err != nil || st.First != 4 || st.Last != 8 {
		t.Errorf("state %+v, %v", st, err)
	}
}

// TestSettleAfterALostAnswer is the fault that looks like a failure and took
// effect: the writer hears nothing and finds its own frame in the log.
func TestSettleAfterALostAnswer(t *testing.T) {
	s := open(t, Config{})
	data, _, err := Seal(0, frame(1))
	if err != nil {
		t.Fatal(err)
	}
	f := Sealed{Seq: 1, Data: data}
	ack, err := s.Append(f)
	if err != nil {
		t.Fatal(err)
	}
	<-ack.Ok()
	if err := s.Settle(t.Context(), f, nil); err != nil {
		t.Errorf("its answer was lost: %v", err)
	}
	if st, err := s.LedgerState(t.Context()); err != nil || st.Last != 1 {
		t.Errorf("stored %d times, %v", st.Last, err)
	}
}

func TestUnsealRefusesATornFrame(t *testing.T) {
	data, chain, err := Seal(7, frame(3))
	if err != nil {
		t.Fatal(err)
	}
	if f, c, err := unseal(7, false, data); err != nil || c != chain || f.Epoch != 3 {
		t.Fatalf("%v, %x, %v", f, c, err)
	}
	for i := range data {
		torn := append([]byte(nil), data...)
		torn[i] ^= 0x10
		if _, _, err := unseal(7, false, torn); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d flipped: %v", i, err)
		}
	}
	for n := range data {
		if _, _, err := unseal(7, false, data[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	s := open(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		for ctx.Err() == nil { // core NATS has no memory: the subscriber may come later
			if err := s.Beat(&pb.Heartbeat{Epoch: 4, Address: "here"}); err != nil {
				t.Error(err)
			}
		}
	}()
	err := s.Heartbeats(ctx, func(hb *pb.Heartbeat) {
		if hb.Epoch != 4 || hb.Address != "here" {
			t.Errorf("got %v", hb)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-beating
}

// TestFollowEndsWithItsReader has more frames waiting than a reader is handed
// at once when it fails: the consumer's callback must not keep Follow.
func TestFollowEndsWithItsReader(t *testing.T) {
	s := open(t, Config{})
	var chain Chain
	for seq := uint64(1); seq <= 3*gatherMost; seq++ {
		chain, _ = appendFrame(t, s, chain, seq, frame(seq))
	}
	failed := errors.New("the database is down")
	var once sync.Once
	err := s.Follow(t.Context(), 0, 0, func([]Link) error {
		// Fail only once the callback can have filled what it fills.
		once.Do(func() { waitFor(t, func() bool { return s.nc.Stats().InMsgs > 2*gatherMost }) })
		return failed
	})
	if !errors.Is(err, failed) {
		t.Error(err)
	}
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !what() {
		select {
		case <-ctx.Done():
			t.Fatal("it does not come true")
		case <-tick.C:
		}
	}
}

// TestLostConnectionLeavesItOpen cuts the connection after a record was stored
// and before its acknowledgement came through: nobody may say that it was
// refused.
func TestLostConnectionLeavesItOpen(t *testing.T) {
	srv, err := nats.New(nats.Config{Dir: t.TempDir(), MaxStore: 256 << 20, Listen: "127.0.0.1:0", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	p := newOneWay(t, strings.TrimPrefix(srv.ClientURL(), "nats://"))
	nc, err := natsgo.Connect("nats://"+p.Addr().String(), natsgo.Token("t"), natsgo.ReconnectBufSize(-1),
		natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10*time.Millisecond), natsgo.IgnoreDiscoveredServers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	s, err := Open(t.Context(), nc, Config{JobsMaxBytes: 1 << 20, LedgerMaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	direct, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(direct.Close)
	watch, err := Open(t.Context(), direct, Config{JobsMaxBytes: 1 << 20, LedgerMaxBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	pub := s.Publisher()
	background(t, pub.Run)
	p.mute.Store(true)
	result := make(chan error, 1)
	go func() {
		_, err := pub.Publish(t.Context(), record("x"))
		result <- err
	}()
	waitFor(t, func() bool { st, err := watch.JobsState(t.Context()); return err == nil && st.Last == 1 })
	p.mute.Store(false)
	p.cut()
	if err := <-result; !errors.Is(err, ErrOpen) {
		t.Errorf("the record is stored and its submitter hears %v, want ErrOpen", err)
	}
}

// oneWay is a TCP proxy whose answers can be muted and whose connections can
// be cut.
type oneWay struct {
	net.Listener
	mute atomic.Bool
	mu   sync.Mutex
	open []net.Conn // guarded by mu
}

func newOneWay(t *testing.T, to string) *oneWay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &oneWay{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.open = append(p.open, client, server)
			p.mu.Unlock()
			wg.Go(func() { io.Copy(server, client); server.Close() }) //nolint:errcheck // a cut connection is the point
			wg.Go(func() { p.answers(client, server) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(); wg.Wait() })
	return p
}

func (p *oneWay) answers(client, server net.Conn) {
	defer client.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if !p.mute.Load() {
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (p *oneWay) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}

// A frame that the ledger has no room for, and one that it never takes, come
// back at once; the first fits when something was dropped.
func TestSettleSaysWhatHasNoRoom(t *testing.T) {
	s := open(t, Config{LedgerMaxBytes: 64 << 10})
	big := func(bytes int) *pb.Frame {
		return &pb.Frame{Epoch: 1, Events: []*pb.Event{{Fact: &pb.Event_EpochOpened{EpochOpened: &pb.EpochOpened{Address: strings.Repeat("x", bytes)}}}}}
	}
	seal := func(seq uint64, f *pb.Frame) Sealed {
		data, _, err := Seal(0, f)
		if err != nil {
			t.Fatal(err)
		}
		return Sealed{Seq: seq, Data: data}
	}
	for seq := uint64(1); seq <= 3; seq++ {
		if err := s.Settle(t.Context(), seal(seq, big(20<<10)), nil); err != nil {
			t.Fatal(err)
		}
	}
	next := seal(4, big(20<<10))
	if err := s.Settle(t.Context(), next, nil); !errors.Is(err, ErrFull) {
		t.Errorf("a frame without room: %v", err)
	}
	if err := s.Settle(t.Context(), seal(4, big(1<<20)), nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a frame over 1 MiB: %v", err)
	}
	if err := s.Settle(t.Context(), seal(3, big(1)), nil); !errors.Is(err, ErrDeposed) {
		t.Errorf("a frame whose place is taken, at a full ledger: %v", err)
	}
	if err := s.PurgeLedger(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), next, nil); err != nil {
		t.Errorf("the same frame with room: %v", err)
	}
}

// What is too large for JOBS is said to be, and nobody waits for its decision.
func TestPublishTooLarge(t *testing.T) {
	s := open(t, Config{})
	p := s.Publisher()
	background(t, p.Run)
	rec := record("x")
	rec.Body.Spec = make([]byte, 2<<20)
	if _, err := p.Publish(t.Context(), rec); fault.From(err) == nil || fault.From(err).Kind != fault.TooLarge {
		t.Errorf("%v", err)
	}
}

// Without a limit of its own an account says nothing of the disk.
func TestDiskOfAnAccount(t *testing.T) {
	s := open(t, Config{})
	if free, size, err := s.Disk(t.Context()); err != nil || size != 0 || free != 0 {
		t.Errorf("%d of %d, %v", free, size, err)
	}
}
