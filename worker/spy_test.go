package worker_test

import (
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
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

	last image.Image // what see rendered last

	mu        sync.Mutex
	asked     []*http.Request
	gotAll    map[string]string // what was said, by WHO; guarded by mu
	tunnelled []string          // what the other proxy was asked to connect to; guarded by mu
}

const sayScript = `const say=async(who)=>{const n=navigator;
	const seen={ua:n.userAgent,platform:n.platform,languages:n.languages,zone:Intl.DateTimeFormat().resolvedOptions().timeZone,
		locale:Intl.DateTimeFormat().resolvedOptions().locale,offset:new Date(2026,0,1).getTimezoneOffset(),
		brands:n.userAgentData?n.userAgentData.brands.map(b=>b.brand+'/'+b.version).sort().join():'none',mobile:n.userAgentData?.mobile,hinted:n.userAgentData?.platform};
	if(who==='page')paint([seen.ua.replace(/\d+/g,''),seen.offset,seen.languages+seen.locale]);
	await fetch('/said/'+who+'?'+encodeURIComponent(JSON.stringify(seen)))};` + paintScript

// paintScript gives paint, which shows texts as rows of colours: what a page is
// told can be seen then.
const paintScript = `const paint=texts=>{let h='';
	texts.forEach((text,row)=>{if(text==='')return;
		let n=2166136261;for(const c of String(text))n=Math.imul(n^c.charCodeAt(0),16777619);
		for(let i=0;i<8;i++)h+='<div style="position:fixed;left:'+i*40+'px;top:'+row*40+'px;width:40px;height:40px;background:rgb('+[4,2,1].map(b=>n>>>3*i&b?255:0)+')"></div>'});
	document.body.insertAdjacentHTML('beforeend','<div style="position:fixed;inset:0;background:#0000ff">'+h+'</div>')};`

// told shows, in the way of paintScript, what a request says beside its URL.
func told(r *http.Request) string {
	var texts []string
	for _, name := range []string{"X-Secret", "Authorization", "Cookie", "X-By-Way"} {
		texts = append(texts, strconv.Quote(r.Header.Get(name)))
	}
	return `<script>` + paintScript + `paint([` + strings.Join(texts, ",") + `])</script>`
}

// newSpy starts the two sites: on loopback's names without TLS, or with it on
// names of two registrable domains, as sites of strangers are.
func newSpy(t *testing.T, secure bool) *spy {
	needtest.Browser(t)
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
	trackers := filepath.Join(t.TempDir(), "trackers.txt")
	err := errors.Join(os.WriteFile(file, []byte("/ad-banner.\n||"+s.otherHost+"^$third-party\n"), 0o600), os.WriteFile(trackers, []byte("/pixel.\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	lists, err := egress.LoadLists([]string{file, "trackers=" + trackers})
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
		html(`<script>` + paintScript + `navigator.geolocation.getCurrentPosition(p=>{const at=[p.coords.latitude,p.coords.longitude,p.coords.accuracy];paint(at);fetch('/said/where?'+encodeURIComponent(at))},e=>fetch('/said/where?denied'))</script>`)
	case path == "/plain":
		html(`<p>plain` + told(r))
	case path == "/to-other":
		http.Redirect(w, r, s.other+"/back", http.StatusFound)
	case path == "/to-plain":
		http.Redirect(w, r, s.plain+"/unprotected", http.StatusFound)
	case path == "/unprotected":
		html(`<p>plain`)
	case path == "/back":
		http.Redirect(w, r, s.site+"/plain", http.StatusFound)
	case path == "/mixed":
		html(`<img src="/own.png"><img src="` + s.other + `/foreign.png"><img src="/hop"><iframe src="` + s.other + `/frame-of-own"></iframe><script>fetch('/own-fetch')</script>` + told(r))
	case path == "/hop":
		http.Redirect(w, r, s.other+"/hopped.png", http.StatusFound)
	case path == "/frame-of-own":
		html(`<img src="` + s.site + `/from-other.png"><script>fetch('` + s.site + `/cors-from-other')</script>`)
	case path == "/kinds":
		html(`<div style="position:fixed;inset:0;background:#0000ff"><style>i{position:fixed;width:60px;height:60px;background:#ff0000}</style>
			<i id=sheet></i><i id=ran style="left:80px"></i><i id=fetched style="left:160px"></i><i style="left:240px;background:url(/kind/image.png)"></i></div>
			<link rel=stylesheet href="/kind/stylesheet.css"><img src="/kind/image.png"><video src="/kind/media.mp4"></video>
			<video><track default src="/kind/texttrack.vtt"></video><style>@font-face{font-family:f;src:url(/kind/font.woff)}p{font-family:f}</style><p>text
			<script src="/kind/script.js"></script><iframe src="` + s.other + `/kinds-frame"></iframe><script>
			fetch('/kind/fetch').then(()=>fetched.style.background='#00ff00');const x=new XMLHttpRequest;x.open('GET','/kind/xhr');x.send();
			const e=new EventSource('/kind/eventsource');e.onerror=()=>e.close();navigator.sendBeacon('/kind/ping');
			new WebSocket(location.origin.replace('http','ws')+'/kind/websocket');new Worker('/kinds-worker.js');navigator.serviceWorker.register('/kinds-service.js')</script>`)
	case path == "/kind/stylesheet.css":
		w.Header().Set("Content-Type", "text/css")
		io.WriteString(w, `#sheet{background:#00ff00}`)
	case path == "/kind/script.js":
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, `ran.style.background='#00ff00'`)
	case path == "/kind/image.png", strings.HasSuffix(path, ".svg"):
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="60" height="60"><rect width="60" height="60" fill="#00ff00"/></svg>`)
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
			<script>new WebSocket('wss://stats.hotjar.com/ws')</script><img src="` + s.other + `/third.png"><img src="/image.png">
			<div style="position:fixed;inset:0;background:#0000ff"><style>b{position:fixed;width:60px;height:60px;background:url(/ad-banner.svg)}</style>
			<b></b><b style="left:80px;background:url(/pixel.svg)"></b><b style="left:160px;background:url(/own.svg)"></b></div>`)
	case path == "/cookies":
		html(told(r) + `<script>fetch('/said/cookies?'+encodeURIComponent(document.cookie))</script><iframe src="` + s.other + `/frame-cookies"></iframe>`)
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
	img, e := b.picture(func(spec *job.Spec) {
		spec.URL, spec.WaitUntil = s.site+path, job.NetworkIdle0
		if change != nil {
			change(spec)
		}
	})
	if len(e.TimedOut) > 0 {
		t.Errorf("timed out: %v", e.TimedOut)
	}
	s.last = img
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
