package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func (m *memStore) Bans(context.Context) ([]account.Ban, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.Clone(m.bans), nil
}

func (m *memStore) AuditLog(_ context.Context, subject, before string, limit int) ([]account.Audit, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Audit
	for _, e := range slices.Backward(m.audit) {
		if (subject == "" || e.Subject == subject) && (before == "" || e.ID < before) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

// changeBan is the leader's side: a ban is in the archive when it is answered.
func (m *memStore) changeBan(c *pb.BanChange) (done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.bans)
	who, err := account.ParseSubject(c.Subject)
	if err != nil {
		return false
	}
	m.bans = slices.DeleteFunc(m.bans, func(b account.Ban) bool { return b.Subject == who })
	done = len(m.bans) < n
	step := account.StepLifted
	if !c.Lift {
		b := account.Ban{Subject: who, Step: account.StepBanned, Since: time.Now(), Until: fromMicros(c.UntilUs), Reason: c.Reason, Actor: account.ActorAdmin}
		if c.UntilUs != 0 {
			b.Step = account.StepBlocked
		}
		m.bans, done, step = append(m.bans, b), true, b.Step
	}
	m.audit = append(m.audit, account.Audit{
		ID: fmt.Sprintf("aud_%026d", len(m.audit)+1), At: time.Now(), Actor: account.ActorAdmin, Subject: c.Subject, Action: string(step),
		Detail: map[string]any{"reason": c.Reason},
	})
	return done
}

func TestBans(t *testing.T) {
	f := newFarm(t)
	f.leader.bans = f.store.changeBan
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	ban := func(subject, until string) Ban {
		t.Helper()
		body := fmt.Sprintf(`{"subject":%q,"reason":"too much"%s}`, subject, until)
		a := f.admin("POST", "/admin/v1/bans", body)
		if a.Code != http.StatusCreated {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		var b Ban
		a.json(t, &b)
		return b
	}
	if b := ban("address:2001:db8::17", ""); b.Subject != "address:2001:db8::/64" || b.Step != "banned" || b.Until != nil || b.Reason != "too much" || b.Actor != "admin" {
		t.Errorf("%+v", b)
	}
	if b := ban("network:203.0.113.0/24", fmt.Sprintf(`,"until":%q`, until.Format(time.RFC3339Nano))); b.Step != "blocked" || !b.Until.Equal(until) {
		t.Errorf("%+v", b)
	}
	ban("account:"+f.acct.ID, "")
	ban("account:"+f.acct.ID, "") // again changes nothing

	var subjects []string
	for after := ""; ; {
		var list BanList
		f.admin("GET", "/admin/v1/bans?limit=2&after="+url.QueryEscape(after), "").json(t, &list)
		for _, b := range list.Data {
			subjects = append(subjects, b.Subject)
		}
		if !list.HasMore {
			break
		}
		after = *list.NextCursor
	}
	if want := []string{"account:" + f.acct.ID, "network:203.0.113.0/24", "address:2001:db8::/64"}; !slices.Equal(subjects, want) {
		t.Errorf("%v, want %v", subjects, want)
	}

	// Those that have ended, and who was let in, are not in it; what the ladder did is.
	f.store.mu.Lock()
	f.store.bans = append(f.store.bans,
		account.Ban{Subject: account.Subject{Kind: account.SubjectKey, ID: "old"}, Step: account.StepBlocked, Since: until.AddDate(0, 0, -2), Until: until.AddDate(0, 0, -1)},
		account.Ban{
			Subject: account.Subject{Kind: account.SubjectKey, ID: "k1"}, Step: account.StepBlocked, Since: until.AddDate(0, 0, -1), Until: until, Reason: "4 offences",
			Actor: account.ActorLadder, Blocks: []time.Time{until, until},
		})
	f.store.mu.Unlock()
	var list BanList
	f.admin("GET", "/admin/v1/bans", "").json(t, &list)
	if n := len(list.Data); n != 4 || list.Data[3].Subject != "key:k1" || list.Data[3].Actor != "ladder" || list.Data[3].Blocks != 2 {
		t.Errorf("%+v", list)
	}

	lift := func(subject string) answered {
		return f.admin("DELETE", "/admin/v1/bans?subject="+url.QueryEscape(subject), "")
	}
	if a := lift("address:2001:db8::18"); a.Code != http.StatusNoContent { // the same subscriber
		t.Errorf("%d %s", a.Code, a.Body)
	}
	lift("address:2001:db8::18").problem(t, http.StatusNotFound, "not_found")

	var audit AuditList
	f.admin("GET", "/admin/v1/audit?limit=3", "").json(t, &audit)
	if len(audit.Data) != 3 || !audit.HasMore || audit.Data[1].Action != "lifted" || audit.Data[2].Action != "banned" {
		t.Fatalf("%+v", audit)
	}
	var rest AuditList
	f.admin("GET", "/admin/v1/audit?after="+*audit.NextCursor, "").json(t, &rest)
	if len(rest.Data) != 3 || rest.HasMore || rest.Data[2].Id != fmt.Sprintf("aud_%026d", 1) {
		t.Errorf("%+v", rest)
	}
	f.admin("GET", "/admin/v1/audit?subject="+url.QueryEscape("network:203.0.113.0/24"), "").json(t, &rest)
	if len(rest.Data) != 1 {
		t.Errorf("%+v", rest)
	}
}

func TestBansOfNobody(t *testing.T) {
	f := newFarm(t)
	f.leader.bans = f.store.changeBan
	for _, subject := range []string{
		"", "203.0.113.7", "address:", "address:x", "address:203.0.113.0/24", "network:203.0.113.7/24", "network:0.0.0.0/0",
		"network:203.0.0.0/16", "key:", "key:a b", "account:", "host:example.com", "ADDRESS:203.0.113.7", "key:a\x00b", "key:\xff", "key:" + strings.Repeat("x", 125),
	} {
		for _, path := range []string{"/admin/v1/bans", "/admin/v1/audit"} {
			method := map[string]string{"/admin/v1/bans": "DELETE", "/admin/v1/audit": "GET"}[path]
			p := f.admin(method, path+"?subject="+url.QueryEscape(subject), "").problem(t, http.StatusBadRequest, "invalid_input")
			if (*p.Errors)[0].Pointer != "subject" {
				t.Errorf("%s %q: %+v", path, subject, p.Errors)
			}
		}
	}
	f.admin("DELETE", "/admin/v1/bans", "").problem(t, http.StatusBadRequest, "invalid_input")
	for _, body := range []string{
		`{}`, `{"subject":"key:x","reason":""}`, `{"subject":"key:x","reason":"a\nb"}`, `{"subject":"key:x","reason":"r","until":"soon"}`,
		`{"subject":"key:x","reason":"r"}`, `{"subject":"account:acc_x","reason":"r"}`,
		`{"subject":"key:x","reason":"r","until":"9999-12-31T23:59:59-12:00"}`, `{"subject":["key:x"],"reason":"r"}`, `{"subject":"key:x","reason":"r","strikes":1}`,
	} {
		f.admin("POST", "/admin/v1/bans", body).problem(t, http.StatusBadRequest, "invalid_input")
	}
	for _, after := range []string{"x", "1", "1.", "1.x", "key:k1", "99999999999999999999.key:k1"} {
		f.admin("GET", "/admin/v1/bans?after="+after, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	for _, after := range []string{"x", "-1", "1e3", "99999999999999999999", "aud_1"} {
		f.admin("GET", "/admin/v1/audit?after="+after, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	for _, route := range [][2]string{{"GET", "/admin/v1/bans"}, {"POST", "/admin/v1/bans"}, {"DELETE", "/admin/v1/bans?subject=key:x"}, {"GET", "/admin/v1/audit"}} {
		f.do(route[0], route[1], `{"subject":"key:x","reason":"r"}`).problem(t, http.StatusUnauthorized, "invalid_key")
	}
	if len(f.store.bans) > 0 {
		t.Errorf("%+v", f.store.bans)
	}
}

// A name is no id: the ban of one would keep nobody out. Without an archive
// nobody can tell, and a ban cannot wait for it.
func TestBanOfAName(t *testing.T) {
	f := newFarm(t)
	f.leader.bans = f.store.changeBan
	p := f.admin("POST", "/admin/v1/bans", fmt.Sprintf(`{"subject":"account:%s","reason":"r"}`, f.acct.Name)).problem(t, http.StatusBadRequest, "invalid_input")
	if (*p.Errors)[0].Pointer != "/subject" || !strings.Contains(p.Detail, f.acct.Name) {
		t.Errorf("%+v", p)
	}
	for _, subject := range []string{"account:anon_cb007107", "account:" + f.acct.ID} {
		if a := f.admin("POST", "/admin/v1/bans", fmt.Sprintf(`{"subject":%q,"reason":"r"}`, subject)); a.Code != http.StatusCreated {
			t.Errorf("%s: %d %s", subject, a.Code, a.Body)
		}
	}
	f.store.setDown(true)
	if a := f.admin("POST", "/admin/v1/bans", `{"subject":"account:x","reason":"r"}`); a.Code != http.StatusCreated {
		t.Errorf("without an archive: %d %s", a.Code, a.Body)
	}
}

// Without a leader nobody is kept out, and nobody is told otherwise.
func TestBansWithoutALeader(t *testing.T) {
	f := newLonelyFarm(t)
	f.admin("POST", "/admin/v1/bans", `{"subject":"address:203.0.113.7","reason":"r"}`).problem(t, http.StatusServiceUnavailable, "unavailable")
	f.admin("DELETE", "/admin/v1/bans?subject=key:x", "").problem(t, http.StatusServiceUnavailable, "unavailable")
	f.store.setDown(true)
	f.admin("GET", "/admin/v1/bans", "").problem(t, http.StatusServiceUnavailable, "unavailable")
	f.admin("GET", "/admin/v1/audit", "").problem(t, http.StatusServiceUnavailable, "unavailable")
}
