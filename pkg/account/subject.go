package account

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
)

// A Subject is whom a limit counts, or a block keeps out. Its zero value is
// nobody.
type Subject struct {
	Kind SubjectKind
	ID   string // IdentityText of an address, a network as 203.0.113.0/24, or the id of a key or an account
}

// SubjectKind is what a Subject is.
type SubjectKind string

// Every kind of subject.
const (
	SubjectAddress SubjectKind = "address"
	SubjectNetwork SubjectKind = "network"
	SubjectKey     SubjectKind = "key"
	SubjectAccount SubjectKind = "account"
)

// maxSubject bounds the text of a subject, in bytes.
const maxSubject = 128

// Subject is whom a limit counts a request of these together with. An address
// takes the place of a key that there is not, and an account that of an address
// that nobody knows.
func (b By) Subject(account, key, address string) Subject {
	switch {
	case b == ByKey && key != "":
		return Subject{SubjectKey, key}
	case (b == ByKey || b == ByIP || account == "") && address != "":
		return Subject{SubjectAddress, address}
	case account != "":
		return Subject{SubjectAccount, account}
	}
	return Subject{}
}

// String is the subject as blocks and the archive have it, such as
// address:203.0.113.7; empty for nobody.
func (s Subject) String() string {
	if s == (Subject{}) {
		return ""
	}
	return string(s.Kind) + ":" + s.ID
}

// Network is the network of an address; nobody for any other subject.
func (s Subject) Network() Subject {
	if s.Kind != SubjectAddress {
		return Subject{}
	}
	p, err := parseIdentity(s.ID)
	if err != nil {
		return Subject{}
	}
	return Subject{SubjectNetwork, Network(p).String()}
}

// ParseSubject reads what String wrote. It takes any address and any network
// for the one that it belongs to, so that people may write what they have.
func ParseSubject(text string) (Subject, error) {
	kind, id, _ := strings.Cut(text, ":")
	s := Subject{SubjectKind(kind), id}
	switch s.Kind {
	case SubjectAddress:
		p, err := parseIdentity(id)
		if err != nil {
			return Subject{}, errors.New("an address is written as address:203.0.113.7 or address:2001:db8::/64")
		}
		s.ID = IdentityText(p)
	case SubjectNetwork:
		p, err := netip.ParsePrefix(id)
		if err != nil || p != p.Masked() || p != Network(p) {
			return Subject{}, errors.New("a network is written as network:203.0.113.0/24 or network:2001:db8::/48; others than /24 and /48 are not kept out")
		}
		s.ID = p.String()
	case SubjectKey, SubjectAccount:
		if id == "" || len(text) > maxSubject || strings.ContainsFunc(id, func(c rune) bool { return c == ' ' || !unicode.IsPrint(c) }) {
			return Subject{}, errors.New("a key or an account is written with its id, as key:… or account:acc_…")
		}
	default:
		return Subject{}, errors.New("a subject is one of address:…, network:…, key:… and account:…")
	}
	return s, nil
}

// parseIdentity is the identity of an address, or of a prefix that is one.
func parseIdentity(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return Identity(a), nil
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p != Identity(p.Addr()) {
		err = errors.New("account: a prefix that is nobody's identity")
	}
	return p, err
}
