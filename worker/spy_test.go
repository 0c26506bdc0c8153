package worker_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker"
)

// spy is two sites of two hosts. Each page of the first has a frame of the
// second and workers, and each tells what it can see of its browser by asking
// for /said/WHO?JSON. The spy keeps what it was asked.
type spy struct {
	*bench
	site, other     string // URLs without the closing slash
	host, otherHost string // of those, without the port
	plain           string // over TLS the first host once more, without it
	upstream        string // HOST:PORT of somebody else's proxy

	mu        sync.Mutex
	asked     []*http.Request
	gotAll    map[string]string // what was said, by WHO; guarded by mu
	tunnelled []string          // what the other proxy was asked to connect to; guarded by mu
}

const sayScript = `const say=async(who)=>{const n=navigator;
	const seen={ua:n.userAgent,platform:n.platform,languages:n.languages,zone:Intl.DateTimeFormat().resolvedOptions().timeZone,
		locale:Intl.DateTimeFormat().resolvedOptions().locale,offset:new Date(2026,0,1).getTimezoneOffset(),
		brands:n.userAgentData?n.userAgentData.brands.map(b=>b.brand+'/'+b.version).sort().join():'none',mobile:n.userAgentData?.mobile,hinted:n.userAgentData?.platform};
	await fetch('/said/'+who+'?'+encodeURIComponent(JSON.stringify(seen)))};`

// newSpy starts the two sites: on loopback's names without TLS, or with it on
// names of two registrable domains, as sites of strangers are.
func newSpy(t *testing.T, secure bool) *spy {
	needBrowser(t)
	s := &spy{gotAll: map[string]string{}, host: "127.0.0.1", otherHost: "localhost"}
	dns, bin := emptyDNS(t), ""
	start := func(host string) string { return "http://" + net.JoinHostPort(host, listen(t, s, false)) }
	if secure {
		s.host, s.otherHost, dns, bin = "one.test", "two.test", namesDNS(t, "one.test", "two.test"), trusting(t)
		s.plain = start(s.host)
		start = func(host string) string { return "https://" + net.JoinHostPort(host, listen(t, s, true)) }
	}
	s.site, s.other = start(s.host), start(s.otherHost)
	// The names of its lists are in no resolver of the tests: what is not blocked fails.
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte("/ad-banner.\n||"+s.otherHost+"^$third-party\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lists, err := egress.LoadLists([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	_, s.upstream = serve(t, http.HandlerFunc(s.forward))
	allow := []string{s.upstream}
	for _, site := range []string{s.site, s.other, s.plain} {
		if _, address, ok := strings.Cut(site, "://"); ok {
			allow = append(allow, address)
		}
	}
	s.bench = newBench(t, func(cfg *worker.SeatConfig) {
		cfg.Browser.Bin = bin
		cfg.Guard, err = egress.New(egress.Config{Allow: allow, DNS: dns, Lists: lists})
		if err != nil {
			t.Fatal(err)
		}
	})
	<-s.seat.Ready()
	return s
}

func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Clone(r.Context()))
	s.mu.Unlock()
	html := func(body string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<!doctype html><body style='margin:0;background:#0000ff'>"+body)
	}
	switch path := r.URL.Path; {
	case path == "/identity":
		html(`<iframe src="` + s.other + `/frame"></iframe><script>` + sayScript + `say('page');new Worker('/worker.js');
			navigator.serviceWorker.register('/service.js')</script>`)
	case path == "/frame":
		html(`<script>` + sayScript + `say('frame')</script>`)
	case path == "/worker.js", path == "/service.js":
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, sayScript+`say('`+strings.TrimSuffix(path[1:], ".js")+`')`)
	case strings.HasPrefix(path, "/said/"):
		said, _ := url.QueryUnescape(r.URL.RawQuery)
		s.mu.Lock()
		s.gotAll[strings.TrimPrefix(path, "/said/")] = said
		s.mu.Unlock()
	case path == "/where":
		html(`<script>navigator.geolocation.getCurrentPosition(p=>fetch('/said/where?'+encodeURIComponent([p.coords.latitude,p.coords.longitude,p.coords.accuracy])),e=>fetch('/said/where?denied'))</script>`)
	case path == "/plain":
		html(`<p>plain`)
	case path == "/to-other":
		http.Redirect(w, r, s.other+"/back", http.StatusFound)
	case path == "/to-plain":
		http.Redirect(w, r, s.plain+"/unprotected", http.StatusFound)
	case path == "/unprotected":
		html(`<p>plain`)
	case path == "/back":
		http.Redirect(w, r, s.site+"/plain", http.StatusFound)
	case path == "/mixed":
		html(`<img src="/own.png"><img src="` + s.other + `/foreign.png"><img src="/hop"><iframe src="` + s.other + `/frame-of-own"></iframe><script>fetch('/own-fetch')</script>`)
	case path == "/hop":
		http.Redirect(w, r, s.other+"/hopped.png", http.StatusFound)
	case path == "/frame-of-own":
		html(`<img src="` + s.site + `/from-other.png"><script>fetch('` + s.site + `/cors-from-other')</script>`)
	case path == "/kinds":
		html(`<link rel=stylesheet href="/kind/stylesheet.css"><img src="/kind/image.png"><video src="/kind/media.mp4"></video>
			<video><track default src="/kind/texttrack.vtt"></video><style>@font-face{font-family:f;src:url(/kind/font.woff)}p{font-family:f}</style><p>text
			<script src="/kind/script.js"></script><iframe src="` + s.other + `/kinds-frame"></iframe><script>
			fetch('/kind/fetch');const x=new XMLHttpRequest;x.open('GET','/kind/xhr');x.send();
			const e=new EventSource('/kind/eventsource');e.onerror=()=>e.close();navigator.sendBeacon('/kind/ping');
			new WebSocket(location.origin.replace('http','ws')+'/kind/websocket');new Worker('/kinds-worker.js');navigator.serviceWorker.register('/kinds-service.js')</script>`)
	case path == "/kinds-frame":
		html(`<img src="/kind/frame-image.png"><script>new WebSocket(location.origin.replace('http','ws')+'/kind/frame-websocket')</script>`)
	case strings.HasPrefix(path, "/kinds-"):
		w.Header().Set("Content-Type", "text/javascript")
		who := strings.TrimSuffix(strings.TrimPrefix(path, "/kinds-"), ".js")
		fmt.Fprintf(w, `fetch('/kind/%[1]s-fetch');new WebSocket(location.origin.replace('http','ws')+'/kind/%[1]s-websocket')`, who)
	case path == "/banner":
		html(`<div id="onetrust-banner-sdk" style="position:fixed;inset:0;background:#ff0000">We value your privacy
			<button id="onetrust-accept-btn-handler" onclick="fetch('/said/accepted')">Accept all</button>
			<button id="onetrust-reject-all-handler" onclick="this.parentNode.remove();fetch('/said/rejected')">Reject all</button></div>`)
	case path == "/ads":
		html(`<img src="http://ad.doubleclick.net/x.png"><script src="https://www.google-analytics.com/ga.js"></script>
			<script>new WebSocket('wss://stats.hotjar.com/ws')</script><img src="/ad-banner.png"><img src="` + s.other + `/third.png"><img src="/image.png">`)
	case path == "/cookies":
		html(`<script>fetch('/said/cookies?'+encodeURIComponent(document.cookie))</script><iframe src="` + s.other + `/frame-cookies"></iframe>`)
	default:
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.WriteHeader(http.StatusNotFound)
	}
}

// see renders path with what change asks for, and returns what was said and
// asked while it ran.
func (s *spy) see(t *testing.T, path string, change func(*job.Spec)) (said map[string]string, asked []*http.Request) {
	t.Helper()
	s.mu.Lock()
	s.gotAll, s.asked = map[string]string{}, nil
	s.mu.Unlock()
	<-s.seat.Ready() // on a busy machine a browser takes longer to come than a render waits
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	_, e := b.picture(func(spec *job.Spec) {
		spec.URL, spec.WaitUntil = s.site+path, job.NetworkIdle0
		if change != nil {
			change(spec)
		}
	})
	if len(e.TimedOut) > 0 {
		t.Errorf("timed out: %v", e.TimedOut)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gotAll, s.asked
}

// of finds the request for path.
func of(t *testing.T, asked []*http.Request, path string) *http.Request {
	t.Helper()
	for _, r := range asked {
		if r.URL.Path == path {
			return r
		}
	}
	t.Fatalf("nobody asked for %s", path)
	return nil
}

// forward is the other proxy: whatever it is asked for is the spy's first site.
func (s *spy) forward(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Proxy-Authorization") != "Basic bWU6cGFzcw==" {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		r.Header.Set("X-By-Way", "proxy")
		s.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	s.tunnelled = append(s.tunnelled, r.Host)
	s.mu.Unlock()
	origin, err := net.Dial("tcp", "127.0.0.1:"+s.site[strings.LastIndexByte(s.site, ':')+1:])
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer origin.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(origin, buffered)
		origin.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(client, origin)
	client.Close()
	<-done
}
