package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/client"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// newKey makes a key of the farm's account.
func (f *farm) newKey(change func(*account.Key)) (account.Key, header) {
	k, text := account.NewKey(f.acct.ID, "another")
	k.CreatedAt = time.Now()
	if change != nil {
		change(&k)
	}
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.keys[k.ID] = k
	return k, header{"Authorization": "Bearer " + text}
}

// rendersAll ends each job as soon as somebody waits for it.
func (f *farm) rendersAll() {
	f.leader.deciding(func(rec *pb.Record) *pb.Decision {
		d := acceptAll(rec)
		now := time.Now().UnixMicro()
		d.GetAccepted().Place = pb.Place_PLACE_CACHED
		d.GetAccepted().Ended = &pb.Job{
			Id: rec.Envelope.Id, Account: rec.Envelope.Account, State: "failed", AcceptedUs: now, FinishedUs: now, Body: rec.Body,
			Failure: &pb.Failure{Code: "name_not_resolved", Stage: "navigate"},
		}
		return d
	})
}

const linked = http.StatusUnprocessableEntity // what rendersAll makes of a render that was let through

func TestSignedLinks(t *testing.T) {
	f := newFarm(t)
	f.rendersAll()
	k, _ := f.newKey(nil)
	soon := time.Now().Add(time.Hour)
	options := url.Values{"url": {"https://example.com/?a=b&sig=c"}, "width": {"800"}}
	for _, path := range []string{"/v1/screenshot", "/v1/pdf"} {
		if a := f.do("GET", client.SignLink(path, options, k.ID, k.SigningSecret, soon), "", nobody); a.Code != linked {
			t.Fatalf("%s: %d %s", path, a.Code, a.Body)
		}
	}
	env := f.leader.record().Envelope
	if env.Account != f.acct.ID || env.Key != k.ID {
		t.Errorf("%v", env)
	}
	sign := func(k account.Key, query string) string { return "/v1/screenshot?" + query + "&sig=" + k.Sign(query) }
	at := func(d time.Duration) string { return "&expires=" + strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	mine := "url=https://example.com/&key_id=" + k.ID
	unsigning, _ := f.newKey(func(k *account.Key) { k.SigningSecret = "" })
	readOnly, _ := f.newKey(func(k *account.Key) { k.Scopes = []account.Scope{account.ScopeRead} })
	revoked, _ := f.newKey(func(k *account.Key) { k.RevokedAt = time.Now() })
	expired, _ := f.newKey(func(k *account.Key) { k.ExpiresAt = time.Now() })
	other, _ := f.newKey(nil)
	of := func(k account.Key) string { return "url=https://example.com/&key_id=" + k.ID + at(time.Hour) }
	for name, test := range map[string]struct {
		target string
		status int
		code   string
		says   string
	}{
		"good":                  {sign(k, mine+at(time.Hour)), linked, "name_not_resolved", ""},
		"seven days":            {sign(k, mine+at(linkMost-time.Minute)), linked, "name_not_resolved", ""},
		"more than seven days":  {sign(k, mine+at(linkMost+time.Minute)), 403, "forbidden", "7 days"},
		"the end of time":       {sign(k, mine+"&expires=9223372036854775807"), 403, "forbidden", "7 days"},
		"over":                  {sign(k, mine+at(-time.Second)), 403, "forbidden", "has expired"},
		"no time":               {sign(k, mine+"&expires=soon"), 403, "forbidden", "whole seconds"},
		"without an end":        {sign(k, mine), 403, "forbidden", "not a valid signed link"},
		"without a key":         {sign(k, "url=https://example.com/"+at(time.Hour)), 403, "forbidden", "not a valid signed link"},
		"without a signature":   {"/v1/screenshot?" + mine + at(time.Hour), 403, "forbidden", "not a valid signed link"},
		"sig is not last":       {sign(k, mine+at(time.Hour)) + "&width=9", 403, "forbidden", "not a valid signed link"},
		"sig twice":             {sign(k, mine+at(time.Hour)+"&sig=aa"), 403, "forbidden", "not a valid signed link"},
		"two keys":              {sign(k, mine+at(time.Hour)+"&key_id="+other.ID), 403, "forbidden", "not a valid signed link"},
		"of another key":        {sign(other, mine+at(time.Hour)), 403, "forbidden", "not a valid signed link"},
		"of nobody":             {sign(k, "url=x&key_id=aaaaaaaaaaaa"+at(time.Hour)), 403, "forbidden", "not a valid signed link"},
		"of no key":             {sign(account.Key{}, "url=x&key_id=%00"+at(time.Hour)), 403, "forbidden", "not a valid signed link"},
		"of a key without one":  {sign(unsigning, of(unsigning)), 403, "forbidden", "no secret to sign links with"},
		"of a read-only key":    {sign(readOnly, of(readOnly)), 403, "forbidden", `"render"`},
		"of a revoked key":      {sign(revoked, of(revoked)), 403, "forbidden", "revoked"},
		"of an expired key":     {sign(expired, of(expired)), 403, "forbidden", "expired"},
		"an unknown parameter":  {sign(k, mine+"&wdith=8"+at(time.Hour)), 400, "invalid_input", "width"},
		"a parameter twice":     {sign(k, mine+"&url=https://example.org/"+at(time.Hour)), 400, "invalid_input", "given twice"},
		"a bad option":          {sign(k, mine+"&width=0"+at(time.Hour)), 400, "invalid_input", "width"},
		"swapped signatures":    {"/v1/screenshot?" + mine + at(time.Hour) + "&sig=" + k.Sign(mine+"&width=9"+at(time.Hour)), 403, "forbidden", "not a valid signed link"},
		"an upper-case digest":  {upper(sign(k, mine+at(time.Hour))), 403, "forbidden", "not a valid signed link"},
		"names that are hidden": {strings.NewReplacer("key_id", "k%65y_id", "expires", "expir%65s", "sig", "si%67").Replace(sign(k, mine+at(time.Hour))), 401, "missing_key", ""},
	} {
		p := f.do("GET", test.target, "", nobody).problem(t, test.status, test.code)
		if !strings.Contains(p.Detail, test.says) {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	// With a key in the header there is no link, and its parameters have no place.
	f.do("GET", sign(k, mine+at(time.Hour)), "").problem(t, 400, "invalid_input")
	f.do("POST", sign(k, mine+at(time.Hour)), `{"html":"x"}`, nobody).problem(t, 401, "missing_key")
	f.do("GET", strings.Replace(sign(k, mine+at(time.Hour)), "screenshot", "usage", 1), "", nobody).problem(t, 401, "missing_key")

	f.change(f.key, func(k *account.Key) {}) // of the account that is suspended now
	f.acct.Suspended = true
	f.store.setAccount(f.acct)
	fresh, _ := f.newKey(nil)
	f.do("GET", sign(fresh, of(fresh)), "", nobody).problem(t, 403, "suspended")
}

func upper(link string) string {
	before, sig, _ := cutLast(link, "&sig=")
	return before + "&sig=" + strings.ToUpper(sig)
}

// Whatever byte of a link is changed, and to what, it opens nothing.
func TestEveryByteOfALinkCounts(t *testing.T) {
	f := newFarm(t, under(t, "anonymous_plan: default\nplans: [{name: default}]"))
	f.rendersAll()
	k, _ := f.newKey(nil)
	link := client.SignLink("/v1/screenshot", url.Values{"url": {"https://example.com/"}, "width": {"80"}}, k.ID, k.SigningSecret, time.Now().Add(time.Hour))
	if a := f.do("GET", link, "", nobody); a.Code != linked {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	path, query, _ := strings.Cut(link, "?")
	n := f.leader.published()
	for i := range len(query) {
		for _, b := range []byte{query[i] ^ 1, query[i] ^ 0x20, 'a', '&', '=', '%', '0', '+', ';'} {
			if b == query[i] || b < '!' || b == '#' || b == '"' || b > '~' {
				continue
			}
			changed := query[:i] + string(b) + query[i+1:]
			a := f.do("GET", path+"?"+changed, "", nobody)
			if a.Code != 403 {
				t.Fatalf("%s: %d %s", changed, a.Code, a.Body)
			}
		}
	}
	if got := f.leader.published(); got != n {
		t.Errorf("%d renders of links that were changed", got-n)
	}
}

func TestScopes(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	_, read := f.newKey(func(k *account.Key) { k.Scopes = []account.Scope{account.ScopeRead} })
	_, render := f.newKey(func(k *account.Key) { k.Scopes = []account.Scope{account.ScopeRender} })
	_, both := f.newKey(func(k *account.Key) { k.Scopes = []account.Scope{account.ScopeRead, account.ScopeRender} })
	for _, test := range []struct {
		method, path string
		needs        string
	}{
		{"GET", "/v1/jobs", "read"},
		{"GET", "/v1/jobs/" + id, "read"},
		{"GET", "/v1/jobs/" + id + "/result", "read"},
		{"HEAD", "/v1/jobs/" + id + "/result", "read"},
		{"GET", "/v1/usage", "read"},
		{"GET", "/v1/account", "read"},
		{"GET", "/v1/queue", "read"},
		{"POST", "/v1/jobs", "render"},
		{"DELETE", "/v1/jobs/" + id, "render"},
		{"DELETE", "/v1/jobs/" + id + "/result", "render"},
		{"GET", "/v1/screenshot", "render"},
		{"POST", "/v1/screenshot", "render"},
		{"GET", "/v1/pdf", "render"},
		{"POST", "/v1/pdf", "render"},
	} {
		for scope, h := range map[string]header{"read": read, "render": render, "both": both} {
			a := f.do(test.method, test.path, "{}", h)
			if refused := a.Code == 403; refused != (scope != "both" && scope != test.needs) {
				t.Errorf("%s %s with scope %s: %d", test.method, test.path, scope, a.Code)
			}
			if a.Code == 403 && test.method != "HEAD" {
				if p := a.problem(t, 403, "forbidden"); !strings.Contains(p.Detail, strconv.Quote(test.needs)) {
					t.Errorf("%s", p.Detail)
				}
			}
		}
	}
}

func TestCreateKeys(t *testing.T) {
	f := newFarm(t)
	keys := "/admin/v1/accounts/" + f.acct.ID + "/keys"
	create := func(body string) (k NewKey) {
		t.Helper()
		a := f.admin("POST", keys, body)
		if a.json(t, &k); a.Code != 201 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		return k
	}
	read := create(`{"name":"ci","scopes":["read"],"expires_at":"2099-01-01T00:00:00Z"}`)
	if len(read.Scopes) != 1 || read.Scopes[0] != "read" || !read.SignsLinks || len(read.SigningSecret) < 40 || read.Name != "ci" {
		t.Errorf("%+v", read)
	}
	all := create(`{"scopes":[]}`)
	if all.Scopes == nil || len(all.Scopes) != 0 {
		t.Errorf("%+v", all)
	}
	// Three live keys of one account.
	for key, status := range map[string]int{f.key: 202, all.Key: 202, read.Key: 403} {
		if a := f.do("POST", "/v1/jobs", `{"html":"x"}`, header{"Authorization": "Bearer " + key}); a.Code != status {
			t.Errorf("%d %s", a.Code, a.Body)
		}
	}
	list := f.admin("GET", keys, "")
	if strings.Contains(list.Body.String(), read.SigningSecret) || strings.Contains(list.Body.String(), read.Key) {
		t.Error("a secret is listed")
	}
	for body, pointer := range map[string]string{
		`{"scopes":"read"}`:                     "/scopes",
		`{"scopes":["write"]}`:                  "/scopes/0",
		`{"scopes":["read","read"]}`:            "/scopes",
		`{"scopes":[1]}`:                        "/scopes/0",
		`{"scopes":null}`:                       "/scopes",
		`{"Scopes":["read"]}`:                   "/Scopes",
		`{"scopes":["read"],"scopes":[]}`:       "/scopes",
		`{"expires_at":"2001-01-01T00:00:00Z"}`: "/expires_at",
	} {
		p := f.admin("POST", keys, body).problem(t, 400, "invalid_input")
		if (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %+v", body, *p.Errors)
		}
	}
}
