// Package egress is the one way out: every byte that strangers can make the
// farm send, be it by a page, a redirect or a webhook address, leaves through
// a Guard.
//
// It promises:
//
//  1. The decision is about the address that is dialled. A name is resolved
//     once, its addresses are judged, and what was judged is what is dialled;
//     the socket's own address is judged again just before it connects.
//  2. The rule is an allow rule: global unicast without the IANA
//     special-purpose blocks, without the farm's own interfaces, on a short
//     list of ports. What an operator allows by name or block is added to it.
//  3. A refusal says which host and port were asked for and nothing of what
//     the name resolved to, so that it tells a stranger nothing about the
//     network behind the farm.
//  4. A Proxy belongs to one job: what passes it is counted and capped, its
//     refusals cannot be mistaken for an origin's answer, and Close ends every
//     connection of the job.
//
// It leaves to others what a refusal means for a job or a delivery (Reason
// maps to a failure code), and to the browser the checking of TLS: the proxy
// carries TLS through and never opens it.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// defaultPorts are the ports a destination may be reached on unless a rule of
// the operator names another: web traffic and nothing else, so that a page can
// not talk to mail servers or databases.
var defaultPorts = []uint16{80, 443, 8080, 8443}

// furtherDenied are addresses that no registry lists as special and that lead
// inside all the same.
var furtherDenied = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"), // Azure's WireServer, reachable from every machine there
}

// Config configures a Guard. Its zero value allows public addresses alone and
// uses the system's resolver.
type Config struct {
	// Allow lists private destinations that may be reached all the same:
	// IP, CIDR or NAME, each with an optional :PORT (80, 443, 8080 and 8443
	// without one). A name is matched on the host that was asked for, and may
	// then resolve to anything.
	Allow []string
	// DNS is the HOST:PORT of the resolver to ask; empty means the system's.
	DNS string
	// Lists are the hosts and URLs that jobs may ask to be spared; nil are none.
	Lists *Lists
	// DialTimeout bounds one connect, resolution included; zero means 15 s.
	DialTimeout time.Duration
}

// A Guard decides which addresses may be reached, and dials them. It is safe
// for concurrent use and holds nothing that needs closing.
type Guard struct {
	rules    []rule
	own      map[netip.Addr]bool // addresses of this machine's interfaces
	public   *ssrf.Guardian
	resolver *net.Resolver
	timeout  time.Duration
	lists    *Lists // may be nil
}

// New checks the configuration and reports every bad entry by name.
func New(cfg Config) (*Guard, error) {
	g := &Guard{
		public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork(), ssrf.WithDeniedV4Prefixes(furtherDenied...)),
		own:    map[netip.Addr]bool{}, resolver: newResolver(cfg.DNS), timeout: cfg.DialTimeout, lists: cfg.Lists,
	}
	if g.timeout <= 0 {
		g.timeout = 15 * time.Second
	}
	var errs []error
	for _, entry := range cfg.Allow {
		r, err := parseRule(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("egress allow %q: %w", entry, err))
			continue
		}
		g.rules = append(g.rules, r)
	}
	if cfg.DNS != "" {
		if _, port, err := net.SplitHostPort(cfg.DNS); err != nil || port == "" {
			errs = append(errs, fmt.Errorf("egress dns %q: want HOST:PORT, such as 1.1.1.1:53", cfg.DNS))
		}
	}
	ifaces, err := net.InterfaceAddrs()
	if err != nil {
		errs = append(errs, fmt.Errorf("list the interfaces' addresses, which pages must not reach: %w", err))
	}
	for _, a := range ifaces {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				g.own[addr.Unmap()] = true
			}
		}
	}
	return g, errors.Join(errs...)
}

// Allowed reports whether addr:port may be reached by someone who asked for
// host (a name or the address's own spelling).
func (g *Guard) Allowed(host string, addr netip.Addr, port uint16) bool {
	return g.allowedOn(host, addr, port, defaultPorts)
}

// allowedOn is Allowed for another list of ports.
func (g *Guard) allowedOn(host string, addr netip.Addr, port uint16, ports []uint16) bool {
	addr = addr.Unmap()
	if !addr.IsValid() {
		return false
	}
	for _, r := range g.rules {
		if r.matches(host, addr, port) {
			return true
		}
	}
	return slices.Contains(ports, port) && addr.Zone() == "" && !g.own[addr] && g.public.SafeAddr(addr) == nil
}

// DialContext connects to address (HOST:PORT) if the Guard allows it. Its
// errors are *Error.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return g.dialOn(ctx, network, address, defaultPorts)
}

func (g *Guard) dialOn(ctx context.Context, network, address string, ports []uint16) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, &Error{Reason: Refused, Host: address, Err: errors.New("network " + network)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, g.timeout, errDialTimeout)
	defer cancel()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &Error{Reason: Refused, Host: address, Err: err}
	}
	port64, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, &Error{Reason: Refused, Host: address, Err: err}
	}
	port := uint16(port64)
	addrs, err := g.resolve(ctx, network, host)
	if err != nil {
		return nil, &Error{Reason: NotResolved, Host: address, Err: err}
	}
	allowed := addrs[:0:0]
	for _, a := range addrs {
		if g.allowedOn(host, a, port, ports) {
			allowed = append(allowed, a.Unmap())
		}
	}
	if len(allowed) == 0 {
		return nil, &Error{Reason: Refused, Host: address}
	}
	conn, err := g.dial(ctx, host, port, allowed, ports)
	if err != nil {
		return nil, wrap(address, err)
	}
	return conn, nil
}

var errDialTimeout = errors.New("dial timeout of the egress guard")

// newResolver asks server, or the system's where it is empty. A question ends
// with the dial that asked it; by itself net.Resolver would wait on.
func newResolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if server != "" {
			address = server
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { c.Close() })
		}
		return c, err
	}}
}

// resolve gives the addresses of host: itself when it is one.
func (g *Guard) resolve(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := g.resolver.LookupNetIP(ctx, "ip"+strings.TrimPrefix(network, "tcp"), host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	return addrs, err
}

// dial tries the judged addresses one after the other, each with an equal
// share of the time that is left.
func (g *Guard) dial(ctx context.Context, host string, port uint16, addrs []netip.Addr, ports []uint16) (net.Conn, error) {
	d := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !g.allowedOn(host, ap.Addr(), ap.Port(), ports) {
			return errRefusedAtSocket
		}
		return nil
	}}
	var first error
	for i, a := range addrs {
		share := g.timeout
		if end, ok := ctx.Deadline(); ok {
			share = time.Until(end) / time.Duration(len(addrs)-i)
		}
		dctx, cancel := context.WithTimeoutCause(ctx, share, errDialTimeout)
		conn, err := d.DialContext(dctx, "tcp", netip.AddrPortFrom(a, port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}
