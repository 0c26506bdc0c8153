package scheduler

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// tenantFresh is how long an account is taken to be as it was read.
	tenantFresh = 5 * time.Second
	tenantWait  = 2 * time.Second
	// tenantRest keeps a database that is down from being asked about every
	// record: the leader decides in stream order, so one wait delays all.
	tenantRest = time.Second
	// tenantGone is how long an account that does not exist is not asked for
	// again; an account is created before its key can be used.
	tenantGone = time.Second
)

// tenants is what the leader knows of accounts. An account it has met is
// answered from memory and read anew behind the answer, so a slow database
// delays nobody but strangers.
type tenants struct {
	read func(context.Context, string) (account.Account, error)
	plan account.Plan

	mu    sync.Mutex
	known map[string]*tenantRecord // guarded by mu
	gone  map[string]time.Time     // accounts that do not exist, until when; guarded by mu
	rest  time.Time                // no stranger is read before; guarded by mu
	wg    sync.WaitGroup           // refreshes under way
}

type tenantRecord struct {
	account account.Account
	readAt  time.Time
	reading bool
}

// tenantView is an account at the moment of a decision: its plan, or why it
// may not submit.
type tenantView struct {
	plan  account.Plan
	fault *fault.Error
}

func newTenants(plan account.Plan, read func(context.Context, string) (account.Account, error)) *tenants {
	return &tenants{read: read, plan: plan, known: map[string]*tenantRecord{}, gone: map[string]time.Time{}}
}

// view reads an account, from memory if it can.
func (t *tenants) view(ctx context.Context, id string) tenantView {
	now := time.Now()
	t.mu.Lock()
	r, resting, gone := t.known[id], now.Before(t.rest), now.Before(t.gone[id])
	if r != nil && now.Sub(r.readAt) > tenantFresh && !r.reading && !resting {
		r.reading = true
		t.wg.Go(func() { t.refresh(ctx, id) })
	}
	t.mu.Unlock()
	if r == nil && !resting && !gone {
		t.refresh(ctx, id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch r := t.known[id]; {
	case r == nil && now.Before(t.rest) && !gone:
		return tenantView{fault: fault.New(fault.Unavailable, "the account cannot be looked up at the moment; try again")}
	case r == nil:
		return tenantView{fault: fault.New(fault.Forbidden, "the account does not exist any more")}
	case r.account.Suspended:
		return tenantView{fault: &fault.Error{Kind: fault.Forbidden, Code: "suspended", Detail: "the account is suspended; ask the operator of this farm"}}
	}
	return tenantView{plan: t.plan}
}

// planOf is the plan of an account with jobs on the board.
func (t *tenants) planOf(string) account.Plan { return t.plan }

func (t *tenants) refresh(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeoutCause(ctx, tenantWait, errors.New("reading an account"))
	defer cancel()
	a, err := t.read(ctx, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.known[id] = &tenantRecord{account: a, readAt: time.Now()}
	case fault.Is(err, fault.NotFound):
		delete(t.known, id)
		if len(t.gone) > 10_000 {
			clear(t.gone) // it saves reads; it need not remember
		}
		t.gone[id] = time.Now().Add(tenantGone)
	default:
		t.rest = time.Now().Add(tenantRest)
		if r := t.known[id]; r != nil {
			r.reading = false
		}
	}
}

// wait returns when no refresh is under way.
func (t *tenants) wait() { t.wg.Wait() }
