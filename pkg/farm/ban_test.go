package farm

import (
	"net/http"
	"testing"
	"time"
)

// keptOut: an admin's ban is in force on every replica when it is answered, and
// so is its end; both are in the audit.
func keptOut(t *testing.T, s *siege) {
	id, key := s.account("evil")
	both := func(want int, code string) {
		t.Helper()
		// The leader tells a replica by its stream, and answers the admin by another.
		for told, until := 0, time.Now().Add(time.Minute); told < len(s.doors); told++ {
			var a reply
			resp, err := s.ask("GET", "/v1/account", key, "", nil, &a)
			switch {
			case err == nil && resp.StatusCode == want && a.Code == code:
			case time.Now().After(until):
				t.Fatalf("%v, %v, %+v; want %d %s", resp, err, a, want, code)
			default:
				told = -1
			}
		}
	}
	type list struct {
		Data []struct{ Subject, Step, Action, Actor string }
	}
	admin := func(method, path string, body any, want int) (l list) {
		t.Helper()
		var into any = &l
		if want == http.StatusNoContent {
			into = nil
		}
		if resp, err := s.ask(method, path, "admin", "", body, into); err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s: %v, %v; want %d", method, path, resp, err, want)
		}
		return l
	}
	subject := "account:" + id
	both(http.StatusOK, "")
	admin("POST", "/admin/v1/bans", map[string]string{"subject": subject, "reason": "a test"}, http.StatusCreated)
	both(http.StatusForbidden, "banned")
	if l := admin("GET", "/admin/v1/bans", nil, http.StatusOK); len(l.Data) != 1 || l.Data[0].Subject != subject || l.Data[0].Step != "banned" || l.Data[0].Actor != "admin" {
		t.Errorf("%+v", l)
	}
	admin("DELETE", "/admin/v1/bans?subject="+subject, nil, http.StatusNoContent)
	both(http.StatusOK, "")
	admin("DELETE", "/admin/v1/bans?subject="+subject, nil, http.StatusNotFound)
	if l := admin("GET", "/admin/v1/audit?subject="+subject, nil, http.StatusOK); len(l.Data) != 2 || l.Data[0].Action != "lifted" || l.Data[1].Action != "banned" {
		t.Errorf("%+v", l)
	}
}
