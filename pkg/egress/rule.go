package egress

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A rule is one entry of the operator's allow-list: a block of addresses or a
// name, and the ports it opens.
type rule struct {
	name   string // lower case, without the closing dot; empty for a block
	prefix netip.Prefix
	ports  []uint16
}

func (r rule) matches(host string, addr netip.Addr, port uint16) bool {
	if !slices.Contains(r.ports, port) {
		return false
	}
	if r.name != "" {
		return canonicalHost(host) == r.name
	}
	return r.prefix.Contains(addr)
}

func canonicalHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

var (
	errRuleForm = errors.New("want IP, CIDR or NAME, each with an optional :PORT (an IPv6 address with a port in brackets)")
	errRulePort = errors.New("the port must be 1 to 65535")
)

// parseRule reads IP, CIDR or NAME with an optional :PORT. IPv6 goes in
// brackets when a port follows it.
func parseRule(entry string) (rule, error) {
	target, port := strings.TrimSpace(entry), ""
	switch inside, after, bracketed := cutBrackets(target); {
	case bracketed:
		if after != "" && !strings.HasPrefix(after, ":") {
			return rule{}, errRuleForm
		}
		target, port = inside, strings.TrimPrefix(after, ":")
		if after == ":" {
			return rule{}, errRulePort
		}
	case strings.Count(target, ":") == 1:
		target, port, _ = strings.Cut(target, ":")
		if port == "" {
			return rule{}, errRulePort
		}
	}
	r := rule{ports: defaultPorts}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return rule{}, errRulePort
		}
		r.ports = []uint16{uint16(n)}
	}
	if p, err := netip.ParsePrefix(target); err == nil {
		r.prefix = p.Masked()
		return r, nil
	}
	if a, err := netip.ParseAddr(target); err == nil {
		if a.Zone() != "" {
			return rule{}, errors.New("an address with a zone is never reached by a page")
		}
		a = a.Unmap()
		r.prefix = netip.PrefixFrom(a, a.BitLen())
		return r, nil
	}
	r.name = canonicalHost(target)
	if !validName(r.name) {
		return rule{}, errRuleForm
	}
	return r, nil
}

func cutBrackets(s string) (inside, after string, ok bool) {
	if !strings.HasPrefix(s, "[") {
		return "", "", false
	}
	return strings.Cut(s[1:], "]")
}

// validName tells a host name from a mistyped address: the last label of a
// name is never a number (WHATWG URL Standard, "ends in a number"; what begins
// with 0x is taken for one whatever follows).
func validName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range label {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}
