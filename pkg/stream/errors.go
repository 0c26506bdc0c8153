package stream

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrFull: a stream is at its bound. Nothing was stored, and nothing is
	// until something was purged.
	ErrFull = errors.New("stream: the stream is full")
	// ErrTooLarge: the message is larger than a stream takes, for good.
	ErrTooLarge = errors.New("stream: the message is too large")
	// ErrStore: JetStream cannot write to its disk. It stays so until the server
	// is started again with room on the disk.
	ErrStore = errors.New("stream: JetStream cannot write to its disk")
)

// Codes of JetStream's answers, as its errors.json has them.
const (
	codeInsufficientResources = 10023 // of the server
	codeStorageExceeded       = 10047 // of the account
	codeMessageTooLarge       = 10054
	codeStoreFailed           = 10077 // at a bound, or by a fault of the disk: the text tells
)

// cannotStore is which of the three a refusal is; nil when it is another one,
// or when the outcome is open.
func cannotStore(err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return ErrTooLarge
	}
	api := apiError(err)
	if api == nil {
		return nil
	}
	text := api.Description
	switch api.ErrorCode {
	case codeInsufficientResources, codeStorageExceeded:
		return ErrFull
	case codeMessageTooLarge:
		return ErrTooLarge
	case codeStoreFailed:
		switch {
		case strings.Contains(text, "maximum"): // messages, bytes, messages per subject
			return ErrFull
		case strings.Contains(text, "too large"):
			return ErrTooLarge
		case strings.Contains(text, "closed"): // the server is going down, and comes back
			return nil
		}
		return ErrStore
	}
	if strings.Contains(text, "no space left") {
		return ErrStore
	}
	return nil
}

// isWrongSequence recognises a refused compare-and-append: 10071, and 10164
// from a replicated stream.
func isWrongSequence(err error) bool {
	api := apiError(err)
	return api != nil && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// placement says what to do about a cluster that cannot hold the copies: 10005
// no suitable peers, 10074 more replicas than a lone server can have.
func placement(err error, replicas int) error {
	if api := apiError(err); api != nil && (api.ErrorCode == 10005 || api.ErrorCode == 10074) {
		return fmt.Errorf("NATS cannot keep %d copies: that many servers have to be up in its cluster, each with max_file_store of at least what "+
			"the streams may hold; or set TINTYPE_NATS_REPLICAS=1, and a lost disk loses jobs (%w)", replicas, err)
	}
	return err
}

// apiError is the server's own answer in err's chain; nil when the failure is
// the transport's and the outcome is open.
func apiError(err error) *jetstream.APIError {
	if je, ok := errors.AsType[jetstream.JetStreamError](err); ok && je.APIError() != nil {
		return je.APIError()
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api
	}
	return nil
}
