package egress

import (
	_ "embed"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// DemoURL is the page that ships with Tintype. Every job's proxy serves it
// itself, so that a first render needs no network and opens no address.
const DemoURL = "http://" + demoHost + "/"

const (
	demoHost   = "demo.tintype.internal"
	hostSuffix = ".tintype.internal"
)

//go:embed demo/index.html
var demoPage string

// vhosts are the hosts that live inside one job's proxy: the demo page, and
// the job's own markup under a name that nobody can guess. Any other name
// goes the normal way, *.internal too.
type vhosts struct {
	mu   sync.Mutex
	name string // host of the job's own markup; guarded by mu, empty without one
	html string // guarded by mu
}

// ServeHTML makes the proxy serve doc, as it is, and returns the URL to open.
// A job has one document at most; a second call replaces it.
func (p *Proxy) ServeHTML(doc string) string {
	v := &p.hosts
	v.mu.Lock()
	defer v.mu.Unlock()
	v.name, v.html = randomName()+hostSuffix, doc
	return "http://" + v.name + "/"
}

// A page is an answer of a virtual host; the zero page is its 404.
type page struct {
	found bool
	body  string
}

// find looks authority up among the virtual hosts; false sends the request on
// its normal way.
func (v *vhosts) find(authority, path string) (page, bool) {
	host := canonicalHost(strings.TrimSuffix(authority, ":80"))
	path, _, _ = strings.Cut(path, "?")
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case host == demoHost:
		return page{found: path == "/", body: demoPage}, true
	case v.name != "" && host == v.name:
		return page{found: path == "/", body: v.html}, true
	}
	return page{}, false
}

// writePage answers for a virtual host.
func (c *conn) writePage(req *request, pg page) bool {
	status, body := "404 Not Found", ""
	if pg.found {
		status, body = "200 OK", pg.body
	}
	h := http.Header{
		"Content-Type":           {"text/html; charset=utf-8"},
		"Content-Length":         {strconv.Itoa(len(body))},
		"Cache-Control":          {"no-store"},
		"X-Content-Type-Options": {"nosniff"},
	}
	if req.body != nil {
		h.Set("Connection", "close")
	}
	if c.writeHead(status, h) != nil {
		return false
	}
	if req.method != http.MethodHead {
		c.bw.WriteString(body)
	}
	return c.bw.Flush() == nil && req.body == nil
}
