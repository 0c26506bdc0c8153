package postgres

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

// maxLine is the longest line, in bytes, that is logged whole.
const maxLine = 8 << 10

// logWriter hands the server's output to slog, line by line.
type logWriter struct {
	log *slog.Logger

	mu      sync.Mutex
	rest    []byte // an unfinished line; guarded by mu
	blocked bool   // guarded by mu; see predecessorInTheWay
	worst   string // the last line of severity FATAL or above; guarded by mu
	latest  string // the last line; guarded by mu
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole && len(w.rest) < maxLine {
			return len(p), nil
		}
		w.line(string(line))
		w.rest = rest
	}
}

// flush logs what is left when the process has ended.
func (w *logWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = nil
	}
}

// line logs one line. The caller holds mu.
func (w *logWriter) line(text string) {
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	severity, said, ok := strings.Cut(text, ":")
	level := slog.LevelDebug
	switch severity {
	case "WARNING", "ERROR":
		level = slog.LevelWarn
	case "FATAL":
		// Mostly the end of a session: a shutdown, an unknown database.
		level = slog.LevelWarn
		w.worst = text
	case "PANIC":
		level = slog.LevelError
		w.worst = text
	case "LOG", "INFO", "NOTICE", "DETAIL", "HINT", "CONTEXT", "STATEMENT":
	default:
		severity, said, ok = "", text, false
	}
	if ok {
		said = strings.TrimSpace(said)
	}
	w.latest = text
	if inTheWay(severity, said) {
		w.blocked = true
	}
	w.log.Log(context.Background(), level, "embedded postgres", "kind", severity, "text", said)
}

// inTheWay recognises what the server says when the remains of an earlier one
// hold the cluster: its pid file, or its memory while its last processes end.
func inTheWay(severity, said string) bool {
	return severity == "FATAL" &&
		(strings.HasPrefix(said, `lock file "postmaster.pid" already exists`) ||
			strings.HasPrefix(said, "pre-existing shared memory block"))
}

// predecessorInTheWay tells whether the server complained of that.
func (w *logWriter) predecessorInTheWay() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked
}

// last is the line that tells most about a failure, empty if there was none.
func (w *logWriter) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.worst != "" {
		return w.worst
	}
	return w.latest
}
