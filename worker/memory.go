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
	limit int64
	quit  chan struct{}
	done  chan struct{}
	peak  int64 // bytes; owned by the watch until done is closed
	over  bool  // the same
}

func watchMemory(b *browser.Browser, limit int64) *memoryWatch {
	w := &memoryWatch{limit: limit, quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		t := time.NewTicker(memoryPeriod)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				w.peak = max(w.peak, b.Memory())
				w.over = w.peak > limit
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

// judge ends the watch and turns a crash for want of memory into what it is.
// Chromium says of a heap that is full only that its process crashed, so a
// crash near the heap's limit counts as one. It returns why the browser must
// go.
func (w *memoryWatch) judge(out *capture.Outcome, odd string) string {
	close(w.quit)
	<-w.done
	nearHeap := w.peak > browser.HeapMB<<20*3/4
	if !w.over && !(nearHeap && out.Failure != nil && out.Failure.Code == job.PageCrashed) {
		return odd
	}
	stage := job.StageCapture
	if out.Failure != nil {
		stage = out.Failure.Stage
	}
	out.Artifact = nil
	out.Failure = job.Fail(job.OutOfMemory, stage, "the page needed more memory than a page may have: %d MB of JavaScript heap, %d MB in all", browser.HeapMB, w.limit>>20)
	return "memory"
}
