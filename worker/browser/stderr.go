package browser

import (
	"bytes"
	"strings"
	"sync"
)

// tailWriter takes what the browser and its children write to stderr: it keeps
// the last few kilobytes and notices when a page's heap was full. Of that
// Chromium tells no more than that the page crashed.
//
// What a page writes to its console is on stderr too, so a page can claim that
// its heap was full; it can do so for its own job alone, since only what was
// written after the job's start counts.
type tailWriter struct {
	mu    sync.Mutex
	buf   []byte        // guarded by mu
	fulls int           // how often a heap was said to be full; guarded by mu
	next  chan struct{} // closed with the next of them; guarded by mu
}

// heapFull is Chromium's text for it.
var heapFull = []byte("V8 javascript OOM")

func newTailWriter() *tailWriter { return &tailWriter{next: make(chan struct{})} }

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := max(0, len(w.buf)-len(heapFull)+1) // the text may come in two pieces
	w.buf = append(w.buf, p...)
	if bytes.Contains(w.buf[fresh:], heapFull) {
		w.fulls++
		close(w.next)
		w.next = make(chan struct{})
	}
	if over := len(w.buf) - 4<<10; over > 0 {
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(p), nil
}

// count is how often a heap was full so far.
func (w *tailWriter) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fulls
}

// beyond is closed once a heap was full more than n times.
func (w *tailWriter) beyond(n int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fulls > n {
		now := make(chan struct{})
		close(now)
		return now
	}
	return w.next
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(w.buf)), "?")
}
