package egress

import (
	"strings"
	"sync"
)

// A Block is what one job does not want to load. It is judged before any
// address is, on all that passes the proxy: pages, frames, workers and
// WebSockets. Of TLS the proxy knows host and port alone; what depends on more
// than those is for the browser to hold back.
type Block struct {
	Ads, Trackers bool // the hosts of the lists
	// Socket judges WebSockets by URL: the whole of it for ws, and for wss as
	// much as the proxy knows, which is the host with a path of "/". Empty lets
	// it pass; nil looks at none.
	Socket func(url string) Reason
}

// blocks is the Block of a proxy, and the hosts that it spares.
type blocks struct {
	mu     sync.Mutex
	Block           // guarded by mu
	spared []string // hosts that a page of the job stands on; guarded by mu
}

// Block sets what the job does not want to load. Without it, nothing is looked
// at.
func (p *Proxy) Block(b Block) {
	p.blocks.mu.Lock()
	defer p.blocks.mu.Unlock()
	p.blocks.Block = b
}

// Spare lets a host pass that is on a list, because the job's own page stands on
// it, or passes through.
func (p *Proxy) Spare(host string) {
	p.blocks.mu.Lock()
	defer p.blocks.mu.Unlock()
	p.blocks.spared = append(p.blocks.spared, canonicalHost(host))
}

// Listed tells which list a request is on, by the rules for hosts and for
// URLs; empty when it is on none that the job asked for.
func (p *Proxy) Listed(r ListedRequest) Reason {
	ads, trackers, spared := p.wants()
	if !ads && !trackers {
		return ""
	}
	if why := p.guard.lists.host(r.Host, ads, trackers, spared); why != "" {
		return why
	}
	return p.guard.lists.url(r, ads, trackers)
}

// HasURLRules reports whether the lists know more than hosts, so that each
// request must be looked at in the browser.
func (p *Proxy) HasURLRules() bool { return p.guard.lists.hasURLRules() }

func (p *Proxy) wants() (ads, trackers bool, spared []string) {
	b := &p.blocks
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Ads, b.Trackers, b.spared
}

// judgeHost is the verdict of the lists on what is asked of authority, a host
// with or without its port.
func (p *Proxy) judgeHost(authority string) Reason {
	ads, trackers, spared := p.wants()
	if !ads && !trackers {
		return ""
	}
	return p.guard.lists.host(hostOnly(authority), ads, trackers, spared)
}

func hostOnly(authority string) string {
	if strings.HasPrefix(authority, "[") {
		host, _, _ := strings.Cut(authority[1:], "]")
		return host
	}
	host, _, _ := strings.Cut(authority, ":")
	return canonicalHost(host)
}

// socketJudge is the job's own judge of WebSockets; nil without one.
func (p *Proxy) socketJudge() func(string) Reason {
	p.blocks.mu.Lock()
	defer p.blocks.mu.Unlock()
	return p.blocks.Socket
}
