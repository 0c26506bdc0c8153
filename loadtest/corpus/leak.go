package corpus

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Pages that tell whether one job sees anything of another's browser. The title
// is the answer: /leak/plant?id=X leaves X behind in every store that a browser
// has and says in its title which of them gave it back; /leak/probe says what it
// finds that it has not put there; /leak/meet?id=X&n=N does both, beside N-1
// others that are open at the same moment.

// Stores are what /leak/plant fills, in the order in which its title names them.
const Stores = "cookie local session idb cache worker http auth opfs name channel"

// Clean is the title of a page that found nothing.
const Clean = "clean"

// The script works through the stores one after the other. A worker of another
// job would answer /leak/by-worker.
const leakScript = `<!doctype html><title>not done</title><body><script>
const id=new URLSearchParams(location.search).get('id')||'', n=new URLSearchParams(location.search).get('n');
const within=(p,ms)=>Promise.race([p,new Promise(d=>setTimeout(()=>d(undefined),ms))]);
const idb=(mode,f)=>new Promise((ok,no)=>{const o=indexedDB.open('leak',1);o.onupgradeneeded=()=>o.result.createObjectStore('s');
 o.onerror=no;o.onsuccess=()=>{const t=o.result.transaction('s',mode),r=f(t.objectStore('s'));r.onerror=no;t.oncomplete=()=>{o.result.close();ok(r.result)}}});
const xhr=(user)=>new Promise(d=>{const x=new XMLHttpRequest;user?x.open('GET','/leak/private',true,user,'secret'):x.open('GET','/leak/private');
 x.onload=()=>d(x.status===200?x.responseText:'');x.onerror=()=>d('');x.send()});
const stores={
 cookie:{put:()=>{document.cookie='leak='+id+';path=/;max-age=9999'},get:()=>document.cookie},
 local:{put:()=>localStorage.setItem('leak',id),get:()=>localStorage.getItem('leak')},
 session:{put:()=>sessionStorage.setItem('leak',id),get:()=>sessionStorage.getItem('leak')},
 idb:{put:()=>idb('readwrite',s=>s.put(id,'leak')),get:()=>idb('readonly',s=>s.get('leak'))},
 cache:{put:async()=>(await caches.open('leak')).put('/leak/none',new Response(id)),get:async()=>{const r=await caches.match('/leak/none');return r&&r.text()}},
 worker:{put:async()=>{await navigator.serviceWorker.register('/leak/worker.js?id='+id);await within(navigator.serviceWorker.ready,5000);
   const c=(await navigator.serviceWorker.getRegistration()).active;if(!navigator.serviceWorker.controller)await within(new Promise(d=>{navigator.serviceWorker.oncontrollerchange=d}),5000)},
  get:async()=>{const r=await fetch('/leak/by-worker',{cache:'no-store'});return r.ok?r.text():''}},
 http:{put:()=>fetch('/leak/kept',{headers:{'x-id':id}}),get:async()=>{try{const r=await fetch('/leak/kept',{cache:'only-if-cached',mode:'same-origin'});return r.ok?r.text():''}catch(e){return ''}}},
 auth:{put:()=>xhr(id),get:()=>xhr()},
 opfs:{put:async()=>{const d=await navigator.storage.getDirectory(),w=await (await d.getFileHandle('leak',{create:true})).createWritable();await w.write(id);await w.close()},
  get:async()=>{const d=await navigator.storage.getDirectory();for await(const name of d.keys())return (await (await d.getFileHandle(name)).getFile()).text();return ''}},
 name:{put:()=>{window.name=id},get:()=>window.name},
 channel:{put:()=>{const c=new BroadcastChannel('leak');c.onmessage=e=>{if(e.data==='who')c.postMessage(id)};window.keep=c},
  get:async()=>{const c=new BroadcastChannel('leak');const heard=[];c.onmessage=e=>heard.push(e.data);c.postMessage('who');
   await new Promise(d=>setTimeout(d,300));return heard.filter(v=>v!=='who').sort((a,b)=>(a===id)-(b===id))[0]}},
};
const find=async(wants)=>{const found=[];for(const [name,s] of Object.entries(stores)){let v;try{v=await within(s.get(),8000)}catch(e){}
 if(v&&wants(String(v)))found.push(name)}return found};
const plant=async()=>{for(const [name,s] of Object.entries(stores))try{await within(s.put(),8000)}catch(e){}};
const key=crypto.randomUUID();fetch('/leak/held?key='+key,{cache:'no-store'});
const done=async title=>{document.title=title;await fetch('/leak/done?key='+key,{cache:'no-store'}).catch(()=>{})};
(async()=>{
 const what=location.pathname.split('/').pop();
 if(what==='plant'){await plant();await done((await find(v=>v.includes(id))).join(' '))}
 if(what==='probe'){const found=await find(()=>true);await done(found.length?'found '+found.join(' '):'clean')}
 if(what==='meet'){await plant();await fetch('/leak/met?n='+n,{cache:'no-store'});
  const found=await find(v=>!v.includes(id));await fetch('/leak/met?n='+n,{cache:'no-store'});await done(found.length?'found '+found.join(' '):'clean')}
 document.body.append('done');
})();
</script>`

// leaks serves the pages. Each has a request open until it is done: the network
// is quiet then, and no sooner.
func leaks(m *http.ServeMux) {
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, leakScript)
	}
	for _, what := range []string{"plant", "probe", "meet"} {
		m.HandleFunc("GET /leak/"+what, page)
	}
	var waiting sync.Map // key → channel that is closed when that page is done
	gate := func(r *http.Request) chan struct{} {
		c, _ := waiting.LoadOrStore(r.FormValue("key"), make(chan struct{}))
		return c.(chan struct{})
	}
	m.HandleFunc("GET /leak/held", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gate(r):
		case <-r.Context().Done():
		}
		waiting.Delete(r.FormValue("key"))
	})
	m.HandleFunc("GET /leak/done", func(_ http.ResponseWriter, r *http.Request) { close(gate(r)) })
	m.HandleFunc("GET /leak/worker.js", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprintf(w, `oninstall=()=>skipWaiting();onactivate=e=>e.waitUntil(clients.claim());
onfetch=e=>{if(new URL(e.request.url).pathname==='/leak/by-worker')e.respondWith(new Response(%q))}`, r.FormValue("id"))
	})
	m.HandleFunc("GET /leak/by-worker", http.NotFound)
	m.HandleFunc("GET /leak/kept", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, r.Header.Get("X-Id"))
	})
	m.HandleFunc("GET /leak/private", func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="leak"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		io.WriteString(w, user)
	})
	var meeting meeting
	m.HandleFunc("GET /leak/met", func(_ http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		select {
		case <-meeting.join(n):
		case <-r.Context().Done():
		}
	})
}

// meeting lets the first n pass together, then the next n.
type meeting struct {
	mu   sync.Mutex
	here int           // guarded by mu
	open chan struct{} // guarded by mu
}

func (m *meeting) join(n int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open = make(chan struct{})
	}
	gate := m.open
	if m.here++; m.here >= n {
		close(gate)
		m.here, m.open = 0, nil
	}
	return gate
}
