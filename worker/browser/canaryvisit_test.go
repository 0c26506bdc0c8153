package browser

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
)

// A visitor opens the hostile page in one browser, for one host at a time.
type visitor struct {
	browser *Browser
	guard   *egress.Guard
	site    *hostileSite
	name    string
	guarded bool // by the flags
	loose   bool // by nothing at all: what comes to the proxy tells nothing
	saw     int
}

// Every visit tries these, by the first part of the path; of tunnels only host
// and port are known. rebound is the one that comes before a name moves.
const rebound = "first"

var (
	onThePage = []string{"img", "fetch", "beacon", "events", "ws", "wss", "tls", "print-sheet", "lazy", "late"}
	inPrint   = []string{"before-print", "print-image"}
	atTheTop  = []string{"top-location", "top-form", "top-redirect", "top-refresh"}
)

// Thorough visits try these as well, and many more that depend on what the
// browser finds worth its while.
var thoroughly = []string{
	"read", "post", "redirect", "xhr", "module", "import-scripts", "worker-fetch", "shared-fetch", "preload", "stylesheet", "script",
	"css-import", "font", "background", "content", "svg-image", "video", "poster", "object", "embed", "iframe", "srcdoc", "input",
	"frame-redirect", "refresh", "img-redirect", "wasm",
}

// These are for secure pages, and of plain HTTP those alone are that come from
// localhost: without the flags the browser would go there by itself.
var secure = []string{"audio-worklet", "service-worker", "cache"}

// visit opens the page at a host. What a browser finds worth its while in one
// visit, on a busy machine, need not be all: it is visited up to three times until
// nothing was left out, and is right in each.
func (v *visitor) visit(t *testing.T, host string) {
	t.Helper()
	const tries = 3
	for try := 1; ; try++ {
		id := fmt.Sprintf("%s%d %s", v.name, try, host)
		missing := v.once(t, host, id, try)
		if len(missing) == 0 {
			return
		}
		if try == tries {
			t.Errorf("%s: nobody saw it try %q", id, missing)
			return
		}
		t.Logf("%s: once more, nobody saw it try %q", id, missing)
	}
}

// once opens the page in a context of its own with a proxy of its own, prints
// it, has it lead the tab away, and holds what the proxy said of all that
// against what is right. It returns what was not seen.
func (v *visitor) once(t *testing.T, host, id string, try int) (missing []string) {
	t.Helper()
	ctx := t.Context()
	l, err := v.browser.Listen()
	if err != nil {
		t.Fatal(err)
	}
	at := host
	if host == "rebind.test" {
		at = fmt.Sprintf("%s%d.%s", v.name, try, host) // it moves once
	}
	w := &witness{Listener: l, host: hostOf(at), news: make(chan struct{}, 1)}
	proxy := egress.OpenOn(w, v.guard)
	defer proxy.Close()
	tab := v.open(t, proxy.Port())
	// Where the browser does not ask the proxy, the tab shows an error of its own.
	tab.Listen(func(_, method string, params json.RawMessage) {
		if method == (proto.PageFrameNavigated{}).ProtoEvent() {
			var e proto.PageFrameNavigated
			if json.Unmarshal(params, &e) == nil && e.Frame.ParentID == "" && e.Frame.UnreachableURL != "" {
				w.note(w.vector(e.Frame.UnreachableURL), unasked)
			}
		}
	})
	origin := "http://site.test"
	query := url.Values{"h": {at}, "visit": {url.QueryEscape(id)}}
	if slices.Contains(thorough, host) {
		query.Set("thorough", "")
		if v.guarded {
			origin = "http://site.localhost"
		}
	}
	tab.Post(navigation{URL: origin + "/?" + query.Encode()})
	select {
	case <-v.site.through(url.QueryEscape(id)):
	case <-time.After(40 * time.Second):
		t.Errorf("%s: the page did not come to its end; the proxy saw %v", id, w.verdicts())
	}
	if v.loose {
		tab.Close(ctx)
		return nil
	}
	bypassed := !v.guarded && isBypassed(host)
	wait := func(names ...string) { missing = append(missing, w.wait(ctx, 20*time.Second, names)...) }
	if _, err := (proto.PagePrintToPDF{PageRanges: "1", TransferMode: proto.PagePrintToPDFTransferModeReturnAsStream}).Call(tab.Within(ctx, 30*time.Second)); err != nil {
		t.Errorf("%s: print: %v", id, err)
	}
	if !bypassed {
		wait(onThePage...)
		wait(inPrint...)
		if slices.Contains(thorough, host) {
			wait(thoroughly...)
			if v.guarded {
				wait(secure...)
			}
		}
	}
	for _, how := range atTheTop {
		to := "http://" + at + "/" + how
		tab.Post(proto.PageNavigate{URL: origin + "/" + strings.TrimPrefix(how, "top-") + "?to=" + url.QueryEscape(to)})
		wait(how)
	}
	tab.Close(ctx) // what is under way ends with it
	verdicts := w.verdicts()
	for name, list := range verdicts {
		v.saw += len(list)
		kind := name
		if first, _, ok := strings.Cut(name, " /"); ok {
			kind = first
		}
		for _, verdict := range list {
			if right := v.right(host, kind, bypassed); !slices.Contains(right, verdict) {
				t.Errorf("%s: %s got %q, want one of %q", id, name, verdict, right)
			}
		}
	}
	t.Logf("%s: %v", id, verdicts)
	return missing
}

// Verdicts beside the reasons of the proxy.
const (
	passed  = "passed"
	unasked = "unasked" // the browser did not ask the proxy at all
)

// right are the verdicts that a vector may get at a host.
func (v *visitor) right(host, name string, bypassed bool) []string {
	switch {
	case name == "other": // what the page's own headers name
		return []string{string(egress.Refused)}
	case name == "site" || name == rebound && host == "rebind.test":
		return []string{passed}
	case bypassed:
		return []string{unasked}
	case host == "mixed.test": // its public address is dialled, where only port 80 answers
		return []string{passed, string(egress.ConnRefused)}
	case host == "x.localhost": // which only browsers take for this machine
		return []string{string(egress.NotResolved)}
	}
	return []string{string(egress.Refused)}
}

// isBypassed tells the hosts that a browser without the flags asks by itself
// (Chromium, net/docs/proxy.md, "Implicit bypass rules").
func isBypassed(host string) bool {
	name := hostOf(host)
	a, err := netip.ParseAddr(name)
	if err != nil {
		return name == "localhost" || strings.HasSuffix(name, ".localhost")
	}
	a = a.Unmap()
	return a.IsLoopback() || a.IsLinkLocalUnicast()
}

// hostOf is a host as the browser spells it, an address of IPv6 without its
// brackets.
func hostOf(written string) string {
	href, _ := job.CheckURL("http://" + written + "/")
	u, err := url.Parse(href)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (v *visitor) open(t *testing.T, port int) *Tab {
	t.Helper()
	ctx := t.Context()
	if v.guarded {
		tab, err := v.browser.NewTab(ctx, port)
		if err != nil {
			t.Fatal(err)
		}
		return tab
	}
	root := v.browser.root(ctx, 10*time.Second)
	made, err := proto.TargetCreateBrowserContext{DisposeOnDetach: true, ProxyServer: fmt.Sprintf("http://127.0.0.1:%d", port)}.Call(root)
	if err != nil {
		t.Fatal(err)
	}
	tab := newTab(v.browser, made.BrowserContextID)
	if err := tab.open(ctx, root); err != nil {
		t.Fatal(err)
	}
	return tab
}

// A witness stands where a browser comes to its proxy, and notes what was asked
// for and what the proxy said.
type witness struct {
	net.Listener
	host string        // that is being tried
	news chan struct{} // something was noted

	mu   sync.Mutex
	said map[string][]string // verdicts by vector; guarded by mu
}

func (w *witness) note(what, verdict string) {
	w.mu.Lock()
	if w.said == nil {
		w.said = map[string][]string{}
	}
	w.said[what] = append(w.said[what], verdict)
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *witness) verdicts() map[string][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := map[string][]string{}
	for what, list := range w.said {
		said[what] = slices.Clone(list)
	}
	return said
}

// wait returns once all of that was noted, and what was not within limit.
func (w *witness) wait(ctx context.Context, limit time.Duration, names []string) (missing []string) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		said := w.verdicts()
		missing = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return len(said[name]) > 0 })
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-w.news:
		case <-ctx.Done():
			return missing
		}
	}
}

func (w *witness) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &witnessed{TCPConn: c.(*net.TCPConn), witness: w}, nil
}

// A witnessed connection carries one request after the other.
type witnessed struct {
	*net.TCPConn
	witness *witness

	mu     sync.Mutex
	asked  string // what has no answer yet; guarded by mu
	tunnel bool   // what comes now is not for the proxy; guarded by mu
}

func (c *witnessed) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	line, _, ok := bytes.Cut(b[:n], []byte(" HTTP/1.1\r\n"))
	method, target, ok2 := strings.Cut(string(line), " ")
	if ok && ok2 && slices.Contains([]string{"GET", "POST", "HEAD", "OPTIONS", "CONNECT"}, method) {
		c.mu.Lock()
		if !c.tunnel {
			c.asked, c.tunnel = c.witness.vector(target), method == "CONNECT"
		}
		c.mu.Unlock()
	}
	return n, err
}

func (c *witnessed) Write(b []byte) (int, error) {
	if bytes.HasPrefix(b, []byte("HTTP/1.1 ")) {
		c.mu.Lock()
		asked := c.asked
		c.asked = ""
		c.mu.Unlock()
		verdict := passed
		if _, rest, ok := bytes.Cut(b, []byte("\r\n"+egress.MarkerHeader+": ")); ok {
			value, _, _ := bytes.Cut(rest, []byte("\r\n"))
			_, reason, _ := bytes.Cut(value, []byte(" "))
			verdict = string(reason)
		}
		if asked != "" {
			c.witness.note(asked, verdict)
		}
	}
	return c.TCPConn.Write(b)
}

// vector is what the page calls a request: the first part of the path, or what
// it uses the port of a tunnel for. Those to the site, and to others than the
// host that is being tried, have a word before it.
func (w *witness) vector(target string) string {
	var host, name string
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		host = u.Hostname()
		name, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	} else if h, port, err := net.SplitHostPort(target); err == nil {
		host, name = h, cmp.Or(map[string]string{"80": "ws", "443": "wss", "8443": "tls"}[port], "port "+port)
	}
	switch {
	case host == "site.localhost" || strings.HasSuffix(host, "site.test"):
		return "site /" + name
	case host != w.host:
		return "other /" + host + "/" + name
	}
	return name
}
