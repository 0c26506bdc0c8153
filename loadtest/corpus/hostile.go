package corpus

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Trap is a page that does to a browser what it can. Pictures of those that
// can be shown are blue where Blue is.
type Trap struct {
	Name    string
	Options map[string]any // of the request, beside url; the names of the contract
	Ends    []string       // codes that are right; "" is a picture, or a document, of the page. More than one says why
	Cut     bool           // it never ends by itself: the evidence must say that the job's cap of bytes ended it
}

// TrapWidth and TrapHeight are the viewport for traps.
const (
	TrapWidth  = 320
	TrapHeight = 200
)

// Path is where the trap is served.
func (t Trap) Path() string { return "/t/" + t.Name }

// CheckTrap looks whether a picture is the page of a trap: none has anything
// but its ground in this corner.
func CheckTrap(img image.Image) error {
	x, y := img.Bounds().Min.X+TrapWidth-20, img.Bounds().Min.Y+TrapHeight-10
	if r, g, b, _ := img.At(x, y).RGBA(); far(r, 0) || far(g, 0) || far(b, 255) {
		return fmt.Errorf("pixel %d,%d is %v and not blue", x, y, img.At(x, y))
	}
	return nil
}

// Traps are one for each behaviour of a hostile page that has been seen to
// matter, but for those that need a server that does not speak HTTP.
func Traps() []Trap {
	soon := func(ms int) map[string]any { return map[string]any{"timeout_ms": ms} }
	shown := []string{""}
	return []Trap{
		// the server
		{Name: "silent", Options: soon(1500), Ends: []string{"navigation_timeout"}},
		{Name: "drip-headers", Options: soon(1500), Ends: []string{"navigation_timeout"}},
		{Name: "drip-body", Options: soon(3000), Ends: shown},
		{Name: "endless-body", Options: soon(3000), Ends: shown},
		{Name: "truncated", Ends: shown},
		{Name: "header-flood", Ends: []string{"empty_response"}},
		{Name: "no-content", Ends: []string{"empty_response"}},
		{Name: "download", Ends: []string{"download"}},
		{Name: "redirects", Ends: []string{"redirect_loop"}},
		{Name: "pending-image", Options: soon(3000), Ends: shown},
		{Name: "pending-font", Options: soon(3000), Ends: shown},
		{Name: "pending-script", Options: soon(1500), Ends: []string{"load_timeout"}},
		{Name: "endless-image", Options: soon(8000), Ends: shown, Cut: true},
		{Name: "big-html", Options: soon(10000), Ends: shown, Cut: true},
		{Name: "vast-image", Options: soon(8000), Ends: []string{"page_crashed"}}, // its bitmap is more than a file may hold
		// It is read until its time is over, and then captured as far as it came
		// if its process finds a moment for that, and had found one to paint; where
		// it is read faster its memory is over first.
		{Name: "gzip-bomb", Options: soon(4000), Ends: []string{"", "load_timeout", "capture_timeout", "out_of_memory"}},
		// the page's process
		{Name: "busy-parse", Options: soon(1500), Ends: []string{"load_timeout"}},
		{Name: "busy-load", Options: soon(4000), Ends: shown},
		{Name: "busy-workers", Options: soon(4000), Ends: []string{"", "capture_timeout"}}, // the page gets a turn beside 64 of them, or none,
		{Name: "heap", Options: soon(10000), Ends: []string{"out_of_memory"}},
		{Name: "buffers", Options: soon(8000), Ends: shown}, // it is told that there is no more, and goes on,
		{Name: "canvases", Options: soon(10000), Ends: shown},
		{Name: "dom", Options: soon(4000), Ends: []string{"load_timeout", "out_of_memory"}}, // its time or its memory is over first,
		{Name: "frames", Options: soon(10000), Ends: shown},
		// the browser
		{Name: "alerts", Options: soon(8000), Ends: shown},
		{Name: "popups", Ends: shown},
		{Name: "reloads", Options: soon(4000), Ends: []string{"load_timeout"}},
		{Name: "refreshes", Options: soon(4000), Ends: shown},
		{Name: "closes", Ends: shown},
		{Name: "prints", Options: soon(5000), Ends: shown},
		{Name: "console", Options: soon(8000), Ends: shown},
		{Name: "requests", Options: soon(8000), Ends: shown},
		{Name: "history", Options: soon(8000), Ends: shown},
		{Name: "title", Ends: shown},
		{Name: "poison", Ends: shown},
		{Name: "leaves", Ends: shown},
		// sizes
		{Name: "huge-canvas", Ends: shown},
		{Name: "huge-images", Options: soon(10000), Ends: shown},
		{Name: "tall", Options: map[string]any{"timeout_ms": 8000, "full_page": true}, Ends: []string{"page_too_large"}},
		// A machine that lays it out in time is told of too many pages; others do
		// not come to the load, or not to the end of the print.
		{Name: "breaks", Options: map[string]any{"timeout_ms": 5000, "format": "pdf"}, Ends: []string{"page_too_large", "capture_timeout", "load_timeout"}},
	}
}

const blueGround = `<body style="margin:0;background:#0000ff;color:#fff;height:200px;overflow:hidden">text`

// trapPages are the traps that are a page and nothing else.
var trapPages = map[string]string{
	"pending-image":  blueGround + `<img src="/t/nothing">`,
	"pending-font":   `<style>@font-face{font-family:x;src:url(/t/nothing)}p{font-family:x,sans-serif}</style>` + blueGround + `<p>never`,
	"pending-script": `<head><script src="/t/nothing"></script></head>` + blueGround,
	"endless-image":  blueGround + `<img src="/t/endless.png?6000" width="100" height="100">`,
	"vast-image":     blueGround + `<img src="/t/endless.png?20000" width="100" height="100">`,
	"busy-parse":     `<head><script>for(;;);</script></head>` + blueGround,
	"busy-load":      blueGround + `<script>onload=()=>setTimeout(()=>{for(;;);},0)</script>`,
	"busy-workers": blueGround + `<script>const u=URL.createObjectURL(new Blob(['for(;;);']));
		onload=()=>{for(let i=0;i<64;i++)new Worker(u)}</script>`,
	"heap":      blueGround + `<script>onload=()=>{let a=[];for(;;)a.push(new Array(1e6).fill(1.1))}</script>`,
	"buffers":   blueGround + `<script>try{let a=[];for(let i=0;i<200;i++)a.push(new Uint8Array(2e7).fill(1))}catch(e){}</script>`,
	"canvases":  blueGround + `<script>let a=[];for(let i=0;i<100;i++){const c=document.createElement('canvas');c.width=c.height=2000;c.getContext('2d').fillRect(0,0,2000,2000);a.push(c)}</script>`,
	"dom":       blueGround + `<div id=d></div><script>onload=()=>{for(;;)for(let i=0;i<1000;i++){const e=document.createElement('p');e.textContent='x'.repeat(100);d.append(e)}}</script>`,
	"frames":    blueGround + `<script>let d=document;for(let i=0;i<200;i++){const f=d.createElement('iframe');f.style='width:9px;height:9px;border:0';d.body.append(f);if(i%20)continue;d=f.contentDocument}</script>`,
	"alerts":    blueGround + `<script>for(;;)alert(1)</script>`,
	"popups":    blueGround + `<script>for(let i=0;i<100;i++)window.open('/p/trivial?'+i)</script>`,
	"reloads":   blueGround + `<script>location.reload()</script>`,
	"refreshes": blueGround + `<meta http-equiv=refresh content="0">`,
	"closes":    blueGround + `<script>window.close();self.close();onload=()=>window.close()</script>`,
	"prints":    blueGround + `<script>for(let i=0;i<20;i++)print();onload=()=>{for(let i=0;i<20;i++)print()}</script>`,
	"console":   blueGround + `<script>for(let i=0;i<20000;i++)console.log('x'.repeat(50),i);for(let i=0;i<2000;i++)setTimeout(()=>{throw new Error('y')})</script>`,
	"requests":  blueGround + `<script>for(let i=0;i<3000;i++)fetch('/late.json?'+i).catch(()=>{})</script>`,
	"history":   blueGround + `<script>for(let i=0;i<5000;i++)try{history.pushState({},'','?'+i)}catch(e){break}</script>`,
	"title":     `<script>document.title='t\r\nSet-Cookie: a=b'.repeat(1e6)</script>` + blueGround,
	"poison": `<script>const no=()=>{throw new Error('poisoned')};window.Promise=no;window.requestAnimationFrame=no;window.setTimeout=no;
		JSON.stringify=no;Array.from=no;Array.prototype.filter=no;Array.prototype.map=no;performance.now=()=>NaN;
		Object.defineProperty(Object.prototype,'title',{get(){return 'poisoned'},set:no});
		Object.defineProperty(Document.prototype,'images',{get:no});Object.defineProperty(Document.prototype,'fonts',{get:no})</script>` + blueGround,
	"leaves":      blueGround + `<script>for(const to of ['file:///etc/passwd','chrome://crash','data:text/html,x','javascript:document.body.remove()//'])try{if(!to.startsWith('java'))location=to}catch(e){}</script>`,
	"huge-canvas": blueGround + `<script>const c=document.createElement('canvas');c.width=c.height=100000;c.style='position:absolute;width:9px;height:9px';document.body.append(c);const x=c.getContext('2d');x&&x.fillRect(0,0,9,9)</script>`,
	"huge-images": blueGround + `<img src="/t/huge.png?1" width=9 height=9><img src="/t/huge.png?2" width=9 height=9><img src="/t/huge.png?3" width=9 height=9>`,
	"tall":        `<body style="margin:0;background:#0000ff"><div style="height:10000000px">`,
	"breaks":      blueGround + `<script>let s='';for(let i=0;i<100000;i++)s+='<p style="break-after:page">'+i;document.body.style.height='auto';document.body.innerHTML=s</script>`,
}

// traps are served below /t/.
func traps(m *http.ServeMux) {
	for name, text := range trapPages {
		m.HandleFunc("GET /t/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "<!doctype html><title>"+name+"</title>"+text)
		})
	}
	for name, serve := range map[string]http.HandlerFunc{
		"silent":       func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"nothing":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"drip-headers": dripHeaders,
		"drip-body":    func(w http.ResponseWriter, r *http.Request) { drip(w, r, 50*time.Millisecond) },
		"endless-body": func(w http.ResponseWriter, r *http.Request) { drip(w, r, time.Millisecond) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Length", "100000")
			io.WriteString(w, blueGround)
		},
		"header-flood": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 400 {
				w.Header().Set(fmt.Sprintf("X-Flood-%d", i), strings.Repeat("x", 1000))
			}
			io.WriteString(w, blueGround)
		},
		"no-content": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"download": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Disposition", `attachment; filename="../../x"`)
			drip(w, r, time.Millisecond)
		},
		"redirects":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/t/redirects", http.StatusFound) },
		"endless.png": endlessImage,
		"huge.png": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.Write(hugeImage())
		},
		"gzip-bomb": gzipBomb,
		"big-html":  bigHTML,
	} {
		m.HandleFunc("GET /t/"+name, serve)
	}
}

// dripHeaders sends a header line now and then, and never the last one.
func dripHeaders(w http.ResponseWriter, r *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	io.WriteString(rw, "HTTP/1.1 200 OK\r\n")
	for i := 0; ; i++ {
		fmt.Fprintf(rw, "X-Drip-%d: x\r\n", i)
		if rw.Flush() != nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // a server that is slow, nothing is waited for
	}
}

// drip sends a page and goes on with it for ever.
func drip(w http.ResponseWriter, r *http.Request, pause time.Duration) {
	w.Header().Set("Content-Type", "text/html")
	io.WriteString(w, blueGround)
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, "<!-- still here -->"); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		time.Sleep(pause)
	}
}

// endlessImage is a picture of a gigabyte; the query says how wide and high.
func endlessImage(w http.ResponseWriter, r *http.Request) {
	side, err := strconv.ParseUint(r.URL.RawQuery, 10, 16)
	if err != nil {
		http.Error(w, "how large?", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	w.Write(pngStart(uint32(side), uint32(side), 8, 2))
	block := make([]byte, 1<<20)
	binary.BigEndian.PutUint32(block, 1<<30)
	copy(block[4:], "IDAT")
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// pngStart is a picture's signature and header.
func pngStart(width, height uint32, depth, kind byte) []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	h := binary.BigEndian.AppendUint32(nil, width)
	h = append(binary.BigEndian.AppendUint32(h, height), depth, kind, 0, 0, 0)
	chunk(&b, "IHDR", h)
	return b.Bytes()
}

func chunk(b *bytes.Buffer, kind string, data []byte) {
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data))))
	part := append([]byte(kind), data...)
	b.Write(part)
	b.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(part)))
}

// hugeImage is 30,000 by 30,000 black pixels of one bit.
var hugeImage = sync.OnceValue(func() []byte {
	const side = 30000
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	row := make([]byte, 1+(side+7)/8)
	for range side {
		z.Write(row)
	}
	z.Close()
	b := bytes.NewBuffer(pngStart(side, side, 1, 0))
	chunk(b, "IDAT", packed.Bytes())
	chunk(b, "IEND", nil)
	return b.Bytes()
})

// bigHTML is a page of a gigabyte, sent as fast as it is read.
func bigHTML(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(1<<30))
	io.WriteString(w, blueGround)
	// Comments, which are read and not laid out.
	block := bytes.Repeat([]byte("<!-- "+strings.Repeat("x", 1015)+"-->\n"), 1<<10)
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// bombPart is what the page of gzipBomb consists of.
var bombPart = bytes.Repeat([]byte("<p>x</p> "), 100_000)

// gzipBomb is a page of ten gigabytes, in some ten megabytes. One block is
// compressed once and sent again and again: it refers to nothing before it. The
// check sum is missing, which comes too late to matter.
func gzipBomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Encoding", "gzip")
	b := bombBlocks()
	w.Write(b.head)
	for range 10 << 30 / len(bombPart) {
		if _, err := w.Write(b.block); err != nil {
			return
		}
	}
}

var bombBlocks = sync.OnceValue(func() (b struct{ head, block []byte }) {
	deflated := func(text []byte) []byte {
		var out bytes.Buffer
		z, err := flate.NewWriter(&out, flate.BestCompression)
		if err != nil {
			panic(err) // of the level, which is one
		}
		z.Write(text)
		z.Flush()
		return out.Bytes()
	}
	b.head = append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, deflated([]byte(blueGround))...) // RFC 1952, 2.3
	b.block = deflated(bombPart)
	return b
})
