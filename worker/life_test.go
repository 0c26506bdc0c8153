package worker_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// waiting is a site whose page never comes; arrived gets a token for each
// request.
func waiting(t *testing.T) (url, address string, arrived chan struct{}) {
	arrived = make(chan struct{}, 16)
	url, address = serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	return url, address, arrived
}

// during renders url and does what act says once the page was asked for.
func (b *bench) during(ctx context.Context, url string, arrived chan struct{}, act func()) capture.Outcome {
	b.Helper()
	spec := job.Defaults()
	spec.URL = url
	done := make(chan capture.Outcome, 1)
	go func() { done <- b.seat.Render(ctx, job.NewID(), &spec) }()
	<-arrived
	act()
	select {
	case out := <-done:
		return out
	case <-time.After(10 * time.Second):
		b.Fatal("the render did not end")
		panic("unreachable")
	}
}

// rigged is a context that panics when it is asked for its deadline once more
// than it has left.
type rigged struct {
	context.Context
	left int // owned by the goroutine that renders
}

func (r *rigged) Deadline() (time.Time, bool) {
	if r.left--; r.left < 0 {
		panic("rigged")
	}
	return r.Context.Deadline()
}

// group lists the processes of the seat's browser by kind; "" is the browser.
func (b *bench) group() map[string][]int {
	b.Helper()
	leaders := b.processes()
	kinds := map[string][]int{}
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		line, _ := os.ReadFile(dir + "/cmdline")
		for _, leader := range leaders {
			if fields[2] != leader || len(line) == 0 {
				continue
			}
			_, kind, _ := strings.Cut(string(line), "--type=")
			kind, _, _ = strings.Cut(kind, "\x00")
			kind, _, _ = strings.Cut(kind, " ")
			pid, _ := strconv.Atoi(filepath.Base(dir))
			kinds[kind] = append(kinds[kind], pid)
		}
	}
	return kinds
}

func (b *bench) killAll(kind string) {
	b.Helper()
	pids := b.group()[kind]
	if len(pids) == 0 {
		b.Fatalf("no %q process in %v", kind, b.group())
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it ended with another
		}
		syscall.Kill(pid, syscall.SIGKILL)
		ended(b, fd)
		unix.Close(fd)
	}
}

// ended waits for the end of a process: its pidfd polls readable then.
func ended(t testing.TB, pidfd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 5000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Errorf("a process did not end: %v", err)
		}
		return
	}
}

// TestSeatSurvives kills what a browser is made of in mid-render; the job
// fails with its code, and the next is right.
func TestSeatSurvives(t *testing.T) {
	needtest.Browser(t)
	url, address, arrived := waiting(t)
	b := newBench(t, nil, address)
	b.wantWell()
	for _, c := range []struct {
		kind string
		code job.Code
	}{
		{"", job.BrowserCrashed},
		{"renderer", job.PageCrashed},
	} {
		t.Run("kill "+c.kind, func(t *testing.T) {
			b := &bench{TB: t, seat: b.seat, dir: b.dir}
			out := b.during(context.Background(), url, arrived, func() { b.killAll(c.kind) })
			if out.Failure == nil || out.Failure.Code != c.code || !out.Failure.Retryable {
				t.Errorf("ended with %v", out.Failure)
			}
			b.wantWell()
		})
	}
	t.Run("kill the idle browser", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir}
		<-b.seat.Ready()
		b.killAll("")
		b.wantWell()
	})
	t.Run("kill the zygotes", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir}
		<-b.seat.Ready()
		b.killAll("zygote") // the browser stays up and says nothing
		b.wantWell()
	})
	t.Run("panic", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir}
		<-b.seat.Ready()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the render did not panic")
				}
			}()
			spec := job.Defaults()
			spec.HTML = "x"
			b.seat.Render(&rigged{Context: context.Background(), left: 1}, job.NewID(), &spec)
		}()
		b.wantWell()
	})
	t.Run("cancel", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir}
		ctx, cancel := context.WithCancel(context.Background())
		var began time.Time
		out := b.during(ctx, url, arrived, func() { began = time.Now(); cancel() })
		if out.Failure == nil || time.Since(began) > time.Second {
			t.Errorf("ended with %v after %s", out.Failure, time.Since(began))
		}
		b.wantWell()
	})
	t.Run("wall", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		out := b.during(ctx, url, arrived, func() {})
		if out.Failure == nil || out.Failure.Code != job.WallTimeout || out.Failure.Stage != job.StageNavigate {
			t.Errorf("ended with %v", out.Failure)
		}
		b.wantWell()
	})
	t.Run("stop", func(t *testing.T) {
		b := &bench{TB: t, seat: b.seat, dir: b.dir, stop: b.stop}
		out := b.during(context.Background(), url, arrived, func() { b.stop() })
		if out.Failure == nil || out.Failure.Code != job.BrowserCrashed {
			t.Errorf("ended with %v", out.Failure)
		}
		if out := b.render(func(s *job.Spec) { s.HTML = "<p>" }); out.Failure == nil || out.Failure.Code != job.BrowserCrashed {
			t.Errorf("after the stop: %v", out.Failure)
		}
	})
}

func TestSeatRecycles(t *testing.T) {
	metrics := prometheus.NewRegistry()
	b := newBench(t, func(c *worker.SeatConfig) { c.MaxRenders, c.Metrics = 2, metrics })
	for range 5 {
		b.wantWell()
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if got := counter(t, metrics, "tintype_browser_recycles_total"); got != 2 {
		t.Errorf("%v recycles, want 2", got)
	}
	if got := counter(t, metrics, "tintype_browser_launches_total"); got != 3 {
		t.Errorf("%v launches, want 3", got)
	}
}

func counter(t *testing.T, g prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestSeatMemory(t *testing.T) {
	b := newBench(t, func(c *worker.SeatConfig) { c.KillMemory = 350 << 20 })
	out := b.render(func(s *job.Spec) {
		s.HTML = `<script>let a=[];setInterval(()=>a.push(new Uint8Array(2e7).fill(1)),20)</script>`
		s.DelayMS = 7000
	})
	if out.Failure == nil || out.Failure.Code != job.OutOfMemory {
		t.Errorf("ended with %v", out.Failure)
	}
	b.wantWell()
}

// TestSeatOutOfMemory: a page takes what the browser's control group has faster
// than anybody can look. Where there are no such groups the next look ends it.
func TestSeatOutOfMemory(t *testing.T) {
	b := newBench(t, func(c *worker.SeatConfig) { c.KillMemory = 400 << 20 })
	b.wantWell()
	t.Logf("control groups: %s", browser.ControlGroups())
	out := b.render(func(s *job.Spec) {
		s.HTML = `<script>onload=()=>setTimeout(()=>{const a=[];for(let i=0;i<60;i++)a.push(new Uint8Array(2e7).fill(1));window.a=a})</script>`
		s.DelayMS, s.TimeoutMS = 7000, 15_000
	})
	if f := out.Failure; f == nil || f.Code != job.OutOfMemory || f.Retryable || out.Artifact != nil {
		t.Errorf("ended with %+v", f)
	}
	b.wantWell()
}

// TestSeatConfined looks at the browser's processes from outside.
func TestSeatConfined(t *testing.T) {
	t.Setenv("TINTYPE_ADMIN_TOKEN", "hunter2")
	b := newBench(t, nil)
	<-b.seat.Ready()
	for kind, pids := range b.group() {
		for _, pid := range pids {
			proc := fmt.Sprintf("/proc/%d", pid)
			status, err := os.ReadFile(proc + "/status")
			if err != nil {
				continue // it ended
			}
			if strings.Contains(string(status), "\nUid:\t0\t") {
				t.Errorf("%s %d runs as root", kind, pid)
			}
			if env, err := os.ReadFile(proc + "/environ"); err == nil && strings.Contains(string(env), "hunter2") {
				t.Errorf("%s %d has a secret in its environment", kind, pid)
			}
			if kind == "renderer" && !strings.Contains(string(status), "Seccomp:\t2\n") {
				t.Errorf("renderer %d has no seccomp filter", pid)
			}
		}
	}
	if sockets, err := exec.Command("ss", "-ltnpH").Output(); err == nil && strings.Contains(string(sockets), "chromium") {
		t.Errorf("the browser listens: %s", sockets)
	}
}

// TestKilledWorker kills a process that runs a seat as the kernel would, and
// looks for what it leaves: nothing runs on, and the next start sweeps its
// files.
func TestKilledWorker(t *testing.T) {
	needtest.Browser(t)
	if dir := os.Getenv("TINTYPE_TEST_SEAT"); dir != "" {
		runSeat(t, dir)
		return
	}
	dir := browserDir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWorker$", "-test.v")
	cmd.Env = append(os.Environ(), "TINTYPE_TEST_SEAT="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := false
	for lines := bufio.NewScanner(out); !ready && lines.Scan(); {
		ready = strings.Contains(lines.Text(), "the seat is ready")
	}
	b := &bench{TB: t, dir: dir}
	var fds []int
	kinds := b.group()
	for _, pids := range kinds {
		for _, pid := range pids {
			if fd, err := unix.PidfdOpen(pid, 0); err == nil {
				defer unix.Close(fd)
				fds = append(fds, fd)
			}
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !ready || len(kinds["renderer"]) == 0 || len(kinds[""]) != 1 {
		t.Fatalf("the seat was not ready: %v", kinds)
	}
	for _, fd := range fds {
		ended(t, fd)
	}
	if left, _ := os.ReadDir(dir); len(left) == 0 {
		t.Error("the test proves nothing: the killed worker left no files")
	}
	if err := browser.Check(browser.Config{Dir: dir}); err != nil {
		t.Error(err)
	}
	b.wantNothingLeft()
}

// runSeat is the process that gets killed.
func runSeat(t *testing.T, dir string) {
	guard, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	seat, err := worker.NewSeat(worker.SeatConfig{Guard: guard, Browser: browser.Config{Dir: dir}})
	if err != nil {
		t.Fatal(err)
	}
	go seat.Run(context.Background())
	<-seat.Ready()
	fmt.Println("the seat is ready")
	select {}
}

func TestNewSeatRefuses(t *testing.T) {
	guard, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := worker.NewSeat(worker.SeatConfig{}); err == nil {
		t.Error("no guard: accepted")
	}
	_, err = worker.NewSeat(worker.SeatConfig{Guard: guard, Browser: browser.Config{Bin: "/nonexistent/chromium"}})
	if err == nil || !strings.Contains(err.Error(), "apt-get install -y chromium-headless-shell") {
		t.Errorf("no browser: %v", err)
	}
}

// TestTwoSeats share a folder and their metrics, and start and end apart.
func TestTwoSeats(t *testing.T) {
	metrics := prometheus.NewRegistry()
	var shared worker.SeatConfig
	one := newBench(t, func(c *worker.SeatConfig) { c.Metrics = metrics; shared = *c })
	<-one.seat.Ready()
	second, err := worker.NewSeat(shared) // sweeps, while the first one lives
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- second.Run(ctx) }()
	two := &bench{TB: t, seat: second, dir: one.dir}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			two.render(func(s *job.Spec) { s.HTML = "<p>" })
		}
	}()
	for range 3 {
		one.wantWell()
	}
	<-done
	two.wantWell()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	one.wantWell()
	if got := counter(t, metrics, "tintype_browser_launches_total"); got != 2 {
		t.Errorf("%v launches, want 2", got)
	}
}
