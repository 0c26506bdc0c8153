package scheduler

import (
	"testing"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A plan with slots by key gives each key its own; a change of plan between the
// two drains what runs and lets nothing more start than there are slots.
func TestSlotsByKey(t *testing.T) {
	b := newBench(t, Queue{Length: 100}, map[string]int{"acme": 1})
	b.byKey["acme"] = true
	submit := func(key string) *entry {
		t.Helper()
		e, _ := b.submitEnv(0, &pb.Envelope{Account: "acme", Key: key})
		b.check()
		return e
	}
	k1, k2, l1, l2 := submit("k"), submit("k"), submit("l"), submit("l")
	b.wantState(k2, job.Queued, job.WaitingForSlot)
	for _, want := range []*entry{k1, l1, nil} {
		if got := b.start(); got != want {
			t.Fatalf("started %v, want %v", got, want)
		}
	}
	b.finish(l1, job.Succeeded)
	b.wantState(k2, job.Queued, job.WaitingForSlot) // the other key's slot is not its own
	b.wantState(l2, job.Queued, job.WaitingForWorker)
	if got := b.board.tallyOf("acme"); got[running] != 1 || got[queued] != 1 || got[parked] != 1 {
		t.Errorf("the account's jobs stand %v", got)
	}
	if got := b.board.position(k2, b.now); got != 1 {
		t.Errorf("the first that its key has parked stands at %d", got)
	}

	// One slot for the account, which k1 has: l2 gives its own back.
	change := func(byKey bool) {
		t.Helper()
		b.byKey["acme"] = byKey
		b.board.hold(b.now, "acme")
		b.check()
	}
	change(false)
	b.wantState(l2, job.Queued, job.WaitingForSlot)
	if got := b.start(); got != nil {
		t.Errorf("started %s beside %s", got.id, k1.id)
	}
	b.finish(k1, job.Succeeded)
	if got := b.start(); got != k2 {
		t.Fatalf("started %v, want %s", got, k2.id)
	}
	change(true)
	if got := b.start(); got != l2 {
		t.Errorf("with slots by key again started %v, want %s", got, l2.id)
	}
	change(false) // two run, and there is one slot
	k3 := submit("k")
	b.finish(k2, job.Succeeded)
	b.wantState(k3, job.Queued, job.WaitingForSlot)
	b.finish(l2, job.Succeeded)
	b.wantState(k3, job.Queued, job.WaitingForWorker)
	b.finish(k3, job.Canceled)
	if len(b.board.tenants) != 0 {
		t.Errorf("%d shares of the board are left", len(b.board.tenants))
	}
}

// Accounts that were only asked about leave nothing on the board, and those that
// had jobs neither, whoever holds the slots.
func TestHoldersAreForgotten(t *testing.T) {
	b := newBench(t, Queue{Length: 100}, nil)
	b.byKey["keyed"] = true
	for _, id := range []string{"acme", "keyed", "other"} {
		if b.board.holder(id, "k") != nil {
			t.Errorf("%s has a share of the board", id)
		}
	}
	if len(b.board.owners) != 0 {
		t.Errorf("%d accounts are remembered that were asked about", len(b.board.owners))
	}
	for _, id := range []string{"acme", "keyed"} {
		k, _ := b.submitEnv(0, &pb.Envelope{Account: id, Key: "k"})
		l, _ := b.submitEnv(0, &pb.Envelope{Account: id, Key: "l"})
		b.check()
		if got, want := len(b.board.holders(id)), map[bool]int{false: 1, true: 2}[b.byKey[id]]; got != want {
			t.Errorf("%s has %d shares, want %d", id, got, want)
		}
		b.finish(k, job.Canceled)
		b.finish(l, job.Canceled)
	}
	if len(b.board.owners) != 0 || len(b.board.tenants) != 0 {
		t.Errorf("%d accounts and %d shares are left", len(b.board.owners), len(b.board.tenants))
	}
}
