package browser

import (
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// spellings of forbidden hosts, as a page may write them.
var spellings = []string{
	"127.0.0.1", "127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.53", "0.0.0.0", "localhost", "x.localhost",
	"[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fd00::1]", "[fec0::1]", "[::127.0.0.1]",
	"１２７.0.0.1", "①②⑦.0.0.1", "%31%32%37.0.0.1",
	"169.254.169.254", "0xa9fea9fe", "10.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "168.63.129.16",
	"192.0.0.192", "198.18.0.1", "0.1.2.3", "private.test", "rebind.test", "mixed.test",
}

// thorough are those on which a page tries every vector there is.
var thorough = []string{"127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "[::1]", "private.test", "rebind.test"}

// vectorPage tries to reach the host h by a few ways that must all be seen at
// the proxy, and by every other way it knows when it is to be thorough. It says
// so when it is through. What is tried is the first thing in the path, or the
// port.
const vectorPage = `<!doctype html><title>canaries</title>
<meta http-equiv="Content-Security-Policy-Report-Only" content="default-src 'self'">
<body><script>
const query = new URLSearchParams(location.search), h = query.get('h');
const quiet = f => { try { const r = f(); if (r && r.catch) r.catch(()=>{}) } catch {} };
const el = (tag, set) => { const e = document.createElement(tag); quiet(() => set(e)); document.body.append(e); return e };
const html = s => { const d = document.createElement('div'); d.innerHTML = s; document.body.append(d) };
const settled = (e, ...names) => new Promise(r => { for (const n of names) e.addEventListener(n, r) });
let n = 0;
const u = p => 'http://' + h + '/' + p + '?' + n++;
const loaded = new Promise(r => addEventListener('load', r));
const some = () => {
  const socket = url => settled(new WebSocket(url), 'error', 'close');
  const events = new EventSource(u('events'));
  navigator.sendBeacon(u('beacon'), 'x');
  // Print style sheets are loaded for a screen too, and images of theirs when it comes to printing.
  html('<style>@media print { body { background: url(' + u('print-image') + ') } }</style>');
  addEventListener('beforeprint', () => fetch(u('before-print'), {mode: 'no-cors'}).catch(()=>{}));
  // It goes on when its job is over.
  addEventListener('pagehide', () => navigator.sendBeacon(u('pagehide'), 'x'));
  return [
    settled(el('img', e => e.src = u('img')), 'load', 'error'),
    fetch(u('fetch'), {mode: 'no-cors'}),
    fetch('https://' + h + ':8443/tls', {mode: 'no-cors'}),
    socket('ws://' + h + '/ws'), socket('wss://' + h + '/wss'),
    settled(events, 'open', 'error').then(() => events.close()),
    settled(el('link', e => { e.rel = 'stylesheet'; e.media = 'print'; e.href = u('print-sheet') }), 'load', 'error'),
    loaded.then(() => {
      html('<div style="height:30000px"></div>');
      const lazy = new Image; lazy.loading = 'lazy'; lazy.src = u('lazy');
      document.body.append(lazy);
      setTimeout(() => lazy.scrollIntoView(), 20);
      return settled(lazy, 'load', 'error');
    }),
    loaded.then(() => new Promise(r => setTimeout(r, 50))).then(() => fetch(u('late'), {mode: 'no-cors'})),
  ];
};
const gathered = pc => Promise.race([new Promise(r => pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && r()), new Promise(r => setTimeout(r, 2500))]);
const rest = () => {
  const wait = [];
  for (const port of [22, 25, 53, 80, 443, 3478, 6379, 8080, 8443]) quiet(() => fetch('http://' + h + ':' + port + '/port', {mode: 'no-cors'}));
  quiet(() => fetch('https://' + h + '/tls', {mode: 'no-cors'}));
  quiet(() => new WebSocket('wss://' + h + '/wss'));
  quiet(() => new WebSocket('ws://' + h + ':6379/ws'));
  quiet(() => new EventSource(u('events')));
  quiet(() => fetch(u('read')).then(r => r.text()).then(t => fetch('/read?' + t)));
  quiet(() => fetch(u('post'), {method: 'POST', mode: 'no-cors', body: 'x', keepalive: true}));
  quiet(() => fetch('/redirect?to=' + encodeURIComponent(u('redirect')), {mode: 'no-cors'}));
  quiet(() => { const x = new XMLHttpRequest; x.open('GET', u('xhr')); x.send() });
  quiet(() => import(u('module')));
  quiet(() => new Worker(URL.createObjectURL(new Blob(["try{importScripts('" + u('import-scripts') + "')}catch{};fetch('" + u('worker-fetch') + "',{mode:'no-cors'}).catch(()=>{});try{new WebSocket('ws://" + h + "/worker-ws')}catch{}"]))));
  quiet(() => new SharedWorker(URL.createObjectURL(new Blob(["fetch('" + u('shared-fetch') + "',{mode:'no-cors'}).catch(()=>{})"]))));
  quiet(() => { const w = new WebTransport('https://' + h + ':443/wt'); w.ready.catch(()=>{}); w.closed.catch(()=>{}); return w.ready });
  quiet(() => {
    const pc = new RTCPeerConnection({iceServers: [{urls: ['stun:' + h + ':3478', 'stun:' + h + ':53']}, {urls: ['turn:' + h + ':3478?transport=udp', 'turn:' + h + ':3478?transport=tcp', 'turns:' + h + ':5349'], username: 'u', credential: 'p'}]});
    pc.createDataChannel('x');
    wait.push(gathered(pc));
    return pc.createOffer().then(o => { o.sdp += 'a=candidate:1 1 udp 1 ' + h.replace(/[\[\]]/g, '') + ' 3478 typ host\r\n'; return pc.setLocalDescription(o) });
  });
  quiet(() => {
    const a = new RTCPeerConnection, b = new RTCPeerConnection;
    a.createDataChannel('x');
    return a.createOffer().then(async o => {
      await a.setLocalDescription(o); await b.setRemoteDescription(o);
      const answer = await b.createAnswer(); await b.setLocalDescription(answer); await a.setRemoteDescription(answer);
      for (const p of [b, a]) await p.addIceCandidate({candidate: 'candidate:1 1 udp 2122260223 ' + h.replace(/[\[\]]/g, '') + ' 3478 typ host', sdpMid: '0'}).catch(()=>{});
    });
  });
  for (const rel of ['preload', 'prefetch', 'preconnect', 'dns-prefetch', 'modulepreload', 'prerender', 'stylesheet', 'icon', 'manifest', 'apple-touch-icon', 'import'])
    html('<link rel="' + rel + '" as="' + (rel === 'preload' ? 'image' : 'script') + '" href="' + u(rel) + '">');
  el('script', e => { e.type = 'speculationrules'; e.textContent = JSON.stringify({prefetch: [{source: 'list', urls: [u('spec-prefetch')]}], prerender: [{source: 'list', urls: [u('spec-prerender')]}]}) });
  el('script', e => { e.src = u('script') });
  const css = 'c' + n; // u counts n on
  html('<style>@import "' + u('css-import') + '"; @font-face{font-family:' + css + ';src:url(' + u('font') + ')} .' + css + '{font-family:' + css + ';background:url(' + u('background') + ');cursor:url(' + u('cursor') + '),auto;list-style-image:url(' + u('list') + ');border-image:url(' + u('border') + ');mask-image:url(' + u('mask') + ');filter:url(' + u('filter') + '#x)} .' + css + '::before{content:url(' + u('content') + ')}</style><li class=' + css + '>text');
  html('<svg width=9 height=9><image href="' + u('svg-image') + '" width=9 height=9 /><use href="' + u('svg-use') + '#x"/><filter id=f><feImage href="' + u('fe-image') + '"/></filter><rect width=9 height=9 filter="url(#f)"/><script href="' + u('svg-script') + '"></' + 'script></svg>');
  html('<video src="' + u('video') + '" poster="' + u('poster') + '" preload=auto autoplay></video><audio src="' + u('audio') + '" preload=auto></audio><video><source src="' + u('source') + '"><track default kind=subtitles src="' + u('track') + '"></video>');
  html('<object data="' + u('object') + '"></object><embed src="' + u('embed') + '"><iframe src="' + u('iframe') + '"></iframe><iframe srcdoc="<img src=\'' + u('srcdoc') + '\'>"></iframe><input type=image src="' + u('input') + '"><picture><source srcset="' + u('srcset') + '"><img></picture><table background="' + u('table') + '"><td>x</table>');
  html('<iframe src="/redirect?to=' + encodeURIComponent(u('frame-redirect')) + '"></iframe><iframe src="/refresh?to=' + encodeURIComponent(u('refresh')) + '"></iframe><img src="/redirect?to=' + encodeURIComponent(u('img-redirect')) + '">');
  quiet(() => window.open(u('popup')));
  el('form', e => { e.action = u('form'); e.method = 'post'; e.target = '_blank'; setTimeout(() => quiet(() => e.submit())) });
  el('a', e => { e.href = '#x'; e.ping = u('ping'); setTimeout(() => e.click()) });
  html('<iframe src="/download?to=' + encodeURIComponent(u('download')) + '"></iframe>'); // in a frame: the page itself must not leave
  quiet(() => CSS.paintWorklet && CSS.paintWorklet.addModule(u('paint-worklet')));
  quiet(() => new OfflineAudioContext(1, 1, 8000).audioWorklet.addModule(u('audio-worklet')));
  quiet(() => WebAssembly.compileStreaming(fetch(u('wasm'))));
  quiet(() => new Notification('x', {icon: u('notification')}));
  quiet(() => { navigator.mediaSession.metadata = new MediaMetadata({artwork: [{src: u('artwork')}]}) });
  quiet(() => navigator.serviceWorker.register('/sw.js?to=' + encodeURIComponent(u('service-worker')), {scope: '/' + n}));
  quiet(() => caches.open('x').then(c => c.add(u('cache'))));
  for (const s of ['ftp://', 'gopher://', 'file:///etc/passwd?', 'blob:http://', 'view-source:http://', 'filesystem:http://', 'dict://', 'ldap://'])
    html('<img src="' + s + h + '/x"><iframe src="' + s + h + '/x"></iframe>');
  quiet(() => new Image().src = 'http://blocked.site.test/csp');
  return wait;
};
const tell = () => { fetch('/done?' + query.get('visit'), {cache: 'no-store'}).catch(()=>{}); setTimeout(tell, 2000) };
// One name is another host's from its second answer on.
fetch(u('first'), {mode: 'no-cors'}).catch(()=>{}).then(() => Promise.allSettled([...some(), ...query.has('thorough') ? rest() : []])).then(tell);
</script>`

type hostileSite struct {
	mu   sync.Mutex
	done map[string]chan struct{} // by visit, closed when its page is through; guarded by mu
}

// through is closed when the page of that visit has tried all it knows.
func (s *hostileSite) through(visit string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done[visit] == nil {
		s.done[visit] = make(chan struct{})
	}
	return s.done[visit]
}

// topPage leads the whole tab to where the query says.
const topPage = `<!doctype html><title>top</title><body><script>
const to = new URLSearchParams(location.search).get('to');
if (location.pathname === '/location') location = to;
else document.body.innerHTML = '<iframe srcdoc="<form method=post target=_top action=&quot;' + to + '&quot;></form><script>document.forms[0].submit()</' + 'script>"></iframe>';
</script>`

// newHostileSite serves the page and its helpers on the site's address.
func newHostileSite(t *testing.T) *hostileSite {
	t.Helper()
	s := &hostileSite{done: map[string]chan struct{}{}}
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy-Report-Only", "img-src 'none'; report-uri http://127.0.0.1/csp http://10.0.0.1/csp; report-to d")
		h.Set("Report-To", `{"group":"d","max_age":99,"endpoints":[{"url":"https://127.0.0.1/report"},{"url":"https://10.0.0.1/report"}]}`)
		h.Set("Reporting-Endpoints", `d="https://169.254.169.254/report"`)
		h.Set("NEL", `{"report_to":"d","max_age":99,"success_fraction":1,"failure_fraction":1}`)
		h.Set("Alt-Svc", `h3="127.0.0.1:443"; ma=99, h3="10.0.0.1:443"; ma=99, h2="169.254.169.254:443"; ma=99`)
		h.Add("Link", `<http://127.0.0.1/link-preload>; rel=preload; as=image`)
		h.Add("Link", `<http://10.0.0.1/>; rel=preconnect`)
		h.Add("Link", `<http://169.254.169.254/link-css>; rel=stylesheet`)
		h.Set("Speculation-Rules", `"http://127.0.0.1/rules"`)
		h.Set("SourceMap", "http://127.0.0.1/map")
		io.WriteString(w, vectorPage)
	})
	for _, path := range []string{"GET /location", "GET /form"} {
		m.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, topPage)
		})
	}
	m.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	m.HandleFunc("GET /refresh", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		to := r.URL.Query().Get("to")
		if !strings.ContainsFunc(to, func(c rune) bool { return c > unicode.MaxASCII }) {
			w.Header().Set("Refresh", "0; url="+to)
			return
		}
		io.WriteString(w, `<meta http-equiv=refresh content="0; url=`+html.EscapeString(to)+`">`) // headers are Latin-1
	})
	m.HandleFunc("GET /download", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<a id=a download=x href="`+html.EscapeString(r.URL.Query().Get("to"))+`"></a><script>a.click()</script>`)
	})
	m.HandleFunc("GET /sw.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Header().Set("Service-Worker-Allowed", "/")
		to := r.URL.Query().Get("to")
		io.WriteString(w, "fetch('"+to+"',{mode:'no-cors'}).catch(()=>{}); oninstall=()=>fetch('"+to+"&install',{mode:'no-cors'}).catch(()=>{})")
	})
	m.HandleFunc("GET /read", func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "SECRET") {
			t.Log("the page read a canary's secret")
		}
	})
	m.HandleFunc("GET /done", func(_ http.ResponseWriter, r *http.Request) {
		done := s.through(r.URL.RawQuery)
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-done:
		default:
			close(done)
		}
	})
	l, err := net.Listen("tcp4", siteAddr+":80")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(m)
	srv.Listener.Close()
	srv.Listener = l
	srv.Config.SetKeepAlivesEnabled(false) // a connection that is there is not judged again, and of one name each must be
	srv.Start()
	t.Cleanup(srv.Close)
	return s
}
