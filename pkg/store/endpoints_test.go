package store_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

// signs are the texts of what signs at the moment now.
func signs(t *testing.T, s *store.Store, secrets webhook.Secrets, as seal.Purpose, owner string, now time.Time) []string {
	t.Helper()
	open, err := s.OpenSecrets(secrets, as, owner, now)
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(open))
	for i, secret := range open {
		texts[i] = secret.Text()
	}
	return texts
}

func TestEndpoints(t *testing.T) {
	s := storetest.Open(t)
	ctx := t.Context()
	acme, _, _ := someAccount(t, s, "acme")
	zeta, _, _ := someAccount(t, s, "zeta")
	first := webhook.NewSecret()
	made := webhook.Endpoint{
		ID: webhook.NewEndpointID(), Account: acme.ID, URL: "https://example.com/hook", Description: "ours",
		Events: []webhook.Type{webhook.JobFailed, webhook.QuotaExceeded}, BatchLineEvents: true,
	}
	got, err := s.CreateEndpoint(ctx, made, first, 2)
	if err != nil || got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) {
		t.Fatalf("%+v, %v", got, err)
	}
	if texts := signs(t, s, got.Secrets, seal.Endpoint, made.ID, time.Now()); !slices.Equal(texts, []string{first.Text()}) {
		t.Errorf("it is signed with %q", texts)
	}
	made.CreatedAt, made.UpdatedAt, made.Secrets = got.CreatedAt, got.UpdatedAt, got.Secrets
	if diff := cmp.Diff(made, got); diff != "" {
		t.Error(diff)
	}
	if again, err := s.Endpoint(ctx, acme.ID, made.ID); err != nil || !cmp.Equal(again, got) {
		t.Errorf("%+v, %v", again, err)
	}

	url, off, on, no := "https://example.org/", false, true, false
	step := func(to webhook.Change, want func(*webhook.Endpoint)) {
		t.Helper()
		now, err := s.UpdateEndpoint(ctx, acme.ID, made.ID, to)
		if err != nil {
			t.Fatal(err)
		}
		want(&got)
		if !now.UpdatedAt.After(got.UpdatedAt) || now.DisabledAt.IsZero() != got.DisabledAt.IsZero() {
			t.Errorf("%+v", now)
		}
		got.UpdatedAt, got.DisabledAt = now.UpdatedAt, now.DisabledAt
		if diff := cmp.Diff(got, now); diff != "" {
			t.Error(diff)
		}
	}
	step(webhook.Change{}, func(*webhook.Endpoint) {})
	step(webhook.Change{URL: &url, Events: []webhook.Type{webhook.JobSucceeded}, BatchLineEvents: &no}, func(e *webhook.Endpoint) {
		e.URL, e.Events, e.BatchLineEvents = url, []webhook.Type{webhook.JobSucceeded}, false
	})
	step(webhook.Change{Enabled: &off}, func(e *webhook.Endpoint) { e.DisabledAt, e.DisabledReason = time.Now(), "by_owner" })
	step(webhook.Change{URL: &url}, func(*webhook.Endpoint) {}) // another address alone does not switch it on
	step(webhook.Change{Enabled: &on}, func(e *webhook.Endpoint) { e.DisabledAt, e.DisabledReason = time.Time{}, "" })

	for name, err := range map[string]error{
		"read":   second(s.Endpoint(ctx, zeta.ID, made.ID)),
		"change": second(s.UpdateEndpoint(ctx, zeta.ID, made.ID, webhook.Change{URL: &url})),
		"rotate": second(s.RotateEndpoint(ctx, zeta.ID, made.ID, webhook.NewSecret())),
		"delete": s.DeleteEndpoint(ctx, zeta.ID, made.ID),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s by another account: %v", name, err)
		}
	}
	if again, err := s.Endpoint(ctx, acme.ID, made.ID); err != nil || !cmp.Equal(again, got) {
		t.Errorf("after another account's tries: %+v, %v", again, err)
	}
	if err := s.DeleteEndpoint(ctx, acme.ID, made.ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Endpoint(ctx, acme.ID, made.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a deleted one: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// However many ask at once, an account has no more than it may, and they are
// listed in the order of their making.
func TestMostEndpoints(t *testing.T) {
	s := storetest.Open(t)
	a, _, _ := someAccount(t, s, "acme")
	const most = 5
	var all sync.WaitGroup
	errs := make([]error, 3*most)
	for i := range errs {
		all.Go(func() {
			_, errs[i] = s.CreateEndpoint(t.Context(), webhook.Endpoint{
				ID: webhook.NewEndpointID(), Account: a.ID, URL: fmt.Sprintf("https://example.com/%d", i), Events: webhook.Types,
			}, webhook.NewSecret(), most)
		})
	}
	all.Wait()
	refused := 0
	for _, err := range errs {
		if fault.Is(err, fault.Conflict) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != 2*most {
		t.Errorf("%d were refused, want %d", refused, 2*most)
	}
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page, err := s.Endpoints(t.Context(), a.ID, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			ids = append(ids, e.ID)
		}
	}
	if len(ids) != most || !slices.IsSorted(ids) {
		t.Errorf("listed %q", ids)
	}
}

// Two secrets sign for a day after a rotation, one from then on, and never
// three.
func TestRotate(t *testing.T) {
	s := storetest.Open(t)
	a, _, _ := someAccount(t, s, "acme")
	one, two, three := webhook.NewSecret(), webhook.NewSecret(), webhook.NewSecret()
	e, err := s.CreateEndpoint(t.Context(), webhook.Endpoint{
		ID: webhook.NewEndpointID(), Account: a.ID, URL: "https://example.com/", Events: webhook.Types,
	}, one, 1)
	if err != nil {
		t.Fatal(err)
	}
	check := func(secrets webhook.Secrets, as seal.Purpose, owner string, newer, older webhook.Secret) {
		t.Helper()
		if left := time.Until(secrets.OldUntil); left < 23*time.Hour || left > 25*time.Hour {
			t.Errorf("both sign for %v more", left)
		}
		if got := signs(t, s, secrets, as, owner, secrets.OldUntil.Add(-1)); !slices.Equal(got, []string{newer.Text(), older.Text()}) {
			t.Errorf("it is signed with %q, want %s and %s", got, newer.Text(), older.Text())
		}
		if got := signs(t, s, secrets, as, owner, secrets.OldUntil); !slices.Equal(got, []string{newer.Text()}) {
			t.Errorf("a day later it is signed with %q, want %s", got, newer.Text())
		}
	}
	for _, step := range []struct{ newer, older webhook.Secret }{{two, one}, {three, two}} {
		if e, err = s.RotateEndpoint(t.Context(), a.ID, e.ID, step.newer); err != nil {
			t.Fatal(err)
		}
		check(e.Secrets, seal.Endpoint, e.ID, step.newer, step.older)
	}

	// The account's own: one that is made when it is asked for, by whoever asks.
	var all sync.WaitGroup
	made := make([]webhook.Secrets, 8)
	for i := range made {
		all.Go(func() { made[i], _ = s.AccountSecrets(t.Context(), a.ID) })
	}
	all.Wait()
	first := signs(t, s, made[0], seal.Account, a.ID, time.Now())
	for _, m := range made {
		if got := signs(t, s, m, seal.Account, a.ID, time.Now()); len(got) != 1 || got[0] != first[0] {
			t.Errorf("asked at once: %q and %q", got, first)
		}
	}
	own, err := webhook.ParseSecret(first[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ newer, older webhook.Secret }{{two, own}, {three, two}} {
		rotated, err := s.RotateAccountSecret(t.Context(), a.ID, step.newer)
		if err != nil {
			t.Fatal(err)
		}
		check(rotated, seal.Account, a.ID, step.newer, step.older)
		if again, err := s.AccountSecrets(t.Context(), a.ID); err != nil || !cmp.Equal(again, rotated) {
			t.Errorf("%v; read again they are others", err)
		}
	}
	fresh, err := s.RotateAccountSecret(t.Context(), "acc_that_had_none", two)
	if err != nil || len(fresh.OldSealed) > 0 || !strings.HasPrefix(signs(t, s, fresh, seal.Account, "acc_that_had_none", time.Now())[0], two.Text()) {
		t.Errorf("the first by rotation: %v", err)
	}
}

// Whoever mends a receiver and says so does not wait for the breaker, and what
// waits for an endpoint ends with it, also where it is being sent.
func TestEndpointsAndWhatWaits(t *testing.T) {
	l := newLanes(t)
	a, _, _ := someAccount(t, l.Store, "acme")
	e, err := l.CreateEndpoint(t.Context(), webhook.Endpoint{
		ID: webhook.NewEndpointID(), Account: a.ID, URL: "https://example.com/", Events: []webhook.Type{webhook.JobSucceeded},
	}, webhook.NewSecret(), 1)
	if err != nil {
		t.Fatal(err)
	}
	lane := e.ID + " ×1"
	l.tell(a.ID, "")
	url, on, off := "https://example.org/", true, false
	for _, to := range []webhook.Change{{Enabled: &on}, {URL: &url}} {
		l.claims("one", want(webhook.New), lane)
		l.settle("one", nil, webhook.Release{Lane: e.ID, Health: webhook.Health{Standing: webhook.Failing, Failures: 9, Open: time.Hour}})
		for _, nothing := range []webhook.Change{{}, {Description: &url}, {Events: webhook.Types}} {
			if _, err := l.UpdateEndpoint(t.Context(), a.ID, e.ID, nothing); err != nil {
				t.Fatal(err)
			}
		}
		l.claims("one", want(webhook.Failing))
		if _, err := l.UpdateEndpoint(t.Context(), a.ID, e.ID, to); err != nil {
			t.Fatal(err)
		}
	}
	held := l.claims("one", want(webhook.New), lane)
	if _, err := l.UpdateEndpoint(t.Context(), a.ID, e.ID, webhook.Change{Enabled: &off}); err != nil {
		t.Fatal(err)
	}
	l.claims("two", want(webhook.New)) // it is held: nobody else takes it
	if err := l.DeleteEndpoint(t.Context(), "acc_other", e.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account's: %v", err)
	}
	id := held[0].Deliveries[0].ID
	if d, _ := l.delivery(id); d.State != webhook.Pending {
		t.Errorf("another account's try made it %+v", d)
	}
	if err := l.DeleteEndpoint(t.Context(), a.ID, e.ID); err != nil {
		t.Fatal(err)
	}
	ended, _ := l.delivery(id)
	if ended.State != webhook.Failed || ended.Failure != "the endpoint was deleted" || ended.EndedAt.IsZero() {
		t.Errorf("what waited is %+v", ended)
	}
	// The attempt that was on its way is in the log and changes nothing else.
	l.settle("one", []webhook.Outcome{came(held[0].Deliveries[0], webhook.Answer{Status: 500})}, webhook.Release{Lane: e.ID, Health: webhook.Health{Standing: webhook.Failing, Failures: 1}})
	if d, _ := l.delivery(id); d.State != webhook.Failed || !d.EndedAt.Equal(ended.EndedAt) {
		t.Errorf("the last attempt made it %+v", d)
	}
	l.claims("two", want(webhook.New))
}
