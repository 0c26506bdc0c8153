package corpus_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// A bench is a seat that runs and the corpus that its pages are of.
type bench struct {
	*testing.T
	site string
	seat *worker.Seat
}

// newBenches start seats on one site.
func newBenches(t *testing.T, n int) []*bench {
	t.Helper()
	needtest.Browser(t)
	site := httptest.NewServer(corpus.Handler())
	t.Cleanup(site.Close)
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
	var list []*bench
	for range n {
		seat, err := worker.NewSeat(worker.SeatConfig{Guard: guard, Browser: browser.Config{Dir: filepath.Join(dir, "browsers")}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- seat.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		list = append(list, &bench{T: t, site: site.URL, seat: seat})
	}
	return list
}

// render makes one attempt, once a browser is ready: on a busy machine it may
// need longer to start than a job waits for it.
func (b *bench) render(path string, change func(*job.Spec)) capture.Outcome {
	b.Helper()
	spec := job.Defaults()
	spec.URL = b.site + path
	if change != nil {
		change(&spec)
	}
	<-b.seat.Ready()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return b.seat.Render(ctx, job.NewID(), &spec)
}

func (b *bench) decode(out capture.Outcome) image.Image {
	b.Helper()
	img, err := png.Decode(bytes.NewReader(out.Artifact.Body))
	if err != nil {
		b.Fatal(err)
	}
	return img
}

// wantPage renders a page of the corpus, which must come out right whatever
// came before it.
func (b *bench) wantPage(p corpus.Page) {
	b.Helper()
	var out capture.Outcome
	for range 3 { // on a busy machine an image may be late, and the evidence says so
		out = b.render(p.Path(), func(s *job.Spec) {
			s.Width, s.Height = corpus.Width, corpus.Height
			if len(p.Late) > 0 {
				s.WaitUntil = job.NetworkIdle0
			}
		})
		if out.Failure == nil && len(out.Evidence.TimedOut) == 0 {
			break
		}
	}
	if out.Failure != nil {
		b.Errorf("%s: %v", p.Name, out.Failure)
		return
	}
	if e := out.Evidence; e.UnloadedImages > 0 || len(e.FailedResources)+len(e.BlockedRequests) > 0 {
		b.Errorf("%s: evidence %+v", p.Name, e)
	}
	img := b.decode(out)
	if err := p.Check(img, true); err != nil {
		b.Error(err)
	}
	// The test can fail: a picture without the page has none of its pixels.
	if err := p.Check(blank{img}, false); err == nil {
		b.Errorf("%s: a blank picture passes", p.Name)
	}
}

// blank is a white picture of the size of another.
type blank struct{ image.Image }

func (blank) At(int, int) color.Color { return color.White }

// TestPages renders every kind of page and reads its known pixels.
func TestPages(t *testing.T) {
	b := newBenches(t, 1)[0]
	kinds := corpus.Pages()
	if len(kinds) < 12 {
		t.Errorf("there are %d kinds", len(kinds))
	}
	for _, p := range kinds {
		b.wantPage(p)
	}
}

// TestTraps walks through what hostile pages do, in two browsers: each ends with
// its own code within its budget, and the next page is right.
func TestTraps(t *testing.T) {
	benches := newBenches(t, 2)
	for i, b := range benches {
		t.Run(fmt.Sprintf("seat %d", i), func(t *testing.T) {
			t.Parallel()
			walk(&bench{T: t, site: b.site, seat: b.seat}, i, len(benches))
		})
	}
}

// walk tries every nth trap from the first on.
func walk(b *bench, first, n int) {
	trivial := corpus.Pages()[0]
	b.wantPage(trivial)
	for i, trap := range corpus.Traps() {
		if i%n != first {
			continue
		}
		b.Run(trap.Name, func(t *testing.T) {
			b := &bench{T: t, site: b.site, seat: b.seat}
			options, err := json.Marshal(trap.Options)
			if err != nil {
				t.Fatal(err)
			}
			var out capture.Outcome
			var code string
			// On a busy machine a page that holds its browser up may leave too
			// little time for the capture: with more it must come out right.
			for more := 1; more <= 4; more *= 2 {
				var budget time.Duration
				<-b.seat.Ready()
				began := time.Now()
				out = b.render(trap.Path(), func(s *job.Spec) {
					s.Width, s.Height = corpus.TrapWidth, corpus.TrapHeight
					if err := json.Unmarshal(options, s); err != nil {
						t.Fatal(err)
					}
					s.TimeoutMS *= more
					budget = time.Duration(s.TimeoutMS) * time.Millisecond
				})
				took := time.Since(began)
				t.Logf("%s: %v, %.300s", took.Round(time.Millisecond), out.Failure, fmt.Sprintf("%+v", *out.Evidence))
				if took > budget+5*time.Second {
					t.Errorf("took %s with a budget of %s", took, budget)
				}
				code = ""
				if out.Failure != nil {
					code = string(out.Failure.Code)
				}
				if slices.Contains(trap.Ends, code) && (!trap.Cut || wasCut(out)) || code != "" && !job.Code(code).Timeout() {
					break
				}
			}
			if !slices.Contains(trap.Ends, code) {
				t.Errorf("ended with %v, want one of %q", out.Failure, trap.Ends)
			}
			if trap.Cut && !wasCut(out) {
				t.Errorf("the cap of bytes did not cut it: blocked_requests are %v", out.Evidence.BlockedRequests)
			}
			if out.Failure == nil && trap.Options["format"] == nil {
				if err := corpus.CheckTrap(b.decode(out)); err != nil {
					t.Error(err)
				}
			}
			if len(out.Evidence.Title) > 4096 {
				t.Errorf("the title has %d bytes", len(out.Evidence.Title))
			}
			b.wantPage(trivial)
		})
	}
}

// wasCut tells of a request that the job's cap of bytes ended.
func wasCut(out capture.Outcome) bool {
	return slices.ContainsFunc(out.Evidence.BlockedRequests, func(r job.Resource) bool { return r.Reason == "over_limit" })
}

func atRest(s *job.Spec) {
	s.Width, s.Height, s.WaitUntil = 320, 200, job.NetworkIdle0
}

// TestJobsLeaveNothing fills every store of a browser in one job; the next in
// the same browser finds none of it. What the planting page itself reads back
// shows that the stores work here.
func TestJobsLeaveNothing(t *testing.T) {
	b := newBenches(t, 1)[0]
	for i := range 2 {
		for path, want := range map[string]string{fmt.Sprintf("/leak/plant?id=secret%d", i): corpus.Stores} {
			if out := b.render(path, atRest); out.Failure != nil || out.Evidence.Title != want {
				t.Errorf("planted %q, want %q (%v)", out.Evidence.Title, want, out.Failure)
			}
		}
		if out := b.render("/leak/probe", atRest); out.Failure != nil || out.Evidence.Title != corpus.Clean {
			t.Errorf("the next job: %q, want %q (%v)", out.Evidence.Title, corpus.Clean, out.Failure)
		}
	}
}

// TestJobsMeetNobody has pages of the same site open at the same moment, each
// with its own secret in every store; none sees another's.
func TestJobsMeetNobody(t *testing.T) {
	benches := newBenches(t, 2)
	for _, b := range benches {
		<-b.seat.Ready()
	}
	for round := range 1 {
		var all sync.WaitGroup
		for i, b := range benches {
			all.Go(func() {
				out := b.render(fmt.Sprintf("/leak/meet?id=job%d-%d&n=%d", round, i, len(benches)), atRest)
				if out.Failure != nil || out.Evidence.Title != corpus.Clean {
					b.Errorf("job %d of round %d: %q, want %q (%v)", i, round, out.Evidence.Title, corpus.Clean, out.Failure)
				}
			})
		}
		all.Wait()
	}
}
