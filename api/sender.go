package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/api/outbox"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// testWithin is longer than an attempt takes.
const testWithin = 15 * time.Second

// newSender makes what sends webhooks; nil where there is no outbox.
func (s *Server) newSender() (*outbox.Sender, error) {
	if s.deps.Outbox == nil {
		return nil, nil
	}
	return outbox.New(outbox.Config{AllowHTTP: s.cfg.WebhookAllowHTTP, Roots: s.cfg.WebhookRoots}, outbox.Deps{
		Store: s.deps.Outbox, Dial: s.cfg.Egress.DialContext, Boot: s.boot, Metrics: s.deps.Metrics, Log: s.log,
		Present: func(j *job.Job) (json.RawMessage, error) {
			v, err := show(j, s.cfg.PublicURL)
			if err != nil {
				return nil, err
			}
			return marshal(v)
		},
	})
}

// send sends webhooks until ctx ends. What is on its way then has
// Config.DrainWithin to arrive.
func (s *Server) send(ctx context.Context) {
	if s.sender == nil {
		return
	}
	work, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.sender.Run(ctx, work) // it ends with ctx and for no other reason
	}()
	<-ctx.Done()
	late := time.NewTimer(s.cfg.DrainWithin)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		breakOff()
		<-done
	}
}

// testEndpoint is POST /v1/webhook-endpoints/{id}/test.
func (s *Server) testEndpoint(w http.ResponseWriter, r *http.Request, c *call) error {
	id, err := endpointID(r)
	if err != nil {
		return err
	}
	linger(w, testWithin)
	ctx, cancel := adminCall(r)
	defer cancel()
	e, err := s.deps.Store.Endpoint(ctx, c.account.ID, id)
	if err != nil {
		return archiveDown(err)
	}
	if s.sender == nil {
		return fault.New(fault.Unavailable, "this server sends no webhooks")
	}
	data, err := marshal(map[string]any{"endpoint": map[string]any{"id": e.ID, "description": e.Description}})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	d := webhook.Delivery{
		ID: webhook.DeliveryID(webhook.Test, e.Account, "", uuid.NewString(), e.ID), Account: e.Account, Endpoint: e.ID, Lane: webhook.Lane(e.Account, e.ID, ""),
		Type: webhook.Test, Data: data, Happened: now, CreatedAt: now,
	}
	sending, stop := context.WithTimeoutCause(r.Context(), testWithin, errors.New("a test took too long"))
	defer stop()
	o, err := s.sender.Test(sending, e, d)
	switch {
	case r.Context().Err() != nil:
		return fault.Wrap(fault.Canceled, r.Context().Err(), "the client went away")
	case err != nil:
		return unavailable(err, "the message cannot be signed at the moment; try again")
	}
	writing, written := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer written()
	if err := s.deps.Store.LogTest(writing, d, o); err != nil {
		return archiveDown(err)
	}
	o.Attempt.Number = 1
	d.State, d.Failure, d.Body, d.Log, d.EndedAt = o.Verdict.State, o.Verdict.Failure, o.Body, []webhook.Attempt{o.Attempt}, now.Add(o.Attempt.Took)
	return writeJSON(w, http.StatusOK, presentDelivery(d))
}
