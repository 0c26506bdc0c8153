package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/webhook"
)

// newEndpoint is an endpoint of the farm's account.
func (f *farm) newEndpoint() webhook.Endpoint {
	f.t.Helper()
	f.store.emu.Lock()
	f.store.endpoints = nil // an account has no more than so many
	f.store.emu.Unlock()
	e, err := f.store.CreateEndpoint(f.t.Context(), webhook.Endpoint{
		ID: webhook.NewEndpointID(), Account: f.acct.ID, URL: "https://example.com/hook", Events: []webhook.Type{webhook.JobFailed},
	}, webhook.NewSecret(), 1)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// An endpoint's life, and its secret's: it is told when it is made and never
// again.
func TestEndpoint(t *testing.T) {
	var log bytes.Buffer
	f := newFarm(t, func(_ *Config, d *Deps) { d.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	var made NewWebhookEndpoint
	a := f.do("POST", "/v1/webhook-endpoints", `{"url":"HTTPS://Example.com:443/a b?token=hush#x","events":["job.failed","quota.exceeded"],"description":"ours"}`)
	if a.json(t, &made); a.Code != http.StatusCreated {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if _, err := webhook.ParseSecret(made.Secret); err != nil || !made.Enabled || made.Url != "https://example.com/a%20b?token=hush" ||
		!slices.Equal(made.Events, []string{"job.failed", "quota.exceeded"}) || made.PreviousSecretExpiresAt != nil {
		t.Errorf("%s", a.Body)
	}
	self := "/v1/webhook-endpoints/" + made.Id
	secret := made.Secret
	quiet := func(a answered, status int) WebhookEndpoint {
		t.Helper()
		var e WebhookEndpoint
		if a.json(t, &e); a.Code != status || strings.Contains(a.Body.String(), "whsec_") {
			t.Errorf("%d %s", a.Code, a.Body)
		}
		return e
	}
	if e := quiet(f.do("GET", self, ""), 200); e.Id != made.Id || e.Url != made.Url || e.Description != "ours" {
		t.Errorf("%+v", e)
	}
	if e := quiet(f.do("PATCH", self, `{"enabled":false}`), 200); e.Enabled || e.DisabledAt == nil || *e.DisabledReason != "by_owner" || e.Url != made.Url {
		t.Errorf("switched off: %+v", e)
	}
	if e := quiet(f.do("PATCH", self, `{"enabled":true,"url":"https://example.org","events":["job.succeeded"],"batch_line_events":true,"description":""}`), 200); !e.Enabled ||
		e.DisabledAt != nil || e.Url != "https://example.org/" || !slices.Equal(e.Events, []string{"job.succeeded"}) || !e.BatchLineEvents || e.Description != "" {
		t.Errorf("changed: %+v", e)
	}
	var rotated NewWebhookEndpoint
	if a = f.do("POST", self+"/rotate", ""); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	a.json(t, &rotated)
	if rotated.Secret == secret || rotated.PreviousSecretExpiresAt == nil || time.Until(rotated.PreviousSecretExpiresAt.Time) > 24*time.Hour {
		t.Errorf("rotated: %s", a.Body)
	}
	if e := quiet(f.do("GET", self, ""), 200); e.PreviousSecretExpiresAt == nil {
		t.Errorf("while two sign: %+v", e)
	}
	if a := f.do("DELETE", self, ""); a.Code != 204 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for _, method := range []string{"GET", "DELETE"} {
		f.do(method, self, "").problem(t, 404, "not_found")
	}
	for _, id := range []string{"x", "we_", made.Id + "0", strings.ToLower(made.Id), "we_%00" + made.Id[4:], strings.Replace(made.Id, "we_", "job", 1)} {
		f.do("GET", "/v1/webhook-endpoints/"+id, "").problem(t, 404, "not_found")
	}
	if s := log.String(); strings.Contains(s, "whsec_") || strings.Contains(s, "hush") || !strings.Contains(s, made.Id) {
		t.Errorf("logged: %s", s)
	}
}

func TestEndpointList(t *testing.T) {
	f := newFarm(t)
	var want []string
	for range mostEndpoints {
		var made NewWebhookEndpoint
		f.do("POST", "/v1/webhook-endpoints", `{"url":"https://example.com/","events":["job.failed"]}`).json(t, &made)
		want = append(want, made.Id)
	}
	p := f.do("POST", "/v1/webhook-endpoints", `{"url":"https://example.com/","events":["job.failed"]}`).problem(t, 409, "conflict")
	if !strings.Contains(p.Detail, "50") || !strings.Contains(p.Detail, "delete one") {
		t.Errorf("one too many: %s", p.Detail)
	}
	var got []string
	for after := ""; ; {
		var list WebhookEndpointList
		f.do("GET", "/v1/webhook-endpoints?limit=20"+after, "").json(t, &list)
		for _, e := range list.Data {
			got = append(got, e.Id)
		}
		if list.HasMore != (list.NextCursor != nil) {
			t.Fatalf("%+v", list)
		}
		if !list.HasMore {
			break
		}
		after = "&after=" + *list.NextCursor
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	f.do("GET", "/v1/webhook-endpoints?after=job_1", "").problem(t, 400, "invalid_input")
}

// What the account's own secret is: one, the same until it is rotated, and not
// for keys that only read.
func TestWebhookSecret(t *testing.T) {
	f := newFarm(t)
	read := func(method, path string) WebhookSecret {
		t.Helper()
		var v WebhookSecret
		a := f.do(method, path, "")
		if a.json(t, &v); a.Code != 200 || a.Header().Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
		}
		if _, err := webhook.ParseSecret(v.Secret); err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := read("GET", "/v1/account/webhook-secret")
	if again := read("GET", "/v1/account/webhook-secret"); again.Secret != first.Secret || first.PreviousSecretExpiresAt != nil {
		t.Errorf("%+v and %+v", first, again)
	}
	next := read("POST", "/v1/account/webhook-secret/rotate")
	if again := read("GET", "/v1/account/webhook-secret"); next.Secret == first.Secret || again.Secret != next.Secret || again.PreviousSecretExpiresAt == nil {
		t.Errorf("rotated: %+v, then %+v", next, again)
	}
	if p := f.do("POST", "/v1/webhook-endpoints", `{"url":"http://example.com/","events":["job.failed"]}`).problem(t, 400, "invalid_input"); !strings.Contains(p.Detail, "--webhook-allow-http") {
		t.Errorf("http: %s", p.Detail)
	}
}

// A secret that the installation's key does not open any more is lost, which is
// said with the way out, and no error of ours.
func TestLostWebhookSecret(t *testing.T) {
	f := newFarm(t)
	if a := f.do("GET", "/v1/account/webhook-secret", ""); a.Code != 200 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	f.store.emu.Lock()
	f.store.sealing = nil // the next one is another
	secrets := f.store.secrets
	f.store.emu.Unlock()
	if _, err := f.store.AccountSecrets(t.Context(), "acc_other"); err != nil {
		t.Fatal(err)
	}
	f.store.emu.Lock()
	f.store.secrets = secrets
	f.store.emu.Unlock()
	if p := f.do("GET", "/v1/account/webhook-secret", "").problem(t, 409, "conflict"); !strings.Contains(p.Detail, "/rotate") {
		t.Error(p.Detail)
	}
	for _, ask := range [][2]string{{"POST", "/v1/account/webhook-secret/rotate"}, {"GET", "/v1/account/webhook-secret"}} {
		if a := f.do(ask[0], ask[1], ""); a.Code != 200 {
			t.Errorf("%s %s: %d %s", ask[0], ask[1], a.Code, a.Body)
		}
	}
}

// An installation may permit http; nothing else changes.
func TestWebhookAllowHTTP(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.WebhookAllowHTTP = true })
	if a := f.do("POST", "/v1/webhook-endpoints", `{"url":"http://example.com/","events":["job.failed"]}`); a.Code != 201 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	f.do("POST", "/v1/webhook-endpoints", `{"url":"ftp://example.com/","events":["job.failed"]}`).problem(t, 400, "invalid_input")
}

// Clients without a key are an address: nothing is kept for them.
func TestWebhooksNeedAKey(t *testing.T) {
	policy, err := account.ParsePolicy("test", []byte("version: 1\nanonymous_plan: free\nplans:\n- {name: free, threads: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t, func(c *Config, _ *Deps) { c.Policy = policy })
	for _, ask := range [][3]string{
		{"POST", "/v1/webhook-endpoints", `{"url":"https://example.com/","events":["job.failed"]}`},
		{"GET", "/v1/account/webhook-secret", ""},
		{"POST", "/v1/account/webhook-secret/rotate", ""},
	} {
		f.do(ask[0], ask[1], ask[2], header{"Authorization": ""}).problem(t, 403, "forbidden")
	}
}

func TestEndpointsWhileTheArchiveIsAway(t *testing.T) {
	f := newFarm(t)
	e := f.newEndpoint()
	f.store.emu.Lock()
	f.store.away = true
	f.store.emu.Unlock()
	for _, ask := range [][3]string{
		{"POST", "/v1/webhook-endpoints", `{"url":"https://example.com/","events":["job.failed"]}`},
		{"GET", "/v1/webhook-endpoints", ""},
		{"GET", "/v1/webhook-endpoints/" + e.ID, ""},
		{"PATCH", "/v1/webhook-endpoints/" + e.ID, "{}"},
		{"DELETE", "/v1/webhook-endpoints/" + e.ID, ""},
		{"POST", "/v1/webhook-endpoints/" + e.ID + "/rotate", ""},
		{"GET", "/v1/account/webhook-secret", ""},
		{"POST", "/v1/account/webhook-secret/rotate", ""},
	} {
		a := f.do(ask[0], ask[1], ask[2])
		if a.problem(t, 503, "unavailable"); a.Header().Get("Retry-After") == "" {
			t.Errorf("%s %s: no Retry-After", ask[0], ask[1])
		}
	}
}
