package corpus

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goitalic"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/goregular"
)

var fonts = map[string][]byte{"regular": goregular.TTF, "bold": gobold.TTF, "italic": goitalic.TTF, "mono": gomono.TTF}

// pageBodies are the bodies of all pages, by name.
func pageBodies() map[string]string {
	return map[string]string{
		"trivial":  `<h1>Hello</h1><p>A small page.`,
		"article":  article(),
		"images":   images(60, 0, ""),
		"css":      css(),
		"font":     fontPage(),
		"script":   scriptPage,
		"canvas":   canvasPage,
		"long":     long(),
		"lazy":     images(200, 100, ` loading="lazy"`),
		"fetch":    fetchPage,
		"table":    table(2000),
		"animated": animated(),
		"svg":      drawing(),
		"scripts":  scripts(),
	}
}

var words = strings.Fields(`the plate is coated with collodion then made sensitive to light in a bath of silver and
	exposed while it is wet it must be developed within minutes a varnish of gum keeps the image which is made of
	very small grains on a thin sheet of iron under a dark lacquer so what looks white is only less dark`)

// prose is n words that are always the same for the same seed.
func prose(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 7))
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}

func article() string {
	var b strings.Builder
	b.WriteString(`<style>main{max-width:720px;margin:0 auto;padding:20px}blockquote{border-left:3px solid #999;padding-left:1em;color:#555}
		h2{font-size:24px}a{color:#0645ad}code{background:#eee;padding:2px}</style><main><h1>On wet plates</h1>`)
	for i := range uint64(40) {
		if i%6 == 0 {
			fmt.Fprintf(&b, "<h2>%s</h2>", prose(1000+i, 4))
		}
		fmt.Fprintf(&b, `<p>%s <a href="#%d">%s</a> <em>%s</em>, <code>%s</code>. %s.</p>`,
			prose(i, 50), i, prose(i+1, 3), prose(i+2, 4), prose(i+3, 2), prose(i+4, 40))
		if i%9 == 4 {
			fmt.Fprintf(&b, "<blockquote>%s.</blockquote>", prose(2000+i, 30))
		}
	}
	return b.String()
}

// images are n tiles of 120 by 90, eleven in a row, from picture number from on.
func images(n, from int, attr string) string {
	var b strings.Builder
	b.WriteString(`<style>body{line-height:0}img{width:120px;height:90px}div.row{white-space:nowrap;height:90px;margin-left:0}</style>`)
	for i := range n {
		if i%10 == 0 {
			b.WriteString(`<div class="row">`)
		}
		fmt.Fprintf(&b, `<img src="/i/%d" width="120" height="90" alt=""%s>`, from+i, attr)
		if i%10 == 9 {
			b.WriteString(`</div>`)
		}
	}
	return b.String()
}

// imageColor is the colour in the middle of picture n.
func imageColor(n int) color.RGBA {
	r := rand.New(rand.NewPCG(uint64(n), 11))
	return color.RGBA{R: uint8(40 + r.IntN(170)), G: uint8(40 + r.IntN(170)), B: uint8(40 + r.IntN(170)), A: 255}
}

var (
	drawn  = map[int][]byte{}
	drawMu sync.Mutex
)

// picture draws picture n: grain as of a photograph around a plain middle. One
// in three is a PNG.
func picture(name string) (b []byte, kind string) {
	n, err := strconv.Atoi(name)
	if err != nil || n < 0 || n > 1000 {
		return nil, ""
	}
	kind = "image/jpeg"
	if n%3 == 2 {
		kind = "image/png"
	}
	drawMu.Lock()
	defer drawMu.Unlock()
	if b := drawn[n]; b != nil {
		return b, kind
	}
	const w, h = 240, 180
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	middle, r := imageColor(n), rand.New(rand.NewPCG(uint64(n), 3))
	for y := range h {
		for x := range w {
			c := middle
			if x < w/4 || x >= w*3/4 || y < h/4 || y >= h*3/4 {
				grain := uint8(r.IntN(40))
				c = color.RGBA{R: uint8(x) + grain, G: uint8(y) + grain, B: middle.B + grain, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var buf bytes.Buffer
	if kind == "image/png" {
		err = png.Encode(&buf, img)
	} else {
		err = jpeg.Encode(&buf, img, &jpeg.Options{Quality: 85})
	}
	if err != nil {
		return nil, ""
	}
	drawn[n] = buf.Bytes()
	return drawn[n], kind
}

// heavyStyle is a style sheet of 700 rules, most of which match nothing.
var heavyStyle = func() string {
	var b strings.Builder
	for i := range 600 {
		fmt.Fprintf(&b, ".a%d .b%d > p:nth-child(%dn+1):not(.c%d){margin:%dpx;box-shadow:0 0 %dpx #%06x}\n", i%40, i%17, i%5+2, i%7, i%9, i%12, i*7919%0xffffff)
	}
	for i := range 100 {
		fmt.Fprintf(&b, `.card%d{background:linear-gradient(%ddeg,#%06x,#%06x);border-radius:%dpx;box-shadow:0 %dpx %dpx rgba(0,0,0,.%d);transform:rotate(%ddeg)}
`, i, i*17%360, i*104729%0xffffff, i*15485863%0xffffff, i%24, i%8, 4+i%20, 1+i%5, i%7-3)
	}
	return b.String()
}()

func css() string {
	var b strings.Builder
	b.WriteString(`<link rel="stylesheet" href="/style.css"><style>.grid{display:grid;grid-template-columns:repeat(10,1fr);gap:12px;padding:20px}
		.grid>div{height:130px;padding:10px;color:#fff;text-shadow:1px 1px 2px #000;overflow:hidden}.f{filter:blur(.6px) saturate(1.4)}
		.g{backdrop-filter:blur(4px)}.m{mix-blend-mode:multiply}.p{clip-path:polygon(0 0,100% 0,100% 80%,80% 100%,0 100%)}</style><div class="grid">`)
	for i := range 100 {
		fmt.Fprintf(&b, `<div class="card%d a%d b%d %s"><p>%s</p></div>`, i, i%40, i%17, []string{"f", "g", "m", "p", ""}[i%5], prose(uint64(i), 12))
	}
	return b.String() + "</div>"
}

func fontPage() string {
	var b strings.Builder
	b.WriteString("<style>")
	for _, f := range []string{"regular", "bold", "italic", "mono"} {
		fmt.Fprintf(&b, "@font-face{font-family:go-%s;src:url(/f/%s.ttf);font-display:block}\n", f, f)
	}
	b.WriteString("main{padding:20px}</style><main>")
	for i := range uint64(40) {
		fmt.Fprintf(&b, `<p style="font-family:go-%s;font-size:%dpx">%s</p>`, []string{"regular", "bold", "italic", "mono"}[i%4], 12+i%4*4, prose(i, 24))
	}
	return b.String()
}

const scriptPage = `<style>#g{display:grid;grid-template-columns:repeat(30,1fr);font-size:9px}#g div{border:1px solid #ddd;padding:1px}
#done{position:fixed;right:0;bottom:0;width:10px;height:10px;background:#d03090}</style><div id="g"></div><script>
const g=document.getElementById('g'),rows=[];let s=1;const rnd=()=>(s=s*1103515245+12345&0x7fffffff)/0x7fffffff;
for(let i=0;i<3000;i++)rows.push({n:i,v:rnd(),w:rnd().toString(36).slice(2,7)});
rows.sort((a,b)=>a.v-b.v);
for(const r of rows){const d=document.createElement('div'),b=document.createElement('b');b.textContent=r.n;
d.append(b,' ',r.w);d.style.background='hsl('+(r.v*360|0)+' 60% 92%)';d.addEventListener('click',()=>d.remove());g.append(d)}
let sum=0;for(let i=0;i<4e6;i++)sum=(sum*31+i)|0;g.dataset.sum=sum;
const d=document.createElement('div');d.id='done';document.body.append(d)</script>`

const canvasPage = `<canvas id="c" width="1280" height="800" style="display:block"></canvas><script>
const c=document.getElementById('c').getContext('2d');let s=7;const rnd=()=>(s=s*1103515245+12345&0x7fffffff)/0x7fffffff;
const bg=c.createLinearGradient(0,0,1280,800);bg.addColorStop(0,'#234');bg.addColorStop(1,'#fda');c.fillStyle=bg;c.fillRect(0,0,1280,800);
for(let i=0;i<5000;i++){c.fillStyle='hsla('+(rnd()*360|0)+',70%,50%,.4)';c.beginPath();c.arc(rnd()*1280,rnd()*800,rnd()*24,0,7);c.fill()}
c.strokeStyle='#fff';for(let i=0;i<400;i++){c.beginPath();c.moveTo(rnd()*1280,rnd()*800);c.bezierCurveTo(rnd()*1280,rnd()*800,rnd()*1280,rnd()*800,rnd()*1280,rnd()*800);c.stroke()}
c.fillStyle='#d03090';c.fillRect(600,380,80,40)</script>`

// long is 15,000 pixels high.
func long() string {
	var b strings.Builder
	b.WriteString("<style>section{height:300px;padding:0 20px;overflow:hidden;box-sizing:border-box}</style>")
	for i := range 50 {
		fmt.Fprintf(&b, `<section style="background:hsl(%d 40%% 90%%)"><h2>Part %d</h2><p>%s</p><img src="/i/%d" width="120" height="90" alt=""></section>`,
			i*37%360, i, prose(uint64(i), 90), 400+i)
	}
	return b.String()
}

const fetchPage = `<div id="box" style="width:1280px;height:800px;background:#ccc"></div><script>
addEventListener('load',async()=>{const r=await (await fetch('/late.json')).json();document.getElementById('box').style.background=r.color})</script>`

func table(rows int) string {
	var b strings.Builder
	b.WriteString("<style>table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:2px 6px;font-size:13px}tr:nth-child(even){background:#f4f4f4}</style><table><thead><tr>")
	for i := range 8 {
		fmt.Fprintf(&b, "<th>%s", words[i])
	}
	b.WriteString("<tbody>")
	r := rand.New(rand.NewPCG(5, 5))
	for i := range rows {
		fmt.Fprintf(&b, "<tr><td>%d<td>%s<td>%d<td>%.2f<td>%s<td>%d<td>%s<td>%x", i, words[r.IntN(len(words))], r.IntN(1e6), r.Float64()*100,
			words[r.IntN(len(words))], r.IntN(100), prose(uint64(i), 3), r.IntN(1<<30))
	}
	return b.String() + "</table>"
}

func animated() string {
	var b strings.Builder
	b.WriteString(`<style>@keyframes spin{to{transform:rotate(360deg)}}@keyframes glow{50%{opacity:.2;background:#f80}}
		div.s{position:absolute;width:60px;height:60px;background:#48c;animation:spin 2s linear infinite,glow 1.3s ease infinite}</style>`)
	for i := range 80 {
		fmt.Fprintf(&b, `<div class="s" style="left:%dpx;top:%dpx;animation-delay:-%dms"></div>`, 40+i%16*76, 40+i/16*140, i*53%2000)
	}
	return b.String() + `<canvas id="c" width="300" height="60" style="position:absolute;left:400px;top:730px"></canvas><script>
const c=document.getElementById('c').getContext('2d');let n=0;const f=()=>{c.clearRect(0,0,300,60);for(let x=0;x<300;x++)c.fillRect(x,30+25*Math.sin((x+n)/20),2,2);n++;requestAnimationFrame(f)};f()</script>`
}

func drawing() string {
	var b strings.Builder
	r := rand.New(rand.NewPCG(9, 9))
	b.WriteString(`<svg width="1280" height="800" style="display:block">`)
	for range 1500 {
		x, y := r.IntN(1280), r.IntN(800)
		fmt.Fprintf(&b, `<path d="M%d %dq%d %d %d %dt%d %d" fill="#%06x" fill-opacity=".4" stroke="#333" stroke-width=".5"/>`,
			x, y, r.IntN(60)-30, r.IntN(60)-30, r.IntN(80)-40, r.IntN(80)-40, r.IntN(60)-30, r.IntN(60)-30, r.IntN(0xffffff))
	}
	return b.String() + `<rect x="1270" y="790" width="10" height="10" fill="#d03090"/></svg>`
}

// scripts asks for fonts of many scripts.
func scripts() string {
	lines := []string{
		"The quick brown fox jumps over the lazy dog", "Съешь же ещё этих мягких французских булок", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
		"永遠の書は春の光に開かれる", "敏捷的棕色狐狸跳过了懒狗", "다람쥐 헌 쳇바퀴에 타고파", "صورة قديمة على لوح من الحديد",
		"תמונה ישנה על לוח ברזל", "लोहे की प्लेट पर पुराना छायाचित्र", "ภาพถ่ายเก่าบนแผ่นเหล็ก", "📷 🖼️ 🌍 🚀 👩‍👩‍👧‍👦 🏳️‍🌈 ✨",
	}
	var b strings.Builder
	b.WriteString(`<main style="padding:10px;font-size:20px">`)
	for i := range 22 {
		fmt.Fprintf(&b, "<p>%s</p>", lines[i%len(lines)])
	}
	return b.String()
}
