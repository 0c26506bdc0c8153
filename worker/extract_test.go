package worker_test

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"reflect"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// words is a site for documents that are no pictures.
func words() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /red.svg", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="50" height="50"><rect width="50" height="50" fill="#ff0000"/></svg>`)
	})
	m.HandleFunc("GET /article", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><html lang="en-GB"><head><title>An article</title>
<meta name="Description" content="  What it is
 about "><meta name=author content="A. Author"><link rel="shortcut icon" href="/favicon.png"><link rel=canonical href="/canon?a=1&amp;b=2">
<meta property="og:title" content="For the graph"><meta property="og:image" content="/og.png"><meta property="og:image" content="/second.png">
<meta name="twitter:card" content="summary"></head><body><h1>Head</h1><p id=late></p><img src="/red.svg" alt="a red one">
<script>document.getElementById('late').textContent = 'written by a script'</script><p style="display:none">unseen</p></body></html>`)
	})
	return m
}

func TestWords(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, words())
	b := newBench(t, nil, address)
	document := func(t *testing.T, format job.Format, change func(*job.Spec)) string {
		t.Helper()
		out := b.render(func(s *job.Spec) {
			s.Format, s.TimeoutMS = format, 20_000
			change(s)
		})
		if out.Failure != nil {
			t.Fatalf("render: %v (evidence %+v)", out.Failure, out.Evidence)
		}
		if a := out.Artifact; a.Width != 0 || a.Height != 0 || a.Pages != 0 {
			t.Errorf("%s has sides or pages: %d, %d, %d", format, a.Width, a.Height, a.Pages)
		}
		return string(out.Artifact.Body)
	}
	html := func(markup string) func(*job.Spec) { return func(s *job.Spec) { s.HTML = markup } }
	article := func(s *job.Spec) { s.URL = site + "/article" }

	t.Run("html is the page after its scripts", func(t *testing.T) {
		got := document(t, job.HTML, article)
		if !strings.HasPrefix(got, "<!DOCTYPE html>\n<html lang=\"en-GB\"><head>") || !strings.Contains(got, `<p id="late">written by a script</p>`) || !strings.HasSuffix(got, "</body></html>") {
			t.Errorf("markup: %s", got)
		}
	})
	t.Run("html keeps shadow trees", func(t *testing.T) {
		got := document(t, job.HTML, html(`<!doctype html><x-y>light</x-y><script>
			document.querySelector('x-y').attachShadow({mode:'open'}).innerHTML='<b>dark <slot></slot></b>'</script>`))
		if !strings.Contains(got, `<x-y><template shadowrootmode="open"><b>dark <slot></slot></b></template>light</x-y>`) || !strings.HasSuffix(got, "</html>") {
			t.Errorf("markup: %s", got)
		}
	})
	t.Run("mhtml holds what the page shows", func(t *testing.T) {
		m, err := mail.ReadMessage(strings.NewReader(document(t, job.MHTML, article)))
		if err != nil {
			t.Fatal(err)
		}
		kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/related" {
			t.Fatalf("%s, %v", kind, err)
		}
		var parts []string
		for r := multipart.NewReader(m.Body, params["boundary"]); ; {
			p, err := r.NextPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, p.Header.Get("Content-Location"))
		}
		if len(parts) < 2 || parts[0] != site+"/article" || parts[1] != site+"/red.svg" {
			t.Errorf("parts %v", parts)
		}
	})
	t.Run("text is what is shown", func(t *testing.T) {
		if got := document(t, job.PlainText, article); got != "Head\n\nwritten by a script\n\n" && strings.TrimSpace(got) != "Head\n\nwritten by a script" {
			t.Errorf("text: %q", got)
		}
	})
	t.Run("text of open shadow trees", func(t *testing.T) {
		page := html(`<!doctype html><body><h1>Head</h1> <p>a <x-in></x-in>
			b <i>c </i><x-in></x-in></p><x-card>mid <b slot=end>end</b><u>to no slot</u> <p hidden>unseen</p></x-card><div>after<br>it</div>
			<svg><title>no</title></svg><form><input name=shadowRoot><input name=childNodes>in a form</form><script>
			customElements.define('x-in', class extends HTMLElement { connectedCallback() { this.attachShadow({mode:'open'}).innerHTML = '<style>i{}</style><span style="text-transform:uppercase">price  42</span>' } });
			document.querySelector('u').remove();
			const card = document.querySelector('x-card');
			card.attachShadow({mode:'open'}).innerHTML = '<h2>in</h2><pre>  p\n  q</pre><div><slot></slot></div><p><slot name=end></slot></p><p style="visibility:hidden">hid</p><slot name=other>fallback</slot><x-deep></x-deep><table><tr><td>1<td><slot name=none>2</slot></table>';
			card.append(Object.assign(document.createElement('u'), {slot:'nowhere', textContent:'to no slot'}));
			card.shadowRoot.querySelector('x-deep').attachShadow({mode:'open'}).innerHTML = '<div>deep</div>'</script>`)
		want := "Head\n\na PRICE 42 b c PRICE 42\n\nin\n  p\n  q\nmid\n\nend\n\nfallback\ndeep\n1\t2\nafter\nit\nin a form"
		if got := document(t, job.PlainText, page); got != want {
			t.Errorf("text: %q, want %q", got, want)
		}
		for _, rule := range []func(*job.Spec){
			func(s *job.Spec) { s.FailIfContentMissing = []string{"PRICE 42", "deep"} },
			func(s *job.Spec) { s.FailIfContentContains = []string{"to no slot", "unseen"} },
		} {
			document(t, job.PlainText, func(s *job.Spec) { page(s); rule(s) })
		}
		b.wantFailure(job.FailOn, func(s *job.Spec) { page(s); s.FailIfContentContains = []string{"PRICE 42"} })
	})
	t.Run("markdown of a page", func(t *testing.T) {
		want := "# Head\n\nwritten by a script\n\n![a red one](" + site + "/red.svg)\n"
		if got := document(t, job.Markdown, article); got != want {
			t.Errorf("markdown: %q", got)
		}
	})
	cases := []struct{ name, markup, want string }{
		{"marks", `<p>a <b>bold <i>both</i> </b>and<code>x*y</code> <del>gone</del> <strong><b>twice</b></strong>`, "a **bold *both*** and`x*y` ~~gone~~ **twice**\n"},
		{"links", `<p><a href="https://x.test/a b">to <b>it</b></a>, <a href="javascript:1">not</a>, <a href="/r">here</a> <a href="https://x.test/(a)">(a)</a>`, "[to **it**](https://x.test/a%20b), not, [here](/r) [(a)](<https://x.test/(a)>)\n"},
		{"escapes", `<p># no head<p>1. no list<p>- nor this<p>*a* _b_ c_d [e] \f <p>&lt;b&gt; &amp;amp; 1 &lt; 2<p>&gt; q`, "\\# no head\n\n1\\. no list\n\n\\- nor this\n\n\\*a\\* \\_b\\_ c_d \\[e\\] \\\\f\n\n\\<b> \\&amp; 1 < 2\n\n\\> q\n"},
		{"lists", `<ul><li>a<ol start=3><li>b<li>c</ol><li><p>d<p>e</ul>`, "- a\n\n  3. b\n  4. c\n\n- d\n\n  e\n"},
		{"tight list", `<ol><li>a<li><input type=checkbox checked> b<ul><li>c</ul></ol>`, "1. a\n2. [x] b\n   - c\n"},
		{"code", "<pre><code class='language-go'>if a {\n\t```\n}\n</code></pre>", "````go\nif a {\n\t```\n}\n````\n"},
		{"quote", `<blockquote><p>a<p>b<br>c</blockquote>`, "> a\n>\n> b  \n> c\n"},
		{"table", `<table><tr><th>a<th>b|<tr><td>1<br>2<td><b>x</b><tr><td colspan=2>w</table>`, "| a | b\\| |\n| --- | --- |\n| 1<br>2 | **x** |\n| w |  |\n"},
		{"headless", `<table><tr><td>a<td>b</table>`, "|  |  |\n| --- | --- |\n| a | b |\n"},
		{"aligned", `<table style="text-align:start"><tr><th>a<th>b<th>c<th>d<tr><td align=right>1<td style="text-align:center">2<td>3<td style="text-align:left">4<tr><td>5<td>6<td align=right>7</table>`, "| a | b | c | d |\n| ---: | :---: | --- | :--- |\n| 1 | 2 | 3 | 4 |\n| 5 | 6 | 7 |  |\n"},
		{"spanned", `<table><tr><th colspan=2>a<th>b<tr><th>h<td>1<td style="text-align:end">2</table>`, "| a |  | b |\n| --- | --- | ---: |\n| h | 1 | 2 |\n"},
		{"numbered from zero", `<ol start=0><li>a<li>b</ol><p><ol start=-2><li>c</ol><p><ol start=x><li>d</ol>`, "0. a\n1. b\n\n1. c\n\n1. d\n"},
		{"lazy images", `<p><img data-src=/red.svg alt=later><img data-src=/red.svg><img src="" alt=none> <img srcset="https://x.test/a.png 1x" alt=set>`, "laternone ![set](https://x.test/a.png)\n"},
		{"folded", `<details><summary>more</summary><p>unseen</p><details open>unseen</details></details><details open><summary>less</summary><p>seen</p></details>`, "more\n\nless\n\nseen\n"},
		{"not drawn", `<p hidden=until-found>a<p>b<span style="content-visibility:hidden">c</span><h2 style="content-visibility:hidden">d</h2><ul style="content-visibility:hidden"><li>e</ul>`, "bc\n"},
		{"layout", `<table><tr><td><table><tr><td>a<td>b</table><td><h2>c</h2></table>`, "|  |  |\n| --- | --- |\n| a | b |\n\n## c\n"},
		{"unseen", `<p>a<span style="visibility:hidden">b</span><script>1</script><style>p{}</style><p hidden>c<noscript>d</noscript>`, "a\n"},
		{"card", `<a href=/x style="display:block"><h2>Head</h2><p>text</p></a>`, "[Head text](/x)\n"},
		{"shadow", `<x-y>mid</x-y><script>document.querySelector('x-y').attachShadow({mode:'open'}).innerHTML='<h2>in</h2><p><slot></slot></p>'</script>`, "## in\n\nmid\n"},
		{"clobbered", `<form><input name=childNodes><input name=nodeType>in a form</form><img name=documentElement><img name=body><img name=querySelectorAll>`, "in a form\n"},
		{"breaks", `<p>a<br><br>b<br>`, "a  \n  \nb\n"},
	}
	t.Run("markdown", func(t *testing.T) {
		// One page of all, since a render takes longer than all of them.
		all := "<!doctype html><meta charset=utf-8>"
		for _, tc := range cases {
			all += "<section>" + tc.markup + "</section><hr>"
		}
		got := strings.Split(strings.TrimSuffix(document(t, job.Markdown, html(all)), "---\n"), "---\n\n")
		if len(got) != len(cases) {
			t.Fatalf("%d pieces of %d: %q", len(got), len(cases), got)
		}
		for i, tc := range cases {
			if strings.TrimSuffix(got[i], "\n") != tc.want {
				t.Errorf("%s: %q, want %q", tc.name, got[i], tc.want)
			}
		}
	})
	t.Run("markdown of nothing", func(t *testing.T) {
		if got := document(t, job.Markdown, html("<p>")); got != "\n" {
			t.Errorf("%q", got)
		}
	})
	t.Run("a tree without end", func(t *testing.T) {
		deep := html(`<!doctype html><body><script>let e=document.body;for(let i=0;i<400;i++)e=e.appendChild(document.createElement('div'));e.textContent='found'</script>`)
		for _, format := range []job.Format{job.HTML, job.PlainText, job.Markdown} {
			if got := document(t, format, deep); !strings.Contains(got, "found") {
				t.Errorf("%s: %.300q", format, got)
			}
		}
	})
	t.Run("words without end", func(t *testing.T) {
		out := b.render(func(s *job.Spec) {
			s.Format, s.TimeoutMS = job.HTML, 20_000
			s.HTML = `<body><script>document.body.append(document.createComment('x'.repeat(10000001)))</script>`
		})
		if out.Failure == nil || out.Failure.Code != job.PageTooLarge {
			t.Errorf("%v", out.Failure)
		}
	})
	t.Run("save_metadata", func(t *testing.T) {
		out := b.render(func(s *job.Spec) { s.URL, s.SaveMetadata = site+"/article", true })
		want := &job.Page{
			Title: "An article", Description: "What it is about", Author: "A. Author", Language: "en-GB",
			Canonical: site + "/canon?a=1&b=2", Icon: site + "/favicon.png",
			OpenGraph: map[string]string{"title": "For the graph", "image": "/og.png"}, Twitter: map[string]string{"card": "summary"},
		}
		if out.Failure != nil || !reflect.DeepEqual(out.Evidence.Page, want) {
			t.Errorf("%v: %+v", out.Failure, out.Evidence.Page)
		}
		plain := b.render(article)
		if plain.Failure != nil || plain.Evidence.Page != nil || string(plain.Artifact.Body) != string(out.Artifact.Body) {
			t.Errorf("without: %v, %+v", plain.Failure, plain.Evidence)
		}
	})
	t.Run("markdown as source", func(t *testing.T) {
		source := "# A & B\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done\n\n~~no~~ <b id=raw>raw</b> https://x.test/\n\n<script>document.body.dataset.ran=1</script>\n"
		out := b.render(func(s *job.Spec) { s.Markdown, s.Format = source, job.HTML })
		if out.Failure != nil || out.Evidence.Title != "A & B" || out.Evidence.FinalURL != "" {
			t.Fatalf("%v, %+v", out.Failure, out.Evidence)
		}
		for _, part := range []string{"<h1>A &amp; B</h1>", "<td>2</td>", `type="checkbox"`, "<del>no</del>", `<b id="raw">raw</b>`, `<a href="https://x.test/">`, `data-ran="1"`} {
			if !strings.Contains(string(out.Artifact.Body), part) {
				t.Errorf("no %s in %s", part, out.Artifact.Body)
			}
		}
		shapes := "<div style='background:#00f;height:30px'></div>\n\n> <div style='background:#f00;height:20px'></div>\n\n| | |\n|---|---|\n| <i style='display:block;background:#0f0;width:60px;height:20px'></i> | |\n\n---\n"
		img, _ := (&bench{TB: t, seat: b.seat, dir: b.dir}).picture(func(s *job.Spec) { s.Markdown = shapes })
		wantPicture(t, img, "markdown")
		back := document(t, job.Markdown, func(s *job.Spec) { s.Markdown = source })
		if !strings.HasPrefix(back, "# A & B\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- [x] done\n\n~~no~~ **raw** [https://x.test/](https://x.test/)") {
			t.Errorf("and back: %q", back)
		}
	})
}
