package worker_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// nosy is a page that goes through all that it could see of a stranger's script,
// changed before anything is thrown and looked at afterwards; it is red if it
// saw one.
const nosy = `<!doctype html><body style="margin:0;background:#00ff00"><script>
	let seen = '';
	const {apply, ownKeys, getOwnPropertyDescriptor, defineProperty} = Reflect;
	const note = name => { seen += String(name) + ' '; };
	const spy = (object, name) => {
		const p = getOwnPropertyDescriptor(object, name);
		if (!p || !p.configurable) return;
		const wrap = f => typeof f === 'function' ? function (...args) { note(name); return apply(f, this, args); } : f;
		defineProperty(object, name, p.get ? {__proto__: null, ...p, get: wrap(p.get)} : {__proto__: null, ...p, value: wrap(p.value)});
	};
	const objects = [JSON, Reflect, Object, console];
	for (const type of [EventTarget, Event, ErrorEvent, PromiseRejectionEvent, CustomEvent, DOMException, Error, String, Array]) objects.push(type.prototype);
	for (const object of objects) for (const name of ownKeys(object)) if (name !== 'constructor') spy(object, name);
	for (const name of ['bubbles', 'detail', 'toJSON', '0', '1', 'get', 'value'])
		for (const object of [Array.prototype, String.prototype, Object.prototype])
			defineProperty(object, name, {__proto__: null, get() { note('inherited ' + name); }, set() { note('inherited ' + name); }, configurable: true});
	const trap = name => () => { note('trap ' + name); };
	const proxy = new Proxy(new Error('hidden'), {__proto__: null, get: trap('get'), has: trap('has'), getPrototypeOf: trap('prototype'), getOwnPropertyDescriptor: trap('own')});
	const getter = new TypeError('x');
	for (const name of ['message', 'name', 'stack']) defineProperty(getter, name, {__proto__: null, get() { note('own ' + name); return 'got'; }});
	seen = '';
	Promise.reject(proxy); Promise.reject(getter); Promise.reject({toString() { note('toString'); return 'x'; }});
	setTimeout(() => { throw new Error('thrown'); });
	setTimeout(() => { if (seen) { document.body.style.background = '#ff0000'; document.title = seen; } document.body.append(Object.assign(document.createElement('i'), {id: 'done', textContent: '.'})); }, 10);
	</script>`

// done shows that a page has come to its end.
const done = `<script>
	var end = () => { const i = document.createElement('i'); i.id = 'done'; i.textContent = '.'; document.body.append(i); };
	addEventListener('load', () => setTimeout(end, 20));</script>`

func throwers() *http.ServeMux {
	m := http.NewServeMux()
	raw := func(path, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, body)
		})
	}
	page := func(path, body string) { raw(path, body+done) }
	const body = `<!doctype html><body style="margin:0;background:#00ff00">`
	page("/kinds", body+`<img src="data:,"><script>
		const own = new Error('own'); own.name = 'Mine';
		for (const what of ['text', 7, undefined, null, Symbol('s'), {}, new TypeError('rejected'), new RangeError, own, new DOMException('dom', 'AbortError')]) Promise.reject(what);
		console.error('not thrown'); Promise.reject(8).catch(() => {});
		dispatchEvent(new ErrorEvent('error', {message: 'forged'}));
		setTimeout(() => { throw new Error('thrown') }); throw 'early'</script><script>let let</script><script>nothing()</script>`)
	page("/clobbers", body+`<img name=tintype id=key><script>
		addEventListener('error', e => { e.stopImmediatePropagation(); e.preventDefault() }, true); onerror = () => true;
		onunhandledrejection = e => e.preventDefault();
		EventTarget.prototype.dispatchEvent = JSON.parse = JSON.stringify = Reflect.apply = () => { throw 1 };
		window.CustomEvent = window.ErrorEvent = null;
		Promise.reject('kept too'); throw 'kept'</script>`)
	page("/opens", `<script>onload = () => {
		document.open(); document.write('<body style="margin:0;background:#00ff00">new'); document.close();
		setTimeout(() => { setTimeout(end); throw 'after' }) }; throw 'before'</script>`)
	page("/frames", body+`<iframe srcdoc="<script>Promise.reject('rejected below'); throw 'below'</script>"></iframe>
		<iframe src="/child"></iframe><iframe sandbox=allow-scripts srcdoc="<script>throw 'another origin'</script>"></iframe>`)
	page("/child", body+`<script>throw 'child'</script>`)
	page("/flood", body+`<script>
		let left = 1e6;
		const more = () => { for (let i = 0; i < 1000 && left > 0; i++, left--) reportError('e' + left); if (left > 0) setTimeout(more) };
		more();</script>`)
	// Of more than this, Chromium's own message of it takes the page's process.
	page("/giant", body+`<script>throw 'x'.repeat(100e6)</script>`)
	page("/giant-error", body+`<script>throw new Error('x'.repeat(100e6))</script>`)
	page("/giant-rejection", body+`<script>Promise.reject(new Error('x'.repeat(100e6)))</script>`)
	raw("/nosy", nosy)
	return m
}

// TestConsoleErrors: what a page throws and nobody catches is in the evidence of
// every job, and no page sees who listens, or keeps it from them.
func TestConsoleErrors(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, throwers())
	whole := newBench(t, nil, address)
	for _, tt := range []struct {
		name, path string
		want       []string // sorted
	}{
		{"throws", "/child", []string{"Uncaught child"}},
		{"kinds", "/kinds", []string{
			"Uncaught (in promise) 7", "Uncaught (in promise) AbortError: dom", "Uncaught (in promise) Mine: own", "Uncaught (in promise) Object",
			"Uncaught (in promise) RangeError", "Uncaught (in promise) Symbol(s)", "Uncaught (in promise) TypeError: rejected",
			"Uncaught (in promise) null", "Uncaught (in promise) text", "Uncaught (in promise) undefined",
			"Uncaught Error: thrown", "Uncaught ReferenceError: nothing is not defined",
			"Uncaught SyntaxError: let is disallowed as a lexically bound name", "Uncaught early",
		}},
		{"clobbers", "/clobbers", []string{"Uncaught (in promise) kept too", "Uncaught kept"}},
		{"opens", "/opens", []string{"Uncaught after", "Uncaught before"}},
		{"frames", "/frames", []string{"Uncaught (in promise) rejected below", "Uncaught below", "Uncaught child"}},
		{"nosy", "/nosy", []string{"Uncaught (in promise) Object", "Uncaught (in promise) Object", "Uncaught (in promise) TypeError", "Uncaught Error: thrown"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &bench{TB: t, seat: whole.seat, dir: whole.dir}
			for _, format := range []job.Format{job.PNG, job.PDF} {
				out := b.render(at(site+tt.path, func(s *job.Spec) { s.Format, s.WaitFor = format, "#done" }))
				if out.Failure != nil {
					t.Fatal(out.Failure)
				}
				if format == job.PNG {
					b.wantColor(decode(b, out), 310, 190, green)
				}
				slices.Sort(out.Evidence.ConsoleErrors)
				if !slices.Equal(out.Evidence.ConsoleErrors, tt.want) {
					t.Errorf("%s: console errors %q, want %q (title %q)", format, out.Evidence.ConsoleErrors, tt.want, out.Evidence.Title)
				}
			}
		})
	}
	t.Run("flood", func(t *testing.T) {
		b := &bench{TB: t, seat: whole.seat, dir: whole.dir}
		img, e := b.picture(at(site+"/flood", func(s *job.Spec) { s.TimeoutMS = 20_000 }))
		b.wantColor(img, 310, 190, green)
		if len(e.ConsoleErrors) != 50 || e.ConsoleErrors[0] != "Uncaught e1000000" {
			t.Errorf("%d console errors: %.200q", len(e.ConsoleErrors), e.ConsoleErrors)
		}
	})
	for path, start := range map[string]string{"/giant": "Uncaught xxx", "/giant-error": "Uncaught Error: xxx", "/giant-rejection": "Uncaught (in promise) Error: xxx"} {
		t.Run(path[1:], func(t *testing.T) {
			b := &bench{TB: t, seat: whole.seat, dir: whole.dir}
			img, e := b.picture(at(site+path, func(s *job.Spec) { s.TimeoutMS = 20_000 }))
			b.wantColor(img, 310, 190, green)
			if len(e.ConsoleErrors) != 1 || !strings.HasPrefix(e.ConsoleErrors[0], start) || len(e.ConsoleErrors[0]) != 2000 {
				t.Errorf("%d console errors: %.200q", len(e.ConsoleErrors), e.ConsoleErrors)
			}
			b.wantWell()
		})
	}
}
