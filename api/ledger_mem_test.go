package api

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// The ledger of charges in memory: events, in any order, and a month's sum that
// a test may bend.

func (m *memStore) UsageEvents(_ context.Context, accountID string, period time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
	return m.someEvents(after, limit, func(e account.UsageEvent) bool { return e.Account == accountID && e.Period.Equal(period) })
}

func (m *memStore) AllUsageEvents(_ context.Context, of string, from, to time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
	return m.someEvents(after, limit, func(e account.UsageEvent) bool {
		return (of == "" || e.Account == of) && !e.Period.Before(from) && e.Period.Before(to)
	})
}

func (m *memStore) someEvents(after account.UsageCursor, limit int, which func(account.UsageEvent) bool) ([]account.UsageEvent, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	m.pages++
	if m.failsAt > 0 && m.pages >= m.failsAt {
		return nil, errDown
	}
	all := slices.Clone(m.events)
	slices.SortFunc(all, func(a, b account.UsageEvent) int { return order(a.Cursor(), b.Cursor()) })
	var out []account.UsageEvent
	for _, e := range all {
		if which(e) && order(e.Cursor(), after) > 0 && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func order(a, b account.UsageCursor) int {
	return cmp.Or(a.Period.Compare(b.Period), cmp.Compare(a.Account, b.Account), a.Happened.Compare(b.Happened), cmp.Compare(a.ID, b.ID))
}

func (m *memStore) Bills(_ context.Context, from, to time.Time, after account.UsageCursor, limit int) ([]account.Bill, error) {
	events, err := m.AllUsageEvents(context.Background(), "", from, to, account.UsageCursor{}, 1<<30)
	if err != nil {
		return nil, err
	}
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Bill
	for _, e := range events {
		if n := len(out); n == 0 || out[n-1].Account != e.Account || !out[n-1].Period.Equal(e.Period) {
			out = append(out, account.Bill{Account: e.Account, Name: m.accounts[e.Account].Name, Period: e.Period})
		}
		b := &out[len(out)-1]
		b.Units, b.Sum, b.Events = b.Units+e.Units, b.Sum+e.Units, b.Events+1
	}
	out = slices.DeleteFunc(out, func(b account.Bill) bool {
		return cmp.Or(b.Period.Compare(after.Period), cmp.Compare(b.Account, after.Account)) <= 0
	})
	return out[:min(limit, len(out))], nil
}

func (m *memStore) Standings(_ context.Context, accounts []string, periods []time.Time) (map[string]account.Standing, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := map[string]account.Standing{}
	for i, id := range accounts {
		var st account.Standing
		for _, e := range m.events {
			if e.Account == id && e.Period.Equal(periods[i]) {
				st.Units += e.Units
			}
		}
		for _, k := range m.keys {
			if k.Account == id && k.Live(time.Now()) {
				st.Keys++
			}
		}
		out[id] = st
	}
	return out, nil
}
