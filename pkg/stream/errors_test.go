package stream

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// What a refusal to store means; a server that goes down has no broken disk.
func TestCannotStore(t *testing.T) {
	for _, c := range []struct {
		code jetstream.ErrorCode
		text string
		want error
	}{
		{codeInsufficientResources, "insufficient resources", ErrFull},
		{codeStorageExceeded, "insufficient storage resources available", ErrFull},
		{codeMessageTooLarge, "message size exceeds maximum allowed", ErrTooLarge},
		{codeStoreFailed, "maximum bytes exceeded", ErrFull},
		{codeStoreFailed, "message too large", ErrTooLarge},
		{codeStoreFailed, "store is closed", nil},
		{codeStoreFailed, "write /srv/nats/1.blk: no space left on device", ErrStore},
		{10000, "no space left on device", ErrStore},
		{10071, "wrong last sequence: 4", nil},
	} {
		if got := cannotStore(&jetstream.APIError{Code: 503, ErrorCode: c.code, Description: c.text}); !errors.Is(got, c.want) {
			t.Errorf("%d %s is %v, want %v", c.code, c.text, got, c.want)
		}
	}
	if got := cannotStore(errors.New("no space left on device, says somebody else")); got != nil {
		t.Errorf("an open outcome is %v", got)
	}
}
