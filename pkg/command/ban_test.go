package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/config"
)

// bans is a server's side of them: two, on a page each.
func bans(t *testing.T, mux *http.ServeMux) {
	mux.HandleFunc("GET /admin/v1/bans", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") == "" {
			fmt.Fprint(w, `{"data": [{"subject": "key:k1", "step": "banned", "since": "2026-01-02T03:04:05Z", "until": null, "reason": "by hand", "actor": "admin", "blocks": 0}],
				"has_more": true, "next_cursor": "c"}`)
			return
		}
		fmt.Fprint(w, `{"data": [{"subject": "address:203.0.113.7", "step": "blocked", "since": "2026-01-02T03:04:05Z", "until": "2026-01-02T04:04:05Z",
			"reason": "4 offences", "actor": "ladder", "blocks": 2}], "has_more": false, "next_cursor": null}`)
	})
	mux.HandleFunc("POST /admin/v1/bans", func(w http.ResponseWriter, r *http.Request) {
		var req map[string]string
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		if req["subject"] == "nobody" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"status": 400, "code": "invalid_input", "detail": "subject: is one of address:…"}`)
			return
		}
		req["since"] = "2026-01-02T03:04:05Z"
		w.WriteHeader(http.StatusCreated)
		if err := json.NewEncoder(w).Encode(req); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("DELETE /admin/v1/bans", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("subject") != "key:k1" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"status": 404, "code": "not_found", "detail": "nothing keeps it out"}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func TestBans(t *testing.T) {
	s := serve(t, succeeded)
	who := config.AdminClient{Target: config.Target{Server: s.URL}, Admin: config.Admin{AdminToken: "a"}}
	var sc screen
	if err := ListBans(t.Context(), sc.terminal(false), config.BanList{AdminClient: who}); err != nil {
		t.Error(err)
	}
	const table = `SUBJECT              STEP     SINCE                 UNTIL                 BY      BLOCKS  REASON
key:k1               banned   2026-01-02T03:04:05Z  -                     admin   0       by hand
address:203.0.113.7  blocked  2026-01-02T03:04:05Z  2026-01-02T04:04:05Z  ladder  2       4 offences
`
	if sc.out.String() != table {
		t.Errorf("printed\n%s", sc.out.String())
	}

	sc = screen{}
	if err := AddBan(t.Context(), sc.terminal(false), config.BanAdd{AdminClient: who, Subject: "key:k1", Reason: "r"}); err != nil || sc.err.String() != "key:k1 is kept out until it is lifted\n" {
		t.Errorf("%v, %q", err, sc.err.String())
	}
	sc = screen{}
	err := AddBan(t.Context(), sc.terminal(false), config.BanAdd{AdminClient: who, Subject: "key:k1", Reason: "r", For: time.Hour})
	if said := sc.err.String(); err != nil || !strings.HasPrefix(said, "key:k1 is kept out until "+time.Now().UTC().Format("2006")) {
		t.Errorf("%v, %q", err, said)
	}
	if err := AddBan(t.Context(), sc.terminal(false), config.BanAdd{AdminClient: who, Subject: "nobody", Reason: "r"}); ExitCode(err) != ExitUsage {
		t.Errorf("nobody: %v", err)
	}

	sc = screen{}
	if err := LiftBan(t.Context(), sc.terminal(false), config.BanLift{AdminClient: who, Subject: "key:k1"}); err != nil || sc.err.String() != "key:k1 is let in again\n" {
		t.Errorf("%v, %q", err, sc.err.String())
	}
	if err := LiftBan(t.Context(), sc.terminal(false), config.BanLift{AdminClient: who, Subject: "key:k2"}); ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "not_found") {
		t.Errorf("nothing to lift: %v", err)
	}
}
