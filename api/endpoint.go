package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/webhook"
)

// mostEndpoints is how many webhook endpoints an account may have: each event
// is a message to each of them.
const mostEndpoints = 50

// An endpointStore keeps whom an account wants told of what, and what signs it.
type endpointStore interface {
	CreateEndpoint(ctx context.Context, e webhook.Endpoint, secret webhook.Secret, most int) (webhook.Endpoint, error)
	Endpoints(ctx context.Context, accountID, after string, limit int) ([]webhook.Endpoint, error)
	Endpoint(ctx context.Context, accountID, id string) (webhook.Endpoint, error)
	UpdateEndpoint(ctx context.Context, accountID, id string, to webhook.Change) (webhook.Endpoint, error)
	RotateEndpoint(ctx context.Context, accountID, id string, secret webhook.Secret) (webhook.Endpoint, error)
	DeleteEndpoint(ctx context.Context, accountID, id string) error
	AccountSecrets(ctx context.Context, accountID string) (webhook.Secrets, error)
	RotateAccountSecret(ctx context.Context, accountID string, secret webhook.Secret) (webhook.Secrets, error)
	OpenSecrets(secrets webhook.Secrets, as seal.Purpose, owner string, now time.Time) ([]webhook.Secret, error)
}

// createEndpoint is POST /v1/webhook-endpoints.
func (s *Server) createEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.owns("webhook endpoints"); err != nil {
		return err
	}
	var req WebhookEndpointRequest
	in, err := s.readEndpoint(w, r, c)
	if err == nil {
		err = in.into(&req)
	}
	if err != nil {
		return err
	}
	secret := webhook.NewSecret()
	ctx, cancel := adminCall(r)
	defer cancel()
	e, err := s.deps.Store.CreateEndpoint(ctx, webhook.Endpoint{
		ID: webhook.NewEndpointID(), Account: c.account.ID, URL: req.Url, Description: deref(req.Description),
		Events: eventsOf(req.Events), BatchLineEvents: deref(req.BatchLineEvents),
	}, secret, mostEndpoints)
	if err != nil {
		return archiveDown(err)
	}
	s.log.Info("webhook endpoint created", "account", e.Account, "endpoint", e.ID, "trace", c.id)
	return writeJSON(w, http.StatusCreated, presentNewEndpoint(e, secret))
}

// listEndpoints is GET /v1/webhook-endpoints.
func (s *Server) listEndpoints(w http.ResponseWriter, r *http.Request, c *call) error {
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	list, err := s.deps.Store.Endpoints(ctx, c.account.ID, after, limit+1)
	if err != nil {
		return archiveDown(err)
	}
	out := WebhookEndpointList{Data: []WebhookEndpoint{}, HasMore: len(list) > limit}
	for _, e := range list[:min(limit, len(list))] {
		out.Data = append(out.Data, presentEndpoint(e))
	}
	if out.HasMore {
		out.NextCursor = &out.Data[limit-1].Id
	}
	return writeJSON(w, http.StatusOK, out)
}

// getEndpoint is GET /v1/webhook-endpoints/{id}.
func (s *Server) getEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	e, err := s.deps.Store.Endpoint(ctx, c.account.ID, id)
	if err != nil {
		return archiveDown(err)
	}
	return writeJSON(w, http.StatusOK, presentEndpoint(e))
}

// updateEndpoint is PATCH /v1/webhook-endpoints/{id}.
func (s *Server) updateEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	var req WebhookEndpointUpdate
	in, err := s.readEndpoint(w, r, c)
	if err == nil {
		err = in.into(&req)
	}
	if err != nil {
		return err
	}
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	to := webhook.Change{URL: req.Url, Description: req.Description, BatchLineEvents: req.BatchLineEvents, Enabled: req.Enabled}
	if req.Events != nil {
		to.Events = eventsOf(*req.Events)
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	e, err := s.deps.Store.UpdateEndpoint(ctx, c.account.ID, id, to)
	if err != nil {
		return archiveDown(err)
	}
	s.log.Info("webhook endpoint changed", "account", e.Account, "endpoint", e.ID, "trace", c.id)
	return writeJSON(w, http.StatusOK, presentEndpoint(e))
}

// deleteEndpoint is DELETE /v1/webhook-endpoints/{id}.
func (s *Server) deleteEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	if err := s.deps.Store.DeleteEndpoint(ctx, c.account.ID, id); err != nil {
		return archiveDown(err)
	}
	s.log.Info("webhook endpoint removed", "account", c.account.ID, "endpoint", id, "trace", c.id)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// rotateEndpoint is POST /v1/webhook-endpoints/{id}/rotate.
func (s *Server) rotateEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	secret := webhook.NewSecret()
	ctx, cancel := adminCall(r)
	defer cancel()
	e, err := s.deps.Store.RotateEndpoint(ctx, c.account.ID, id, secret)
	if err != nil {
		return archiveDown(err)
	}
	s.log.Info("webhook secret rotated", "account", e.Account, "endpoint", e.ID, "trace", c.id)
	return writeJSON(w, http.StatusOK, presentNewEndpoint(e, secret))
}

// getWebhookSecret is GET /v1/account/webhook-secret.
func (s *Server) getWebhookSecret(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.owns("a webhook secret"); err != nil {
		return err
	}
	ctx, cancel := adminCall(r)
	defer cancel()
	kept, err := s.deps.Store.AccountSecrets(ctx, c.account.ID)
	if err != nil {
		return archiveDown(err)
	}
	now := time.Now()
	live, err := s.deps.Store.OpenSecrets(webhook.Secrets{Sealed: kept.Sealed}, seal.Account, c.account.ID, now)
	if err != nil { // the installation's key was lost and replaced
		s.log.Error("a webhook secret cannot be read", "account", c.account.ID, "trace", c.id, "err", err)
		return fault.Wrap(fault.Conflict, err, "the account's secret was lost, and nothing is signed with it any more; POST /v1/account/webhook-secret/rotate makes another")
	}
	return writeJSON(w, http.StatusOK, WebhookSecret{Secret: live[0].Text(), PreviousSecretExpiresAt: stillSigns(kept, now)})
}

// rotateWebhookSecret is POST /v1/account/webhook-secret/rotate.
func (s *Server) rotateWebhookSecret(w http.ResponseWriter, r *http.Request, c *call) error {
	if err := c.owns("a webhook secret"); err != nil {
		return err
	}
	secret := webhook.NewSecret()
	ctx, cancel := adminCall(r)
	defer cancel()
	kept, err := s.deps.Store.RotateAccountSecret(ctx, c.account.ID, secret)
	if err != nil {
		return archiveDown(err)
	}
	s.log.Info("webhook secret rotated", "account", c.account.ID, "trace", c.id)
	return writeJSON(w, http.StatusOK, WebhookSecret{Secret: secret.Text(), PreviousSecretExpiresAt: stillSigns(kept, time.Now())})
}

// owns refuses what is kept for an account to clients without a key: theirs is
// that of an address, which is somebody else's tomorrow.
func (c *call) owns(what string) error {
	if c.shown.ID == "" {
		return fault.New(fault.Forbidden, "%s are kept for an account: send an API key", what)
	}
	return nil
}

// readEndpoint reads a body that has a receiver's url, in its one form.
func (s *Server) readEndpoint(w http.ResponseWriter, r *http.Request, c *call) (*input, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	in, err := c.op.decodeBody(body)
	if err != nil {
		return nil, err
	}
	in.receiver("url", s.cfg.WebhookAllowHTTP)
	return in, invalid(in.problems...)
}

// receiver brings the address of a receiver into its one form, or says what is
// wrong with it.
func (in *input) receiver(name string, allowHTTP bool) {
	raw, ok := in.members[name].(string)
	if !ok || in.has(in.prefix+name) {
		return
	}
	address, err := webhook.CheckURL(raw, allowHTTP)
	if err != nil {
		in.add(in.prefix+name, err.Error())
		return
	}
	if address != raw {
		in.members[name], in.raw = address, nil
	}
}

// endpointID is the endpoint of the path. Text that is no id is nobody's.
func endpointID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if rest, ok := strings.CutPrefix(id, "we_"); !ok || len(rest) != 26 || strings.Trim(rest, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return "", fault.New(fault.NotFound, "the account has no such webhook endpoint")
	}
	return id, nil
}

func eventsOf(names []WebhookEvent) []webhook.Type {
	out := make([]webhook.Type, len(names))
	for i, name := range names {
		out[i] = webhook.Type(name)
	}
	return out
}

func presentEndpoint(e webhook.Endpoint) WebhookEndpoint {
	return WebhookEndpoint{
		Id: e.ID, Url: e.URL, Description: e.Description, Events: texts(e.Events), BatchLineEvents: e.BatchLineEvents,
		Enabled: e.DisabledAt.IsZero(), DisabledAt: timeOrNull(e.DisabledAt), DisabledReason: orNull(e.DisabledReason),
		FailingSince: timeOrNull(e.FailingSince), PreviousSecretExpiresAt: stillSigns(e.Secrets, time.Now()),
		CreatedAt: Time{e.CreatedAt}, UpdatedAt: Time{e.UpdatedAt},
	}
}

func presentNewEndpoint(e webhook.Endpoint, secret webhook.Secret) NewWebhookEndpoint {
	v := presentEndpoint(e)
	return NewWebhookEndpoint{
		Id: v.Id, Url: v.Url, Description: v.Description, Events: v.Events, BatchLineEvents: v.BatchLineEvents,
		Enabled: v.Enabled, DisabledAt: v.DisabledAt, DisabledReason: v.DisabledReason,
		FailingSince: v.FailingSince, PreviousSecretExpiresAt: v.PreviousSecretExpiresAt,
		CreatedAt: v.CreatedAt, UpdatedAt: v.UpdatedAt, Secret: secret.Text(),
	}
}

// stillSigns is the end of the secret before, null when it has ended.
func stillSigns(s webhook.Secrets, now time.Time) *Time {
	if len(s.OldSealed) == 0 || !now.Before(s.OldUntil) {
		return nil
	}
	return &Time{s.OldUntil}
}
