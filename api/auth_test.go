package api

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// Every route against every kind of caller, from the route table itself, so
// that a new route is in here.
func TestRouteMatrix(t *testing.T) {
	f := newFarm(t)
	suspended, suspendedKey := f.store.newAccount("suspended")
	suspended.Suspended = true
	f.store.setAccount(suspended)
	_, expiredKey := f.store.newAccount("expired")
	_, revokedKey := f.store.newAccount("revoked")
	f.change(expiredKey, func(k *account.Key) { k.ExpiresAt = time.Now().Add(-time.Second) })
	f.change(revokedKey, func(k *account.Key) { k.RevokedAt = time.Now() })
	wrongSecret := anotherSecret(f.key)

	type want struct {
		status int
		code   string
	}
	missing, bad := want{401, "missing_key"}, want{401, "invalid_key"}
	callers := map[string]struct {
		authorization  string
		onKey, onAdmin want
	}{
		"nobody":       {"", missing, missing},
		"basic":        {"Basic abc", bad, bad},
		"empty bearer": {"Bearer ", bad, bad},
		"no key":       {"Bearer hello", bad, bad},
		"unknown key":  {"Bearer tt_live_aaaaaaaaaaaa_" + strings.Repeat("a", 32), bad, bad},
		"wrong secret": {"Bearer " + wrongSecret, bad, bad},
		"expired":      {"Bearer " + expiredKey, bad, bad},
		"revoked":      {"Bearer " + revokedKey, bad, bad},
		"suspended":    {"Bearer " + suspendedKey, want{403, "suspended"}, bad},
		"admin":        {"Bearer " + adminToken, bad, want{}},
		"account":      {"bearer " + f.key, want{}, bad},
	}
	for _, rt := range f.server.routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		path = strings.NewReplacer("{id}", "job_x", "{key_id}", "k", "{$}", "").Replace(path)
		for name, c := range callers {
			expect := map[need]want{byKey: c.onKey, byAdmin: c.onAdmin, byAdminOffHost: c.onAdmin}[rt.auth]
			a := f.do(method, path, "", header{"Authorization": c.authorization})
			switch {
			case expect.status == 0 && (a.Code == 401 || a.Code == 403):
				t.Errorf("%s as %s: %d", rt.pattern, name, a.Code)
			case expect.status != 0 && a.Code != expect.status:
				t.Errorf("%s as %s: %d, want %d", rt.pattern, name, a.Code, expect.status)
			case expect.status != 0 && method != "HEAD":
				a.problem(t, expect.status, expect.code)
				if expect.status == 401 && a.Header().Get("WWW-Authenticate") == "" {
					t.Errorf("%s as %s: no WWW-Authenticate", rt.pattern, name)
				}
			}
			if a.Header().Get("X-Request-Id") == "" || a.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s as %s: %v", rt.pattern, name, a.Header())
			}
		}
	}
	if len(f.leader.records) > 0 {
		t.Error("something was published")
	}
}

// change changes a stored key.
func (f *farm) change(text string, fn func(*account.Key)) {
	id, err := account.KeyID(text)
	if err != nil {
		f.t.Fatal(err)
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	k := f.store.keys[id]
	fn(&k)
	f.store.keys[id] = k
}

func TestKeysAreNotReadFromTheQuery(t *testing.T) {
	f := newFarm(t)
	f.do("GET", "/v1/jobs?key="+f.key, "", header{"Authorization": ""}).problem(t, 401, "missing_key")
}

func TestKeyCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		poll := func() int { return f.do("GET", "/v1/jobs", "").Code }
		for range 10 {
			if poll() != 200 {
				t.Fatal("refused")
			}
		}
		if f.store.asked != 1 {
			t.Errorf("the archive was asked %d times", f.store.asked)
		}
		// Revoked elsewhere: effective within 5 s.
		f.change(f.key, func(k *account.Key) { k.RevokedAt = time.Now() })
		time.Sleep(5 * time.Second)
		if got := poll(); got != 401 {
			t.Errorf("a revoked key: %d", got)
		}
		f.change(f.key, func(k *account.Key) { k.RevokedAt = time.Time{} })
		time.Sleep(5 * time.Second)

		// While the archive is down known keys are good for ten minutes, unknown
		// ones are nobody's fault. Looking a job up needs no archive.
		id := f.submit(`{"html":"x"}`).Id
		f.store.setDown(true)
		for range 9 {
			time.Sleep(time.Minute)
			f.do("GET", "/v1/jobs/"+id, "").job(t, 200)
		}
		f.do("GET", "/v1/jobs/"+id, "", header{"Authorization": "Bearer tt_live_aaaaaaaaaaaa_" + strings.Repeat("a", 32)}).problem(t, 503, "unavailable")
		time.Sleep(2 * time.Minute)
		f.do("GET", "/v1/jobs/"+id, "").problem(t, 503, "unavailable")
	})
}

func TestKeyCacheIsBounded(t *testing.T) {
	store := newMemStore()
	c := newKeyCache(store)
	for range maxKeys {
		c.keys[account.Key{}.ID+time.Now().String()] = cachedKey{}
	}
	full := len(c.keys)
	_, text := store.newAccount("acme")
	if _, err := c.find(t.Context(), text, netip.Prefix{}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if len(c.keys) > max(full, 1)+1 || len(c.keys) > maxKeys {
		t.Errorf("%d keys", len(c.keys))
	}
}

func TestAdmin(t *testing.T) {
	f := newFarm(t)
	var made NewAccount
	a := f.admin("POST", "/admin/v1/accounts", `{"name":"Blue Whale"}`)
	if a.Code != 201 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	a.json(t, &made)
	if !strings.HasPrefix(made.Id, "acc_") || len(made.Id) != 30 || made.Plan != "default" || !strings.HasPrefix(made.Key, "tt_live_") {
		t.Errorf("%+v", made)
	}
	f.admin("POST", "/admin/v1/accounts", `{"name":"Blue Whale"}`).problem(t, 409, "conflict")
	for body, pointer := range map[string]string{
		`{}`: "/name", `{"name":""}`: "/name", `{"name":" x"}`: "/name", `{"name":"x","plan":"gold"}`: "/plan", `{"name":"x","suspended":true}`: "/suspended",
	} {
		p := f.admin("POST", "/admin/v1/accounts", body).problem(t, 400, "invalid_input")
		if (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
	if p := f.admin("POST", "/admin/v1/accounts", `{"name":1e400}`).problem(t, 400, "invalid_input"); len(*p.Errors) != 1 {
		t.Errorf("%+v", *p.Errors)
	}
	asNew := header{"Authorization": "Bearer " + made.Key}
	if got := f.do("GET", "/v1/jobs", "", asNew).Code; got != 200 {
		t.Errorf("the new key: %d", got)
	}

	var key NewKey
	keys := "/admin/v1/accounts/" + made.Id + "/keys"
	f.admin("POST", keys, `{"name":"ci","expires_at":"2999-01-31T12:00:00+01:00"}`).json(t, &key)
	if key.Name != "ci" || key.ExpiresAt.UTC().Hour() != 11 {
		t.Errorf("%+v", key)
	}
	var list KeyList
	a = f.admin("GET", keys, "")
	a.json(t, &list)
	if len(list.Data) != 2 || strings.Contains(a.Body.String(), "tt_live") {
		t.Errorf("%s", a.Body)
	}
	asKey := header{"Authorization": "Bearer " + key.Key}
	if got := f.do("GET", "/v1/jobs", "", asKey).Code; got != 200 {
		t.Errorf("the further key: %d", got)
	}
	for range 2 {
		if got := f.admin("DELETE", keys+"/"+key.Id, "").Code; got != 204 {
			t.Errorf("revoke: %d", got)
		}
	}
	f.do("GET", "/v1/jobs", "", asKey).problem(t, 401, "invalid_key")
	f.admin("DELETE", keys+"/nope", "").problem(t, 404, "not_found")
	f.admin("GET", "/admin/v1/accounts/acc_x/keys", "").problem(t, 404, "not_found")
	f.admin("POST", "/admin/v1/accounts/acc_x/keys", "{}").problem(t, 404, "not_found")

	var accounts AccountList
	f.admin("GET", "/admin/v1/accounts?limit=1", "").json(t, &accounts)
	if len(accounts.Data) != 1 || !accounts.HasMore {
		t.Errorf("%+v", accounts)
	}
	f.admin("GET", "/admin/v1/accounts?after="+*accounts.NextCursor, "").json(t, &accounts)
	if len(accounts.Data) != 1 || accounts.HasMore || accounts.Data[0].Id != made.Id {
		t.Errorf("%+v", accounts)
	}
	f.admin("GET", "/admin/v1/accounts?after=x", "").problem(t, 400, "invalid_input")
	f.store.setDown(true)
	f.admin("POST", "/admin/v1/accounts", `{"name":"y"}`).problem(t, 503, "unavailable")
}

// What cannot be an id is nobody's, and the archive is not asked about it.
func TestIdsThatAreNone(t *testing.T) {
	f := newFarm(t)
	keys := "/admin/v1/accounts/" + f.acct.ID + "/keys"
	for _, bad := range []string{"%ff", "acc_%ff", "acc_%00", "acc_" + strings.Repeat("%ff", 26), f.acct.ID + "x", "acc_" + strings.Repeat("U", 26)} {
		other := "/admin/v1/accounts/" + bad + "/keys"
		f.admin("GET", other, "").problem(t, 404, "not_found")
		f.admin("POST", other, "{}").problem(t, 404, "not_found")
		f.admin("DELETE", other+"/aaaaaaaaaaaa", "").problem(t, 404, "not_found")
	}
	for _, bad := range []string{"%ff", strings.Repeat("%ff", 12), "aaaaaaaaaaa%00", "AAAAAAAAAAAA", "aaaaaaaaaaa1"} {
		f.admin("DELETE", keys+"/"+bad, "").problem(t, 404, "not_found")
	}
	asked := f.store.asked
	for _, bad := range []string{strings.Repeat("\xff", 12), "aaaaaaaaaaa\x00", "AAAAAAAAAAAA"} {
		key := header{"Authorization": "Bearer tt_live_" + bad + "_" + strings.Repeat("a", 32)}
		f.do("GET", "/v1/jobs", "", key).problem(t, 401, "invalid_key")
	}
	if f.store.asked != asked {
		t.Errorf("the archive was asked %d times", f.store.asked-asked)
	}
}

func TestWithoutAdminTokenAdminIsClosed(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.AdminToken = "" })
	for _, token := range []string{"", "x"} {
		a := f.do("GET", "/admin/v1/accounts", "", header{"Authorization": "Bearer " + token})
		if a.Code != http.StatusUnauthorized {
			t.Errorf("%q: %d", token, a.Code)
		}
	}
}

func TestMetricsOnThisMachine(t *testing.T) {
	f := newFarm(t)
	for _, tc := range []struct {
		remote, forwarded string
		status            int
	}{{"127.0.0.1:1", "", 200}, {"[::1]:1", "", 200}, {"127.0.0.1:1", "203.0.113.9", 401}, {"192.0.2.1:1", "", 401}} {
		r, w := f.request("GET", "/metrics")
		r.RemoteAddr = tc.remote
		r.Header.Del("Authorization")
		if tc.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tc.forwarded)
		}
		f.server.Handler().ServeHTTP(w, r)
		if w.Code != tc.status {
			t.Errorf("%+v: %d", tc, w.Code)
		}
		if w.Code == 200 && !strings.Contains(w.Body.String(), "tintype_api_leader_connected 1") {
			t.Error("no metrics")
		}
	}
	// A client's own empty line, and the one that the proxy added behind it.
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		r, w := f.request("GET", "/metrics")
		r.RemoteAddr = "127.0.0.1:1"
		r.Header.Del("Authorization")
		r.Header.Add(name, "")
		r.Header.Add(name, "203.0.113.9")
		if f.server.Handler().ServeHTTP(w, r); w.Code != 401 {
			t.Errorf("behind an empty %s: %d", name, w.Code)
		}
	}
	if got := f.admin("GET", "/metrics", "").Code; got != 200 {
		t.Errorf("as admin: %d", got)
	}
}
