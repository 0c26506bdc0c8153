package account

import (
	"net/netip"
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, test := range []struct {
		period     Period
		now        string
		day        int
		start, end string
	}{
		{MonthUTC, "2026-11-30T23:59:59Z", 15, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		{MonthUTC, "2026-12-01T00:30:00+01:00", 15, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		{BillingDay, "2026-11-14T23:59:59Z", 15, "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z"},
		{BillingDay, "2026-11-15T00:00:00Z", 15, "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z"},
		{BillingDay, "2026-02-27T12:00:00Z", 31, "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"},
		{BillingDay, "2026-02-28T00:00:00Z", 31, "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"},
		{BillingDay, "2027-01-02T00:00:00Z", 5, "2026-12-05T00:00:00Z", "2027-01-05T00:00:00Z"},
	} {
		start, end := test.period.Span(at(test.now), test.day)
		if !start.Equal(at(test.start)) || !end.Equal(at(test.end)) {
			t.Errorf("%s at %s: %s to %s", test.period, test.now, start, end)
		}
		if DayOf(DayNumber(start)) != start {
			t.Errorf("%s is day %d", start, DayNumber(start))
		}
	}
}

func TestIdentity(t *testing.T) {
	for in, want := range map[string][3]string{
		"203.0.113.7":          {"203.0.113.7", "203.0.113.0/24", "anon_cb007107"},
		"::ffff:203.0.113.7":   {"203.0.113.7", "203.0.113.0/24", "anon_cb007107"},
		"2001:db8:1:2:3:4:5:6": {"2001:db8:1:2::/64", "2001:db8:1::/48", "anon_20010db800010002"},
		"fe80::1%eth0":         {"fe80::/64", "fe80::/48", "anon_fe80000000000000"},
	} {
		p := Identity(netip.MustParseAddr(in))
		if got := [3]string{IdentityText(p), Network(p).String(), AnonymousID(p)}; got != want {
			t.Errorf("%s is %q", in, got)
		}
	}
	if p := Identity(netip.Addr{}); p.IsValid() || IdentityText(p) != "" {
		t.Errorf("nobody is %s", p)
	}
	if !Anonymous("anon_cb007107") || Anonymous("acc_cb007107") {
		t.Error("who is anonymous")
	}
}
