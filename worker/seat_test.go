package worker_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	_ "image/jpeg"
	_ "image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// browserDir is a folder that an unprivileged browser can reach: t.TempDir is
// closed to others.
func browserDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tintype-seat-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "browsers")
}

// A bench is a seat that runs, and the sites that its pages may reach.
type bench struct {
	testing.TB
	seat *worker.Seat
	dir  string
	stop func() error
}

// newBench starts a seat whose pages may reach the allowed destinations. Its
// resolver knows no name at all, and knows that at once.
func newBench(t testing.TB, change func(*worker.SeatConfig), allow ...string) *bench {
	t.Helper()
	needtest.Browser(t)
	if tt, ok := t.(*testing.T); ok {
		ignore := goleak.IgnoreCurrent()
		tt.Cleanup(func() { goleak.VerifyNone(tt, ignore) })
	}
	guard, err := egress.New(egress.Config{Allow: allow, DNS: emptyDNS(t)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := worker.SeatConfig{Guard: guard, Browser: browser.Config{Dir: browserDir(t)}, Metrics: prometheus.NewRegistry()}
	if change != nil {
		change(&cfg)
	}
	seat, err := worker.NewSeat(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- seat.Run(ctx) }()
	b := &bench{TB: t, seat: seat, dir: cfg.Browser.Dir}
	stopped := false
	b.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("the seat ended with %v", err)
		}
		b.wantNothingLeft()
	})
	return b
}

// wantNothingLeft looks for files and processes of the seat's browsers.
func (b *bench) wantNothingLeft() {
	b.Helper()
	left, err := os.ReadDir(b.dir)
	if err != nil {
		b.Error(err)
	}
	for _, e := range left {
		b.Errorf("left behind: %s", e.Name())
	}
	for _, pid := range b.processes() {
		b.Errorf("process %s still runs", pid)
	}
}

// processes lists the processes whose command line names the seat's folder,
// and those in the groups of such.
func (b *bench) processes() (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		line, err := os.ReadFile(name)
		if err == nil && bytes.Contains(line, []byte(b.dir)) {
			pids = append(pids, strings.Split(name, "/")[2])
		}
	}
	return pids
}

// render makes one attempt with the defaults, changed.
// On a busy machine a browser may need longer to start than a job waits for it,
// which is not what these tests are about.
func (b *bench) render(change func(*job.Spec)) capture.Outcome {
	b.Helper()
	spec := job.Defaults()
	spec.Width, spec.Height, spec.TimeoutMS = 320, 200, 8000
	change(&spec)
	for again := 0; ; again++ {
		ctx, cancel := context.WithTimeout(context.Background(), max(20*time.Second, time.Duration(spec.TimeoutMS+5000)*time.Millisecond))
		out := b.seat.Render(ctx, job.NewID(), &spec)
		cancel()
		if out.Failure == nil || out.Failure.Detail != "no browser was ready in time" || again == 5 {
			return out
		}
	}
}

// picture renders and decodes what must succeed.
func (b *bench) picture(change func(*job.Spec)) (image.Image, *job.Evidence) {
	b.Helper()
	out := b.render(change)
	if out.Failure != nil {
		b.Fatalf("render: %v (evidence %+v)", out.Failure, out.Evidence)
	}
	img := decode(b, out)
	if img.Bounds().Dx() != out.Artifact.Width || img.Bounds().Dy() != out.Artifact.Height {
		b.Fatalf("the picture is %v, the artifact says %d x %d", img.Bounds(), out.Artifact.Width, out.Artifact.Height)
	}
	return img, out.Evidence
}

func decode(b *bench, out capture.Outcome) image.Image {
	b.Helper()
	img, _, err := image.Decode(bytes.NewReader(out.Artifact.Body))
	if err != nil {
		b.Fatal(err)
	}
	return img
}

// wantColor compares one pixel, with room for a codec's rounding.
func (b *bench) wantColor(img image.Image, x, y int, want color.RGBA) {
	b.Helper()
	r, g, bl, _ := img.At(x, y).RGBA()
	got := [3]int{int(r >> 8), int(g >> 8), int(bl >> 8)}
	for i, w := range [3]int{int(want.R), int(want.G), int(want.B)} {
		if d := got[i] - w; d < -3 || d > 3 {
			b.Errorf("pixel %d,%d is %v, want %v", x, y, got, want)
			return
		}
	}
}

var (
	red   = color.RGBA{R: 255, A: 255}
	green = color.RGBA{G: 255, A: 255}
	blue  = color.RGBA{B: 255, A: 255}
	white = color.RGBA{R: 255, G: 255, B: 255, A: 255}
	black = color.RGBA{A: 255}
)

// wantWell renders a plain page, which must come out right whatever came
// before it. The browser may take its time to start.
func (b *bench) wantWell() {
	b.Helper()
	<-b.seat.Ready()
	img, _ := b.picture(func(s *job.Spec) { s.HTML = `<body style="margin:0;background:#00ff00">` })
	b.wantColor(img, 10, 10, green)
}

// serve starts a site and gives its URL without the slash, and HOST:PORT.
func serve(t testing.TB, h http.Handler) (url, address string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL, strings.TrimPrefix(s.URL, "http://")
}
