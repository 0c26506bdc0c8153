package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

func guard(t testing.TB, cfg Config) *Guard {
	t.Helper()
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// nameServer answers A questions from a function of the name (lower case,
// without its last dot) and the number of the question for that name.
func nameServer(t testing.TB, answer func(name string, n int) []string) (address string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		asked := map[string]int{}
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var labels []string
			end := 12
			for end < n && buf[end] != 0 {
				labels = append(labels, string(buf[end+1:end+1+int(buf[end])]))
				end += int(buf[end]) + 1
			}
			name := strings.ToLower(strings.Join(labels, "."))
			isA := buf[end+2] == 1
			var addrs []string
			if isA {
				addrs = answer(name, asked[name])
				asked[name]++
			} else if answer(name, -1) != nil {
				addrs = []string{} // the name is there, but not with this type
			}
			msg := append([]byte(nil), buf[:end+5]...)
			msg[2], msg[3] = 0x81, 0x80
			if addrs == nil {
				msg[3] = 0x83 // NXDOMAIN
			}
			copy(msg[6:12], []byte{0, byte(len(addrs)), 0, 0, 0, 0})
			for _, a := range addrs {
				ip := netip.MustParseAddr(a).As4()
				msg = append(msg, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
				msg = append(msg, ip[:]...)
			}
			c.WriteTo(msg, from)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().String()
}

// TestDenied walks through the addresses of which the naive rule (loopback,
// private, link-local, unspecified, multicast) lets more than half pass.
func TestDenied(t *testing.T) {
	g := guard(t, Config{})
	for _, a := range []string{
		"0.1.2.3", "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
		"198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:168.63.129.16", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1",
		"2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "2001:20::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%1", "fec0::1", "100::1",
		"5f00::1", "3fff::1", "2620:4f:8000::1", "ff02::1",
	} {
		for _, port := range defaultPorts {
			if g.Allowed(a, netip.MustParseAddr(a), port) {
				t.Errorf("%s port %d is allowed", a, port)
			}
		}
	}
	if g.Allowed("", netip.Addr{}, 80) {
		t.Error("no address at all is allowed")
	}
}

func TestAllowed(t *testing.T) {
	g := guard(t, Config{})
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "93.184.215.14", "192.0.1.1", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:82a::200e"} {
		addr := netip.MustParseAddr(a)
		for _, port := range defaultPorts {
			if !g.Allowed(a, addr, port) {
				t.Errorf("%s port %d is refused", a, port)
			}
		}
		for _, port := range []uint16{0, 1, 22, 25, 53, 6379, 5432, 65535} {
			if g.Allowed(a, addr, port) {
				t.Errorf("%s port %d is allowed", a, port)
			}
		}
	}
	g.own[netip.MustParseAddr("93.184.215.14")] = true
	if g.Allowed("a.example", netip.MustParseAddr("::ffff:93.184.215.14"), 443) {
		t.Error("an interface of this machine is allowed")
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		entry      string
		host, addr string
		port       uint16
		want       bool
	}{
		{"10.1.2.3", "10.1.2.3", "10.1.2.3", 80, true},
		{"10.1.2.3", "10.1.2.3", "10.1.2.3", 8443, true},
		{"10.1.2.3", "10.1.2.3", "10.1.2.3", 5000, false},
		{"10.1.2.3", "10.1.2.4", "10.1.2.4", 80, false},
		{"10.1.2.3:5000", "10.1.2.3", "10.1.2.3", 5000, true},
		{"10.1.2.3:5000", "10.1.2.3", "10.1.2.3", 80, false},
		{"10.1.2.3", "10.1.2.3", "::ffff:10.1.2.3", 80, true},
		{"10.0.0.0/8", "any.example", "10.255.0.1", 443, true},
		{"10.9.9.9/8", "any.example", "10.255.0.1", 443, true},
		{"10.0.0.0/8:9000", "any.example", "10.255.0.1", 9000, true},
		{"10.0.0.0/8", "any.example", "11.0.0.1", 9000, false},
		{"::1", "::1", "::1", 80, true},
		{"[::1]", "::1", "::1", 80, true},
		{"[::1]:3000", "::1", "::1", 3000, true},
		{"[::1]:3000", "::1", "::1", 80, false},
		{"fd00::/8", "x", "fd12::1", 80, true},
		{"[fd00::/8]:81", "x", "fd12::1", 81, true},
		{"intranet", "intranet", "10.0.0.1", 80, true},
		{"Intranet.Example.", "intranet.example", "10.0.0.1", 80, true},
		{"intranet.example", "INTRANET.example.", "10.0.0.1", 80, true},
		{"intranet.example", "a.intranet.example", "10.0.0.1", 80, false},
		{"intranet.example:8000", "intranet.example", "10.0.0.1", 8000, true},
		{"intranet.example", "10.0.0.1", "10.0.0.1", 80, false},
		{"my_host-1", "my_host-1", "10.0.0.1", 80, true},
	} {
		g := guard(t, Config{Allow: []string{c.entry}})
		if got := g.Allowed(c.host, netip.MustParseAddr(c.addr), c.port); got != c.want {
			t.Errorf("%s: %s (%s) port %d: allowed is %t", c.entry, c.host, c.addr, c.port, got)
		}
	}
}

func TestBadConfigIsNamed(t *testing.T) {
	bad := []string{
		"", " ", "10.0.0.256", "127.1", "0x7f.1", "1.2.3.4/33", "10.0.0.1:0", "10.0.0.1:", "a:b:c", "[::1", "[::1]x", "[::1]:", "host:99999",
		"host name", "http://host", "*.example.com", "-", "fe80::1%eth0", "a..b",
	}
	_, err := New(Config{Allow: append(bad, "10.0.0.1"), DNS: "1.1.1.1"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, entry := range bad {
		if entry != "-" && !strings.Contains(err.Error(), "\""+entry+"\"") {
			t.Errorf("%q is not named in:\n%v", entry, err)
		}
	}
	if !strings.Contains(err.Error(), `egress dns "1.1.1.1"`) || strings.Contains(err.Error(), `"10.0.0.1"`) {
		t.Errorf("error: %v", err)
	}
}

// listen accepts connections and says where each arrived.
func listen(t *testing.T, address string) (port string, arrived chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	arrived = make(chan net.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			arrived <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, arrived
}

// TestRebinding: the name's first answer is allowed, every later one is not.
// What was judged is what is dialled, and the second connect is judged anew.
func TestRebinding(t *testing.T) {
	port, good := listen(t, "127.0.0.2:0")
	_, canary := listen(t, "127.0.0.3:"+port)
	var mu sync.Mutex
	asked := 0
	dns := nameServer(t, func(name string, n int) []string {
		if n < 0 {
			return []string{}
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		if n == 0 {
			return []string{"127.0.0.2"}
		}
		return []string{"127.0.0.3"}
	})
	g := guard(t, Config{Allow: []string{"127.0.0.2:" + port}, DNS: dns})
	c, err := g.DialContext(t.Context(), "tcp", "rebind.test:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-good
	mu.Lock()
	if asked != 1 {
		t.Errorf("resolved %d times for one connection", asked)
	}
	mu.Unlock()
	_, err = g.DialContext(t.Context(), "tcp", "rebind.test:"+port)
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != Refused {
		t.Errorf("second dial: %v", err)
	}
	if len(canary) != 0 {
		t.Error("the canary was reached")
	}
}

func TestMixedAnswers(t *testing.T) {
	port, good := listen(t, "127.0.0.2:0")
	_, canary := listen(t, "127.0.0.3:"+port)
	dns := nameServer(t, func(string, int) []string { return []string{"127.0.0.3", "127.0.0.2"} })
	g := guard(t, Config{Allow: []string{"127.0.0.2:" + port}, DNS: dns})
	c, err := g.DialContext(t.Context(), "tcp", "mixed.test:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-good
	if len(canary) != 0 {
		t.Error("the canary was reached")
	}
}

func TestDialErrors(t *testing.T) {
	dns := nameServer(t, func(name string, _ int) []string {
		switch name {
		case "inside.test", "open.test":
			return []string{"127.0.0.9"}
		}
		return nil
	})
	free, _ := net.Listen("tcp", "127.0.0.9:0")
	_, closed, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	g := guard(t, Config{DNS: dns, Allow: []string{"open.test:" + closed}})
	for _, c := range []struct {
		address string
		want    Reason
		code    job.Code
	}{
		{"inside.test:80", Refused, job.AddressRefused},
		{"inside.test:" + closed, Refused, job.AddressRefused},
		{"127.0.0.1:80", Refused, job.AddressRefused},
		{"[::ffff:127.0.0.1]:80", Refused, job.AddressRefused},
		{"localhost:80", Refused, job.AddressRefused},
		{"8.8.8.8:25", Refused, job.AddressRefused},
		{"missing.test:80", NotResolved, job.NameNotResolved},
		{"127.1:80", NotResolved, job.NameNotResolved}, // no browser sends it, and no resolver knows it
		{"2130706433:80", NotResolved, job.NameNotResolved},
		{"open.test:" + closed, ConnRefused, job.ConnectionRefused},
		{"no-port", Refused, job.AddressRefused},
		{"8.8.8.8:http", Refused, job.AddressRefused},
	} {
		_, err := g.DialContext(t.Context(), "tcp", c.address)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != c.want || e.Reason.Code() != c.code {
			t.Errorf("%s: %v", c.address, err)
			continue
		}
		if strings.Contains(err.Error(), "127.0.0.9") {
			t.Errorf("%s: the text tells the address: %v", c.address, err)
		}
	}
	if _, err := g.DialContext(t.Context(), "udp", "8.8.8.8:80"); err == nil {
		t.Error("udp is dialled")
	}
}

func TestDialTimeout(t *testing.T) {
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	g := guard(t, Config{DNS: silent.LocalAddr().String(), DialTimeout: 100 * time.Millisecond})
	began := time.Now()
	_, err = g.DialContext(context.Background(), "tcp", "slow.test:80")
	if e, ok := errors.AsType[*Error](err); !ok || e.Reason != NotResolved || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// FuzzVerdict holds the guard against the plain questions of net/netip.
func FuzzVerdict(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "10.0.0.1", "8.8.8.8", "::1", "64:ff9b::7f00:1", "2606:4700::1", "168.63.129.16"} {
		f.Add(netip.MustParseAddr(s).AsSlice(), uint16(80), "example.com")
	}
	g := guard(f, Config{Allow: []string{"intranet:8081"}})
	f.Fuzz(func(t *testing.T, raw []byte, port uint16, host string) {
		addr, ok := netip.AddrFromSlice(raw)
		if !ok {
			return
		}
		allowed := g.Allowed(host, addr, port)
		if allowed && canonicalHost(host) == "intranet" && port == 8081 {
			return
		}
		a := addr.Unmap()
		inside := a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || !a.IsGlobalUnicast() ||
			a.Is6() && a.As16()[0]>>5 != 1
		if allowed && (inside || port != 80 && port != 443 && port != 8080 && port != 8443) {
			t.Errorf("%s port %d for %q is allowed", addr, port, host)
		}
		if allowed != g.Allowed(host, netip.AddrFrom16(addr.As16()), port) && addr.Is4() {
			t.Errorf("%s and its mapped form are judged differently", addr)
		}
	})
}

func FuzzRule(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "[::1]:80", "host:1", "10.0.0.0/8:80", "a.b."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseRule(s)
		if err == nil && (len(r.ports) == 0 || (r.name == "") == !r.prefix.IsValid()) {
			t.Errorf("%q is %+v", s, r)
		}
	})
}
