package scheduler

import (
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// An idle leader appends nothing, so it would not learn that its reign is over:
// a heartbeat of a later one has it look.
func TestHeartbeatOfALaterReign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", Config{})
		api := b.front(s)
		l := s.leader.Load()
		b.streams.mu.Lock()
		last := uint64(len(b.streams.frames))
		b.streams.mu.Unlock()
		data, _, err := stream.Seal(0, &pb.Frame{Epoch: l.epoch + 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.streams.Append(stream.Sealed{Seq: last + 1, Data: data}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := b.streams.Beat(&pb.Heartbeat{Epoch: l.epoch + 1, Scheduler: "another", Address: "there"}); err != nil {
			t.Fatal(err)
		}
		address := await(api, "not leader", func(m *pb.FrontDown) (string, bool) { return m.NotLeader.GetAddress(), m.NotLeader != nil })
		if address != "there" || time.Since(began) > time.Second {
			t.Errorf("after %s peers are sent to %q", time.Since(began), address)
		}
	})
}

// A standby learns how far the archive is, or it would keep in memory every job
// that has ever ended.
func TestStandbyWatchesTheProjection(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, _ := b.start("a", alone())
		api := b.front(first)
		second, _ := b.start("b", Config{})
		id := b.submit()
		api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: id, Account: "acc_acme"}}})
		answer(api, 1)
		time.Sleep(watchEvery + time.Second)
		at, err := b.archive.Projection(t.Context())
		if err != nil || at.Seq == 0 || second.Leading() || second.projected.Load() != at.Seq {
			t.Errorf("the archive is at %d, the standby knows of %d (leads: %t), %v", at.Seq, second.projected.Load(), second.Leading(), err)
		}
	})
}

// A standby says that it is one only once it has read what there is.
func TestStandbyIsHotWhenItHasRead(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, _ := b.start("a", alone())
		for range hotWithin + 50 {
			b.submit()
			time.Sleep(time.Millisecond) // a frame each
		}
		second, _ := b.start("b", Config{})
		if second.hot.Load() || second.Ready() == nil {
			t.Error("ready before it has read anything")
		}
		time.Sleep(time.Second)
		if err := second.Ready(); !second.hot.Load() || err != nil {
			t.Errorf("after it has read: %v", err)
		}
		if first.hot.Load() || first.Ready() != nil {
			t.Error("the leader stands by, or is not ready")
		}
	})
}

// While one reign takes over from another both beat: peers are sent to the
// later one.
func TestHeartbeatOfAnEarlierReign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, err := New(Config{Address: "here"}, b.streams, b.archive, presigner{})
		if err != nil {
			t.Fatal(err)
		}
		s.hear(&pb.Heartbeat{Epoch: 3, Scheduler: "new", Address: "new"})
		s.hear(&pb.Heartbeat{Epoch: 2, Scheduler: "old", Address: "old"})
		if got := s.leaderAddress(); got != "new" {
			t.Errorf("peers are sent to %q", got)
		}
		time.Sleep(hintFor + time.Millisecond)
		s.hear(&pb.Heartbeat{Epoch: 2, Scheduler: "old", Address: "old"}) // of a ledger that was restored, say
		if got := s.leaderAddress(); got != "old" {
			t.Errorf("later peers are sent to %q", got)
		}
	})
}
