package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/store/storetest"
)

func TestBans(t *testing.T) {
	s := storetest.Open(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	address := account.Subject{Kind: account.SubjectAddress, ID: "203.0.113.7"}
	key := account.Subject{Kind: account.SubjectKey, ID: "k1"}
	file := func(bans []account.Ban, audit ...account.Audit) {
		t.Helper()
		for range 2 { // the answer to the first time was lost
			if err := s.FileBans(t.Context(), bans, audit); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(when string, want ...account.Ban) {
		t.Helper()
		got, err := s.Bans(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	blocked := account.Ban{
		Subject: address, Step: account.StepBlocked, Since: now, Until: now.Add(time.Hour), Reason: "4 offences", Actor: account.ActorLadder,
		Blocks: []time.Time{now.Add(-time.Hour), now},
	}
	banned := account.Ban{Subject: key, Step: account.StepBanned, Since: now.Add(-time.Minute), Reason: "by hand", Actor: account.ActorAdmin}
	cooling := account.Ban{Subject: address, Step: account.StepCooling, Since: now.Add(-time.Minute), Until: now}
	file([]account.Ban{cooling, blocked, banned},
		account.Audit{ID: "aud_1", At: now, Actor: "ladder", Action: "cooling", Subject: address.String(), Detail: map[string]any{"offences": 1.0}},
		account.Audit{ID: "aud_2", At: now, Actor: "ladder", Action: "blocked", Subject: address.String()},
		account.Audit{ID: "aud_3", At: now, Actor: "admin", Action: "banned", Subject: key.String()})
	want("written down", blocked, banned)

	older := blocked
	older.Since = now.Add(-time.Hour)
	file([]account.Ban{older, {Subject: key, Step: account.StepLifted, Since: banned.Since.Add(-time.Second)}})
	want("after older words", blocked, banned)

	longer := blocked
	longer.Step, longer.Since, longer.Until, longer.Blocks = account.StepBanned, now.Add(time.Hour), time.Time{}, nil
	file([]account.Ban{longer, {Subject: key, Step: account.StepLifted, Since: now}})
	want("after newer ones", longer)

	log, err := s.AuditLog(t.Context(), "", "", 2)
	if err != nil || len(log) != 2 || log[0].ID != "aud_3" || log[0].Subject != "key:k1" || !log[0].At.Equal(now) {
		t.Errorf("the newest lines: %+v, %v", log, err)
	}
	log, err = s.AuditLog(t.Context(), address.String(), "aud_2", 10)
	if err != nil || len(log) != 1 || log[0].Detail["offences"] != 1.0 {
		t.Errorf("of one address, from a line on: %+v, %v", log, err)
	}

	old := blocked
	old.Subject, old.Since, old.Until = key, now.Add(-9*24*time.Hour), now.Add(-8*24*time.Hour)
	file([]account.Ban{old}, account.Audit{ID: "aud_0", At: now.Add(-400 * 24 * time.Hour), Actor: "ladder", Action: "blocked", Subject: "key:k1"})
	if err := s.AddAudit(t.Context(), account.Audit{ID: "aud_4", At: now, Actor: "admin", Action: "plan", Subject: "account:acc_1"}); err != nil {
		t.Error(err)
	}
	if err := s.TrimBans(t.Context()); err != nil {
		t.Error(err)
	}
	want("after a week", longer)
	log, err = s.AuditLog(t.Context(), "", "", 10)
	if err != nil || slices.ContainsFunc(log, func(a account.Audit) bool { return a.ID == "aud_0" }) || len(log) != 4 {
		t.Errorf("after a year: %+v, %v", log, err)
	}
}
