// Package fault is the one taxonomy of errors that cross a boundary of the
// farm: from a tier to another over gRPC, and from the API to a client.
//
// It promises that a Kind is all that a boundary needs to choose its answer,
// that Detail may be shown to the client and Err never is, and that an error
// which is not a *Error is Internal and says nothing. A page that will not
// load is not a fault: it is a job.Failure. The maps to HTTP and gRPC live at
// those doors (api/problem.go, pkg/wire/status.go).
package fault

import (
	"errors"
	"fmt"
	"time"
)

// A Kind is the class of a fault.
type Kind int

const (
	// Internal is the zero value: a bug or a broken dependency nobody
	// foresaw. It is answered without any text.
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden // for good: missing scope, suspended, banned
	Blocked   // for a while: carries RetryAfter
	NotFound
	Conflict
	Gone
	TooLarge
	KeyReused
	RenderFailed
	RateLimited
	ThreadsFull
	QuotaExceeded
	QueueFull
	Unavailable
	Timeout
	Canceled
)

var names = [...]string{
	Internal: "internal", Invalid: "invalid", Unauthenticated: "unauthenticated", Forbidden: "forbidden",
	Blocked: "blocked", NotFound: "not_found", Conflict: "conflict", Gone: "gone", TooLarge: "too_large",
	KeyReused: "key_reused", RenderFailed: "render_failed", RateLimited: "rate_limited",
	ThreadsFull: "threads_full", QuotaExceeded: "quota_exceeded", QueueFull: "queue_full",
	Unavailable: "unavailable", Timeout: "timeout", Canceled: "canceled",
}

// Kinds lists every kind, so that each map can be tested to be complete.
func Kinds() []Kind {
	kinds := make([]Kind, len(names))
	for i := range kinds {
		kinds[i] = Kind(i)
	}
	return kinds
}

// String is the kind's name, the same in logs, metrics and on the wire.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(names) {
		return "internal"
	}
	return names[k]
}

// ParseKind is the inverse of String; a name from a newer release is
// Internal.
func ParseKind(name string) Kind {
	for k, n := range names {
		if n == name {
			return Kind(k)
		}
	}
	return Internal
}

// Retryable reports whether a fault of this kind always carries a RetryAfter.
func (k Kind) Retryable() bool {
	switch k {
	case Blocked, RateLimited, ThreadsFull, QuotaExceeded, QueueFull, Unavailable:
		return true
	}
	return false
}

// Error is a fault on its way to whoever asked.
type Error struct {
	Kind Kind
	// Code is the stable code that clients program against, where a kind has
	// more than one (contract: "Failures and refusals"). Empty: the kind's
	// first one.
	Code string
	// Detail is for the client: it names the field, the rule and the way out.
	Detail string
	// Policy names the limit that refused, "" if none did.
	Policy string
	// RetryAfter is how long waiting helps; 0 means the kind's default of one
	// second where the kind is Retryable, and nothing elsewhere.
	RetryAfter time.Duration
	// Quota is what was used up, of a QuotaExceeded; nil elsewhere.
	Quota *Quota
	// Fields lists what is wrong with single fields of a request.
	Fields []Field
	// Extra are further members of the problem document.
	Extra map[string]any
	// Err is for the log and never leaves the process.
	Err error
}

// A Quota is how much of it is used, in 1/120 credit.
type Quota struct {
	Used, Limit int64
	ResetsAt    time.Time
	Unit        string // render, request or credit
}

// A Field is one member of a request that broke a rule.
type Field struct {
	Pointer string `json:"pointer"` // JSON pointer (RFC 6901), or the name of a query parameter
	Detail  string `json:"detail"`
}

// New makes a fault with a text for the client.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Wrap makes a fault with a text for the client and a cause for the log.
func Wrap(kind Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...), Err: err}
}

func (e *Error) Error() string {
	s := e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Wait is the RetryAfter to tell: at least a second where the kind is
// retryable.
func (e *Error) Wait() time.Duration {
	if e.Kind.Retryable() {
		return max(e.RetryAfter, time.Second)
	}
	return e.RetryAfter
}

// From finds the fault in err's chain. Anything else is Internal, with err
// kept for the log. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return &Error{Kind: Internal, Err: err}
}

// Is reports whether err's chain holds a fault of this kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}
