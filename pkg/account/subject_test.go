package account

import (
	"net/netip"
	"testing"
)

func TestSubjectOfLimit(t *testing.T) {
	for _, c := range []struct {
		by                    By
		account, key, address string
		want                  string
	}{
		{ByAccount, "acc_1", "k1", "203.0.113.7", "account:acc_1"},
		{ByKey, "acc_1", "k1", "203.0.113.7", "key:k1"},
		{ByIP, "acc_1", "k1", "203.0.113.7", "address:203.0.113.7"},
		{ByKey, "anon_cb007107", "", "203.0.113.7", "address:203.0.113.7"},
		{ByAccount, "anon_cb007107", "", "203.0.113.7", "account:anon_cb007107"},
		{ByAccount, "", "", "2001:db8::/64", "address:2001:db8::/64"},
		{ByIP, "acc_1", "k1", "", "account:acc_1"},
		{ByKey, "acc_1", "", "", "account:acc_1"},
		{ByIP, "", "", "", ""},
	} {
		if got := c.by.Subject(c.account, c.key, c.address).String(); got != c.want {
			t.Errorf("by %s of %q, %q, %q: %q, want %q", c.by, c.account, c.key, c.address, got, c.want)
		}
	}
}

func TestParseSubject(t *testing.T) {
	for text, want := range map[string]string{
		"address:203.0.113.7":          "address:203.0.113.7",
		"address:::ffff:203.0.113.7":   "address:203.0.113.7",
		"address:2001:db8:1:2:3:4:5:6": "address:2001:db8:1:2::/64",
		"address:2001:db8::/64":        "address:2001:db8::/64",
		"network:203.0.113.0/24":       "network:203.0.113.0/24",
		"network:2001:db8:1::/48":      "network:2001:db8:1::/48",
		"key:01J":                      "key:01J",
		"account:acc_1":                "account:acc_1",
	} {
		s, err := ParseSubject(text)
		if err != nil || s.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", "acc_1", "host:example.com", "address:", "address:nowhere", "address:203.0.113.0/24", "network:203.0.113.7/24",
		"network:203.0.0.0/16", "network:2001:db8::/64", "key:", "account:a b", "key:\x00",
	} {
		if s, err := ParseSubject(text); err == nil {
			t.Errorf("%q is taken for %s", text, s)
		}
	}
}

func TestNetworkOfSubject(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.7":   "network:203.0.113.0/24",
		"2001:db8::/64": "network:2001:db8::/48",
	} {
		if got := (Subject{SubjectAddress, text}).Network().String(); got != want {
			t.Errorf("%s is in %s, want %s", text, got, want)
		}
	}
	if got := (Subject{SubjectKey, "k1"}).Network(); got != (Subject{}) {
		t.Errorf("a key is in %s", got)
	}
	if got := IdentityText(Identity(netip.MustParseAddr("2001:db8::1%eth0"))); got != "2001:db8::/64" {
		t.Errorf("an identity with a zone is %s", got)
	}
}
