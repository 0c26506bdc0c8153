package worker_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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
	site, other       string // URLs without the closing slash
	address, otherAdr string
	upstream          *httptest.Server // a proxy of somebody else

	mu     sync.Mutex
	asked  []*http.Request
	gotAll map[string]string // what was said, by WHO; guarded by mu
}

const sayScript = `const say=async(who)=>{const n=navigator;
	const seen={ua:n.userAgent,platform:n.platform,languages:n.languages,zone:Intl.DateTimeFormat().resolvedOptions().timeZone,
		locale:Intl.DateTimeFormat().resolvedOptions().locale,offset:new Date(2026,0,1).getTimezoneOffset(),
		brands:n.userAgentData?n.userAgentData.brands.map(b=>b.brand+'/'+b.version).sort().join():'none',mobile:n.userAgentData?.mobile,hinted:n.userAgentData?.platform};
	await fetch('/said/'+who+'?'+encodeURIComponent(JSON.stringify(seen)))};`

func newSpy(t *testing.T, more ...string) *spy {
	needBrowser(t)
	s := &spy{gotAll: map[string]string{}}
	one, two := httptest.NewServer(s), httptest.NewServer(s)
	t.Cleanup(one.Close)
	t.Cleanup(two.Close)
	s.site, s.address = one.URL, strings.TrimPrefix(one.URL, "http://")
	_, port, _ := strings.Cut(strings.TrimPrefix(two.URL, "http://"), ":")
	s.otherAdr = "localhost:" + port
	s.other = "http://" + s.otherAdr
	// The names of its lists are in no resolver of the tests: what is not blocked fails.
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte("/ad-banner.\n||localhost^$third-party\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lists, err := egress.LoadLists([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	s.upstream = httptest.NewServer(http.HandlerFunc(s.forward))
	t.Cleanup(s.upstream.Close)
	s.bench = newBench(t, func(cfg *worker.SeatConfig) {
		cfg.Guard, err = egress.New(egress.Config{
			Allow: append(more, s.address, s.otherAdr, strings.TrimPrefix(s.upstream.URL, "http://")), DNS: emptyDNS(t), Lists: lists,
		})
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
			new WebSocket('ws://'+location.host+'/kind/websocket');new Worker('/kinds-worker.js');navigator.serviceWorker.register('/kinds-service.js')</script>`)
	case path == "/kinds-frame":
		html(`<img src="/kind/frame-image.png"><script>new WebSocket('ws://'+location.host+'/kind/frame-websocket')</script>`)
	case strings.HasPrefix(path, "/kinds-"):
		w.Header().Set("Content-Type", "text/javascript")
		who := strings.TrimSuffix(strings.TrimPrefix(path, "/kinds-"), ".js")
		fmt.Fprintf(w, `fetch('/kind/%[1]s-fetch');new WebSocket('ws://'+location.host+'/kind/%[1]s-websocket')`, who)
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

type seen struct {
	UA, Platform, Zone, Locale, Brands, Hinted string
	Languages                                  []string
	Offset                                     int
	Mobile                                     bool
}

func saidBy(t *testing.T, said map[string]string, who string) (v seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(said[who]), &v); err != nil {
		t.Fatalf("%s said %q: %v", who, said[who], err)
	}
	return v
}

var speakers = []string{"page", "frame", "worker", "service"}

// TestNetwork shares one seat among all options of the network.
func TestNetwork(t *testing.T) {
	s := newSpy(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *spy)
	}{
		{"identity", testIdentity},
		{"geolocation", testGeolocation},
		{"cookies", testCookies},
		{"headers", testHeaders},
		{"block_resources", testBlockResources},
		{"block_urls", testBlockURLs},
		{"block_ads", testBlockAds},
		{"proxy", testProxy},
		{"hide_cookie_banners", testBanners},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
}

func testIdentity(t *testing.T, s *spy) {
	plain, asked := s.see(t, "/identity", nil)
	for _, who := range speakers {
		v := saidBy(t, plain, who)
		if !strings.Contains(v.UA, "HeadlessChrome") || v.Zone != "UTC" || v.Offset != 0 || v.Locale != "en-US" || fmt.Sprint(v.Languages) != "[en-US]" {
			t.Errorf("without options the %s says %+v", who, v)
		}
	}
	if got := of(t, asked, "/identity").Header.Get("Accept-Language"); !strings.HasPrefix(got, "en-US") {
		t.Errorf("without options Accept-Language is %q", got)
	}

	t.Run("user_agent", func(t *testing.T) {
		const agent = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.1.2 Mobile Safari/537.36"
		said, asked := s.see(t, "/identity", func(spec *job.Spec) { spec.UserAgent = agent })
		if said["service"] != plain["service"] { // Chromium can not rename these
			t.Errorf("the service worker says %s", said["service"])
		}
		for _, who := range []string{"page", "frame", "worker"} {
			v := saidBy(t, said, who)
			if v.UA != agent || (who == "page" || who == "frame") && v.Platform != "Linux armv81" || !strings.Contains(v.Brands, "Google Chrome/140") || !v.Mobile || v.Hinted != "Android" {
				t.Errorf("the %s says %+v", who, v)
			}
			if v.Zone != "UTC" || v.Locale != "en-US" {
				t.Errorf("the %s says %+v: more changed than was asked for", who, v)
			}
		}
		for _, r := range asked {
			if got := r.Header.Get("User-Agent"); got != agent && !strings.Contains(r.URL.Path, "service") {
				t.Errorf("%s %s: User-Agent is %q", r.Host, r.URL.Path, got)
			}
			if h := r.Header.Get("Sec-Ch-Ua-Mobile"); h != "" && h != "?1" {
				t.Errorf("%s: Sec-Ch-Ua-Mobile is %q", r.URL.Path, h)
			}
		}
	})
	t.Run("user_agent without hints", func(t *testing.T) {
		const agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1"
		said, asked := s.see(t, "/identity", func(spec *job.Spec) { spec.UserAgent = agent })
		if v := saidBy(t, said, "page"); v.UA != agent || v.Platform != "iPhone" || strings.Contains(v.Brands, "Chrom") {
			t.Errorf("the page says %+v", v)
		}
		for _, r := range asked {
			if strings.Contains(r.Header.Get("Sec-Ch-Ua"), "Chrom") {
				t.Errorf("%s: Sec-Ch-Ua is %q", r.URL.Path, r.Header.Get("Sec-Ch-Ua"))
			}
		}
	})
	t.Run("tz", func(t *testing.T) {
		said, _ := s.see(t, "/identity", func(spec *job.Spec) { spec.TZ = "Asia/Kolkata" })
		for _, who := range speakers {
			v := saidBy(t, said, who)
			if v.Zone != "Asia/Calcutta" && v.Zone != "Asia/Kolkata" || v.Offset != -330 || v.Locale != "en-US" || v.UA != saidBy(t, plain, who).UA {
				t.Errorf("the %s says %+v", who, v)
			}
		}
	})
	t.Run("accept_lang", func(t *testing.T) {
		said, asked := s.see(t, "/identity", func(spec *job.Spec) { spec.AcceptLang = "en;q=0.5,de-CH,fr;q=0.9" })
		for _, who := range speakers {
			v := saidBy(t, said, who)
			if fmt.Sprint(v.Languages) != "[de-CH fr en]" || v.Locale != "de-CH" || v.Zone != "UTC" || v.UA != saidBy(t, plain, who).UA || v.Brands != saidBy(t, plain, who).Brands {
				t.Errorf("the %s says %+v", who, v)
			}
		}
		for _, path := range []string{"/identity", "/frame", "/said/page", "/said/frame"} {
			if got := of(t, asked, path).Header.Get("Accept-Language"); got != "de-CH,fr;q=0.9,en;q=0.8" {
				t.Errorf("%s: Accept-Language is %q", path, got)
			}
		}
	})
	t.Run("nothing stays", func(t *testing.T) {
		again, _ := s.see(t, "/identity", nil)
		for _, who := range speakers {
			if again[who] != plain[who] {
				t.Errorf("the %s says %s, before it said %s", who, again[who], plain[who])
			}
		}
	})
}

func testGeolocation(t *testing.T, s *spy) {
	if said, _ := s.see(t, "/where", nil); said["where"] != "denied" {
		t.Errorf("without options: %q", said["where"])
	}
	lat, lon, acc := -33.5, 151.25, 70.0
	for _, c := range []struct {
		accuracy *float64
		want     string
	}{{nil, "-33.5,151.25,10"}, {&acc, "-33.5,151.25,70"}} {
		said, _ := s.see(t, "/where", func(spec *job.Spec) { spec.Latitude, spec.Longitude, spec.Accuracy = &lat, &lon, c.accuracy })
		if said["where"] != c.want {
			t.Errorf("the page is told %q, want %q", said["where"], c.want)
		}
	}
}

func testCookies(t *testing.T, s *spy) {
	said, asked := s.see(t, "/cookies", nil)
	if said["cookies"] != "" || of(t, asked, "/cookies").Header.Get("Cookie") != "" {
		t.Errorf("without options: %v", said)
	}
	said, asked = s.see(t, "/cookies", func(spec *job.Spec) {
		spec.Secrets.Cookies = []string{"seen=1", "hidden=two; HttpOnly; SameSite=Strict", "elsewhere=3; Path=/nowhere", "safe=4; Secure", "foreign=5; Domain=localhost; SameSite=None; Secure"}
	})
	if said["cookies"] != "seen=1; safe=4" { // over http to loopback browsers send what is Secure
		t.Errorf("scripts see %q", said["cookies"])
	}
	if got := of(t, asked, "/cookies").Header.Get("Cookie"); got != "seen=1; hidden=two; safe=4" {
		t.Errorf("the site gets %q", got)
	}
	if got := of(t, asked, "/frame-cookies").Header.Get("Cookie"); got != "foreign=5" {
		t.Errorf("the other site gets %q", got)
	}
	if said, _ = s.see(t, "/cookies", nil); said["cookies"] != "" {
		t.Errorf("the next job has %v", said)
	}
}

func testHeaders(t *testing.T, s *spy) {
	const basic = "Basic bWU6cGE6c3M=" // me:pa:ss
	for _, c := range []struct {
		name    string
		secrets job.Secrets
		header  string
		value   string
	}{
		{"headers", job.Secrets{Headers: map[string]string{"X-Secret": "one two", "referer": "http://from.example/"}}, "X-Secret", "one two"},
		{"authorization", job.Secrets{Authorization: "Bearer t"}, "Authorization", "Bearer t"},
		{"basic_auth", job.Secrets{BasicAuth: "me:pa:ss"}, "Authorization", basic},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, asked := s.see(t, "/mixed", func(spec *job.Spec) { spec.Secrets = c.secrets })
			for _, path := range []string{"/mixed", "/own.png", "/own-fetch", "/hop"} {
				r := of(t, asked, path)
				if got := r.Header.Get(c.header); got != c.value {
					t.Errorf("%s: %s is %q", path, c.header, got)
				}
				if want := c.secrets.Headers["referer"]; want != "" && r.Header.Get("Referer") != want {
					t.Errorf("%s: Referer is %q", path, r.Header.Get("Referer"))
				}
				if r.Header.Get("User-Agent") == "" || r.Header.Get("Accept-Language") == "" || r.Header.Get("Accept-Encoding") == "" {
					t.Errorf("%s: the browser's own headers are gone: %v", path, r.Header)
				}
			}
			for _, path := range []string{"/foreign.png", "/hopped.png", "/frame-of-own", "/cors-from-other"} {
				if got := of(t, asked, path).Header.Get(c.header); got != "" {
					t.Errorf("%s: the header went to another origin: %q", path, got)
				}
			}
			_, asked = s.see(t, "/to-other", func(spec *job.Spec) { spec.Secrets = c.secrets })
			for path, want := range map[string]string{"/to-other": c.value, "/back": "", "/plain": c.value} {
				if got := of(t, asked, path).Header.Get(c.header); got != want {
					t.Errorf("redirect at %s: %s is %q, want %q", path, c.header, got, want)
				}
			}
		})
	}
	_, asked := s.see(t, "/mixed", nil)
	for _, r := range asked {
		if r.Header.Get("X-Secret") != "" || r.Header.Get("Authorization") != "" {
			t.Errorf("the next job sends %v", r.Header)
		}
	}
}

// kindsAsked are the requests below /kind/ of the page that makes one of each.
func (s *spy) kindsAsked(t *testing.T, change func(*job.Spec)) (asked map[string]bool, blocked map[string]string) {
	t.Helper()
	s.mu.Lock()
	s.asked = nil
	s.mu.Unlock()
	<-s.seat.Ready()
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	_, e := b.picture(func(spec *job.Spec) {
		spec.URL, spec.WaitUntil = s.site+"/kinds", job.NetworkIdle0
		change(spec)
	})
	asked, blocked = map[string]bool{}, map[string]string{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		if kind, ok := strings.CutPrefix(r.URL.Path, "/kind/"); ok {
			kind, _, _ = strings.Cut(kind, ".")
			asked[kind] = true
		}
	}
	for _, r := range e.BlockedRequests {
		kind := r.URL[strings.LastIndexByte(r.URL, '/')+1:]
		kind, _, _ = strings.Cut(kind, ".")
		blocked[kind] = r.Reason
	}
	for _, r := range e.FailedResources {
		if !strings.Contains(r.URL, "/kind/") || r.Reason != "404" {
			t.Errorf("failed: %+v", r)
		}
	}
	return asked, blocked
}

func testBlockResources(t *testing.T, s *spy) {
	all := []string{
		"stylesheet", "image", "media", "texttrack", "font", "script", "fetch", "xhr", "eventsource", "ping", "websocket",
		"frame-image", "frame-websocket", "worker-fetch", "worker-websocket", "service-fetch", "service-websocket",
	}
	asked, blocked := s.kindsAsked(t, func(*job.Spec) {})
	for _, kind := range all {
		if !asked[kind] {
			t.Errorf("without options %s is not asked for", kind)
		}
	}
	if len(blocked) > 0 {
		t.Errorf("without options %v is blocked", blocked)
	}
	for _, c := range []struct {
		types []string
		gone  []string
	}{
		{[]string{"stylesheet", "font", "script"}, []string{"stylesheet", "font", "script"}},
		{[]string{"image"}, []string{"image", "frame-image"}},
		{[]string{"media", "eventsource", "ping"}, []string{"media", "eventsource", "ping"}},
		{[]string{"texttrack"}, []string{"texttrack"}},
		{[]string{"manifest", "other"}, []string{"worker-fetch", "worker-websocket", "service-fetch", "service-websocket"}}, // scripts of workers are others
		{[]string{"xhr"}, []string{"fetch", "xhr", "worker-fetch", "service-fetch"}},
		{[]string{"websocket"}, []string{"websocket", "frame-websocket", "worker-websocket", "service-websocket"}},
	} {
		t.Run(strings.Join(c.types, ","), func(t *testing.T) {
			asked, blocked := s.kindsAsked(t, func(spec *job.Spec) { spec.BlockResources = c.types })
			for _, kind := range all {
				switch {
				case slices.Contains(c.gone, kind):
					if asked[kind] || blocked[kind] != "block_resources" && c.types[0] != "manifest" {
						t.Errorf("%s: asked for %t, blocked for %q", kind, asked[kind], blocked[kind])
					}
				case !asked[kind] || blocked[kind] != "":
					t.Errorf("%s: asked for %t, blocked for %q", kind, asked[kind], blocked[kind])
				}
			}
		})
	}
}

func testBlockURLs(t *testing.T, s *spy) {
	for _, c := range []struct {
		patterns []string
		gone     []string
	}{
		{[]string{"*/kind/IMAGE.png", "*/kind/*-websocket"}, []string{"image", "frame-websocket", "worker-websocket", "service-websocket"}},
		{[]string{"localhost"}, []string{"frame-image", "frame-websocket"}},
		{[]string{s.site + "/kind/f*"}, []string{"font", "fetch"}},
		{[]string{"*"}, []string{"image", "websocket", "fetch", "frame-image"}}, // and yet the page is there
	} {
		t.Run(strings.Join(c.patterns, " "), func(t *testing.T) {
			asked, blocked := s.kindsAsked(t, func(spec *job.Spec) { spec.BlockURLs = c.patterns })
			for _, kind := range c.gone {
				if asked[kind] {
					t.Errorf("%s is asked for", kind)
				}
				if blocked[kind] != "block_urls" && !strings.Contains(kind, "frame-") { // the frame itself is blocked
					t.Errorf("%s is blocked for %q", kind, blocked[kind])
				}
			}
			if want := 17 - len(c.gone); len(c.patterns[0]) > 1 && len(asked) != want {
				t.Errorf("%d requests, want %d: %v", len(asked), want, asked)
			}
		})
	}
}

func testBlockAds(t *testing.T, s *spy) {
	evidence := func(change func(*job.Spec)) (blocked, failed map[string]string) {
		b := &bench{TB: t, seat: s.seat, dir: s.dir}
		_, e := b.picture(func(spec *job.Spec) {
			spec.URL, spec.WaitUntil = s.site+"/ads", job.NetworkIdle0
			change(spec)
		})
		blocked, failed = map[string]string{}, map[string]string{}
		for _, r := range e.BlockedRequests {
			u, _ := url.Parse(r.URL)
			blocked[u.Hostname()+u.Path] = r.Reason
		}
		for _, r := range e.FailedResources {
			u, _ := url.Parse(r.URL)
			failed[u.Hostname()+u.Path] = r.Reason
		}
		return blocked, failed
	}
	const ad, tracker, socket = "ad.doubleclick.net/x.png", "www.google-analytics.com/ga.js", "stats.hotjar.com/"
	const banner, third, own = "127.0.0.1/ad-banner.png", "localhost/third.png", "127.0.0.1/image.png"
	const unknown = "name_not_resolved"
	blocked, failed := evidence(func(*job.Spec) {})
	if len(blocked) > 0 || failed[ad] != unknown || failed[tracker] != unknown || failed[socket] != unknown || failed[banner] != "404" || failed[third] != "404" || failed[own] != "404" {
		t.Errorf("without options: blocked %v, failed %v", blocked, failed)
	}
	blocked, failed = evidence(func(spec *job.Spec) { spec.BlockAds = true })
	if fmt.Sprint(blocked) != fmt.Sprint(map[string]string{ad: "block_ads", banner: "block_ads", third: "block_ads"}) || failed[tracker] != unknown || failed[own] != "404" {
		t.Errorf("block_ads: blocked %v, failed %v", blocked, failed)
	}
	blocked, failed = evidence(func(spec *job.Spec) { spec.BlockTrackers = true })
	if fmt.Sprint(blocked) != fmt.Sprint(map[string]string{tracker: "block_trackers", socket: "block_trackers"}) || failed[ad] != unknown || failed[banner] != "404" || failed[own] != "404" {
		t.Errorf("block_trackers: blocked %v, failed %v", blocked, failed)
	}
	// A page on a host of the lists is the page all the same.
	out := (&bench{TB: t, seat: s.seat, dir: s.dir}).render(func(spec *job.Spec) { spec.URL, spec.BlockAds = s.other+"/plain", true })
	if out.Failure != nil || len(out.Evidence.BlockedRequests) > 0 {
		t.Errorf("a page that is on a list: %v, %+v", out.Failure, out.Evidence)
	}
}

// forward is the other proxy: whatever it is asked for is the spy's first site.
func (s *spy) forward(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Proxy-Authorization") != "Basic bWU6cGFzcw==" {
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	r.Header.Set("X-By-Way", "proxy")
	s.ServeHTTP(w, r)
}

func testProxy(t *testing.T, s *spy) {
	_, asked := s.see(t, "/plain", nil)
	if got := of(t, asked, "/plain").Header.Get("X-By-Way"); got != "" {
		t.Errorf("without options it comes by way of %q", got)
	}
	_, asked = s.see(t, "/plain", func(spec *job.Spec) {
		spec.URL, spec.Secrets.Proxy = "http://inside.customer.test/plain", "me:pass@"+strings.TrimPrefix(s.upstream.URL, "http://")
	})
	if r := of(t, asked, "/plain"); r.Header.Get("X-By-Way") != "proxy" || r.Host != "inside.customer.test" {
		t.Errorf("%s comes by way of %q", r.Host, r.Header.Get("X-By-Way"))
	}
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	for proxy, code := range map[string]job.Code{
		"me:wrong@" + strings.TrimPrefix(s.upstream.URL, "http://"): job.ConnectionRefused,
		"me:wrong@10.0.0.1:8080":                                    job.AddressRefused,
	} {
		for _, u := range []string{"http://inside.customer.test/plain", "https://inside.customer.test/plain"} {
			out := b.render(func(spec *job.Spec) { spec.URL, spec.Secrets.Proxy = u, proxy })
			if out.Failure == nil || out.Failure.Code != code || strings.Contains(out.Failure.Detail, "wrong") || !strings.Contains(out.Failure.Detail, "proxy") {
				t.Errorf("%s by way of %s: %v", u, proxy, out.Failure)
			}
		}
	}
}

func testBanners(t *testing.T, s *spy) {
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	img, _ := b.picture(func(spec *job.Spec) { spec.URL = s.site + "/banner" })
	b.wantColor(img, 310, 190, red)
	s.mu.Lock()
	s.gotAll = map[string]string{}
	s.mu.Unlock()
	img, _ = b.picture(func(spec *job.Spec) { spec.URL, spec.HideCookieBanners = s.site+"/banner", true })
	b.wantColor(img, 310, 190, blue)
	s.mu.Lock()
	_, rejected := s.gotAll["rejected"]
	_, accepted := s.gotAll["accepted"]
	s.mu.Unlock()
	if !rejected || accepted {
		t.Errorf("rejected %t, accepted %t", rejected, accepted)
	}
	img, _ = b.picture(func(spec *job.Spec) { spec.URL, spec.HideCookieBanners = s.site+"/plain", true })
	b.wantColor(img, 310, 190, blue)
}
