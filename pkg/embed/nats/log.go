package nats

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// bridge hands the server's log to slog. It is the server's Logger.
type bridge struct {
	log *slog.Logger

	mu    sync.Mutex
	first string // the first fatal text; guarded by mu

	broken chan struct{} // closed when the server cannot write any more
	why    string        // set before broken is closed
	once   sync.Once
}

func newBridge(log *slog.Logger) *bridge {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &bridge{log: log, broken: make(chan struct{})}
}

// Fatalf is how the server reports that it cannot start. It must return: the
// server then stops starting, and New turns the text into its error.
func (b *bridge) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	b.mu.Lock()
	if b.first == "" {
		b.first = text
	}
	b.mu.Unlock()
	b.log.Error("embedded nats cannot go on", "err", text)
}

// fatal is the first text given to Fatalf, or empty.
func (b *bridge) fatal() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

// Errorf logs an error. A full disk is reported here and nowhere else: from
// then on the server leaves every publish without an answer.
func (b *bridge) Errorf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	b.log.Error("embedded nats reports an error", "err", text)
	for _, sign := range []string{"Critical write error", "no space left", "will be DISABLED", "disabling JetStream"} {
		if strings.Contains(text, sign) {
			b.once.Do(func() { b.why = text; close(b.broken) })
		}
	}
}

// Warnf logs a warning.
func (b *bridge) Warnf(format string, v ...any) {
	b.log.Warn("embedded nats warns", "err", fmt.Sprintf(format, v...))
}

// Noticef logs the server's everyday talk at debug: start-up lines mostly.
func (b *bridge) Noticef(format string, v ...any) {
	b.log.Debug("embedded nats", "text", fmt.Sprintf(format, v...))
}

// Debugf does nothing: the server is run without its debug log.
func (b *bridge) Debugf(string, ...any) {}

// Tracef does nothing: the server is run without its trace log.
func (b *bridge) Tracef(string, ...any) {}
