package account

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

const anonymousPrefix = "anon_"

// Identity is who an address is: an IPv4 address itself, or the /64 of an IPv6
// one, since that is what one subscriber is given. The zero Prefix is nobody.
func Identity(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return netip.Prefix{}
	}
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// IdentityText is Identity as envelopes and blocks have it: 203.0.113.7, or
// 2001:db8::/64; empty for nobody.
func IdentityText(p netip.Prefix) string {
	switch {
	case !p.IsValid():
		return ""
	case p.Addr().Is4():
		return p.Addr().String()
	}
	return p.String()
}

// Network is what an address is escalated to when its neighbours misbehave too:
// the /24 of an IPv4 address, the /48 of an IPv6 one.
func Network(identity netip.Prefix) netip.Prefix {
	bits := 24
	if identity.Addr().Is6() {
		bits = 48
	}
	p, err := identity.Addr().Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// AnonymousID is the id of the account that clients of an address share when
// they show no key: anon_ and the address, or the front half of it, in hex.
func AnonymousID(identity netip.Prefix) string {
	b := identity.Addr().AsSlice()
	return anonymousPrefix + hex.EncodeToString(b[:min(len(b), 8)])
}

// AnonymousIDOf is AnonymousID of an identity as IdentityText has it; empty for
// any other text.
func AnonymousIDOf(text string) string {
	p, err := parseIdentity(text)
	if err != nil {
		return ""
	}
	return AnonymousID(p)
}

// Anonymous reports whether an account is an address.
func Anonymous(id string) bool { return strings.HasPrefix(id, anonymousPrefix) }
