package scheduler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func plan(name string, tier, threads int, over account.OverThreads) account.Plan {
	return account.Plan{Name: name, Tier: tier, Threads: threads, OverThreads: over, Wall: time.Minute, Retention: time.Hour}
}

// recordOf is a submission of another account than the farm's.
func (f *farm) recordOf(id string) *pb.Record {
	rec := f.record()
	rec.Envelope.Account = id
	return rec
}

// Tier, threads, backlog and what happens over them are those of the account's
// plan.
func TestPlansOfAccounts(t *testing.T) {
	t.Parallel() // it waits, mostly
	f := newFarm(t)
	f.newAccount("acc_high", "high")
	f.newAccount("acc_refused", "refused")
	f.newAccount("acc_gone", "no such plan")
	n := f.start("a", Config{Alone: true, Plans: []account.Plan{
		plan("default", 2, 3, account.OverThreads{Action: account.Park, Backlog: 1}),
		plan("high", 7, 1, account.OverThreads{Action: account.Park, Backlog: account.Unlimited}),
		plan("refused", -4, 1, account.OverThreads{Action: account.Refuse, Status: 402}),
	}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	const queue, parked = pb.Place_PLACE_QUEUE, pb.Place_PLACE_PARKED
	for _, step := range []struct {
		account string
		tier    int32
		place   pb.Place
		code    string
	}{
		{f.account, 2, queue, ""},
		{f.account, 2, queue, ""},
		{"acc_high", 7, queue, ""},
		{"acc_high", 7, parked, ""},
		{"acc_refused", -4, queue, ""},
		{"acc_refused", 0, 0, "concurrency_limit_exceeded"},
		{f.account, 2, queue, ""},
		{f.account, 2, parked, ""},
		{f.account, 0, 0, "backlog_full"},
		{"acc_gone", 2, queue, ""},
	} {
		rec := f.recordOf(step.account)
		f.publish(rec)
		d := decision(api, rec.Envelope.Id)
		if v := d.GetAccepted(); step.code == "" && (v == nil || v.Tier != step.tier || v.Place != step.place) {
			t.Errorf("%s: %v, want tier %d and %s", step.account, d, step.tier, step.place)
		}
		if r := d.GetRefused(); step.code != "" && (r.GetCode() != step.code || r.GetKind() != "threads_full" || r.GetRetryAfterMs() < 1000 || r.GetPolicy() == "") {
			t.Errorf("%s: %v, want %s", step.account, d, step.code)
		}
	}
}

// What an admin changes is gone by as soon as the leader hears of it, and every
// replica is told.
func TestTouchedAccounts(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", Config{Alone: true, Plans: []account.Plan{
		plan("default", 2, 1, account.OverThreads{Backlog: 10}),
		plan("high", 7, 3, account.OverThreads{Backlog: 10}),
	}})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	other := n.front(t, &pb.FrontHello{Api: "other"})
	submit := func() *pb.Decision {
		rec := f.record()
		f.publish(rec)
		return decision(api, rec.Envelope.Id)
	}
	if v := submit().GetAccepted(); v.GetTier() != 2 || v.GetPlace() != pb.Place_PLACE_QUEUE {
		t.Errorf("%v", v)
	}
	if v := submit().GetAccepted(); v.GetPlace() != pb.Place_PLACE_PARKED {
		t.Errorf("beside its one thread: %v", v)
	}
	change := func(to account.Update) {
		t.Helper()
		if _, err := f.store.UpdateAccount(t.Context(), f.account, to); err != nil {
			t.Fatal(err)
		}
		api.send(&pb.FrontUp{Touched: []string{f.account, "acc_stranger"}})
		for _, p := range []*peer[pb.FrontUp, pb.FrontDown]{api, other} {
			await(p, "word of the change", func(m *pb.FrontDown) (string, bool) {
				return take(&m.Touched, func(id string) bool { return id == f.account })
			})
		}
	}
	high, yes := "high", true
	change(account.Update{Plan: &high})
	if v := submit().GetAccepted(); v.GetTier() != 7 || v.GetPlace() != pb.Place_PLACE_QUEUE {
		t.Errorf("on its new plan: %v", v)
	}
	if v := submit().GetAccepted(); v.GetPlace() != pb.Place_PLACE_PARKED {
		t.Errorf("the job that was parked has not got the third thread: %v", v)
	}
	change(account.Update{Suspended: &yes})
	if r := submit().GetRefused(); r.GetCode() != "suspended" {
		t.Errorf("suspended: %v", r)
	}
}

// shutArchive answers nothing about accounts until it is opened.
type shutArchive struct {
	*store.Store
	open atomic.Bool
}

func (a *shutArchive) Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error) {
	if !a.open.Load() {
		return nil, errors.New("connection refused")
	}
	return a.Store.Tenants(ctx, ids, since)
}

// A new leader gives an account the slots of its own plan (I3), not those of
// the first one; none until it could read which that is.
func TestTakeoverReadsPlans(t *testing.T) {
	t.Parallel() // it waits, mostly
	for _, down := range []bool{false, true} {
		f := newFarm(t)
		f.newAccount("acc_one", "one")
		plans := []account.Plan{plan("default", 0, 5, account.OverThreads{}), plan("one", 0, 1, account.OverThreads{Backlog: 10})}
		plans[0].OverThreads.Backlog = 10
		first := f.start("a", Config{Alone: true, Plans: plans})
		api := first.front(t, &pb.FrontHello{Api: "api"})
		var ids []string
		for range 3 {
			rec := f.recordOf("acc_one")
			f.publish(rec)
			decision(api, rec.Envelope.Id)
			ids = append(ids, rec.Envelope.Id)
		}
		first.kill()

		archive := &shutArchive{Store: f.store}
		archive.open.Store(!down)
		f.archive = archive
		second := f.start("b", Config{Plans: plans})
		api = second.front(t, &pb.FrontHello{Api: "api"})
		call := uint64(0)
		waitsFor := func(id string) string {
			call++
			api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: call, Id: id}}})
			return answer(api, call).GetJob().GetWaitingFor()
		}
		if down {
			if got := waitsFor(ids[0]); got != "slot" {
				t.Errorf("with an account nobody could read, its first job waits for %q", got)
			}
			rec := f.recordOf("acc_one")
			f.publish(rec)
			if d := decision(api, rec.Envelope.Id); d.GetRefused().GetKind() != "unavailable" {
				t.Errorf("with an account nobody could read, a new job: %v", d)
			}
			archive.open.Store(true)
		}
		w := second.worker(t, hello("b1"))
		w.send(&pb.WorkUp{Credit: 2})
		for i, id := range ids {
			a := assigned(w)
			if a.Job != id {
				t.Fatalf("start %d is of %s, want the order of acceptance", i, a.Job)
			}
			for _, later := range ids[i+1:] {
				if got := waitsFor(later); got != "slot" {
					t.Errorf("beside the one thread that is in use a job waits for %q", got)
				}
			}
			w.send(done(a))
			w.send(&pb.WorkUp{Credit: 1})
		}
	}
}

func TestUnknownPlanIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	x := newTenants(account.NewLive(&account.Policy{Plans: []account.Plan{plan("first", 1, 1, account.OverThreads{})}}), nil, slog.New(slog.NewTextHandler(&log, nil)))
	for _, id := range []string{"acc_1", "acc_2", "acc_1"} {
		x.put(store.Tenant{ID: id, Account: &account.Account{ID: id, Plan: "gold"}})
		if p, known := x.planOf(id); !known || p.Name != "first" {
			t.Errorf("%s: %+v %v", id, p, known)
		}
	}
	if n := strings.Count(log.String(), "plan=gold"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if moved := x.takeMoved(); len(moved) != 2 {
		t.Errorf("%q may have other threads", moved)
	}
	x.putGone("acc_1")
	if v := x.view(t.Context(), "acc_1"); v.fault == nil || v.fault.Kind.String() != "forbidden" {
		t.Errorf("an account that is gone: %+v", v)
	}
	if p, known := x.planOf("acc_1"); !known || p.Name != "first" || len(x.takeMoved()) != 0 {
		t.Errorf("its jobs go by %+v %v", p, known)
	}
}

// countingArchive has nobody, and counts what it is asked.
type countingArchive struct {
	asked []int // accounts of each question
	err   error
}

func (a *countingArchive) Tenants(_ context.Context, ids []string, _ time.Time) ([]store.Tenant, error) {
	a.asked = append(a.asked, len(ids))
	out := make([]store.Tenant, len(ids))
	for i, id := range ids {
		out[i] = store.Tenant{ID: id}
	}
	return out, a.err
}

// However many addresses a batch is from, the archive is asked once; of more
// accounts than one question has room for it is asked in parts.
func TestStrangersAreReadTogether(t *testing.T) {
	archive := new(countingArchive)
	limited := plan("first", 1, 1, account.OverThreads{})
	limited.Quota = renders(10)
	x := newTenants(account.NewLive(&account.Policy{Plans: []account.Plan{limited}, AnonymousPlan: "first"}), archive, slog.New(slog.DiscardHandler))
	var ids []string
	for i := range 300 {
		ids = append(ids, account.AnonymousIDOf(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()))
	}
	for id, v := range x.views(t.Context(), ids) {
		if v.fault != nil || v.plan.Name != "first" || !x.knows(id) {
			t.Fatalf("%s: %+v, known %t", id, v, x.knows(id))
		}
	}
	x.views(t.Context(), ids)
	if !slices.Equal(archive.asked, []int{300}) {
		t.Errorf("the archive was asked about %v", archive.asked)
	}
	x.cut(1) // nobody knows any more what they used
	if x.knows(ids[0]) {
		t.Error("a view of an account whose usage is unknown reads it first")
	}
	archive.asked = nil
	for i := range readAtOnce + 1 {
		x.missing[fmt.Sprint("acc_", i)] = true
	}
	x.load(t.Context())
	if !slices.Equal(archive.asked, []int{readAtOnce, 1}) || len(x.missing) != 0 {
		t.Errorf("the archive was asked about %v, and %d are missing", archive.asked, len(x.missing))
	}
}

// An account that is gone is known to be, whatever the first plan's quota is.
func TestGoneAccountsAreKnown(t *testing.T) {
	archive := new(countingArchive)
	limited := plan("first", 1, 1, account.OverThreads{})
	limited.Quota = renders(10)
	x := newTenants(account.NewLive(&account.Policy{Plans: []account.Plan{limited}}), archive, slog.New(slog.DiscardHandler))
	for range 3 {
		if v := x.view(t.Context(), "acc_gone"); v.fault == nil || v.fault.Kind.String() != "forbidden" {
			t.Errorf("%+v", v)
		}
	}
	if len(archive.asked) != 1 {
		t.Errorf("the archive was asked about %v", archive.asked)
	}
}
