package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// bodyMost is how long a body is at most, in bytes: Standard Webhooks wants
// less than 20 kB.
const bodyMost = 20_000 - 1

// encode is the body of a message: compact, and in ASCII alone, so that no
// receiver's idea of an encoding changes what was signed.
func encode(kind webhook.Type, happened time.Time, data json.RawMessage) ([]byte, error) {
	text, err := json.Marshal(struct {
		Type      webhook.Type    `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{kind, happened.UTC().Format("2006-01-02T15:04:05.000Z"), data})
	if err != nil {
		return nil, err
	}
	return ascii(text), nil
}

// ascii writes what is not ASCII in a JSON text as escapes. It stands in
// strings alone.
func ascii(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/8)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		}
		text = text[n:]
	}
	return out
}

// A cut takes something out of a job that is too long to be sent. It reports
// whether it was there.
type cut struct {
	name string
	do   func(*job.Job) bool
}

// cuts are done in this order, until the body is short enough: docs/webhooks.md
// tells of it. First goes what a page can make as long as it likes, last what
// the receiver sent itself.
var cuts = []cut{
	{"evidence.console_errors", ofEvidence(func(e *job.Evidence) bool { return drop(&e.ConsoleErrors) })},
	{"evidence.failed_resources", ofEvidence(func(e *job.Evidence) bool { return drop(&e.FailedResources) })},
	{"evidence.blocked_requests", ofEvidence(func(e *job.Evidence) bool { return drop(&e.BlockedRequests) })},
	{"evidence.redirects", ofEvidence(func(e *job.Evidence) bool { return drop(&e.Redirects) })},
	{"evidence", func(j *job.Job) bool {
		had := j.Evidence != nil
		j.Evidence = nil
		return had
	}},
	{"options", func(j *job.Job) bool {
		var kept struct {
			Format string `json:"format"`
		}
		_ = json.Unmarshal(j.Options, &kept) // what cannot be read is left out with the rest
		j.Options, _ = json.Marshal(kept)
		return true
	}},
	{"error.detail", func(j *job.Job) bool {
		if j.Failure == nil || len(j.Failure.Detail) <= detailKept {
			return false
		}
		short := *j.Failure
		short.Detail = clean(short.Detail, detailKept)
		j.Failure = &short
		return true
	}},
	{"metadata", func(j *job.Job) bool {
		had := len(j.Metadata) > 0
		j.Metadata = nil
		return had
	}},
	{"custom_id", func(j *job.Job) bool {
		had := j.CustomID != ""
		j.CustomID = ""
		return had
	}},
}

// detailKept is what stays of the words of a failure.
const detailKept = 1000

func ofEvidence(do func(*job.Evidence) bool) func(*job.Job) bool {
	return func(j *job.Job) bool { return j.Evidence != nil && do(j.Evidence) }
}

func drop[T any](list *[]T) bool {
	had := len(*list) > 0
	*list = nil
	return had
}

// encodeJob is the body of a message about a job: as GET shows it, but for the
// markup in its options, and shortened where it is too long. What was taken out
// is named beside the job.
func encodeJob(kind webhook.Type, happened time.Time, j *job.Job, present func(*job.Job) (json.RawMessage, error)) ([]byte, error) {
	short := *j
	if j.Evidence != nil {
		evidence := *j.Evidence
		short.Evidence = &evidence
	}
	short.Options = withoutHTML(j.Options)
	var taken []string
	for next := 0; ; {
		shown, err := present(&short)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(struct {
			Job       json.RawMessage `json:"job"`
			Shortened []string        `json:"shortened,omitempty"`
		}{shown, taken})
		if err != nil {
			return nil, err
		}
		body, err := encode(kind, happened, data)
		if err != nil || len(body) <= bodyMost {
			return body, err
		}
		for cutting := true; cutting; next++ {
			if next == len(cuts) {
				return nil, errTooLong
			}
			if cuts[next].do(&short) {
				taken, cutting = append(taken, cuts[next].name), false
			}
		}
	}
}

var errTooLong = errors.New("it is too long to be sent")

// withoutHTML is options without the markup.
func withoutHTML(options []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(options, &members) != nil || members["html"] == nil {
		return options
	}
	delete(members, "html")
	short, err := json.Marshal(members)
	if err != nil {
		return options // what was just read can be written
	}
	return short
}
