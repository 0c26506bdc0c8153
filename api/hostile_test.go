package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// Bodies that are meant to hurt, at every route that takes one: each is refused
// at once, and by name where it has one.
func TestHostileBodies(t *testing.T) {
	f := newFarm(t)
	deepLists, deepObjects := strings.Repeat("[", 10_000), strings.Repeat(`{"a":`, 10_000)
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range f.server.routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		if ops[rt.key()].body == nil { // none is read
			continue
		}
		path = strings.ReplaceAll(path, "{id}", f.acct.ID)
		field := map[string]string{
			"POST /admin/v1/accounts": "name", "PATCH /admin/v1/accounts/{id}": "plan", "POST /admin/v1/accounts/{id}/keys": "name",
		}[rt.pattern]
		if field == "" {
			field = "url"
		}
		cased := strings.ToUpper(field[:1]) + field[1:]
		h := header{"Content-Type": "application/json"} // some routes take other bodies too
		if rt.auth == byAdmin {
			h["Authorization"] = "Bearer " + adminToken
		}
		for name, test := range map[string]struct {
			body    string
			status  int
			code    string
			says    string
			pointer string
		}{
			"too large":        {strings.Repeat(" ", maxBody+1), 413, "too_large", "10000000 bytes", ""},
			"deep lists":       {deepLists, 400, "malformed_json", "32 deep", ""},
			"deep and closed":  {deepLists + strings.Repeat("]", 10_000), 400, "malformed_json", "32 deep", ""},
			"deep objects":     {deepObjects + "1" + strings.Repeat("}", 10_000), 400, "malformed_json", "32 deep", ""},
			"many values":      {"[" + strings.Repeat("1,", 20_000) + "1]", 400, "malformed_json", "10000 values", ""},
			"a name twice":     {fmt.Sprintf(`{%q:"a",%q:"b"}`, field, field), 400, "invalid_input", "", "/" + field},
			"another case":     {fmt.Sprintf(`{%q:"a"}`, cased), 400, "invalid_input", "", "/" + cased},
			"no such name":     {`{"__proto__":{}}`, 400, "invalid_input", "", "/__proto__"},
			"a number too big": {fmt.Sprintf(`{%q:1e400}`, field), 400, "invalid_input", "", "/" + field},
			"no JSON":          {"url=https://example.com/", 400, "malformed_json", "", ""},
			"nothing":          {"", 400, "malformed_json", "", ""},
		} {
			p := f.do(method, path, test.body, h).problem(t, test.status, test.code)
			if !strings.Contains(p.Detail, test.says) {
				t.Errorf("%s, %s: %q", rt.pattern, name, p.Detail)
			}
			if test.pointer == "" {
				continue
			}
			named := false
			for _, e := range *p.Errors {
				named = named || e.Pointer == test.pointer
			}
			if !named {
				t.Errorf("%s, %s: %s is not named: %+v", rt.pattern, name, test.pointer, *p.Errors)
			}
		}
	}
}

// afar is a listener whose clients seem to be on other machines: 127.0.0.n is
// 203.0.113.n.
type afar struct{ net.Listener }

type afarConn struct {
	net.Conn
	from net.Addr
}

func (c afarConn) RemoteAddr() net.Addr { return c.from }

func (l afar) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	was := netip.MustParseAddrPort(c.RemoteAddr().String())
	four := was.Addr().As4()
	there := netip.AddrFrom4([4]byte{203, 0, 113, four[3]})
	return afarConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(there, was.Port()))}, nil
}

// dialFrom dials from 127.0.0.n.
func dialFrom(n byte) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, n)}, Timeout: 30 * time.Second}
}

// Two thousand connections that send drop by drop, half of them headers and
// half of them bodies: as many requests of others are served as without them.
// One address has no more than its share of connections, and headers that do
// not come are waited for no longer than that.
func TestSlowConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("it opens thousands of connections")
	}
	const slow, workers, each = 2000, 8, 50
	l := listen(t)
	f := newFarm(t, func(_ *Config, d *Deps) { d.Listener = afar{l} })
	address := l.Addr().String()

	served := func() (n int64, took time.Duration) {
		var ok atomic.Int64
		var wg sync.WaitGroup
		began := time.Now()
		for w := range workers {
			wg.Go(func() {
				transport := &http.Transport{DialContext: dialFrom(byte(100 + w)).DialContext}
				defer transport.CloseIdleConnections()
				client := &http.Client{Transport: transport, Timeout: time.Minute}
				for range each {
					r, err := http.NewRequest("GET", "http://"+address+"/v1/jobs", nil)
					if err != nil {
						panic(err)
					}
					r.Header.Set("Authorization", "Bearer "+f.key)
					resp, err := client.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						ok.Add(1)
					}
				}
			})
		}
		wg.Wait()
		return ok.Load(), time.Since(began)
	}
	without, quiet := served()

	conns := make([]net.Conn, slow)
	for i := range conns {
		c, err := dialFrom(2).Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		conns[i] = c
		text := "GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Drop: "
		if i%2 == 1 {
			text = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.key + "\r\nContent-Length: 1000000\r\n\r\n{"
		}
		_, _ = io.WriteString(c, text) // one too many is closed already
	}
	with, busy := served()
	t.Logf("%d requests in %s without slow connections, %d in %s with %d of them", without, quiet, with, busy, slow)
	if with != without || without != workers*each {
		t.Errorf("%d requests were served without slow connections, %d with them; want %d", without, with, workers*each)
	}

	// Those beyond the bound were closed, and the slow headers are by now or soon.
	var closed atomic.Int64
	var wg sync.WaitGroup
	for i, c := range conns {
		if i%2 == 1 && i < connsPerAddress {
			continue // a body may take longer
		}
		wg.Go(func() {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := bufio.NewReader(c).ReadByte(); err != nil {
				if late, ok := err.(net.Error); ok && late.Timeout() { //nolint:errorlint // of a connection itself
					return
				}
			}
			closed.Add(1)
		})
	}
	wg.Wait()
	if got, want := closed.Load(), int64(slow-connsPerAddress/2); got != want {
		t.Errorf("%d connections were closed or answered, want %d", got, want)
	}
}

// A proxy that is trusted is everybody, and is not bound by connections.
func TestConnectionsOfProxies(t *testing.T) {
	l := &limitedListener{exempt: func() []netip.Prefix { return networks("203.0.113.3/32") }, open: map[netip.Prefix]int{}}
	for from, want := range map[string]int{"203.0.113.2": connsPerAddress, "203.0.113.3": connsPerAddress + 5, "127.0.0.1": connsPerAddress + 5} {
		accepted := 0
		for range connsPerAddress + 5 {
			if a := netip.MustParseAddr(from); l.everybody(a) || l.admits(account.Identity(a)) {
				accepted++
			}
		}
		if accepted != want {
			t.Errorf("%d connections of %s, want %d", accepted, from, want)
		}
	}
}
