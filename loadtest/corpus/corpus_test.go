package corpus_test

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/png"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
)

// TestPages renders every kind of page and reads its known pixels.
func TestPages(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Chromium: left out by -short")
	}
	if _, err := os.Stat(browser.DefaultBin); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs Chromium: %v", err)
		}
		t.Skipf("needs Chromium: apt-get install -y chromium-headless-shell (%v)", err)
	}
	site := httptest.NewServer(corpus.Handler())
	defer site.Close()
	dir, err := os.MkdirTemp("", "tintype-corpus-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil { // browsers are not root
		t.Fatal(err)
	}
	guard, err := egress.New(egress.Config{Allow: []string{strings.TrimPrefix(site.URL, "http://")}})
	if err != nil {
		t.Fatal(err)
	}
	seat, err := worker.NewSeat(worker.SeatConfig{Guard: guard, Browser: browser.Config{Dir: filepath.Join(dir, "browsers")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- seat.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	kinds := corpus.Pages()
	if len(kinds) < 12 {
		t.Errorf("there are %d kinds", len(kinds))
	}
	for _, p := range kinds {
		spec := job.Defaults()
		spec.URL, spec.Width, spec.Height, spec.WaitUntil = site.URL+p.Path(), corpus.Width, corpus.Height, job.NetworkIdle0
		<-seat.Ready()
		render, stop := context.WithTimeout(ctx, time.Minute)
		out := seat.Render(render, job.NewID(), &spec)
		stop()
		if out.Failure != nil {
			t.Errorf("%s: %v", p.Name, out.Failure)
			continue
		}
		if out.Evidence.UnloadedImages > 0 || len(out.Evidence.FailedResources)+len(out.Evidence.BlockedRequests) > 0 {
			t.Errorf("%s: evidence %+v", p.Name, out.Evidence)
		}
		img, err := png.Decode(bytes.NewReader(out.Artifact.Body))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(img, true); err != nil {
			t.Error(err)
		}
		// A picture without the page has none of its probes.
		if err := p.Check(blank{img}, false); err == nil {
			t.Errorf("%s: a blank picture passes", p.Name)
		}
	}
}

// blank is a white picture of the size of another.
type blank struct{ image.Image }

func (blank) At(int, int) color.Color { return color.White }
