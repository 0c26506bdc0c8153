package browser

import (
	"bytes"
	"strings"
	"sync"
)

// tailWriter takes what the browser and its children write to stderr: it keeps
// the last few kilobytes and notices when a page's heap was full. Of that
// Chromium tells no more than that the page crashed.
type tailWriter struct {
	full chan struct{} // closed when a JavaScript heap has reached its limit

	mu  sync.Mutex
	buf []byte // guarded by mu
	hit bool   // guarded by mu
}

// heapFull is Chromium's text for it.
var heapFull = []byte("V8 javascript OOM")

func newTailWriter() *tailWriter { return &tailWriter{full: make(chan struct{})} }

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if !w.hit && bytes.Contains(w.buf, heapFull) {
		w.hit = true
		close(w.full)
	}
	if over := len(w.buf) - 4<<10; over > 0 {
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(w.buf)), "?")
}
