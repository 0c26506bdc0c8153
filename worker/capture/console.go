package capture

import (
	"context"
	_ "embed"
	"encoding/json"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

var (
	// errorsScript is called with a key in the page's own world when a document
	// begins.
	//
	//go:embed errors.js
	errorsScript string
	// askedScript is called with the same key in our world and returns a list of
	// texts.
	//
	//go:embed asked.js
	askedScript string
)

// Prepare has a fresh tab keep what its pages throw and nobody catches. It
// waits for nothing, and is for when no job waits for the tab. The key is the
// session's id, which is random and which no page is told.
func Prepare(tab *browser.Tab) {
	tab.Post(proto.PageAddScriptToEvaluateOnNewDocument{Source: calling(errorsScript, string(tab.Session()))})
}

// confess adds to the evidence what the page threw, unless its whole console
// was read, of which that is a part.
func (a *attempt) confess() {
	if a.console {
		return
	}
	for _, text := range a.thrown {
		if len(a.evidence.ConsoleErrors) == maxNoted {
			break
		}
		a.evidence.ConsoleErrors = append(a.evidence.ConsoleErrors, cut(text))
	}
}

// readConsole asks the document for what its scripts threw and nobody caught,
// and for the errors that they wrote to the console. The page's engine keeps
// the last thousand of either by itself, and tells them to whoever turns the
// domain Runtime on: it is off again at once, so that a page cannot flood it.
// The answer comes behind all that it tells.
func (a *attempt) readConsole(ctx context.Context) error {
	err := proto.RuntimeEnable{}.Call(a.tab.Within(ctx, min(time.Second, max(time.Until(a.end)/4, 50*time.Millisecond))))
	a.tab.Post(proto.RuntimeDisable{})
	a.console = err == nil
	return err
}

// judgeConsole holds the document to what fail_on_console_error says.
func (a *attempt) judgeConsole(ctx context.Context) *job.Failure {
	if !a.spec.FailOnConsoleError {
		return nil
	}
	if err := a.readConsole(ctx); err != nil && a.ended(ctx, job.StageWait) == nil {
		return job.Fail(job.FailOn, job.StageWait, "the page did not say what stands on its console, and fail_on_console_error is set")
	}
	if n := a.track.errorCount(); n > 0 {
		return job.Fail(job.FailOn, job.StageWait, "scripts of the page left errors (%d, see console_errors of the evidence) and fail_on_console_error is set", n)
	}
	return nil
}

func (t *tracker) errorCount() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.console)
}

// noteError adds an error to those of the page's console.
func (t *tracker) noteError(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addError(text)
}

// addError is called under mu.
func (t *tracker) addError(text string) {
	if len(t.console) < maxNoted {
		t.console = append(t.console, cut(text))
	}
}

// longError stands for an error of which the browser had more to tell than is
// listened to.
const longError = "(an error that is too long to be told)"

// complaint takes an exception that nobody caught or a call of the console.
func (t *tracker) complaint(method string, params json.RawMessage) {
	if len(t.console) >= maxNoted {
		return
	}
	if method == "Runtime.exceptionThrown" {
		var e struct {
			Details *proto.RuntimeExceptionDetails `json:"exceptionDetails"`
			Cut     bool                           `json:"cut"`
		}
		if json.Unmarshal(params, &e) != nil {
			return
		}
		switch {
		case e.Details != nil:
			t.addError(exceptionText(e.Details))
		case e.Cut:
			t.addError(longError)
		}
		return
	}
	var e struct {
		Type string                       `json:"type"`
		Args []*proto.RuntimeRemoteObject `json:"args"`
		Cut  bool                         `json:"cut"`
	}
	if json.Unmarshal(params, &e) != nil || e.Type != "error" && e.Type != "assert" {
		return
	}
	if e.Cut {
		t.addError(longError)
		return
	}
	words := make([]string, 0, len(e.Args))
	for _, arg := range e.Args {
		if text := objectText(arg); text != "" {
			words = append(words, text)
		}
	}
	t.addError(strings.Join(words, " "))
}

// exceptionText is what a console would show of an exception, in one line:
// without the places that it came by.
func exceptionText(e *proto.RuntimeExceptionDetails) string {
	text := e.Text
	if e.Exception != nil {
		if what := objectText(e.Exception); !strings.Contains(text, what) {
			text += " " + what
		}
	}
	return text
}

// objectText is a value as a console shows it.
func objectText(o *proto.RuntimeRemoteObject) string {
	switch {
	case o == nil:
		return ""
	case o.Description != "":
		line, _, _ := strings.Cut(o.Description, "\n    at ") // the stack of an Error
		return line
	case o.UnserializableValue != "":
		return string(o.UnserializableValue)
	case o.Type == proto.RuntimeRemoteObjectTypeString:
		return o.Value.Str()
	case o.Type == proto.RuntimeRemoteObjectTypeUndefined:
		return "undefined"
	}
	return o.Value.JSON("", "")
}
