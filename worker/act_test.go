package worker_test

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// stage is a site of pages that are told how to be, and acted upon.
func stage() *http.ServeMux {
	m := http.NewServeMux()
	page := func(path, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><body style="margin:0;background:#0000ff">`+body)
		})
	}
	page("/media", `<style>
		div {width:100px;height:50px;background:#ff0000}
		@media (prefers-color-scheme: dark) {#dark {background:#00ff00}}
		@media (prefers-reduced-motion: reduce) {#still {background:#00ff00}}
		@media print {#print {background:#00ff00}}
		</style><div id=dark></div><div id=still></div><div id=print></div>`)
	m.HandleFunc("GET /status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		io.WriteString(w, `<!doctype html><body style="margin:0;background:#0000ff">`+r.URL.Query().Get("body"))
	})
	page("/acts", `<style>
		* {margin:0;border:0;padding:0}
		button, a, i {position:absolute;display:block;width:100px;height:50px;background:#ff0000}
		@media (hover:hover) {#hover:hover {background:#00ff00}}
		</style>
		<button id=one onclick="trusted=event.isTrusted;style.background='#00ff00'"></button>
		<button id=two style="top:50px" onclick="if(trusted)style.background='#00ff00'"></button>
		<a id=hover style="top:100px"></a>
		<a id=link style="left:100px;top:0" href="/green"></a>
		<a id=later style="left:100px;top:50px" onclick="setTimeout(()=>{location='/green'},0)"></a>
		<form action="/green"><button id=form style="left:100px;top:100px"></button></form>
		<a id=none style="left:200px;top:0" href="/status/204"></a>
		<a id=refused style="left:200px;top:50px" href="http://10.1.2.3/"></a>
		<a id=far style="left:200px;top:2000px;width:10px" onclick="one.style.background='#00ff00'"></a>
		<i style="top:3000px;background:#00ff00;width:320px" id=low></i>
		<i style="display:none" id=hidden></i>
		<script>trusted=false;setTimeout(()=>{let i=document.createElement('button');i.id='slow';i.style.cssText='left:200px;top:100px';i.onclick=()=>i.style.background='#00ff00';document.body.append(i)},300)</script>`)
	page("/green", `<style>body{background:#00ff00 !important}</style>`)
	page("/csp", `<p>no styles</p>`)
	m.HandleFunc("GET /strict", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; require-trusted-types-for 'script'")
		io.WriteString(w, `<!doctype html><body><div id=x style="x">text</div>`)
	})
	m.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		io.WriteString(w, `body{background:#00ff00 !important}`)
	})
	page("/thrower", `<script>
		console.log('not an error'); console.error('told', {a: 1}, 7, undefined); Promise.reject(new TypeError('rejected'));
		setTimeout(() => { throw new Error('thrown') })</script>`)
	m.HandleFunc("GET /silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return m
}

// at asks for a page of the site, with changes to the defaults.
func at(url string, changes ...func(*job.Spec)) func(*job.Spec) {
	return func(s *job.Spec) {
		s.URL = url
		for _, change := range changes {
			change(s)
		}
	}
}

// wantFailure renders what must fail with code, and words in the detail.
func (b *bench) wantFailure(code job.Code, change func(*job.Spec)) *job.Failure {
	b.Helper()
	out := b.render(change)
	if out.Failure == nil || out.Failure.Code != code {
		b.Fatalf("ended with %v, want %s", out.Failure, code)
	}
	return out.Failure
}

func TestStateOfThePage(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, stage())
	whole := newBench(t, nil, address)
	run := func(name string, test func(*bench)) {
		t.Run(name, func(t *testing.T) { test(&bench{TB: t, seat: whole.seat, dir: whole.dir}) })
	}

	run("media", func(b *bench) {
		for name, change := range map[string]func(*job.Spec){
			"nothing": func(*job.Spec) {},
			"dark":    func(s *job.Spec) { s.DarkMode = true },
			"still":   func(s *job.Spec) { s.ReducedMotion = true },
			"print":   func(s *job.Spec) { s.Media = "print" },
			"all":     func(s *job.Spec) { s.DarkMode, s.ReducedMotion, s.Media = true, true, "print" },
		} {
			img, _ := b.picture(at(site+"/media", change))
			for i, of := range []string{"dark", "still", "print"} {
				want := red
				if of == name || name == "all" {
					want = green
				}
				b.wantColor(img, 50, 50*i+25, want)
			}
			b.wantColor(img, 200, 100, blue)
			if option := map[string]string{"nothing": "url", "dark": "dark_mode", "still": "reduced_motion", "print": "media"}[name]; option != "" {
				wantPicture(b, img, option, "dark_mode", "reduced_motion", "media")
			}
		}
	})
	run("status", func(b *bench) {
		on4xx := func(s *job.Spec) { s.FailOn4xx = true }
		on5xx := func(s *job.Spec) { s.FailOn5xx = true }
		for _, tt := range []struct {
			path  string
			rules func(*job.Spec)
			fails bool
		}{
			{"/status/404", on4xx, true},
			{"/status/404", on5xx, false},
			{"/status/500", on5xx, true},
			{"/status/500", on4xx, false},
			{"/status/499", on4xx, true},
			{"/status/200", func(s *job.Spec) { s.FailOn4xx, s.FailOn5xx = true, true }, false},
			// What counts is the page that stands there in the end.
			{"/status/404?body=<script>location='/status/200'</script>", on4xx, false},
			{"/status/200?body=<script>location='/status/404'</script>", on4xx, true},
		} {
			out := b.render(at(site+tt.path, tt.rules))
			if failed := out.Failure != nil; failed != tt.fails || failed && (out.Failure.Code != job.FailOn || out.Evidence.StatusCode/100 < 4) {
				b.Errorf("%s: %v, evidence %+v", tt.path, out.Failure, out.Evidence)
			}
		}
	})
	run("css", func(b *bench) {
		for path, css := range map[string]string{
			"/media":  "div {display: none} body {background: #00ff00 !important}",
			"/strict": "body {background: #00ff00}",
			"/green?": "@import '/style.css';", // holds its style sheet to it
		} {
			img, _ := b.picture(at(site+path, func(s *job.Spec) { s.CSS = css }))
			b.wantColor(img, 50, 25, green)
			b.wantColor(img, 200, 100, green)
		}
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.CSS = "@import '/style.css';" }))
		b.wantColor(img, 310, 190, green)
		// It is there from the page's beginning, and whatever the page does.
		img, _ = b.picture(func(s *job.Spec) {
			s.HTML = `<body style="margin:0;background:#ff0000"><div id=x></div><script>
				const early = getComputedStyle(x).height;
				document.adoptedStyleSheets = [];
				onload = () => { document.body.style.background = early == '99px' && getComputedStyle(x).height != '99px' ? '#00ff00' : '#ff0000' }</script>`
			s.CSS = "#x {height: 99px; background: #0000ff}"
		})
		b.wantColor(img, 10, 50, blue)
		b.wantColor(img, 10, 150, green)
		wantPicture(b, img, "css")
	})
	run("hide", func(b *bench) {
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.HideSelector, s.WaitFor = "#one, a", "#slow" }))
		b.wantColor(img, 50, 25, blue)
		b.wantColor(img, 50, 125, blue)
		b.wantColor(img, 50, 75, red) // #two
		wantPicture(b, img, "hide_selector")
		f := b.wantFailure(job.SelectorNotFound, at(site+"/acts", func(s *job.Spec) { s.HideSelector = "a::nonsense(" }))
		if !strings.Contains(f.Detail, "hide_selector") {
			b.Errorf("detail %q", f.Detail)
		}
	})
	run("js", func(b *bench) {
		for _, js := range []string{
			"document.body.style.background = '#00ff00'",
			"const x = 1; // a comment\nnew Promise(done => setTimeout(() => { document.body.style.background = '#00ff00'; done('x'.repeat(1e7)) }, 200))",
			"await new Promise(done => setTimeout(done, 200)); document.body.style.background = '#00ff00'",
			"location = '/green'",
			"'await'; document.body.style.background = '#00ff00'",
		} {
			img, e := b.picture(at(site+"/media", func(s *job.Spec) { s.JS = js }))
			b.wantColor(img, 200, 100, green)
			if len(e.ConsoleErrors)+len(e.TimedOut) > 0 {
				b.Errorf("%s: evidence %+v", js, e)
			}
		}
		img, _ := b.picture(at(site+"/strict", func(s *job.Spec) {
			s.JS = "x.textContent = ''; x.style.cssText = 'position:fixed;inset:0 0 50px;background:#00ff00'"
		}))
		b.wantColor(img, 200, 100, green)
		wantPicture(b, img, "js")
		for js, want := range map[string]string{
			"throw new Error('mine')":               "js: Uncaught (in promise) Error: mine",
			"Promise.reject(new TypeError('mine'))": "js: Uncaught (in promise) TypeError: mine",
			"let let":                               "js: Uncaught (in promise) SyntaxError",
		} {
			_, e := b.picture(at(site+"/green", func(s *job.Spec) { s.JS = js }))
			if len(e.ConsoleErrors) != 1 || !strings.HasPrefix(e.ConsoleErrors[0], want) {
				b.Errorf("%s: console errors %q, want %q", js, e.ConsoleErrors, want)
			}
			b.wantFailure(job.FailOn, at(site+"/green", func(s *job.Spec) { s.JS, s.FailOnConsoleError = js, true }))
		}
		hang := func(js string) func(*job.Spec) {
			return func(s *job.Spec) { s.JS, s.TimeoutMS = js, 2000 }
		}
		for _, js := range []string{"new Promise(() => {})", "await 1; for (;;);"} {
			img, e := b.picture(at(site+"/green", hang(js)))
			b.wantColor(img, 200, 100, green)
			if !slices.Contains(e.TimedOut, "js") {
				b.Errorf("%s: timed out %v, errors %v", js, e.TimedOut, e.ConsoleErrors)
			}
		}
		b.wantFailure(job.WaitTimeout, at(site+"/green", hang("for (;;);"), func(s *job.Spec) { s.FailOnTimeout = true }))
		b.wantWell()
	})
	run("click", func(b *bench) {
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.Click, s.WaitFor = []string{"#one", "#two"}, "#slow" }))
		b.wantColor(img, 50, 25, green)
		b.wantColor(img, 50, 75, green)
		b.wantColor(img, 50, 125, red)
		wantPicture(b, img, "click")
		img, _ = b.picture(at(site+"/acts", func(s *job.Spec) { s.Click = []string{"#nothing", "#hidden", "#one"} }))
		b.wantColor(img, 50, 25, green)
		for _, leads := range []string{"#link", "#later", "#form"} {
			img, e := b.picture(at(site+"/acts", func(s *job.Spec) { s.Click = []string{leads} }))
			b.wantColor(img, 200, 100, green)
			if !strings.HasPrefix(e.FinalURL, site+"/green") {
				b.Errorf("%s: final url %s", leads, e.FinalURL)
			}
		}
		img, _ = b.picture(at(site+"/acts", func(s *job.Spec) { s.Click = []string{"#none", "#slow"} }))
		b.wantColor(img, 50, 25, red)
		b.wantColor(img, 250, 125, green)
		img, _ = b.picture(at(site+"/acts", func(s *job.Spec) { s.Click = []string{"#far"} })) // and back to the top
		b.wantColor(img, 50, 25, green)
		b.wantFailure(job.AddressRefused, at(site+"/acts", func(s *job.Spec) { s.Click = []string{"#refused"} }))
		b.wantFailure(job.SelectorNotFound, at(site+"/acts", func(s *job.Spec) { s.Click = []string{"a:nonsense"} }))
	})
	run("hover", func(b *bench) {
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.Hover, s.WaitFor = "#hover", "#slow" }))
		b.wantColor(img, 50, 125, green)
		b.wantColor(img, 50, 25, red)
		wantPicture(b, img, "hover")
	})
	run("scroll", func(b *bench) {
		for _, to := range []string{"#low", "3000", "3000px"} {
			img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.ScrollTo, s.CSS = to, "html{scroll-behavior:smooth} body{height:5000px}" }))
			b.wantColor(img, 200, 25, green)
			b.wantColor(img, 200, 75, blue)
			wantPicture(b, img, "scroll_to")
		}
	})
	run("wait for", func(b *bench) {
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.WaitFor = "#slow" }))
		b.wantColor(img, 250, 125, red)
		wantPicture(b, img, "wait_for")
		img, _ = b.picture(at(site+"/acts", func(s *job.Spec) {
			s.WaitFor, s.WaitToLeave = "#slow", "#one"
			s.JS = "setTimeout(()=>one.hidden=(one.style.display='none'),300)"
		}))
		b.wantColor(img, 50, 25, blue)
		wantPicture(b, img, "wait_to_leave")
		for option, change := range map[string]func(*job.Spec){
			"wait_for":      func(s *job.Spec) { s.WaitFor, s.WaitTimeoutMS = "#hidden", 300 },
			"wait_to_leave": func(s *job.Spec) { s.WaitToLeave, s.WaitTimeoutMS = "#one", 300 },
		} {
			f := b.wantFailure(job.WaitTimeout, at(site+"/acts", change))
			if !strings.Contains(f.Detail, option) || !strings.Contains(f.Detail, "wait_timeout_ms") {
				b.Errorf("detail %q", f.Detail)
			}
		}
		f := b.wantFailure(job.WaitTimeout, at(site+"/acts", func(s *job.Spec) { s.WaitFor, s.TimeoutMS = "#hidden", 2000 }))
		if !strings.Contains(f.Detail, " timeout_ms") {
			b.Errorf("detail %q", f.Detail)
		}
		// What it waits for may come with another document.
		img, _ = b.picture(func(s *job.Spec) {
			s.HTML = "<body>first<script>setTimeout(()=>{location='" + site + "/acts'},400)</script>"
			s.WaitFor = "#slow"
		})
		b.wantColor(img, 250, 125, red)
	})
	run("missing", func(b *bench) {
		img, _ := b.picture(at(site+"/acts", func(s *job.Spec) { s.Hover = "#nothing" }))
		b.wantColor(img, 50, 125, red)
		for option, change := range map[string]func(*job.Spec){
			"click":     func(s *job.Spec) { s.Click = []string{"#one", "#nothing"} },
			"hover":     func(s *job.Spec) { s.Hover = "#nothing" },
			"scroll_to": func(s *job.Spec) { s.ScrollTo = "#nothing" },
		} {
			f := b.wantFailure(job.SelectorNotFound, at(site+"/acts", change, func(s *job.Spec) { s.FailIfSelectorMissing = true }))
			if !strings.Contains(f.Detail, option) {
				b.Errorf("detail %q", f.Detail)
			}
		}
		b.picture(at(site+"/acts", func(s *job.Spec) { s.Hover, s.FailIfSelectorMissing = "#hover", true }))
	})
	run("resources", func(b *bench) {
		failing := func(s *job.Spec) {
			s.HTML = `<body><img src="` + site + `/status/404?a"><img src="http://10.1.2.3/b.png">` + strings.Repeat(`<img src="/nothing">`, 60)
		}
		all := func(s *job.Spec) { s.FailOnResourceError = true }
		some := func(pattern string) func(*job.Spec) {
			return func(s *job.Spec) { s.FailIfRequestFailed = []string{"https://no/", pattern} }
		}
		for _, tt := range []struct {
			page, rule func(*job.Spec)
			fails      bool
		}{
			{failing, all, true},
			{failing, some("*404?a"), true},
			{failing, some("http://10.1.2.3/*"), true},
			{failing, some("*.svg"), false},
			{failing, func(*job.Spec) {}, false},
			{at(site + "/status/404"), all, false}, // the page itself is not what it asks for
			{at(site + "/acts"), all, false},
		} {
			out := b.render(func(s *job.Spec) { tt.page(s); tt.rule(s) })
			if failed := out.Failure != nil; failed != tt.fails || failed && out.Failure.Code != job.FailOn {
				b.Errorf("%+v: %v", tt.fails, out.Failure)
			}
		}
	})
	run("content", func(b *bench) {
		for _, tt := range []struct {
			rule  func(*job.Spec)
			fails string
		}{
			{func(s *job.Spec) { s.FailIfSelectorPresent = "#x" }, "fail_if_selector_present"},
			{func(s *job.Spec) { s.FailIfSelectorPresent = "#y" }, ""},
			{func(s *job.Spec) { s.FailIfContentContains = []string{"nothing", "sold  out"} }, "fail_if_content_contains/1"},
			{func(s *job.Spec) { s.FailIfContentContains = []string{"nothing", "unseen"} }, ""},
			{func(s *job.Spec) { s.FailIfContentMissing = []string{"Sorry,", "price"} }, "fail_if_content_missing/1"},
			{func(s *job.Spec) { s.FailIfContentMissing = []string{"Sorry,", "sold out", "later"} }, ""},
		} {
			page := func(s *job.Spec) {
				s.HTML = `<body><p id=x>Sorry, <b>sold
					out</b><p style="display:none">unseen<script>onload=()=>setTimeout(()=>document.body.append('later'))</script>`
				s.WaitUntil, s.DelayMS = job.Load, 50
			}
			out := b.render(func(s *job.Spec) { page(s); tt.rule(s) })
			switch {
			case tt.fails == "" && out.Failure != nil:
				b.Errorf("failed: %v", out.Failure)
			case tt.fails != "" && (out.Failure == nil || out.Failure.Code != job.FailOn || !strings.Contains(out.Failure.Detail, tt.fails)):
				b.Errorf("ended with %v, want %s", out.Failure, tt.fails)
			}
		}
		b.wantFailure(job.SelectorNotFound, at(site+"/acts", func(s *job.Spec) { s.FailIfSelectorPresent = "a:nonsense" }))
	})
	run("console", func(b *bench) {
		out := b.render(at(site+"/thrower", func(s *job.Spec) { s.FailOnConsoleError = true }))
		if out.Failure == nil || out.Failure.Code != job.FailOn {
			b.Fatalf("ended with %v", out.Failure)
		}
		want := []string{"Uncaught (in promise) TypeError: rejected", "Uncaught Error: thrown", "told Object 7 undefined"}
		slices.Sort(out.Evidence.ConsoleErrors)
		if !slices.Equal(out.Evidence.ConsoleErrors, want) {
			b.Errorf("console errors %q, want %q", out.Evidence.ConsoleErrors, want)
		}
		b.picture(at(site+"/acts", func(s *job.Spec) { s.FailOnConsoleError = true }))
		b.picture(at(site + "/thrower"))
	})
	run("navigation timeout", func(b *bench) {
		f := b.wantFailure(job.NavigationTimeout, at(site+"/silence", func(s *job.Spec) { s.NavigationTimeoutMS = 300 }))
		if want := "raise navigation_timeout_ms"; !strings.Contains(f.Detail, want) {
			b.Errorf("detail %q, want %q in it", f.Detail, want)
		}
		img, _ := b.picture(at(site+"/media", func(s *job.Spec) { s.NavigationTimeoutMS = 5000 }))
		b.wantColor(img, 200, 100, blue)
	})
}
