package api

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/tintype/tintype/pkg/account"
)

// clientOf is the identity of the client of a request: account.Identity of the
// address it came from. Where that is a trusted proxy's it is whom the proxy
// says it speaks for, and so on from the right: X-Forwarded-For grows at its
// right end, so what stands left of the first hop that is not trusted is the
// client's own invention. The walk also ends at a hop that cannot be read:
// then the proxy that wrote it is whom we know. Without trusted proxies the
// header is not looked at.
//
// An invalid Prefix is nobody: the listener is no network.
func clientOf(r *http.Request, trusted []netip.Prefix) netip.Prefix {
	from, ok := hop(r.RemoteAddr)
	if !ok {
		return netip.Prefix{}
	}
	if len(trusted) == 0 || !contains(trusted, from) {
		return account.Identity(from)
	}
	lines := r.Header["X-Forwarded-For"] // one list, however many lines it has (RFC 9110 section 5.3)
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			text := rest
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, text = rest[:comma], rest[comma+1:]
			} else {
				more = false
			}
			next, ok := hop(text)
			if !ok {
				return account.Identity(from)
			}
			if from = next; !contains(trusted, from) {
				return account.Identity(from)
			}
		}
	}
	return account.Identity(from)
}

// behindProxy reports whether a client's address is more likely a proxy's: of
// this machine, or of a private network.
func behindProxy(who netip.Prefix) bool {
	a := who.Addr()
	return a.IsLoopback() || a.IsPrivate()
}

// hop reads an address as it is written in X-Forwarded-For and in RemoteAddr:
// with or without a port, an IPv6 one with or without brackets and a zone.
func hop(text string) (netip.Addr, bool) {
	const most = 100 // characters, of an IPv6 address with its zone and a port
	text = strings.Trim(text, " \t")
	if len(text) > most {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
			a, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
			if err == nil && !a.Is6() {
				return netip.Addr{}, false
			}
		} else {
			var with netip.AddrPort
			with, err = netip.ParseAddrPort(text)
			a = with.Addr()
		}
	}
	return a.Unmap().WithZone(""), err == nil
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
