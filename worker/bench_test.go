package worker_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"

	"github.com/go-rod/rod"
	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/browser"
)

// benchPage is a trivial page.
func benchPage(b *testing.B) (url, address string) {
	return serve(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte("<!doctype html><title>hello</title><h1>Hello</h1><p>A small page."))
	}))
}

// BenchmarkRender is one attempt on an idle seat, as a farm with room sees
// it: the seat got ready before the job came. Compare with BenchmarkBareDriver
// of the same run.
func BenchmarkRender(b *testing.B) {
	url, address := benchPage(b)
	bench := newBench(b, nil, address)
	for b.Loop() {
		b.StopTimer()
		<-bench.seat.Ready()
		b.StartTimer()
		out := bench.render(func(s *job.Spec) { s.URL, s.Width, s.Height = url, 1280, 800 })
		if out.Failure != nil {
			b.Fatal(out.Failure)
		}
	}
}

// BenchmarkRenderSaturated is one attempt after the other, with all that the
// seat does between two.
func BenchmarkRenderSaturated(b *testing.B) {
	url, address := benchPage(b)
	bench := newBench(b, nil, address)
	<-bench.seat.Ready()
	for b.Loop() {
		out := bench.render(func(s *job.Spec) { s.URL, s.Width, s.Height = url, 1280, 800 })
		if out.Failure != nil {
			b.Fatal(out.Failure)
		}
	}
}

// BenchmarkBareDriver is the same page on the same binary with the same flags,
// driven by rod as its manual shows: a fresh context, a page, navigate, wait
// for the load, a picture. No proxy, no checks, no evidence.
func BenchmarkBareDriver(b *testing.B) {
	needtest.Browser(b)
	url, _ := benchPage(b)
	r := bareBrowser(b)
	fast := &proto.PageCaptureScreenshot{Format: proto.PageCaptureScreenshotFormatPng, OptimizeForSpeed: true}
	for b.Loop() {
		ctx, err := r.Incognito()
		if err != nil {
			b.Fatal(err)
		}
		page := ctx.MustPage()
		page.MustSetViewport(1280, 800, 1, false)
		page.MustNavigate(url)
		page.MustWaitLoad()
		if _, err := page.Screenshot(false, fast); err != nil {
			b.Fatal(err)
		}
		ctx.MustClose() // disposes of the context
	}
}

// bareBrowser starts a browser with the flags of ours, but with a port for
// rod and without the proxy.
func bareBrowser(b *testing.B) *rod.Browser {
	b.Helper()
	home, err := os.MkdirTemp("", "tintype-bare-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Mkdir(filepath.Join(home, "profile"), 0o777); err != nil {
		b.Fatal(err)
	}
	args := slices.DeleteFunc(browser.Unproxied(home), func(a string) bool { return a == "--remote-debugging-pipe" })
	args = append([]string{"--remote-debugging-port=0"}, args...)
	cmd := exec.Command(browser.DefaultBin, args...)
	cmd.Env, cmd.Dir = []string{"HOME=" + home, "TMPDIR=" + home}, home
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 {
		for _, dir := range []string{home, filepath.Join(home, "profile")} {
			if err := os.Chown(dir, 65534, 65534); err != nil {
				b.Fatal(err)
			}
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	listening := regexp.MustCompile(`DevTools listening on (ws://\S+)`)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			return rod.New().ControlURL(m[1]).MustConnect().NoDefaultDevice()
		}
	}
	b.Fatal("the bare browser did not say where it listens")
	return nil
}
