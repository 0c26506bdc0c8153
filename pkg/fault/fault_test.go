package fault

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestKindsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if k.String() == "" || seen[k.String()] {
			t.Errorf("kind %d is called %q", k, k)
		}
		seen[k.String()] = true
		if ParseKind(k.String()) != k {
			t.Errorf("%s is read back as %s", k, ParseKind(k.String()))
		}
		if e := (&Error{Kind: k}); k.Retryable() != (e.Wait() > 0) {
			t.Errorf("%s: retryable %v, wait %s", k, k.Retryable(), e.Wait())
		}
	}
	if ParseKind("from_a_newer_release") != Internal {
		t.Error("an unknown name must be Internal")
	}
}

func TestFrom(t *testing.T) {
	inner := New(NotFound, "no job %d", 7)
	if got := From(fmt.Errorf("context: %w", inner)); got != inner || got.Detail != "no job 7" {
		t.Errorf("found %v", got)
	}
	cause := errors.New("cause")
	if got := From(cause); got.Kind != Internal || got.Detail != "" || !errors.Is(got, cause) {
		t.Errorf("a plain error became %+v", got)
	}
	if From(nil) != nil || Is(nil, Internal) || Is(cause, Internal) || !Is(inner, NotFound) {
		t.Error("nil and plain errors are no faults")
	}
	if got := (&Error{Kind: QueueFull, RetryAfter: 3 * time.Second}).Wait(); got != 3*time.Second {
		t.Errorf("waits %s", got)
	}
}
