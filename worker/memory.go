package worker

import (
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/capture"
)

// memoryPeriod is the time between two looks at a browser's memory. A page
// grows by a gigabyte a second at the worst; a look walks through /proc.
const memoryPeriod = 400 * time.Millisecond

// A memoryWatch follows a browser during a render and kills it when its memory
// grows past the limit, or when it is only half there any more.
type memoryWatch struct {
	browser *browser.Browser
	limit   int64
	quit    chan struct{}
	done    chan struct{}
	over    bool // owned by the watch until done is closed
}

func watchMemory(b *browser.Browser, limit int64) *memoryWatch {
	w := &memoryWatch{browser: b, limit: limit, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		t := time.NewTicker(memoryPeriod)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				w.over = b.Memory() > limit
				if w.over || !b.Whole() {
					b.Terminate()
					return
				}
			case <-w.quit:
				return
			}
		}
	}()
	return w
}

// judge ends the watch and makes a render whose browser it killed what it is.
// It returns why the browser must go.
func (w *memoryWatch) judge(out *capture.Outcome, odd string) string {
	close(w.quit)
	<-w.done
	if !w.over {
		// The kernel may have been first, and have ended one process or all.
		switch {
		case !w.browser.OutOfMemory():
			return odd
		case out.Failure == nil: // it was not one that the picture needed
			return "memory"
		}
	}
	stage := job.StageCapture
	if out.Failure != nil {
		stage = out.Failure.Stage
	}
	out.Artifact = nil
	out.Failure = job.Fail(job.OutOfMemory, stage, "the page needed more memory than a page may have: %d MB in all", w.limit>>20)
	return "memory"
}
