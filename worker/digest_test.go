package worker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// restless is a page that is another each time: by its clock, by chance, by
// what moves and by what comes when it is in view.
const restless = `<!doctype html><style>
	body {margin: 0; font: 12px monospace}
	@keyframes turn {from {transform: rotate(0)} to {transform: rotate(1turn)}}
	@keyframes come {from {opacity: 0} to {opacity: 1}}
	#turn {width: 30px; height: 30px; background: red; animation: turn .7s linear infinite}
	#come {width: 30px; height: 30px; background: blue; animation: come .5s}
	#move {width: 30px; height: 30px; background: green; transition: margin-left .5s linear}
	</style>
	<div id=clock></div><div id=chance></div><div id=ticks></div><div id=frames></div>
	<div id=turn></div><div id=come></div><div id=move></div>
	<canvas id=canvas width=100 height=30></canvas><input autofocus value=caret>
	<svg width=60 height=20><rect width=20 height=20 fill=orange><animate attributeName=x values="0;40;0" dur=".6s" repeatCount=indefinite></rect></svg>
	<div id=lazy style="margin-top:40px"></div><div id=fetched></div>
	<img src="/slow.svg?lazy" loading=lazy width=20 height=20><img src="/moving.gif" id=gif width=20 height=20>
	<script>
	const show = (id, ...what) => { document.getElementById(id).textContent = what.join(' ') };
	show('chance', Math.random(), crypto.randomUUID(), crypto.getRandomValues(new Uint32Array(2)));
	show('clock', Date(), performance.now(), new Date().getTime(), new Intl.DateTimeFormat('en', {timeStyle: 'full'}).format());
	let ticks = 0, frames = 0;
	setInterval(() => show('ticks', ++ticks, new Date().toISOString(), performance.now()), 7);
	const step = at => {
		show('frames', ++frames, at);
		canvas.getContext('2d').fillRect(at / 10 % 100, Math.random() * 30, 3, 3);
		requestAnimationFrame(step);
	};
	requestAnimationFrame(step);
	setTimeout(() => { move.style.marginLeft = '200px' }, 50);
	setTimeout(async () => {
		const text = await (await fetch('/slow.svg?fetch')).text();
		show('fetched', text.length, Date.now());
		setTimeout(() => { lazy.append(Object.assign(new Image(20, 20), {src: '/slow.svg?timer'})) }, 30);
	}, 100);
	onload = () => { for (const end = Date.now() + 20; Date.now() < end;); }
	</script>`

func restlessSite() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, restless)
	})
	m.HandleFunc("GET /moving.gif", func(w http.ResponseWriter, _ *http.Request) {
		moving := gif.GIF{LoopCount: 0}
		for i, c := range []color.Color{red, green, blue, white} {
			frame := image.NewPaletted(image.Rect(0, 0, 20, 20), color.Palette{c})
			moving.Image, moving.Delay = append(moving.Image, frame), append(moving.Delay, 7+i)
		}
		w.Header().Set("Content-Type", "image/gif")
		gif.EncodeAll(w, &moving)
	})
	m.HandleFunc("GET /slow.svg", func(w http.ResponseWriter, r *http.Request) {
		select { // as servers are: now faster, now slower
		case <-time.After(time.Duration(20+time.Now().UnixNano()%100) * time.Millisecond):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20"><rect width="20" height="20" fill="purple"/></svg>`)
	})
	return m
}

// digestURL is set for the processes that TestDigests starts.
const digestURL = "TINTYPE_TEST_DIGEST"

// TestDigestProcess is one worker process of TestDigests: it prints the
// digests of its pictures.
func TestDigestProcess(t *testing.T) {
	site, busy := os.Getenv(digestURL), os.Getenv(digestURL+"_BUSY") != ""
	if site == "" {
		return // it has nothing to do by itself
	}
	b := newBench(t, nil, strings.TrimPrefix(site, "http://"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if busy {
		for range runtime.NumCPU() {
			go func() {
				for ctx.Err() == nil {
				}
			}()
		}
	}
	for _, deterministic := range []bool{true, false} {
		spec := job.Defaults()
		spec.URL, spec.Width, spec.Height, spec.Deterministic, spec.TimeoutMS = site+"/", 400, 500, deterministic, 60_000
		out := b.seat.Render(ctx, job.NewID(), &spec)
		if out.Failure != nil {
			t.Fatal(out.Failure)
		}
		fmt.Printf("digest %t %x %v\n", deterministic, sha256.Sum256(out.Artifact.Body), out.Evidence.TimedOut)
		if deterministic { // the picture that moves stands at its first
			img := decode(b, out)
			b.wantColor(img, 30, 312, red)
		}
		if dir := os.Getenv(digestURL + "_KEEP"); dir != "" {
			os.WriteFile(dir+"/"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatBool(deterministic)+".png", out.Artifact.Body, 0o644)
		}
	}
}

// TestDigests: a deterministic page gives the same bytes on two worker
// processes, one of them under load; without the option they differ.
func TestDigests(t *testing.T) {
	needtest.Browser(t)
	site, _ := serve(t, restlessSite())
	digests := map[string][]string{}
	for _, busy := range []string{"", "1"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDigestProcess$", "-test.timeout=120s")
		cmd.Env = append(os.Environ(), digestURL+"="+site, digestURL+"_BUSY="+busy)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
			var which, digest, late string
			if n, _ := fmt.Sscanf(lines.Text(), "digest %s %s %s", &which, &digest, &late); n == 3 {
				digests[which] = append(digests[which], digest)
				if late != "[]" {
					t.Errorf("timed out: %s", late)
				}
			}
		}
	}
	if d := digests["true"]; len(d) != 2 || d[0] != d[1] {
		t.Errorf("deterministic digests %v", d)
	}
	if d := digests["false"]; len(d) != 2 || d[0] == d[1] || d[0] == digests["true"][0] {
		t.Errorf("digests without the option %v", d)
	}
}

// A deterministic document does not say when it was made, and what is done to
// a deterministic page is done in its own time.
func TestDeterministic(t *testing.T) {
	b := newBench(t, nil)
	page := func(s *job.Spec) {
		s.HTML = `<!doctype html><style>@keyframes grow {to {width: 100px}} button {border: 0; background: #0000ff}
			i {position: absolute; left: 210px; width: 30px; height: 30px; background: #ffff00; animation: grow 1s infinite}</style>
			<body style="margin:0;background:#ff0000"><script>
			for (let n = 0; n < 6; n++) document.write('<i style="top:' + n * 32 + 'px;animation-duration:' + (n + 1) + 's;background:rgb(' +
				[Math.random(), Math.random(), Date.now() / 997 % 1].map(x => Math.round(x * 255)) + ')"></i>')
			</script><button style="position:absolute;width:100px;height:50px"
			onclick="setTimeout(()=>{const i=document.createElement('i');i.id='late';i.textContent='x';document.body.append(i)},20000)"></button>`
		s.Deterministic = true
	}
	var pdfs [2][]byte
	for i := range pdfs {
		out := b.render(func(s *job.Spec) { page(s); s.Format = job.PDF })
		if out.Failure != nil {
			t.Fatal(out.Failure)
		}
		pdfs[i] = out.Artifact.Body
	}
	if !bytes.Equal(pdfs[0], pdfs[1]) || !bytes.Contains(pdfs[0], []byte("(D:20250101000000")) {
		t.Error("documents of the same page differ, or say when they were made")
	}
	img, _ := b.picture(page)
	wantPicture(t, img, "deterministic")
	began := time.Now()
	img, e := b.picture(func(s *job.Spec) {
		page(s)
		s.Click, s.WaitFor, s.DelayMS = []string{"button"}, "#late", 30_000
		s.JS = "await new Promise(done => setTimeout(done, 60000)); document.body.style.background = Date.now() >= 1735689660000 ? '#00ff00' : '#0000ff'"
		s.TimeoutMS = 20_000
	})
	b.wantColor(img, 200, 100, green)
	if len(e.TimedOut)+len(e.ConsoleErrors) > 0 {
		t.Errorf("evidence %+v", e)
	}
	t.Logf("110 s of the page in %s", time.Since(began))
}
