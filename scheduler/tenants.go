package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// tenantFresh is how long an account is taken to be as it was read.
	tenantFresh = 5 * time.Second
	tenantWait  = 2 * time.Second
	// tenantRest keeps a database that is down from being asked about every
	// record: the leader decides in stream order, so one wait delays all.
	tenantRest = time.Second
	// addressesMost is how many accounts are known before those that are addresses
	// are forgotten a while after they were read: there is no end of them.
	addressesMost = 100_000
)

// tenants is what the leader knows of accounts and their plans. An account it
// has met is answered from memory and read anew behind the answer, so a slow
// database delays nobody but strangers.
type tenants struct {
	archive tenantArchive
	policy  *account.Live
	log     *slog.Logger

	mu       sync.Mutex
	known    map[string]*tenantRecord // guarded by mu, as all below
	rest     time.Time                // no stranger is read before
	missing  map[string]bool          // have jobs, and are not known
	loading  bool                     // missing ones are being read
	moved    []string                 // have another number of threads than a moment ago, perhaps
	reported map[string]bool          // names of plans that the policy has not, once in the log
	roomed   time.Time                // when addresses were last forgotten
	since    uint64                   // no usage from before this frame is of use
	wg       sync.WaitGroup           // reads under way
}

// tenantArchive is where accounts are read.
type tenantArchive interface {
	Tenants(ctx context.Context, ids []string, since time.Time) ([]store.Tenant, error)
}

type tenantRecord struct {
	named     string       // its plan, by the archive
	plan      account.Plan // of that name in the policy, or the first one
	billing   int          // day of the month
	usage     *usage       // nil: unknown
	suspended bool
	gone      bool // there is no such account: what it has waiting ends as it was accepted
	readAt    time.Time
	reading   bool
}

// tenantView is an account at the moment of a decision: its plan, or why it
// may not submit.
type tenantView struct {
	plan    account.Plan
	billing int // day of the month
	fault   *fault.Error
}

func newTenants(policy *account.Live, archive tenantArchive, log *slog.Logger) *tenants {
	return &tenants{
		archive: archive, policy: policy, log: log,
		known: map[string]*tenantRecord{}, missing: map[string]bool{}, reported: map[string]bool{},
	}
}

// views reads accounts, from memory where it can; of all that are strangers it
// asks in one question, since there is no end of addresses, and everybody waits
// behind the answer.
func (t *tenants) views(ctx context.Context, ids []string) map[string]tenantView {
	out := make(map[string]tenantView, len(ids))
	plan, open := t.anonymousPlan()
	var old, strange []string
	now := time.Now()
	t.mu.Lock()
	resting := now.Before(t.rest)
	for _, id := range ids {
		address := account.Anonymous(id)
		switch r := t.known[id]; {
		case address && !open:
			out[id] = tenantView{fault: fault.New(fault.Unauthenticated, "this farm takes requests with a key alone")}
		case address && !plan.Quota.Limited():
			out[id] = tenantView{plan: plan} // the archive has nothing to say of it
		case resting:
		case !r.answers(address):
			strange = append(strange, id)
		case now.Sub(r.readAt) > tenantFresh && !r.reading:
			r.reading = true
			old = append(old, id)
		}
	}
	t.mu.Unlock()
	if len(old) > 0 {
		t.wg.Go(func() { t.refresh(ctx, old) })
	}
	if len(strange) > 0 {
		t.refresh(ctx, strange)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if _, said := out[id]; !said {
			out[id] = t.known[id].view(account.Anonymous(id), plan)
		}
	}
	return out
}

// answers reports whether r says all that a decision needs; r may be nil.
func (r *tenantRecord) answers(address bool) bool {
	return r != nil && (r.gone || r.usage != nil || !address && !r.plan.Quota.Limited())
}

// view is what r says; nothing where it is nil. anonymous is the plan of
// addresses.
func (r *tenantRecord) view(address bool, anonymous account.Plan) tenantView {
	switch {
	case r == nil:
		return tenantView{fault: fault.New(fault.Unavailable, "the account cannot be looked up at the moment; try again")}
	case address:
		return tenantView{plan: anonymous}
	case r.gone:
		return tenantView{fault: fault.New(fault.Forbidden, "the account does not exist any more")}
	case r.suspended:
		return tenantView{fault: &fault.Error{Kind: fault.Forbidden, Code: "suspended", Detail: "the account is suspended; ask the operator of this farm"}}
	}
	return tenantView{plan: r.plan, billing: r.billing}
}

// anonymousPlan is the plan of clients without a key, each address of which is
// an account of its own, of which the archive knows its usage alone. It reports
// false where the policy takes no such clients.
func (t *tenants) anonymousPlan() (account.Plan, bool) {
	p := t.policy.Now()
	if p.AnonymousPlan == "" {
		return p.Plans[0], false
	}
	return p.Plan(p.AnonymousPlan)
}

// moveAnonymous notes, for takeMoved, those who are not in the archive: the
// policy has another plan for them, perhaps.
func (t *tenants) moveAnonymous(on map[string]*tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, holder := range on {
		if account.Anonymous(holder.account) {
			t.moved = append(t.moved, holder.account)
		}
	}
}

// knows reports whether view would answer at once.
func (t *tenants) knows(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	address := account.Anonymous(id)
	if plan, _ := t.anonymousPlan(); address && !plan.Quota.Limited() {
		return true
	}
	return t.known[id].answers(address)
}

// planOf is the plan of an account with jobs on the board. Where the account
// has never been read it is the first one, and false; it is read soon.
func (t *tenants) planOf(id string) (account.Plan, bool) {
	if account.Anonymous(id) {
		plan, _ := t.anonymousPlan() // what it has on the board goes on, whatever the policy has become
		return plan, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil {
		return r.plan, true
	}
	t.missing[id] = true
	return t.policy.Now().Plans[0], false
}

// adopt gives every account the plan that the policy has under its plan's name
// now.
func (t *tenants) adopt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reported = map[string]bool{}
	for id, r := range t.known {
		old := r.plan
		if r.plan = t.planNamed(r.named, id); !sameSlots(r.plan, old) {
			t.moved = append(t.moved, id)
		}
	}
}

// sameSlots reports whether two plans give the same slots to the same holders.
func sameSlots(a, b account.Plan) bool { return a.Threads == b.Threads && a.SlotsBy == b.SlotsBy }

// planNamed finds the plan of an account. t.mu is held.
func (t *tenants) planNamed(name, id string) account.Plan {
	plan, ok := t.policy.Now().Plan(name)
	if !ok && !t.reported[name] {
		t.reported[name] = true
		t.log.Warn("the policy has no plan of this name; its accounts get the first one", "plan", name, "first", plan.Name, "account", id)
	}
	return plan
}

// billed is planOf, with the day of the month that the account's periods begin
// on where the plan bills by it.
func (t *tenants) billed(id string) (plan account.Plan, day int, known bool) {
	plan, known = t.planOf(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.known[id]; r != nil {
		day = r.billing
	}
	return plan, day, known
}

// takeMoved lists accounts whose threads may be others than when it was last
// asked.
func (t *tenants) takeMoved() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	moved := t.moved
	t.moved = nil
	return moved
}

// need makes load read those of the accounts that are not known, or not any
// more as they are now.
func (t *tenants) need(ids []string) {
	now := time.Now()
	plan, _ := t.anonymousPlan()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if account.Anonymous(id) && !plan.Quota.Limited() {
			continue
		}
		if r := t.known[id]; r == nil || now.Sub(r.readAt) > tenantFresh {
			t.missing[id] = true
		}
	}
}

// touched reads accounts anew that an admin has changed. Of strangers there is
// nothing to read. If the archive does not answer they are read when they are
// next met.
func (t *tenants) touched(ctx context.Context, ids []string) {
	t.mu.Lock()
	for _, id := range ids {
		if r := t.known[id]; r != nil {
			r.readAt = time.Time{}
			t.missing[id] = true
		}
	}
	t.mu.Unlock()
	t.load(ctx)
}

// loadSoon is load, behind the caller's back.
func (t *tenants) loadSoon(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.missing) == 0 || t.loading || time.Now().Before(t.rest) {
		return
	}
	t.loading = true
	t.wg.Go(func() {
		t.load(ctx)
		t.mu.Lock()
		t.loading = false
		t.mu.Unlock()
	})
}

// load reads the accounts that are missing. Those about which the archive does
// not answer in time stay so.
func (t *tenants) load(ctx context.Context) {
	t.mu.Lock()
	ids := slices.Collect(maps.Keys(t.missing))
	t.mu.Unlock()
	t.refresh(ctx, ids)
}

// readAtOnce bounds the accounts of one question: of very many, those that there
// was time for are known, and the next try is about the others.
const readAtOnce = 5000

// refresh reads accounts.
func (t *tenants) refresh(ctx context.Context, ids []string) {
	ctx, cancel := context.WithTimeoutCause(ctx, tenantWait, errors.New("reading accounts"))
	defer cancel()
	for len(ids) > 0 {
		some := ids[:min(len(ids), readAtOnce)]
		found, err := t.archive.Tenants(ctx, some, time.Now().Add(-usageBack))
		if err != nil {
			t.failed(ids, err)
			return
		}
		t.mu.Lock()
		for _, x := range found {
			t.put(x)
		}
		t.mu.Unlock()
		ids = ids[len(some):]
	}
}

// failed notes that nobody could read these accounts.
func (t *tenants) failed(ids []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest = time.Now().Add(tenantRest)
	for _, id := range ids {
		if r := t.known[id]; r != nil {
			r.reading = false
		}
	}
	t.log.Warn("accounts cannot be read at the moment", "err", err)
}

// put keeps an account as it was read just now. t.mu is held.
func (t *tenants) put(x store.Tenant) {
	a := x.Account
	switch {
	case account.Anonymous(x.ID):
		plan, _ := t.anonymousPlan()
		t.room()
		t.keep(x.ID, &tenantRecord{named: plan.Name, plan: plan, usage: t.newest(x.ID, usageOf(x))})
		return
	case a == nil:
		t.putGone(x.ID)
		return
	}
	t.keep(a.ID, &tenantRecord{
		named: a.Plan, plan: t.planNamed(a.Plan, a.ID), suspended: a.Suspended, billing: a.BillingDay, usage: t.newest(a.ID, usageOf(x)),
	})
}

// room forgets addresses where there are too many: what they used is in the
// archive and in the fold. It looks through all of them once in a while alone.
// t.mu is held.
func (t *tenants) room() {
	if len(t.known) < addressesMost || time.Since(t.roomed) < tenantFresh {
		return
	}
	t.roomed = time.Now()
	for id, r := range t.known {
		if account.Anonymous(id) && time.Since(r.readAt) > tenantFresh {
			delete(t.known, id)
		}
	}
}

// putGone keeps that there is no such account. What it has on the board goes
// on by the plan it had. t.mu is held.
func (t *tenants) putGone(id string) {
	r := &tenantRecord{plan: t.policy.Now().Plans[0], gone: true}
	if old := t.known[id]; old != nil {
		r.named, r.plan = old.named, old.plan
	} else {
		r.named = r.plan.Name
	}
	t.keep(id, r)
}

func (t *tenants) keep(id string, r *tenantRecord) {
	if old := t.known[id]; old == nil || !sameSlots(old.plan, r.plan) {
		t.moved = append(t.moved, id)
	}
	r.readAt = time.Now()
	t.known[id] = r
	delete(t.missing, id)
}

// wait returns when nothing is being read.
func (t *tenants) wait() { t.wg.Wait() }
