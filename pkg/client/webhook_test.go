package client

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestWebhookEndpoints(t *testing.T) {
	var asked []string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		switch {
		case r.Method == "DELETE":
			w.WriteHeader(http.StatusNoContent)
		case r.Method == "GET" && r.URL.Path == "/v1/webhook-endpoints" && !r.URL.Query().Has("after"):
			fmt.Fprint(w, `{"data": [{"id": "we_1"}], "has_more": true, "next_cursor": "we_1"}`)
		case r.Method == "GET" && r.URL.Path == "/v1/webhook-endpoints":
			fmt.Fprint(w, `{"data": [{"id": "we_2"}], "has_more": false, "next_cursor": null}`)
		default:
			fmt.Fprint(w, `{"id": "we_1", "secret": "whsec_x"}`)
		}
	})
	ctx := t.Context()
	made, err := c.CreateWebhookEndpoint(ctx, WebhookEndpointRequest{Url: "https://x/", Events: []WebhookEvent{"job.failed"}})
	if err != nil || made.Id != "we_1" || made.Secret != "whsec_x" {
		t.Errorf("%+v, %v", made, err)
	}
	if all, err := c.ListWebhookEndpoints(ctx); err != nil || len(all) != 2 || all[1].Id != "we_2" {
		t.Errorf("%+v, %v", all, err)
	}
	if e, err := c.WebhookEndpoint(ctx, "we_1"); err != nil || e.Id != "we_1" {
		t.Errorf("%+v, %v", e, err)
	}
	off := false
	if e, err := c.UpdateWebhookEndpoint(ctx, "we_1", WebhookEndpointUpdate{Enabled: &off}); err != nil || e.Id != "we_1" {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := c.RotateWebhookEndpoint(ctx, "we_1"); err != nil || e.Secret != "whsec_x" {
		t.Errorf("%+v, %v", e, err)
	}
	if d, err := c.TestWebhookEndpoint(ctx, "we_1"); err != nil || d.Id != "we_1" {
		t.Errorf("%+v, %v", d, err)
	}
	if err := c.DeleteWebhookEndpoint(ctx, "we_1"); err != nil {
		t.Error(err)
	}
	if s, err := c.WebhookSecret(ctx); err != nil || s.Secret != "whsec_x" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := c.RotateWebhookSecret(ctx); err != nil || s.Secret != "whsec_x" {
		t.Errorf("%+v, %v", s, err)
	}
	const of = "/v1/webhook-endpoints"
	want := []string{
		"POST " + of, "GET " + of + "?limit=200", "GET " + of + "?limit=200&after=we_1", "GET " + of + "/we_1", "PATCH " + of + "/we_1",
		"POST " + of + "/we_1/rotate", "POST " + of + "/we_1/test", "DELETE " + of + "/we_1", "GET /v1/account/webhook-secret", "POST /v1/account/webhook-secret/rotate",
	}
	if strings.Join(asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestDeliveries(t *testing.T) {
	var asked []string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		switch {
		case r.URL.Path != "/v1/deliveries":
			fmt.Fprint(w, `{"id": "msg_1", "body": "{}"}`)
		case r.URL.Query().Has("after"):
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, `{"data": [{"id": "msg_1"}, {"id": "msg_2"}], "has_more": true, "next_cursor": "c"}`)
		}
	})
	state := DeliveryState("failed")
	of := ListDeliveriesParams{State: &state}
	seen := 0
	for d, err := range c.Deliveries(t.Context(), of) {
		if seen++; seen == 3 && err == nil || seen < 3 && (err != nil || d.Id != fmt.Sprintf("msg_%d", seen)) {
			t.Errorf("number %d: %+v, %v", seen, d, err)
		}
	}
	for range c.Deliveries(t.Context(), of) {
		break
	}
	if d, err := c.Delivery(t.Context(), "msg_1"); err != nil || *d.Body != "{}" {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.ReplayDelivery(t.Context(), "msg_1"); err != nil || d.Id != "msg_1" {
		t.Errorf("%+v, %v", d, err)
	}
	const list = "GET /v1/deliveries?state=failed"
	want := []string{list, list + "&after=c", list, "GET /v1/deliveries/msg_1", "POST /v1/deliveries/msg_1/replay"}
	if strings.Join(asked, "\n") != strings.Join(want, "\n") || seen != 3 {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}
