package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// contracts are what this package takes for granted of JetStream: each holds
// on one embedded server and on three that replicate, or a release of NATS is
// not one for us.
var contracts = []struct {
	name string
	hold func(*testing.T, *site)
}{
	{"an append at the wrong sequence is refused and stores nothing", wrongSequence},
	{"of rivals for a sequence one wins, whatever connection they have", rivals},
	{"the last sequence is that of the last acknowledgement, everywhere", lastSequence},
	{"the last sequence survives a purge of everything and a new leader", lastSequenceSurvives},
	{"an atomic batch is stored whole and in one piece", batchWhole},
	{"an atomic batch without its commit stores nothing", batchUncommitted},
	{"an atomic batch that does not fit stores nothing", batchFull},
	{"a full stream refuses and keeps what it has", full},
	{"a message over the stream's bound is refused and stores nothing", tooLarge},
	{"an ordered consumer skips what was purged and says nothing", purgedRange},
	{"what was acknowledged is found, what was purged is not", found},
	{"streams cannot promise more than the server has", oversubscribed},
	{"heartbeats reach every server's clients", beatsEverywhere},
	{"what was acknowledged outlives the server that led", outlives}, // the last one: a server is gone then
}

func TestContract(t *testing.T) {
	for _, s := range []struct {
		name string
		make func(*testing.T) *site
	}{{"embedded", embedded}, {"three replicas", threeReplicas}} {
		t.Run(s.name, func(t *testing.T) {
			site := s.make(t)
			for _, c := range contracts {
				t.Run(c.name, func(t *testing.T) { c.hold(t, site) })
			}
		})
	}
}

func wrongSequence(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeLedger, nil)
	for _, step := range []struct {
		expect uint64
		right  bool
	}{{1, false}, {0, true}, {0, false}, {2, false}, {1, true}, {1, false}} {
		_, err := s.publish(t, subject, "x", jetstream.WithExpectLastSequence(step.expect))
		if step.right && err != nil || !step.right && !isWrongSequence(err) {
			t.Errorf("expecting %d: %v", step.expect, err)
		}
	}
	holds(t, streams[0], 2, 2)
}

// rivals fight for LEDGER itself, by the methods that schedulers use.
func rivals(t *testing.T, s *site) {
	last, err := s.clients[0].LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := last.Last + 1; seq <= last.Last+10; seq++ {
		var wg sync.WaitGroup
		results := make([]error, 6)
		frames := make([]Sealed, len(results))
		for i := range results {
			data, _, err := Seal(0, &pb.Frame{Epoch: uint64(i + 1)})
			if err != nil {
				t.Fatal(err)
			}
			frames[i] = Sealed{Seq: seq, Data: data}
			wg.Go(func() { results[i] = s.clients[i%len(s.clients)].Settle(t.Context(), frames[i], nil) })
		}
		wg.Wait()
		won := -1
		for i, err := range results {
			switch {
			case err == nil && won < 0:
				won = i
			case !errors.Is(err, ErrDeposed):
				t.Errorf("rival %d for %d after %d had won: %v", i, seq, won, err)
			}
		}
		if won < 0 {
			t.Fatalf("nobody won %d: %v", seq, results)
		}
		// Sent again byte for byte, as a frame in doubt is: it counts as stored.
		if err := s.clients[0].Settle(t.Context(), frames[won], nil); err != nil {
			t.Errorf("frame %d again: %v", seq, err)
		}
	}
}

func lastSequence(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeLedger, nil)
	for range 10 {
		seq := s.must(t, subject, "x")
		for i, st := range streams {
			if info, err := st.Info(t.Context()); err != nil || info.State.LastSeq != seq {
				t.Errorf("client %d sees %d after %d was acknowledged, %v", i, info.State.LastSeq, seq, err)
			}
		}
	}
}

func lastSequenceSurvives(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeLedger, nil)
	for range 5 {
		s.must(t, subject, "x")
	}
	if err := streams[0].Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds(t, streams[0], 0, 5)
	s.restart(t, streams[0].CachedInfo().Config.Name)
	holds(t, streams[0], 0, 5)
	if _, err := s.publish(t, subject, "x", jetstream.WithExpectLastSequence(0)); !isWrongSequence(err) {
		t.Errorf("expecting an empty stream: %v", err)
	}
	if seq, err := s.publish(t, subject, "x", jetstream.WithExpectLastSequence(5)); err != nil || seq != 6 {
		t.Errorf("expecting what was purged: %d, %v", seq, err)
	}
}

// batch publishes an atomic batch; without commit it leaves it open.
func (s *site) batch(t *testing.T, c *Streams, subject, data string, n int, commit bool) (last uint64, err error) {
	t.Helper()
	id := nuid.Next()
	for i := range n {
		msg := &natsgo.Msg{Subject: subject, Data: fmt.Appendf(nil, "%s %d", data, i), Header: natsgo.Header{
			"Nats-Batch-Id": {id}, "Nats-Batch-Sequence": {strconv.Itoa(i + 1)},
		}}
		if i < n-1 || !commit {
			if err := c.nc.PublishMsg(msg); err != nil {
				t.Fatal(err)
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		resp, err := c.nc.RequestMsg(msg, ackTimeout)
		if err != nil {
			t.Fatal(err)
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
			Count int                 `json:"count"`
		}
		if err := json.Unmarshal(resp.Data, &ack); err != nil {
			t.Fatal(err)
		}
		if ack.Error != nil {
			return 0, ack.Error
		}
		if ack.Count != n {
			t.Errorf("a batch of %d is acknowledged as %d", n, ack.Count)
		}
		last = ack.Seq
	}
	return last, c.nc.FlushTimeout(ackTimeout)
}

func batchWhole(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeJobs, nil)
	const each, size = 3, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[uint64]string{}
	put := func(seq uint64, data string) {
		mu.Lock()
		defer mu.Unlock()
		if other := want[seq]; other != "" {
			t.Errorf("%d was given to %q and %q", seq, other, data)
		}
		want[seq] = data
	}
	for i := range 4 { // batches and single publishes at the same time
		c := s.clients[i%len(s.clients)]
		wg.Go(func() {
			for n := range each {
				name := fmt.Sprintf("batch %d.%d", i, n)
				last, err := s.batch(t, c, subject, name, size, true)
				if err != nil {
					t.Error(err)
					return
				}
				for m := range uint64(size) {
					put(last-size+1+m, fmt.Sprintf("%s %d", name, m))
				}
			}
		})
		wg.Go(func() {
			for n := range 10 * each {
				name := fmt.Sprintf("single %d.%d", i, n)
				ack, err := c.js.Publish(t.Context(), subject, []byte(name))
				if err != nil {
					t.Error(err)
					return
				}
				put(ack.Sequence, name)
			}
		})
	}
	wg.Wait()
	holds(t, streams[0], uint64(len(want)), uint64(len(want)))
	next := uint64(1)
	readAll(t, s.clients[0], streams[0], 1, uint64(len(want)), func(m message) {
		if m.seq != next || string(m.data) != want[m.seq] {
			t.Errorf("%d is %q, want %d to be %q", m.seq, m.data, next, want[next])
		}
		next++
	})
	// As many as one of ours has at most.
	if _, err := s.batch(t, s.clients[0], subject, "big", batchMost, true); err != nil {
		t.Errorf("a batch of %d: %v", batchMost, err)
	}
}

func batchUncommitted(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeJobs, nil)
	if _, err := s.batch(t, s.clients[0], subject, "open", 20, false); err != nil {
		t.Fatal(err)
	}
	if seq := s.must(t, subject, "after it"); seq != 1 {
		t.Errorf("the next message is %d", seq)
	}
	holds(t, streams[0], 1, 1)
}

func batchFull(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeJobs, func(c *jetstream.StreamConfig) { c.MaxBytes = 16 << 10 })
	filler := strings.Repeat("x", 900)
	for range 10 {
		s.must(t, subject, filler)
	}
	if _, err := s.batch(t, s.clients[0], subject, filler, 20, true); !errors.Is(cannotStore(err), ErrFull) {
		t.Errorf("a batch that does not fit: %v", err)
	}
	holds(t, streams[0], 10, 10)
	if seq := s.must(t, subject, filler); seq != 11 {
		t.Errorf("a message that fits is %d", seq)
	}
}

func full(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeJobs, func(c *jetstream.StreamConfig) { c.MaxBytes = 16 << 10 })
	stored := uint64(0)
	var err error
	for err == nil && stored < 100 {
		if _, err = s.publish(t, subject, strings.Repeat("x", 900)); err == nil {
			stored++
		}
	}
	if !errors.Is(cannotStore(err), ErrFull) || stored < 10 {
		t.Errorf("after %d messages: %v", stored, err)
	}
	info, infoErr := streams[0].Info(t.Context())
	if infoErr != nil || info.State.FirstSeq != 1 || info.State.Msgs != stored {
		t.Errorf("it holds %+v, %v", info.State, infoErr)
	}
	if err := streams[0].Purge(t.Context(), jetstream.WithPurgeSequence(5)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.publish(t, subject, strings.Repeat("x", 900)); err != nil {
		t.Errorf("after a purge of its front: %v", err)
	}
}

func tooLarge(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeLedger, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 10 })
	_, err := s.publish(t, subject, strings.Repeat("x", 2<<10), jetstream.WithExpectLastSequence(0))
	if api := apiError(err); api == nil || isWrongSequence(err) {
		t.Errorf("a message over the bound: %v", err)
	}
	holds(t, streams[0], 0, 0)
	if _, err := s.publish(t, subject, "x", jetstream.WithExpectLastSequence(0)); err != nil {
		t.Errorf("the next one, in its place: %v", err)
	}
}

// readAll reads messages from first to last, as tails and folds do.
func readAll(t *testing.T, c *Streams, st jetstream.Stream, first, last uint64, fn func(message)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := c.read(ctx, st, first, func(msgs []message) error {
		for _, m := range msgs {
			if fn(m); m.seq >= last {
				return io.EOF
			}
		}
		return nil
	})
	if !errors.Is(err, io.EOF) {
		t.Errorf("reading up to %d: %v", last, err)
	}
}

func purgedRange(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeLedger, nil)
	for range 10 {
		s.must(t, subject, "x")
	}
	if err := streams[0].Purge(t.Context(), jetstream.WithPurgeSequence(8)); err != nil {
		t.Fatal(err)
	}
	var seen []uint64
	readAll(t, s.clients[len(s.clients)-1], streams[len(streams)-1], 3, 10, func(m message) { seen = append(seen, m.seq) })
	if fmt.Sprint(seen) != "[8 9 10]" {
		t.Errorf("read %v from 3 on, want 8, 9, 10 and no error", seen)
	}
}

func found(t *testing.T, s *site) {
	subject, streams := s.fresh(t, likeJobs, nil)
	name := streams[0].CachedInfo().Config.Name
	look := func(seq uint64) []error {
		var errs []error
		for i, c := range s.clients {
			_, err := get(t.Context(), c.js, streams[i], name, seq)
			errs = append(errs, err)
		}
		return errs
	}
	for range 20 {
		seq := s.must(t, subject, "x")
		for i, err := range look(seq) { // a follower may lag; get asks the leader then
			if err != nil {
				t.Errorf("client %d does not find %d: %v", i, seq, err)
			}
		}
	}
	if err := streams[0].Purge(t.Context(), jetstream.WithPurgeSequence(11)); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{5, 21} {
		for i, err := range look(seq) {
			// Followers apply a purge when they come to it.
			if !errors.Is(err, jetstream.ErrMsgNotFound) && (err != nil || seq > 20 || s.replicas == 1) {
				t.Errorf("client %d, message %d: %v", i, seq, err)
			}
		}
	}
}

func oversubscribed(t *testing.T, s *site) {
	_, err := s.clients[0].js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "TOO_MUCH", Subjects: []string{"too.much"}, Replicas: s.replicas, MaxBytes: 2 * s.store, Discard: jetstream.DiscardNew,
	})
	if err == nil || apiError(err) == nil {
		t.Errorf("a stream of twice the store: %v", err)
	}
}

func beatsEverywhere(t *testing.T, s *site) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	heard := make(chan int, 1000)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i, c := range s.clients {
		wg.Go(func() {
			err := c.Heartbeats(ctx, func(*pb.Heartbeat) {
				select {
				case heard <- i:
				default:
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	for seen := map[int]bool{}; len(seen) < len(s.clients); {
		if err := s.clients[0].Beat(&pb.Heartbeat{Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		select {
		case i := <-heard:
			seen[i] = true
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("heard by %v only", seen)
		}
	}
}

// outlives appends on and on, as a leader does, while a server ends.
func outlives(t *testing.T, s *site) {
	last, err := s.clients[0].LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var frames []Sealed
	add := func(c *Streams) {
		data, _, err := Seal(0, &pb.Frame{Epoch: 99, Jobs: uint64(len(frames))})
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, Sealed{Seq: last.Last + 1 + uint64(len(frames)), Data: data})
		if err := c.Settle(t.Context(), frames[len(frames)-1], nil); err != nil {
			t.Fatalf("frame %d: %v", len(frames), err)
		}
	}
	for range 5 {
		add(s.clients[0])
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.end(t, LedgerName)
	}()
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		default:
		}
		add(s.clients[len(frames)%len(s.clients)])
	}
	for range len(s.clients) {
		add(s.clients[len(frames)%len(s.clients)])
	}
	for _, f := range frames {
		if same, there, err := s.clients[0].stored(t.Context(), f); err != nil || !there || !same {
			t.Errorf("frame %d: there %t, the same %t, %v", f.Seq, there, same, err)
		}
	}
}
