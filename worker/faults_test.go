package worker_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/capture"
)

// hostile is a site of pages that browsers have trouble with.
func hostile() *http.ServeMux {
	m := http.NewServeMux()
	page := func(path, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<!doctype html><title>"+path+"</title>"+body)
		})
	}
	pending := func(path string, start string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if start != "" {
				w.Header().Set("Content-Type", "text/html")
				io.WriteString(w, start)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		})
	}
	const blueBody = `<body style="margin:0;background:#0000ff;color:#fff">text`
	page("/ok", blueBody)
	m.HandleFunc("GET /missing", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<title>not here</title>"+blueBody)
	})
	m.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	m.HandleFunc("GET /loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	m.HandleFunc("GET /download", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", "attachment; filename=x.bin")
		io.WriteString(w, strings.Repeat("x", 5000))
	})
	m.HandleFunc("GET /octets", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		io.WriteString(w, strings.Repeat("x", 5000))
	})
	m.HandleFunc("GET /204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	m.HandleFunc("GET /407", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		io.WriteString(w, "who are you?")
	})
	m.HandleFunc("GET /truncated", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, blueBody)
	})
	pending("/silent", "")
	pending("/forever", blueBody)
	pending("/pending", "")
	page("/pending-image", blueBody+`<img src=/pending>`)
	page("/pending-script", `<head><script src=/pending></script></head>`+blueBody)
	page("/busy-parse", `<head><script>for(;;);</script></head>`+blueBody)
	page("/busy-load", blueBody+`<script>onload=()=>setTimeout(()=>{for(;;);},0)</script>`)
	page("/busy-always", blueBody+`<script>setInterval(()=>{for(;;);},0)</script>`)
	page("/memory", blueBody+`<script>onload=()=>{let a=[];for(;;)a.push(new Array(1e6).fill(1.1))}</script>`)
	page("/alerts", blueBody+`<script>for(let i=0;i<5;i++){alert(i);confirm(i);prompt(i)}</script>`)
	page("/alert-storm", blueBody+`<script>for(;;)alert(1)</script>`)
	page("/popups", blueBody+`<script>for(let i=0;i<100;i++)window.open('/ok?'+i)</script>`)
	page("/reload", blueBody+`<script>location.reload()</script>`)
	page("/refresh", blueBody+`<meta http-equiv=refresh content="0">`)
	var refreshes atomic.Int32
	m.HandleFunc("GET /slow-refresh", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, "<!doctype html><title>/slow-refresh</title>")
		if refreshes.Add(1) > 5 { // held by now; has no body yet
			w.(http.Flusher).Flush()
			time.Sleep(300 * time.Millisecond)
		}
		io.WriteString(w, blueBody+`<meta http-equiv=refresh content="0">`)
	})
	page("/script-redirect", `<script>location.replace('/ok')</script>`)
	page("/push", blueBody+`<script>history.pushState({},'','/pushed?x#y')</script>`)
	page("/late-refused", blueBody+`<script>onload=()=>{location.href='http://10.1.2.3/'}</script>`)
	page("/unload", blueBody+`<script>onbeforeunload=e=>{e.preventDefault();return 'x'};location.href='/ok'</script>`)
	page("/tall", `<body style="margin:0"><div style="height:20000px;background:#0000ff">`)
	page("/embeds", `<body style="margin:0;background:#0000ff"><img src="http://127.0.0.1:1/x.png"><img src="http://169.254.169.254/latest/">
		<iframe src="http://10.0.0.1/" style="position:absolute;left:100px;top:50px;width:100px;height:100px;border:0"></iframe>
		<script>fetch('http://127.0.0.1/secret').then(r=>r.text()).then(t=>document.body.style.background='red',()=>{}); new WebSocket('ws://10.0.0.2/')</script>`)
	return m
}

// rawSite answers each connection with what answer writes.
func rawSite(t testing.TB, answer func(*net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(c))
			answer(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// TestFaults walks through the pages that go wrong: each ends with its own
// code within its budget, and the next job is right.
func TestFaults(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, hostile())
	secure := httptest.NewTLSServer(hostile())
	t.Cleanup(secure.Close)
	reset := rawSite(t, func(c *net.TCPConn) { c.SetLinger(0) })
	empty := rawSite(t, func(*net.TCPConn) {})
	garbage := rawSite(t, func(c *net.TCPConn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n") })
	percent := rawSite(t, func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<body style='background:#0000ff'>")
	})
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	closed.Close()
	b := newBench(t, nil, address, strings.TrimPrefix(secure.URL, "https://"), reset, empty, garbage, percent, refused)
	b.wantWell()

	blueAt := func(x, y int) func(*bench, capture.Outcome) {
		return func(b *bench, out capture.Outcome) {
			img := decode(b, out)
			b.wantColor(img, x, y, blue)
		}
	}
	timedOut := func(what string) func(*bench, capture.Outcome) {
		return func(b *bench, out capture.Outcome) {
			blueAt(300, 190)(b, out)
			if !slices.Contains(out.Evidence.TimedOut, what) {
				b.Errorf("timed_out is %v, want %s in it", out.Evidence.TimedOut, what)
			}
		}
	}
	for _, f := range []struct {
		name    string
		url     string
		timeout int // ms; zero means 8,000
		change  func(*job.Spec)
		code    job.Code // empty: succeeds
		check   func(*bench, capture.Outcome)
	}{
		{name: "unresolvable", url: "http://no-such-name.invalid/", code: job.NameNotResolved},
		{name: "unresolvable tls", url: "https://no-such-name.invalid/", code: job.NameNotResolved},
		{name: "private", url: "http://10.1.2.3/", code: job.AddressRefused},
		{name: "private tls", url: "https://10.1.2.3/", code: job.AddressRefused},
		{name: "loopback port 1", url: "http://127.0.0.1:1/", code: job.AddressRefused},
		{name: "metadata", url: "http://169.254.169.254/latest/meta-data/", code: job.AddressRefused},
		{name: "loopback", url: "http://localhost/", code: job.AddressRefused},
		{name: "spelled loopback", url: "http://0x7f.1/", code: job.AddressRefused},
		{name: "ipv6 loopback", url: "http://[::1]/", code: job.AddressRefused},
		{name: "its own proxy", url: "http://tintype-egress/", code: job.NameNotResolved},
		{name: "file", url: "file:///etc/passwd", code: job.AddressRefused},
		{name: "crash page", url: "chrome://crash", code: job.AddressRefused},
		{name: "connection refused", url: "http://" + refused + "/", code: job.ConnectionRefused},
		{name: "connection refused tls", url: "https://" + refused + "/", code: job.ConnectionRefused},
		{name: "connection reset", url: "http://" + reset + "/", code: job.ConnectionReset},
		{name: "empty reply", url: "http://" + empty + "/", code: job.EmptyResponse},
		{name: "not http", url: "http://" + garbage + "/", code: job.EmptyResponse},
		{name: "not tls", url: "https://" + address + "/ok", code: job.TLSError},
		{name: "bad certificate", url: secure.URL + "/ok", code: job.TLSError},
		{name: "redirect loop", url: site + "/loop", code: job.RedirectLoop},
		{name: "redirect to private", url: site + "/redirect?to=http://10.1.2.3/x", code: job.AddressRefused},
		{name: "redirect to private tls", url: site + "/redirect?to=https://10.1.2.3/x", code: job.AddressRefused},
		{name: "redirect to file", url: site + "/redirect?to=file:///etc/passwd", code: job.AddressRefused},
		{name: "not found", url: site + "/missing", check: func(b *bench, out capture.Outcome) {
			blueAt(300, 190)(b, out)
			if e := out.Evidence; e.StatusCode != 404 || e.Title != "not here" {
				b.Errorf("evidence %+v", e)
			}
		}},
		{name: "download", url: site + "/download", code: job.Download},
		{name: "octets", url: site + "/octets", code: job.Download},
		{name: "no content", url: site + "/204", code: job.EmptyResponse},
		{name: "proxy authentication by an origin", url: site + "/407", code: job.EmptyResponse},
		{name: "truncated", url: site + "/truncated", check: func(b *bench, out capture.Outcome) {
			blueAt(300, 190)(b, out)
			if e := out.Evidence; len(e.FailedResources) != 1 || e.FailedResources[0].URL != site+"/truncated" {
				b.Errorf("evidence %+v", e)
			}
		}},
		{name: "no response", url: site + "/silent", timeout: 1000, code: job.NavigationTimeout},
		{name: "no end", url: site + "/forever", timeout: 1500, check: timedOut("load")},
		{name: "image pending", url: site + "/pending-image", timeout: 1500, check: timedOut("load")},
		{name: "image pending, fail on timeout", url: site + "/pending-image", timeout: 1500, change: func(s *job.Spec) { s.FailOnTimeout = true }, code: job.LoadTimeout},
		{name: "nothing painted", url: site + "/pending-script", timeout: 1500, code: job.LoadTimeout},
		{name: "busy while it parses", url: site + "/busy-parse", timeout: 1500, code: job.LoadTimeout},
		{name: "busy after the load", url: site + "/busy-load", timeout: 4000, check: timedOut("frame")},
		{name: "busy again and again", url: site + "/busy-always", timeout: 1500, code: job.LoadTimeout},
		{name: "heap", url: site + "/memory", timeout: 8000, code: job.OutOfMemory},
		{name: "dialogs", url: site + "/alerts", check: blueAt(300, 190)},
		{name: "endless dialogs", url: site + "/alert-storm", timeout: 4000, check: blueAt(300, 190)},
		{name: "popups", url: site + "/popups", check: blueAt(300, 190)},
		{name: "reloads", url: site + "/reload", timeout: 4000, code: job.LoadTimeout},
		{name: "refreshes", url: site + "/refresh", timeout: 4000, check: blueAt(300, 190)},
		{name: "refreshes, held before its body", url: site + "/slow-refresh", check: blueAt(300, 190)},
		{name: "refreshes, as a document", url: site + "/refresh", timeout: 4000, change: func(s *job.Spec) { s.Format = job.PDF }, check: func(b *bench, out capture.Outcome) {
			if out.Artifact.Pages != 1 {
				b.Errorf("%d pages", out.Artifact.Pages)
			}
		}},
		{name: "moves within its document", url: site + "/push", check: func(b *bench, out capture.Outcome) {
			if out.Evidence.FinalURL != site+"/pushed?x#y" {
				b.Errorf("final url %s", out.Evidence.FinalURL)
			}
		}},
		{name: "beforeunload", url: site + "/unload", timeout: 4000, check: blueAt(300, 190)},
		{name: "script redirect", url: site + "/script-redirect", check: func(b *bench, out capture.Outcome) {
			blueAt(300, 190)(b, out)
			if out.Evidence.FinalURL != site+"/ok" || out.Evidence.Title != "/ok" {
				b.Errorf("evidence %+v", out.Evidence)
			}
		}},
		{name: "script leads to private", url: site + "/late-refused", check: blueAt(300, 190)},
		{name: "taller than one capture", url: site + "/tall", change: func(s *job.Spec) { s.FullPage = true }, check: func(b *bench, out capture.Outcome) {
			if out.Artifact.Height != 20_000 {
				b.Errorf("%d pixels high", out.Artifact.Height)
			}
			blueAt(300, 19_990)(b, out)
		}},
		{name: "too tall", url: site + "/tall", change: func(s *job.Spec) { s.FullPage, s.FullPageMode = true, "native" }, code: job.PageTooLarge},
		{name: "too sharp", url: site + "/ok", change: func(s *job.Spec) { s.Height, s.DeviceScaleFactor = 9000, 2 }, code: job.PageTooLarge},
		{name: "lone percent", url: "http://" + percent + "/100%/?a=%zz", check: blueAt(300, 190)},
		{name: "embeds private", url: site + "/embeds", check: func(b *bench, out capture.Outcome) {
			img := decode(b, out)
			b.wantColor(img, 300, 190, blue)
			b.wantColor(img, 150, 100, blue) // a frame without a document is transparent
			for _, want := range []string{"http://127.0.0.1:1/x.png", "http://169.254.169.254/latest/", "http://10.0.0.1/", "http://127.0.0.1/secret", "ws://10.0.0.2/"} {
				if !slices.Contains(out.Evidence.BlockedRequests, job.Resource{URL: want, Reason: "address_refused"}) {
					b.Errorf("%s is not in blocked_requests %v", want, out.Evidence.BlockedRequests)
				}
			}
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			b := &bench{TB: t, seat: b.seat, dir: b.dir}
			budget := 8 * time.Second
			began := time.Now()
			out := b.render(func(s *job.Spec) {
				s.URL = f.url
				if f.timeout > 0 {
					s.TimeoutMS = f.timeout
					budget = time.Duration(f.timeout) * time.Millisecond
				}
				if f.change != nil {
					f.change(s)
				}
			})
			took := time.Since(began)
			t.Logf("%s: %v, %+v", took.Round(time.Millisecond), out.Failure, *out.Evidence)
			if took > budget+time.Second {
				t.Errorf("took %s with a budget of %s", took, budget)
			}
			switch {
			case f.code == "" && out.Failure != nil:
				t.Errorf("failed with %v", out.Failure)
			case f.code != "" && (out.Failure == nil || out.Failure.Code != f.code):
				t.Errorf("ended with %v, want %s", out.Failure, f.code)
			case f.code != "" && (out.Artifact != nil || out.Failure.Detail == "" || strings.Contains(fmt.Sprint(out.Failure), "%!")):
				t.Errorf("failure is %+v, artifact %v", out.Failure, out.Artifact != nil)
			case f.check != nil && out.Failure == nil:
				f.check(b, out)
			}
			b.wantWell()
		})
	}
}
