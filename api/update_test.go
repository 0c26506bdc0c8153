package api

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// What an admin changes of an account holds for its next request, although its
// key was used a moment ago.
func TestUpdateAccount(t *testing.T) {
	f := newFarm(t, withPolicy(t))
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`).job(t, 202)
	at := "/admin/v1/accounts/" + f.acct.ID

	var got Account
	f.admin("PATCH", at, `{"plan":"short","billing_day":31}`).json(t, &got)
	if got.Plan != "short" || got.BillingDay != 31 || got.Suspended || got.Id != f.acct.ID {
		t.Errorf("%+v", got)
	}
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`).problem(t, 400, "invalid_input")
	f.admin("PATCH", at, `{"suspended":true}`).json(t, &got)
	if got.Plan != "short" || got.BillingDay != 31 || !got.Suspended {
		t.Errorf("%+v", got)
	}
	f.do("POST", "/v1/jobs", `{"html":"x"}`).problem(t, 403, "suspended")
	f.admin("PATCH", at, `{"suspended":false,"plan":"default"}`)
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`).job(t, 202)
	f.admin("PATCH", at, `{}`).json(t, &got)
	if got.Plan != "default" || got.BillingDay != 31 || got.Suspended {
		t.Errorf("an empty change: %+v", got)
	}
	var seen AccountOverview
	f.admin("GET", at, "").json(t, &seen)
	if seen.BillingDay != 31 || seen.Plan != "default" {
		t.Errorf("%+v", seen)
	}

	for body, want := range map[string]string{
		`{"plan":"gold"}`:     "/plan is not a plan of this installation; its plans are default, short, plain, mute, paid",
		`{"plan":""}`:         "/plan ",
		`{"plan":null}`:       "/plan ",
		`{"billing_day":0}`:   "/billing_day ",
		`{"billing_day":32}`:  "/billing_day ",
		`{"billing_day":1.5}`: "/billing_day ",
		`{"suspended":"no"}`:  "/suspended ",
		`{"name":"other"}`:    "/name ",
		`{"Plan":"short"}`:    "/Plan ",
	} {
		p := f.admin("PATCH", at, body).problem(t, 400, "invalid_input")
		if got := (*p.Errors)[0]; !strings.HasPrefix(got.Pointer+" "+got.Detail, want) {
			t.Errorf("%s: %+v", body, got)
		}
	}
	f.admin("PATCH", at, `[`).problem(t, 400, "malformed_json")
	f.admin("PATCH", "/admin/v1/accounts/acc_01ARZ3NDEKTSV4RRFFQ69G5FAV", `{"suspended":true}`).problem(t, 404, "not_found")
	f.admin("PATCH", "/admin/v1/accounts/x", `{"suspended":true}`).problem(t, 404, "not_found")
	f.do("PATCH", at, `{"suspended":true}`).problem(t, 401, "invalid_key")
}

// What another replica's admin has changed is read anew when the leader says so.
func TestTouchedAccount(t *testing.T) {
	f := newFarm(t)
	f.do("GET", "/v1/jobs", "")
	yes := true
	if _, err := f.store.UpdateAccount(t.Context(), f.acct.ID, account.Update{Suspended: &yes}); err != nil {
		t.Fatal(err)
	}
	f.leader.mu.Lock()
	f.leader.broadcast(&pb.FrontDown{Touched: []string{f.acct.ID}})
	f.leader.mu.Unlock()
	f.server.front.touch(t.Context(), f.acct.ID) // its answer comes behind the other one
	f.do("GET", "/v1/jobs", "").problem(t, 403, "suspended")
}

// Without a leader a change is stored all the same.
func TestUpdateWithoutALeader(t *testing.T) {
	f := newLonelyFarm(t)
	var got Account
	f.admin("PATCH", "/admin/v1/accounts/"+f.acct.ID, `{"suspended":true}`).json(t, &got)
	if !got.Suspended {
		t.Errorf("%+v", got)
	}
	f.do("GET", "/v1/usage", "").problem(t, 403, "suspended")
}

// What is asked of the archive while an account changes is not remembered.
func TestKeyAskedDuringAChange(t *testing.T) {
	f := newFarm(t)
	slow := &slowKeys{Store: f.store}
	cache := newKeyCache(slow)
	slow.meanwhile = func() { cache.dropAccount(f.acct.ID) }
	id, err := account.KeyID(f.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cache.ask(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if len(cache.keys) != 0 {
		t.Errorf("what was asked before the change is remembered: %v", cache.keys)
	}
}

// slowKeys is a store that something else happens beside.
type slowKeys struct {
	Store
	meanwhile func()
}

func (s *slowKeys) Key(ctx context.Context, id string) (account.Key, account.Account, error) {
	defer s.meanwhile()
	return s.Store.Key(ctx, id)
}

// The policy in force, as a file.
func TestReadPolicy(t *testing.T) {
	f := newFarm(t, withPolicy(t))
	a := f.admin("GET", "/admin/v1/policy", "")
	p, err := account.ParsePolicy("answer", a.Body.Bytes())
	if err != nil || a.Code != 200 || a.Header().Get("Content-Type") != "application/yaml" || strings.Join(p.Names(), " ") != "default short plain mute paid" {
		t.Errorf("%d %v\n%s", a.Code, err, a.Body)
	}
	f.do("GET", "/admin/v1/policy", "").problem(t, 401, "invalid_key")
}
