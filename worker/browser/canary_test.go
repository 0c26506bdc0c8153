package browser

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/needtest"
)

// siteAddr is where the hostile page comes from: public, and on a loopback of
// the test's own.
const siteAddr = "203.0.114.10"

// forbidden are addresses that no page may reach. In the test's network
// namespace all of them exist, and a canary listens on each.
var forbidden = []string{
	"127.0.0.1", "127.0.0.53", "169.254.169.254", "10.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1",
	"100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "0.1.2.3",
	"::1", "fd00::1", "fec0::1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
}

var canaryPorts = []int{22, 25, 53, 80, 443, 3478, 5349, 6379, 8080, 8443}

// TestCanaries opens pages that try everything they can to reach addresses that
// exist and are forbidden, one visit for each way to write one. Held by the
// kernel they hit none, whatever flags the browser has; held by the flags alone
// they hit none either; held by nothing they do, which shows that the canaries
// would sing. What comes to the proxy is refused for what it is, and never
// because a job may not ask for so much: that would prove nothing.
func TestCanaries(t *testing.T) {
	needtest.Browser(t)
	const inside = "TINTYPE_TEST_CANARIES"
	if os.Getenv(inside) == "" {
		attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if os.Getuid() != 0 {
			attr.Cloneflags |= syscall.CLONE_NEWUSER
			attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
			attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
			attr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_BIND_SERVICE}
		}
		anew(t, "TestCanaries", attr, inside+"=1")
		return
	}
	// Before the addresses are there: it must know them by what they are, not
	// because they are this machine's.
	dns := net.JoinHostPort(siteAddr, "5300")
	guard, err := egress.New(egress.Config{DNS: dns})
	if err != nil {
		t.Fatal(err)
	}
	if err := interfaceUp("lo"); err != nil {
		t.Fatal(err)
	}
	for _, a := range append(forbidden, siteAddr) {
		addAddress(t, "lo", netip.MustParseAddr(a))
	}
	addCable(t)
	c := &canaries{}
	c.start(t)
	site := newHostileSite(t)
	nameServer(t, dns)

	browse := func(t *testing.T, name string, ways []way, guarded bool) *visitor {
		cfg := Config{Dir: openDir(t), Listeners: len(spellings), ways: ways, FlagsOnly: len(ways) > 0}
		cfg.adapt = func(args []string) []string {
			if !guarded {
				args = slices.DeleteFunc(args, isGuard)
			}
			return args
		}
		return &visitor{browser: launch(t, cfg), guard: guard, site: site, name: name, guarded: guarded}
	}
	t.Run("held", func(t *testing.T) {
		for name, how := range map[string]struct {
			ways    []way
			guarded bool
		}{"both": {nil, true}, "kernel": {nil, false}, "flags": {[]way{denied}, true}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				v := browse(t, name, how.ways, how.guarded)
				for _, host := range spellings {
					v.visit(t, host)
				}
				t.Logf("the proxies saw %d requests", v.saw)
			})
		}
	})
	if hits := c.take(); len(hits) > 0 {
		t.Errorf("hit: %q", hits)
	}
	// Let loose on a busy machine it may be over before WebRTC has sent anything.
	want := []string{"tcp 127.0.0.1:80", "tcp [::1]:80", "tcp 169.254.169.254:80", "tcp 127.0.0.1:6379", "udp 127.0.0.1:3478"}
	kinds := map[string]int{}
	deaf := func() []string {
		return slices.DeleteFunc(slices.Clone(want), func(w string) bool { return kinds[w] > 0 })
	}
	for try := 0; try < 4 && len(deaf()) > 0; try++ {
		t.Run("let loose", func(t *testing.T) {
			v := browse(t, fmt.Sprint("nothing", try), []way{denied}, false)
			v.loose = true
			for _, host := range []string{"127.0.0.1", "[::1]", "169.254.169.254"} {
				v.visit(t, host)
			}
		})
		for _, h := range c.take() {
			kinds[h]++
		}
	}
	t.Logf("let loose it hit %v", kinds)
	if d := deaf(); len(d) > 0 {
		t.Errorf("the canaries at %q are deaf", d)
	}
}

// isGuard tells the flags that are there to keep a browser to its proxy.
func isGuard(flag string) bool {
	return slices.ContainsFunc([]string{
		"--proxy-server", "--proxy-bypass-list", "--host-resolver-rules", "--force-webrtc", "--webrtc", "--disable-quic",
		"--dns-prefetch-disable", "--disable-background-networking", "--no-pings", "--block-new-web-contents",
	}, func(prefix string) bool { return strings.HasPrefix(flag, prefix) })
}

// addAddress gives an interface of this process's namespace an address more
// (rtnetlink(7)).
func addAddress(t *testing.T, device string, a netip.Addr) {
	t.Helper()
	i, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	family := byte(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	body := []byte{family, byte(a.BitLen()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	body = binary.NativeEndian.AppendUint32(body, uint32(i.Index))
	body = append(body, attribute(unix.IFA_LOCAL, a.AsSlice())...)
	body = append(body, attribute(unix.IFA_ADDRESS, a.AsSlice())...)
	if err := routeRequest(unix.RTM_NEWADDR, body); err != nil && err != unix.EEXIST { // loopback's own
		t.Fatalf("address %s: %v", a, err)
	}
}

// addCable makes an interface that is up: without one WebRTC sends nothing.
func addCable(t *testing.T) {
	t.Helper()
	body := make([]byte, unix.SizeofIfInfomsg)
	body = append(body, attribute(unix.IFLA_IFNAME, []byte("cable\x00"))...)
	body = append(body, attribute(unix.IFLA_LINKINFO, attribute(unix.IFLA_INFO_KIND, []byte("veth")))...)
	if err := routeRequest(unix.RTM_NEWLINK, body); err != nil {
		t.Fatalf("make an interface: %v", err)
	}
	ends, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ends {
		if err := interfaceUp(i.Name); err != nil {
			t.Fatal(err)
		}
	}
	addAddress(t, "cable", netip.MustParseAddr("203.0.114.20"))
}

func attribute(kind uint16, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	a = append(binary.NativeEndian.AppendUint16(a, kind), value...)
	return append(a, make([]byte, -len(a)&3)...)
}

func routeRequest(kind uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	msg := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	msg = binary.NativeEndian.AppendUint16(msg, kind)
	msg = binary.NativeEndian.AppendUint16(msg, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	msg = append(append(msg, make([]byte, 8)...), body...)
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil || n < 20 {
		return fmt.Errorf("netlink answered %d bytes, %v", n, err)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}

// canaries listen on every forbidden address and note who comes.
type canaries struct {
	mu   sync.Mutex
	hits []string // guarded by mu
}

func (c *canaries) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits = append(c.hits, what)
}

func (c *canaries) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	hits := c.hits
	c.hits = nil
	return hits
}

func (c *canaries) start(t *testing.T) {
	for _, a := range forbidden {
		for _, port := range canaryPorts {
			where := netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port)).String()
			l, err := net.Listen("tcp", where)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			go http.Serve(&noting{Listener: l, note: func() { c.note("tcp " + where) }}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Access-Control-Allow-Origin", "*")
				io.WriteString(w, "SECRET")
			}))
			u, err := net.ListenPacket("udp", where)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { u.Close() })
			go func() {
				buf := make([]byte, 1500)
				for {
					if _, _, err := u.ReadFrom(buf); err != nil {
						return
					}
					c.note("udp " + where)
				}
			}()
		}
	}
}

// noting tells of each connection, also of those that say nothing.
type noting struct {
	net.Listener
	note func()
}

func (n *noting) Accept() (net.Conn, error) {
	c, err := n.Listener.Accept()
	if err == nil {
		n.note()
	}
	return c, err
}

// nameServer knows the site, a name that moves to loopback after its first
// answer, one with a public and a private address, and private ones.
func nameServer(t *testing.T, address string) {
	t.Helper()
	c, err := net.ListenPacket("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
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
			var addrs []string
			name := strings.ToLower(strings.Join(labels, "."))
			isA := buf[end+2] == 1
			switch {
			case !isA:
			case strings.HasSuffix(name, "rebind.test"):
				if addrs = []string{"127.0.0.1"}; asked[name] == 0 {
					addrs = []string{siteAddr}
				}
			case name == "mixed.test":
				addrs = []string{"10.0.0.1", siteAddr, "127.0.0.1"}
			case name == "private.test":
				addrs = []string{"10.0.0.1"}
			case name == "site.localhost", strings.HasSuffix(name, "site.test"):
				addrs = []string{siteAddr}
			}
			if isA {
				asked[name]++
			}
			msg := append([]byte(nil), buf[:end+5]...)
			msg[2], msg[3] = 0x81, 0x80
			copy(msg[6:12], []byte{0, byte(len(addrs)), 0, 0, 0, 0})
			for _, a := range addrs {
				ip := netip.MustParseAddr(a).As4()
				msg = append(msg, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				msg = append(msg, ip[:]...)
			}
			c.WriteTo(msg, from)
		}
	}()
}
