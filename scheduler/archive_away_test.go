package scheduler

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// awayShelf is an archive that refuses while it is away.
type awayShelf struct {
	*shelf
	away atomic.Bool
}

func (a *awayShelf) Project(ctx context.Context, from, to store.Projection, filing store.Filing) (int, error) {
	if a.away.Load() {
		return 0, errors.New("away")
	}
	return a.shelf.Project(ctx, from, to, filing)
}

func (a *awayShelf) Projection(ctx context.Context) (store.Projection, error) {
	if a.away.Load() {
		return store.Projection{}, errors.New("away")
	}
	return a.shelf.Projection(ctx)
}

// slowShelf takes its time to tell the projection.
type slowShelf struct {
	*shelf
	by time.Duration
}

func (h slowShelf) Projection(ctx context.Context) (store.Projection, error) {
	select {
	case <-time.After(h.by):
	case <-ctx.Done():
		return store.Projection{}, ctx.Err()
	}
	return h.shelf.Projection(ctx)
}

// An archive that hangs, as one that is cut off does, does not keep a standby
// from leading.
func TestArchiveHangsAtTakeover(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, kill := b.start("a", Config{})
		b.leading(first)
		b.over = map[string]Archive{"b": slowShelf{b.archive, 24 * time.Hour}}
		second, _ := b.start("b", Config{})
		time.Sleep(10 * time.Second)
		at := time.Now()
		kill()
		b.leading(second)
		if took := time.Since(at); took > silence+silenceJitter+archiveWait+time.Second {
			t.Errorf("it leads after %s", took)
		}
	})
}

// A standby that reads the projection while another one leads and projects does
// not take the ledger for the older store.
func TestRivalProjectsDuringCampaign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, stopFirst, _ := b.run("a", Config{})
		b.leading(first)
		b.over = map[string]Archive{"b": slowShelf{b.archive, 10 * time.Millisecond}, "c": slowShelf{b.archive, 50 * time.Millisecond}}
		second, stopSecond, _ := b.run("b", Config{})
		third, _ := b.start("c", Config{})
		time.Sleep(10 * time.Second)
		b.wg.Go(stopFirst)
		b.leading(second)
		time.Sleep(time.Second)
		at := time.Now()
		b.wg.Go(stopSecond)
		b.leading(third) // and not after it has rested for a refusal
		if took := time.Since(at); took > time.Second {
			t.Errorf("the third leads after %s", took)
		}
	})
}

// A ledger that has filled up far beyond where anything is started, since the
// archive was away, comes out of it once that is back.
func TestNearlyFullLedgerRecovers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.streams.ledgerMax = 64 << 10
		a := &awayShelf{shelf: b.archive}
		b.over = map[string]Archive{"a": a}
		s, _ := b.start("a", alone())
		api := b.front(s)
		time.Sleep(time.Second)
		a.away.Store(true)
		var ids []string
		for {
			id := b.submit()
			if refusedFull(decision(api, id)) {
				break
			}
			ids = append(ids, id)
			time.Sleep(50 * time.Millisecond)
		}
		// Ends are stored however full it is. The first job keeps the front.
		for i, id := range ids[1:] {
			if st, err := b.streams.LedgerState(t.Context()); err != nil || over(st, 93) {
				break
			}
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: uint64(i), Id: id, Account: "acc_acme"}}})
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		rendered := b.renders(s)
		a.away.Store(false)
		time.Sleep(time.Hour)
		l := s.leader.Load()
		if l == nil {
			t.Fatal("nobody leads")
		}
		st, err := b.streams.LedgerState(t.Context())
		if err != nil || over(st, ledgerAccepts) || l.board.unfinished.Len() > 0 || rendered() == 0 {
			t.Errorf("an hour later the ledger has %d of %d bytes, %d were rendered, %d wait, %v", st.Bytes, st.MaxBytes, rendered(), l.board.unfinished.Len(), err)
		}
	})
}

// A leader whose ledger is full to the last frame goes on leading while the
// archive is behind: only a leader brings that up.
func TestFullLedgerWaitsForTheArchive(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		b.streams.ledgerMax = 64 << 10
		a := &awayShelf{shelf: b.archive}
		b.over = map[string]Archive{"a": a}
		s, _ := b.start("a", alone())
		api := b.front(s)
		time.Sleep(time.Second)
		a.away.Store(true)
		var ids []string
		for {
			id := b.submit()
			if refusedFull(decision(api, id)) {
				break
			}
			ids = append(ids, id)
			time.Sleep(50 * time.Millisecond)
		}
		for i, id := range ids {
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: uint64(i), Id: id, Account: "acc_acme"}}})
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		if st, err := b.streams.LedgerState(t.Context()); err != nil || !over(st, 98) {
			t.Fatalf("the ledger has %d of %d bytes, %v", st.Bytes, st.MaxBytes, err)
		}
		time.Sleep(4 * fullFor)
		if !s.Leading() {
			t.Error("the reign has ended")
		}
		a.away.Store(false)
		time.Sleep(time.Minute)
		if at, err := b.archive.Projection(t.Context()); err != nil || at.Seq < 100 {
			t.Errorf("the archive has come to frame %d, %v", at.Seq, err)
		}
	})
}
