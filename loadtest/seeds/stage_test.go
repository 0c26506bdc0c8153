package seeds

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// patience bounds every wait for something that is to happen. It is for a
// machine that is busy with other things; nothing is asserted about it.
const patience = 2 * time.Minute

// stage is what the seats of a farm play: a page by URL is whatever its query
// says, and a page by HTML goes to a browser.
//
//	hold=NAME   is under way until release(NAME)
//	fail=CODE   ends as a failure
//	bytes=N     is a picture of N bytes
type stage struct {
	browser worker.Renderer // one for all seats; nil: HTML is a fixed picture too
	turn    sync.Mutex      // of the browser: it renders one job at a time

	mu      sync.Mutex
	moved   *sync.Cond
	holds   map[string]chan struct{} // closed when released
	running map[string]int           // by hold
	peaks   map[string]int           // most at the same time, by hold
	hosts   map[string]int           // renders that were begun, by host; "" is HTML
}

func newStage() *stage {
	s := &stage{holds: map[string]chan struct{}{}, running: map[string]int{}, peaks: map[string]int{}, hosts: map[string]int{}}
	s.moved = sync.NewCond(&s.mu)
	return s
}

// seats makes n of them.
func (s *stage) seats(n int) []worker.Renderer {
	ready := make(chan struct{})
	close(ready)
	out := make([]worker.Renderer, n)
	for i := range out {
		out[i] = &player{stage: s, ready: ready, first: i == 0}
	}
	return out
}

type player struct {
	*stage
	ready chan struct{}
	first bool
}

// Run of the first one keeps the browser.
func (p *player) Run(ctx context.Context) error {
	if p.first && p.browser != nil {
		return p.browser.Run(ctx)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (p *player) Ready() <-chan struct{} { return p.ready }

func (p *player) Render(ctx context.Context, id job.ID, spec *job.Spec) capture.Outcome {
	began := time.Now()
	target, err := url.Parse(spec.URL)
	if err != nil {
		return capture.Outcome{Failure: job.Fail(job.Internal, job.StageNavigate, "%v", err), Evidence: &job.Evidence{}}
	}
	page := target.Query()
	leave := p.enter(target.Hostname(), page.Get("hold"))
	defer leave()
	if spec.URL == "" && p.browser != nil {
		p.turn.Lock()
		defer p.turn.Unlock()
		select {
		case <-p.browser.Ready():
		case <-ctx.Done():
		}
		return p.browser.Render(ctx, id, spec)
	}
	if hold := page.Get("hold"); hold != "" {
		select {
		case <-p.hold(hold):
		case <-ctx.Done():
			return capture.Outcome{Failure: job.Fail(job.WallTimeout, job.StageWait, "held"), Evidence: &job.Evidence{}}
		}
	}
	if code := job.Code(page.Get("fail")); code != "" {
		return capture.Outcome{Failure: job.Fail(code, job.StageNavigate, "as told"), Evidence: &job.Evidence{}}
	}
	size, _ := strconv.Atoi(page.Get("bytes")) // 0: as small as it gets
	return capture.Outcome{
		Artifact: &capture.Artifact{Body: picture(size), Width: 1, Height: 1},
		Evidence: &job.Evidence{FinalURL: spec.URL, StatusCode: http.StatusOK, Title: "played"},
		Timings:  job.Timings{TotalMS: time.Since(began).Milliseconds()},
	}
}

// picture is a PNG of one pixel, filled up to a size.
func picture(size int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic(err)
	}
	if missing := size - b.Len(); missing > 0 {
		b.Write(make([]byte, missing))
	}
	return b.Bytes()
}

// enter counts a render that begins; leave tells that it is over.
func (s *stage) enter(host, hold string) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host]++
	s.running[hold]++
	s.peaks[hold] = max(s.peaks[hold], s.running[hold])
	s.moved.Broadcast()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running[hold]--
		s.moved.Broadcast()
	}
}

// hold is the gate of that name.
func (s *stage) hold(name string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[name] == nil {
		s.holds[name] = make(chan struct{})
	}
	return s.holds[name]
}

// release lets what is held under a name go on, now and later.
func (s *stage) release(name string) {
	gate := s.hold(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-gate:
	default:
		close(s.holds[name])
	}
}

// renders is how many renders of a host have begun.
func (s *stage) renders(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts[host]
}

// most is how many of a hold were under way at the same time.
func (s *stage) most(hold string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peaks[hold]
}

// wait blocks until so many renders are held under a name.
func (s *stage) wait(t *testing.T, name string, n int) {
	t.Helper()
	s.until(t, func() bool { return s.running[name] == n }, func() string {
		return strconv.Itoa(s.running[name]) + " renders are held under " + name + ", want " + strconv.Itoa(n)
	})
}

// until blocks until done, which is asked with the lock held.
func (s *stage) until(t *testing.T, done func() bool, what func() string) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		late = true
		s.moved.Broadcast()
	})
	defer timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !done() {
		if late {
			t.Fatal(what())
		}
		s.moved.Wait()
	}
}

// finale lets everything go on that is held.
func (s *stage) finale() {
	s.mu.Lock()
	names := make([]string, 0, len(s.running))
	for name := range s.running {
		names = append(names, name)
	}
	s.mu.Unlock()
	for _, name := range names {
		s.release(name)
	}
}
