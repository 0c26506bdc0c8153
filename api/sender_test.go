package api

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/webhook"
)

// memOutbox is the memory's outbox, in which nothing is ever due.
type memOutbox struct{ *memStore }

func (memOutbox) ClaimLanes(context.Context, string, time.Duration, []webhook.Want) ([]webhook.Bout, error) {
	return nil, nil
}

func (memOutbox) Settle(context.Context, string, []webhook.Outcome, []webhook.Release) ([]webhook.Disabled, bool, error) {
	return nil, false, nil
}

func (memOutbox) TendLanes(context.Context) (due, failing int64, err error) { return 0, 0, nil }

func (memOutbox) ListenOutbox(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

// sends makes a farm's replica one that sends, to one receiver and nowhere
// else.
func sends(t *testing.T, to *httptest.Server) func(*Config, *Deps) {
	guard, err := egress.New(egress.Config{Allow: []string{strings.TrimPrefix(to.URL, "https://")}})
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config, deps *Deps) {
		cfg.Egress, cfg.WebhookRoots = guard, x509.NewCertPool()
		cfg.WebhookRoots.AddCert(to.Certificate())
		deps.Outbox = memOutbox{deps.Store.(*memStore)}
	}
}

func TestTestEndpoint(t *testing.T) {
	type got struct {
		header http.Header
		body   []byte
	}
	hits := make(chan got, 1)
	status := http.StatusNoContent
	to := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		hits <- got{r.Header, body}
		w.WriteHeader(status)
	}))
	defer to.Close()
	f := newFarm(t, sends(t, to))
	var made NewWebhookEndpoint
	f.do("POST", "/v1/webhook-endpoints", `{"url":"`+to.URL+`/hook","events":["job.failed"],"description":"ours"}`).json(t, &made)
	for _, step := range []struct {
		status int
		state  DeliveryState
	}{{204, "delivered"}, {500, "failed"}} {
		status = step.status
		a := f.do("POST", "/v1/webhook-endpoints/"+made.Id+"/test", "")
		var d, kept Delivery
		a.json(t, &d)
		if a.Code != 200 || d.State != step.state || len(d.Attempts) != 1 || *d.Attempts[0].Status != step.status || d.Type != "webhook.test" || *d.EndpointId != made.Id {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		g := <-hits
		var m struct {
			Type string
			Data struct {
				Endpoint struct{ ID, Description string }
			}
		}
		if err := json.Unmarshal(g.body, &m); err != nil || m.Type != "webhook.test" || m.Data.Endpoint.ID != made.Id || m.Data.Endpoint.Description != "ours" || *d.Body != string(g.body) {
			t.Errorf("%s, %v", g.body, err)
		}
		secret, err := webhook.ParseSecret(made.Secret)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range webhook.Sign(d.Id, d.Attempts[0].At.Time, g.body, secret) {
			if g.header.Get(h.Name) != h.Value {
				t.Errorf("%s: %q, want %q", h.Name, g.header.Get(h.Name), h.Value)
			}
		}
		if f.do("GET", "/v1/deliveries/"+d.Id, "").json(t, &kept); kept.State != step.state || len(kept.Attempts) != 1 {
			t.Errorf("%+v", kept)
		}
	}
	for _, id := range []string{"we_1", webhook.NewEndpointID()} {
		f.do("POST", "/v1/webhook-endpoints/"+id+"/test", "").problem(t, 404, "not_found")
	}
	// Whatever the endpoint's address is by then: the guard has the last word.
	f.do("PATCH", "/v1/webhook-endpoints/"+made.Id, `{"url":"https://127.0.0.1:1/"}`)
	var refused Delivery
	f.do("POST", "/v1/webhook-endpoints/"+made.Id+"/test", "").json(t, &refused)
	if refused.State != "failed" || refused.Attempts[0].Status != nil || !strings.Contains(*refused.Attempts[0].Error, "not a destination") {
		t.Errorf("%+v", refused.Attempts)
	}
}

// A replica without an outbox says that it sends nothing.
func TestTestWithoutSender(t *testing.T) {
	f := newFarm(t)
	f.do("POST", "/v1/webhook-endpoints/"+f.newEndpoint().ID+"/test", "").problem(t, 503, "unavailable")
}
