package api

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"
)

// eventWriter writes a stream of events as EventSource reads them (WHATWG HTML, section
// 9.2): what is gathered goes out with flush.
type eventWriter struct {
	w     http.ResponseWriter
	out   bytes.Buffer
	begun bool // its header was sent
}

// event adds an event. Its data has no line breaks: JSON has none of its own.
func (e *eventWriter) event(kind, id string, data []byte) {
	e.out.WriteString("event: " + kind + "\n")
	if id != "" {
		e.out.WriteString("id: " + id + "\n")
	}
	e.out.WriteString("data: ")
	e.out.Write(data)
	e.out.WriteString("\n\n")
}

// comment adds a line that clients skip and that keeps the connection open.
func (e *eventWriter) comment(text string) { e.out.WriteString(": " + text + "\n\n") }

// retry tells the client after which time to come back when the stream ends. It
// is no block of its own, which some parsers take for an event, but holds from
// the line's end on.
func (e *eventWriter) retry(after time.Duration) { e.out.WriteString(retryLine(after)) }

func retryLine(after time.Duration) string {
	return "retry: " + strconv.FormatInt(after.Milliseconds(), 10) + "\n"
}

// flush sends what was gathered, with a deadline of its own: the connection is
// open for as long as its client reads. The first one sends the header, whatever
// was gathered.
func (e *eventWriter) flush() error {
	linger(e.w, 0)
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("X-Accel-Buffering", "no") // nginx would keep events to itself
		if _, err := io.WriteString(e.w, retryLine(comeBack)); err != nil {
			return err
		}
	}
	if _, err := e.w.Write(e.out.Bytes()); err != nil {
		return err
	}
	e.out.Reset()
	if e.out.Cap() > 1<<20 {
		e.out = bytes.Buffer{} // one burst is not kept for hours
	}
	return http.NewResponseController(e.w).Flush()
}
