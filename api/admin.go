package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const accountPrefix = "acc_"

// adminCall bounds what an admin route asks of the archive.
func adminCall(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
}

// accountID is the account of the path. Text that is no id is nobody's, and
// the archive, which refuses what is not UTF-8, is not asked about it.
func accountID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if rest, ok := strings.CutPrefix(id, accountPrefix); !ok || len(rest) != 26 || strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return "", fault.New(fault.NotFound, "there is no such account")
	}
	return id, nil
}

func archiveDown(err error) error {
	return unavailable(err, "the archive does not answer at the moment; try again")
}

// read decodes the body of an admin request into v.
func read(w http.ResponseWriter, r *http.Request, c *call, v any) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	in, err := c.op.decodeBody(body)
	if err != nil {
		return err
	}
	if err := invalid(in.problems...); err != nil {
		return err
	}
	return in.into(v)
}

// createAccount is POST /admin/v1/accounts.
func (s *Server) createAccount(w http.ResponseWriter, r *http.Request, c *call) error {
	var req AccountRequest
	if err := read(w, r, c, &req); err != nil {
		return err
	}
	policy := s.policy()
	a := account.Account{
		ID:   accountPrefix + job.EncodeBase32(uuid.Must(uuid.NewV7())),
		Name: req.Name, Plan: policy.Plans[0].Name, CreatedAt: time.Now(),
	}
	set(&a.Plan, req.Plan)
	if strings.TrimSpace(a.Name) != a.Name {
		return invalid(fault.Field{Pointer: "/name", Detail: "begins or ends with a blank"})
	}
	if err := knownPlan(policy, a.Plan); err != nil {
		return err
	}
	key, text := account.NewKey(a.ID, "first")
	ctx, cancel := adminCall(r)
	defer cancel()
	if err := s.deps.Store.CreateAccount(ctx, a, key); err != nil {
		return archiveDown(err)
	}
	s.log.Info("account created", "account", a.ID, "trace", c.id)
	v := presentAccount(a)
	return writeJSON(w, http.StatusCreated, NewAccount{
		Id: v.Id, Name: v.Name, Plan: v.Plan, Suspended: v.Suspended, CreatedAt: v.CreatedAt, Key: text, SigningSecret: key.SigningSecret,
	})
}

// knownPlan refuses the name of a plan that is not there.
func knownPlan(policy *account.Policy, name string) error {
	if _, ok := policy.Plan(name); ok {
		return nil
	}
	return invalid(fault.Field{
		Pointer: "/plan", Detail: "is not a plan of this installation; its plans are " + strings.Join(policy.Names(), ", "),
	})
}

// listAccounts is GET /admin/v1/accounts.
func (s *Server) listAccounts(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	if after != "" && !strings.HasPrefix(after, accountPrefix) {
		return badCursor()
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	accounts, err := s.deps.Store.Accounts(ctx, after, limit+1)
	if err != nil {
		return archiveDown(err)
	}
	out := AccountList{HasMore: len(accounts) > limit}
	if out.Data, err = s.overviews(ctx, accounts[:min(limit, len(accounts))]); err != nil {
		return err
	}
	if out.HasMore {
		out.NextCursor = &out.Data[limit-1].Id
	}
	return writeJSON(w, http.StatusOK, out)
}

// readAccount is GET /admin/v1/accounts/{id}.
func (s *Server) readAccount(w http.ResponseWriter, r *http.Request, _ *call) error {
	id, err := accountID(r)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	a, err := s.deps.Store.Account(ctx, id)
	if err != nil {
		return archiveDown(err)
	}
	out, err := s.overviews(ctx, []account.Account{a})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out[0])
}

// overviews adds to accounts what they used of their present periods.
func (s *Server) overviews(ctx context.Context, accounts []account.Account) ([]AccountOverview, error) {
	out, now := make([]AccountOverview, len(accounts)), time.Now()
	ids, starts := make([]string, len(accounts)), make([]time.Time, len(accounts))
	for i, a := range accounts {
		plan, _ := s.policy().Plan(a.Plan)
		p := presentSpan(a, plan, now)
		ids[i], starts[i] = a.ID, p.start
		out[i] = AccountOverview{
			Id: a.ID, Name: a.Name, Plan: a.Plan, Suspended: a.Suspended, BillingDay: a.BillingDay, CreatedAt: Time{a.CreatedAt},
			Usage: PeriodUsage{Period: p.text(), ResetsAt: Time{p.end}, Unit: orNull(string(plan.Quota.Unit)), Limit: orNull(plan.Quota.Limit)},
		}
	}
	if len(out) == 0 {
		return out, nil
	}
	standings, err := s.deps.Store.Standings(ctx, ids, starts)
	if err != nil {
		return nil, archiveDown(err)
	}
	for i := range out {
		st := standings[out[i].Id]
		out[i].Keys, out[i].Usage.Units, out[i].Usage.Used = st.Keys, st.Units, credits(st.Units)
	}
	return out, nil
}

// updateAccount is PATCH /admin/v1/accounts/{id}. It is answered when the leader
// has read the account anew and told every replica, or when there is no leader:
// the next one reads it.
func (s *Server) updateAccount(w http.ResponseWriter, r *http.Request, c *call) error {
	var req AccountUpdate
	if err := read(w, r, c, &req); err != nil {
		return err
	}
	id, err := accountID(r)
	if err != nil {
		return err
	}
	if req.Plan != nil {
		if err := knownPlan(s.policy(), *req.Plan); err != nil {
			return err
		}
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	a, err := s.deps.Store.UpdateAccount(ctx, id, account.Update{Plan: req.Plan, Suspended: req.Suspended, BillingDay: req.BillingDay})
	if err != nil {
		return archiveDown(err)
	}
	s.keys.dropAccount(a.ID)
	s.front.touch(r.Context(), a.ID)
	s.log.Info("account changed", "account", a.ID, "plan", a.Plan, "suspended", a.Suspended, "trace", c.id)
	return writeJSON(w, http.StatusOK, presentAccount(a))
}

// readPolicy is GET /admin/v1/policy.
func (s *Server) readPolicy(w http.ResponseWriter, _ *http.Request, _ *call) error {
	text := s.policy().Text()
	h := w.Header()
	h.Set("Content-Type", "application/yaml") // RFC 9512
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text) // the client that went away is noticed by the server
	return nil
}

// listPlans is GET /admin/v1/plans.
func (s *Server) listPlans(w http.ResponseWriter, _ *http.Request, _ *call) error {
	out := PlanList{Data: []Plan{}}
	for _, p := range s.policy().Plans {
		out.Data = append(out.Data, presentPlan(p))
	}
	return writeJSON(w, http.StatusOK, out)
}

// createKey is POST /admin/v1/accounts/{id}/keys.
func (s *Server) createKey(w http.ResponseWriter, r *http.Request, c *call) error {
	var req KeyRequest
	if err := read(w, r, c, &req); err != nil {
		return err
	}
	if req.ExpiresAt != nil && !req.ExpiresAt.After(time.Now()) {
		return invalid(fault.Field{Pointer: "/expires_at", Detail: "is in the past"})
	}
	id, err := accountID(r)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	a, err := s.deps.Store.Account(ctx, id)
	if err != nil {
		return archiveDown(err)
	}
	key, text := account.NewKey(a.ID, deref(req.Name))
	key.CreatedAt = time.Now()
	if req.ExpiresAt != nil {
		key.ExpiresAt = req.ExpiresAt.Time
	}
	for _, scope := range deref(req.Scopes) {
		key.Scopes = append(key.Scopes, account.Scope(scope))
	}
	if err := s.deps.Store.CreateKey(ctx, key); err != nil {
		return archiveDown(err)
	}
	s.log.Info("key created", "account", a.ID, "trace", c.id)
	v := presentKey(key)
	return writeJSON(w, http.StatusCreated, NewKey{
		Id: v.Id, Name: v.Name, Scopes: v.Scopes, SignsLinks: v.SignsLinks, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt, RevokedAt: v.RevokedAt,
		Key: text, SigningSecret: key.SigningSecret,
	})
}

// listKeys is GET /admin/v1/accounts/{id}/keys.
func (s *Server) listKeys(w http.ResponseWriter, r *http.Request, _ *call) error {
	id, err := accountID(r)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	a, err := s.deps.Store.Account(ctx, id)
	if err != nil {
		return archiveDown(err)
	}
	keys, err := s.deps.Store.Keys(ctx, a.ID)
	if err != nil {
		return archiveDown(err)
	}
	out := KeyList{Data: []Key{}}
	for _, k := range keys {
		out.Data = append(out.Data, presentKey(k))
	}
	return writeJSON(w, http.StatusOK, out)
}

// revokeKey is DELETE /admin/v1/accounts/{id}/keys/{key_id}.
func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := accountID(r)
	if err != nil {
		return err
	}
	keyID := r.PathValue("key_id")
	if !account.ValidKeyID(keyID) {
		return fault.New(fault.NotFound, "the account has no such key")
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	if err := s.deps.Store.RevokeKey(ctx, id, keyID); err != nil {
		return archiveDown(err)
	}
	s.keys.drop(keyID)
	s.log.Info("key revoked", "account", id, "trace", c.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
