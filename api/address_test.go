package api

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/account"
)

func networks(texts ...string) (out []netip.Prefix) {
	for _, t := range texts {
		out = append(out, netip.MustParsePrefix(t))
	}
	return out
}

// from is a request that came from there with these lines of X-Forwarded-For.
func from(remote string, forwarded ...string) *http.Request {
	r := &http.Request{RemoteAddr: remote, Header: http.Header{}}
	for _, line := range forwarded {
		r.Header.Add("X-Forwarded-For", line)
	}
	return r
}

func TestClientOf(t *testing.T) {
	proxies := networks("10.0.0.0/8", "2001:db8:ffff::/48")
	for _, test := range []struct {
		name    string
		request *http.Request
		trusted []netip.Prefix
		want    string
	}{
		{"plain", from("203.0.113.7:1234"), proxies, "203.0.113.7"},
		{"no proxies: the header is not looked at", from("10.0.0.1:1", "203.0.113.7"), nil, "10.0.0.1"},
		{"not from a proxy: neither", from("203.0.113.7:1", "198.51.100.1"), proxies, "203.0.113.7"},
		{"through a proxy", from("10.0.0.1:1", "203.0.113.7"), proxies, "203.0.113.7"},
		{"the client wrote some of it", from("10.0.0.1:1", "1.2.3.4, 5.6.7.8,203.0.113.7"), proxies, "203.0.113.7"},
		{"two proxies", from("10.0.0.1:1", "1.2.3.4, 203.0.113.7, 10.9.9.9"), proxies, "203.0.113.7"},
		{"two lines are one list", from("10.0.0.1:1", "1.2.3.4, 203.0.113.7", "10.9.9.9"), proxies, "203.0.113.7"},
		{"the client's line comes first", from("10.0.0.1:1", "1.2.3.4", "203.0.113.7"), proxies, "203.0.113.7"},
		{"all trusted", from("10.0.0.1:1", "10.0.0.3, 10.0.0.2"), proxies, "10.0.0.3"},
		{"a proxy without the header", from("10.0.0.1:1"), proxies, "10.0.0.1"},
		{"with a port", from("10.0.0.1:1", "203.0.113.7:5555"), proxies, "203.0.113.7"},
		{"IPv6", from("10.0.0.1:1", "2001:db8:1:2:3:4:5:6"), proxies, "2001:db8:1:2::/64"},
		{"IPv6 in brackets", from("10.0.0.1:1", "[2001:db8:1:2::6]"), proxies, "2001:db8:1:2::/64"},
		{"IPv6 with a port", from("10.0.0.1:1", "[2001:db8:1:2::6]:443"), proxies, "2001:db8:1:2::/64"},
		{"IPv6 with a zone", from("10.0.0.1:1", "fe80::1%eth0"), proxies, "fe80::/64"},
		{"IPv6 with a zone and a port", from("[fe80::1%eth0]:80"), proxies, "fe80::/64"},
		{"an IPv6 proxy", from("[2001:db8:ffff::1]:80", "203.0.113.7"), proxies, "203.0.113.7"},
		{"an IPv6 proxy with a zone", from("[2001:db8:ffff::1%eth0]:80", "203.0.113.7"), proxies, "203.0.113.7"},
		{"IPv4 in IPv6", from("[::ffff:10.0.0.1]:80", "::ffff:203.0.113.7"), proxies, "203.0.113.7"},
		{"nonsense", from("10.0.0.1:1", "203.0.113.7, unknown"), proxies, "10.0.0.1"},
		{"nonsense behind a proxy", from("10.0.0.1:1", "203.0.113.7, unknown, 10.0.0.2"), proxies, "10.0.0.2"},
		{"an empty hop", from("10.0.0.1:1", "203.0.113.7,"), proxies, "10.0.0.1"},
		{"an empty line", from("10.0.0.1:1", "203.0.113.7", ""), proxies, "10.0.0.1"},
		{"IPv4 in brackets", from("10.0.0.1:1", "[203.0.113.7]"), proxies, "10.0.0.1"},
		{"a name", from("10.0.0.1:1", "client.example.com"), proxies, "10.0.0.1"},
		{"no network", from("@"), proxies, ""},
		{"no address", from(""), nil, ""},
	} {
		if got := account.IdentityText(clientOf(test.request, test.trusted)); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// What a client writes into X-Forwarded-For makes it nobody else: ten thousand
// values are one identity, with a proxy before us and without.
func TestForwardedForMakesOneBucket(t *testing.T) {
	roll := rand.New(rand.NewPCG(1, 2))
	piece := func() string {
		var four [4]byte
		var sixteen [16]byte
		for i := range sixteen {
			sixteen[i] = byte(roll.Uint32())
		}
		copy(four[:], sixteen[:])
		switch roll.IntN(8) {
		case 0:
			return netip.AddrFrom4(four).String()
		case 1:
			return netip.AddrFrom16(sixteen).String()
		case 2:
			return fmt.Sprintf("[%s]:%d", netip.AddrFrom16(sixteen), roll.IntN(70_000))
		case 3:
			return fmt.Sprintf("10.%d.%d.%d", four[0], four[1], four[2]) // says it is a proxy
		case 4:
			return string(sixteen[:roll.IntN(16)])
		case 5:
			return strings.Repeat(",", roll.IntN(9))
		case 6:
			return strings.Repeat("1", roll.IntN(300))
		}
		return []string{"", " ", "unknown", "127.0.0.1", "localhost", "::1", "for=1.2.3.4", "1.2.3.4 5.6.7.8"}[roll.IntN(8)]
	}
	for name, test := range map[string]struct {
		remote, appended, want string
		trusted                []netip.Prefix
	}{
		"no proxy":            {"203.0.113.7:99", "", "203.0.113.7", nil},
		"a proxy, not before": {"203.0.113.7:99", "", "203.0.113.7", networks("10.0.0.0/8")},
		"through a proxy":     {"10.1.1.1:99", "203.0.113.7", "203.0.113.7", networks("10.0.0.0/8")},
		"through two":         {"10.1.1.1:99", "203.0.113.7, 10.2.2.2", "203.0.113.7", networks("10.0.0.0/8")},
	} {
		seen := map[netip.Prefix]int{}
		for range 10_000 {
			var lines []string
			for range roll.IntN(4) {
				var pieces []string
				for range 1 + roll.IntN(6) {
					pieces = append(pieces, piece())
				}
				lines = append(lines, strings.Join(pieces, ","))
			}
			switch {
			case test.appended == "":
			case len(lines) > 0 && roll.IntN(2) == 0: // proxies add to the last line, or a line
				lines[len(lines)-1] += ", " + test.appended
			default:
				lines = append(lines, test.appended)
			}
			seen[clientOf(from(test.remote, lines...), test.trusted)]++
		}
		if len(seen) != 1 || seen[account.Identity(netip.MustParseAddr(test.want))] != 10_000 {
			t.Errorf("%s: %d identities, such as %v", name, len(seen), seen)
		}
	}
}

func FuzzClientOf(f *testing.F) {
	for _, line := range []string{"203.0.113.7", "1.2.3.4, 10.0.0.1", "[2001:db8::1]:80", "fe80::1%eth0", ",,", "[", "]:", "[]:1", "\x00"} {
		f.Add(line, "", "10.0.0.1:1")
		f.Add("1.2.3.4", line, "[::1]:1")
	}
	trusted := networks("10.0.0.0/8", "::1/128")
	f.Fuzz(func(t *testing.T, one, two, remote string) {
		got := clientOf(from(remote, one, two), trusted)
		if a, ok := hop(remote); ok != got.IsValid() {
			t.Fatalf("%q: %v", remote, got)
		} else if ok && !contains(trusted, a) && got != account.Identity(a) {
			t.Fatalf("an untrusted %q was believed: %v", remote, got)
		}
		if got.IsValid() && got.Bits() != 32 && got.Bits() != 64 {
			t.Fatalf("%v is no identity", got)
		}
		// Whatever stands before what a trusted proxy added changes nothing.
		if behind := clientOf(from("10.0.0.1:1", one, two+", 203.0.113.7"), trusted); account.IdentityText(behind) != "203.0.113.7" {
			t.Fatalf("%q %q: %v", one, two, behind)
		}
	})
}

// An operator who forgot to name the proxy is told, once.
func TestProxyThatIsNotTrustedIsWarnedOf(t *testing.T) {
	for remote, want := range map[string]int{"127.0.0.1:9": 1, "10.1.2.3:9": 1, "203.0.113.7:9": 0} {
		var log logged
		f := newFarm(t, func(_ *Config, deps *Deps) { deps.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		for range 2 {
			r := from(remote, "198.51.100.1")
			r.Method, r.URL = http.MethodGet, &url.URL{Path: "/v1/queue"}
			f.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
		}
		if got := log.with("trusted_proxies"); got != want {
			t.Errorf("from %s: told %d times, want %d", remote, got, want)
		}
	}
}

// logged is what was logged.
type logged struct {
	mu   sync.Mutex
	text []string // guarded by mu
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(line))
	return len(line), nil
}

func (l *logged) with(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.text {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}
