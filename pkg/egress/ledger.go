package egress

import (
	"hash/maphash"
	"net"
	"net/url"
	"strings"
	"sync"

	"github.com/tintype/tintype/pkg/job"
)

// What one job may take through its proxy. A page that needs more is no page;
// it is an attack on somebody, with our address on it.
const (
	MaxRequests   = 1000
	MaxConcurrent = 64        // requests and tunnels at a time
	MaxDown       = 100 << 20 // bytes towards the browser
	MaxUp         = 5 << 20   // bytes towards the origins

	maxNoted    = 50      // entries kept of each list of Stats
	maxNotedURL = 2 << 10 // bytes kept of a URL in it
)

// Stats is what passed a proxy.
type Stats struct {
	Requests int
	Down     int64          // body bytes, tunnels included
	Up       int64          // bytes of heads and bodies, tunnels included
	Blocked  []job.Resource // what the Guard, a limit or the job itself refused
	Failed   []job.Resource // what was allowed and got no answer
}

// A ledger counts what one job takes and notes what it did not get.
type ledger struct {
	mu       sync.Mutex
	requests int
	active   int
	down, up int64
	blocked  []job.Resource
	failed   []job.Resource
	reasons  map[uint64]Reason // by hash of URL or host:port; at most twice MaxRequests
}

var seed = maphash.MakeSeed()

// begin counts a request in; it may not go on when the job has spent its own.
func (l *ledger) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests >= MaxRequests || l.active >= MaxConcurrent {
		return false
	}
	l.requests++
	l.active++
	return true
}

func (l *ledger) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}

// addDown counts bytes towards the browser and reports whether more may come.
func (l *ledger) addDown(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down += int64(n)
	return l.down <= MaxDown
}

func (l *ledger) addUp(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up += int64(n)
	return l.up <= MaxUp
}

// note keeps why key, a URL or the HOST:PORT of a tunnel, got no answer. The
// first reason for a key stands.
func (l *ledger) note(key string, why Reason) {
	url := key
	if !strings.Contains(key, "://") {
		url = tunnelURL(key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reasons == nil {
		l.reasons = map[uint64]Reason{}
	}
	known := true
	for _, name := range []string{key, url} {
		if sum := maphash.String(seed, name); l.reasons[sum] == "" && len(l.reasons) < 2*MaxRequests {
			l.reasons[sum], known = why, false
		}
	}
	if known {
		return
	}
	list := &l.failed
	if why.Blocked() {
		list = &l.blocked
	}
	if len(*list) < maxNoted {
		*list = append(*list, job.Resource{URL: url[:min(len(url), maxNotedURL)], Reason: string(why)})
	}
}

// tunnelURL spells all that a tunnel tells: where it goes to. Browsers make
// one for TLS, and to port 80 for a WebSocket.
func tunnelURL(hostPort string) string {
	if host, ok := strings.CutSuffix(hostPort, ":80"); ok {
		return "ws://" + host + "/"
	}
	return "https://" + strings.TrimSuffix(hostPort, ":443") + "/"
}

// Stats tells what passed so far.
func (p *Proxy) Stats() Stats {
	l := &p.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{
		Requests: l.requests, Down: l.down, Up: l.up,
		Blocked: append([]job.Resource(nil), l.blocked...),
		Failed:  append([]job.Resource(nil), l.failed...),
	}
}

// Failure tells why the request for rawURL, as the browser spells it, got no
// answer from its origin; false when the proxy knows of no failure. TLS and
// WebSocket URLs are known by host and port alone.
func (p *Proxy) Failure(rawURL string) (Reason, bool) {
	key, _, _ := strings.Cut(rawURL, "#")
	if !strings.HasPrefix(key, "http://") {
		u, err := url.Parse(key)
		if err != nil {
			return "", false
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"https": "443", "wss": "443", "ws": "80"}[u.Scheme]
		}
		key = net.JoinHostPort(u.Hostname(), port)
	}
	l := &p.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	why, ok := l.reasons[maphash.String(seed, key)]
	return why, ok
}
