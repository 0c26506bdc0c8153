package worker_test

import (
	"encoding/json"
	"fmt"
	"image"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

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
func TestNetwork(t *testing.T) { testNetwork(t, newSpy(t, false)) }

// TestNetworkOverTLS is the same with sites that nobody between browser and
// server can look into, and with frames in processes of their own.
func TestNetworkOverTLS(t *testing.T) { testNetwork(t, newSpy(t, true)) }

func testNetwork(t *testing.T, s *spy) {
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
		wantPicture(t, s.last, "user_agent")
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
		wantPicture(t, s.last, "tz")
		for _, who := range speakers {
			v := saidBy(t, said, who)
			if v.Zone != "Asia/Calcutta" && v.Zone != "Asia/Kolkata" || v.Offset != -330 || v.Locale != "en-US" || v.UA != saidBy(t, plain, who).UA {
				t.Errorf("the %s says %+v", who, v)
			}
		}
	})
	t.Run("accept_lang", func(t *testing.T) {
		said, asked := s.see(t, "/identity", func(spec *job.Spec) { spec.AcceptLang = "en;q=0.5,de-CH,fr;q=0.9" })
		wantPicture(t, s.last, "accept_lang")
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
	wantPicture(t, s.last, "latitude and longitude and accuracy", "longitude", "accuracy")
}

func testCookies(t *testing.T, s *spy) {
	said, asked := s.see(t, "/cookies", nil)
	if said["cookies"] != "" || of(t, asked, "/cookies").Header.Get("Cookie") != "" {
		t.Errorf("without options: %v", said)
	}
	said, asked = s.see(t, "/cookies", func(spec *job.Spec) {
		spec.Secrets.Cookies = []string{"seen=1", "hidden=two; HttpOnly; SameSite=Strict", "elsewhere=3; Path=/nowhere", "safe=4; Secure", "foreign=5; Domain=" + s.otherHost + "; SameSite=None; Secure"}
	})
	wantPicture(t, s.last, "cookies")
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
			wantPicture(t, s.last, c.name, "headers", "authorization", "basic_auth")
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
			if s.plain == "" {
				return
			}
			_, asked = s.see(t, "/to-plain", func(spec *job.Spec) { spec.Secrets = c.secrets })
			for path, want := range map[string]string{"/to-plain": c.value, "/unprotected": ""} {
				if got := of(t, asked, path).Header.Get(c.header); got != want {
					t.Errorf("redirect out of TLS at %s: %s is %q, want %q", path, c.header, got, want)
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
func (s *spy) kindsAsked(t *testing.T, change func(*job.Spec)) (img image.Image, asked map[string]bool, blocked map[string]string) {
	t.Helper()
	s.mu.Lock()
	s.asked = nil
	s.mu.Unlock()
	<-s.seat.Ready()
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	img, e := b.picture(func(spec *job.Spec) {
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
	return img, asked, blocked
}

// known is how the evidence's URL of a kind ends: of a WebSocket over TLS only
// the host is known.
func (s *spy) known(kind string) string {
	if s.plain != "" && strings.HasSuffix(kind, "websocket") {
		return ""
	}
	return kind
}

func testBlockResources(t *testing.T, s *spy) {
	all := []string{
		"stylesheet", "image", "media", "texttrack", "font", "script", "fetch", "xhr", "eventsource", "ping", "websocket",
		"frame-image", "frame-websocket", "worker-fetch", "worker-websocket", "service-fetch", "service-websocket",
	}
	img, asked, blocked := s.kindsAsked(t, func(*job.Spec) {})
	wantPicture(t, img, "block_resources none")
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
			img, asked, blocked := s.kindsAsked(t, func(spec *job.Spec) { spec.BlockResources = c.types })
			wantPicture(t, img, "block_resources "+strings.Join(c.types, " "))
			for _, kind := range all {
				switch {
				case slices.Contains(c.gone, kind):
					if why := blocked[s.known(kind)]; asked[kind] || why != "block_resources" && c.types[0] != "manifest" {
						t.Errorf("%s: asked for %t, blocked for %q", kind, asked[kind], why)
					}
				case !asked[kind] || blocked[kind] != "":
					t.Errorf("%s: asked for %t, blocked for %q", kind, asked[kind], blocked[kind])
				}
			}
		})
	}
}

func testBlockURLs(t *testing.T, s *spy) {
	// Of a WebSocket over TLS only the host is known.
	bySocket := []string{"image", "frame-websocket", "worker-websocket", "service-websocket"}
	pattern := "*/kind/*-websocket"
	if s.plain != "" {
		pattern = strings.Replace(s.other, "https:", "wss:", 1) + "/"
		bySocket = []string{"image", "frame-websocket"}
	}
	for i, c := range []struct {
		patterns []string
		gone     []string
	}{
		{[]string{"*/kind/IMAGE.png", pattern}, bySocket},
		{[]string{s.otherHost}, []string{"frame-image", "frame-websocket"}},
		{[]string{s.site + "/kind/f*"}, []string{"font", "fetch"}},
		{[]string{"*"}, []string{"image", "websocket", "fetch", "frame-image"}}, // and yet the page is there
	} {
		t.Run(strings.Join(c.patterns, " "), func(t *testing.T) {
			img, asked, blocked := s.kindsAsked(t, func(spec *job.Spec) { spec.BlockURLs = c.patterns })
			wantPicture(t, img, "block_urls "+strconv.Itoa(i+1))
			for _, kind := range c.gone {
				if asked[kind] {
					t.Errorf("%s is asked for", kind)
				}
				if blocked[s.known(kind)] != "block_urls" && !strings.Contains(kind, "frame-") { // the frame itself is blocked
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
	evidence := func(picture string, change func(*job.Spec)) (blocked, failed map[string]string) {
		b := &bench{TB: t, seat: s.seat, dir: s.dir}
		img, e := b.picture(func(spec *job.Spec) {
			spec.URL, spec.WaitUntil = s.site+"/ads", job.NetworkIdle0
			change(spec)
		})
		wantPicture(t, img, picture, "block_ads", "block_trackers")
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
	banner, third, pixel, own := s.host+"/ad-banner.svg", s.otherHost+"/third.png", s.host+"/pixel.svg", s.host+"/image.png"
	const unknown = "name_not_resolved"
	blocked, failed := evidence("block_ads nor trackers", func(*job.Spec) {})
	if len(blocked) > 0 || failed[ad] != unknown || failed[tracker] != unknown || failed[socket] != unknown || failed[third] != "404" || failed[own] != "404" {
		t.Errorf("without options: blocked %v, failed %v", blocked, failed)
	}
	blocked, failed = evidence("block_ads", func(spec *job.Spec) { spec.BlockAds = true })
	if fmt.Sprint(blocked) != fmt.Sprint(map[string]string{ad: "block_ads", banner: "block_ads", third: "block_ads"}) || failed[tracker] != unknown || failed[own] != "404" {
		t.Errorf("block_ads: blocked %v, failed %v", blocked, failed)
	}
	blocked, failed = evidence("block_trackers", func(spec *job.Spec) { spec.BlockTrackers = true })
	if fmt.Sprint(blocked) != fmt.Sprint(map[string]string{tracker: "block_trackers", socket: "block_trackers", pixel: "block_trackers"}) || failed[ad] != unknown || failed[own] != "404" {
		t.Errorf("block_trackers: blocked %v, failed %v", blocked, failed)
	}
	// A page on a host of the lists is the page all the same.
	out := (&bench{TB: t, seat: s.seat, dir: s.dir}).render(func(spec *job.Spec) { spec.URL, spec.BlockAds = s.other+"/plain", true })
	if out.Failure != nil || len(out.Evidence.BlockedRequests) > 0 {
		t.Errorf("a page that is on a list: %v, %+v", out.Failure, out.Evidence)
	}
}

func testProxy(t *testing.T, s *spy) {
	const inside = "inside.customer.test"
	scheme, _, _ := strings.Cut(s.site, ":")
	_, asked := s.see(t, "/plain", nil)
	if got := of(t, asked, "/plain").Header.Get("X-By-Way"); got != "" || len(s.tunnelled) > 0 {
		t.Errorf("without options it comes by way of %q, %q", got, s.tunnelled)
	}
	_, asked = s.see(t, "/plain", func(spec *job.Spec) {
		spec.URL, spec.Secrets.Proxy = scheme+"://"+inside+"/plain", "me:pass@"+s.upstream
	})
	r := of(t, asked, "/plain")
	if r.Host != inside {
		t.Errorf("it is asked for %s", r.Host)
	}
	if s.plain == "" {
		if r.Header.Get("X-By-Way") != "proxy" {
			t.Errorf("it comes by way of %q", r.Header.Get("X-By-Way"))
		}
		wantPicture(t, s.last, "proxy")
	}
	if s.plain != "" && !slices.Contains(s.tunnelled, inside+":443") {
		t.Errorf("the other proxy was asked for %q", s.tunnelled)
	}
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	for proxy, code := range map[string]job.Code{
		"me:wrong@" + s.upstream: job.ConnectionRefused,
		"me:wrong@10.0.0.1:8080": job.AddressRefused,
	} {
		for _, u := range []string{"http://" + inside + "/plain", "https://" + inside + "/plain"} {
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
	wantPicture(t, img, "hide_cookie_banners")
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
