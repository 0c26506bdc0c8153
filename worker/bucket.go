package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	// maxSpec is the largest spec that is fetched, in bytes: the API takes
	// bodies of 10 MB, and JSON may spell some of their characters longer.
	maxSpec = 12 << 20

	// fetchLimit is the deadline of one try to fetch a spec.
	fetchLimit = 10 * time.Second

	// putLimit and putPace are the deadline of one try to store an artifact:
	// so much, and as much again for each putPace bytes. Short enough that a
	// stalled try leaves time for another in the reserve that rendering keeps.
	putLimit = 2 * time.Second
	putPace  = 4 << 20

	bucketRetryMin = 50 * time.Millisecond
	bucketRetryMax = 2 * time.Second
)

var (
	errFetchLimit = errors.New("no answer within " + fetchLimit.String())
	errPutLimit   = errors.New("the store did not answer in time")
	errTaken      = errors.New("the store holds another object under this key")
)

// An answered is an HTTP status that is not what was hoped for.
type answered int

func (a answered) Error() string { return fmt.Sprintf("the store answered %d", int(a)) }

// again reports whether the same request may succeed later. 409 is S3's answer
// to two conditional PUTs of one key at once.
func (a answered) again() bool {
	switch a {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return a >= 500
}

// bucket is the object store as a worker sees it: presigned URLs. Its errors
// never hold a URL, whose query is a credential.
type bucket struct {
	http *http.Client
}

// fetch reads what url holds, at most limit bytes. It tries again, until ctx
// ends, where that can help.
func (b bucket) fetch(ctx context.Context, url string, limit int64) ([]byte, error) {
	for try := 0; ; try++ {
		body, err := b.fetchOnce(ctx, url, limit)
		if err == nil {
			return body, nil
		}
		if a, ok := errors.AsType[answered](err); ok && !a.again() {
			return nil, err
		}
		if cause := pause(ctx, try, bucketRetryMin, bucketRetryMax); cause != nil {
			return nil, fmt.Errorf("%w (try %d: %w)", cause, try+1, err)
		}
	}
}

func (b bucket) fetchOnce(ctx context.Context, url string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, errFetchLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, transferError(ctx, err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return nil, transferError(ctx, err)
	}
	defer settle(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return nil, answered(resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, transferError(ctx, err)
	}
	if int64(len(body)) > limit {
		return nil, answered(http.StatusRequestEntityTooLarge)
	}
	return body, nil
}

// put stores body under a presigned URL with exactly the given header fields.
// It tries again, until ctx ends, where that can help.
//
// The URL is signed with If-None-Match: *, so a 412 says that the key is taken.
// That is our own object, and success, if an earlier try here may have taken
// effect; otherwise it is errTaken.
func (b bucket) put(ctx context.Context, url string, header map[string]string, body []byte) error {
	open := false // an earlier try may have taken effect
	for try := 0; ; try++ {
		sent, err := b.putOnce(ctx, url, header, body)
		a, isAnswer := errors.AsType[answered](err)
		switch {
		case err == nil:
			return nil
		case a == http.StatusPreconditionFailed && open:
			return nil
		case a == http.StatusPreconditionFailed:
			return errTaken
		case isAnswer && !a.again():
			return err
		}
		// A 5xx leaves it open too: the store, or a gateway before it, failed at
		// a moment that we don't know.
		open = open || (!isAnswer && sent) || a >= 500
		if cause := pause(ctx, try, bucketRetryMin, bucketRetryMax); cause != nil {
			return fmt.Errorf("%w (try %d: %w)", cause, try+1, err)
		}
	}
}

// putOnce reports, beside the error, whether any of the request was sent.
func (b bucket) putOnce(ctx context.Context, url string, header map[string]string, body []byte) (bool, error) {
	limit := putLimit * time.Duration(1+len(body)/putPace)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errPutLimit)
	defer cancel()
	var sent atomic.Bool // written by the transport's own goroutine
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return false, transferError(ctx, err)
	}
	for name, value := range header {
		if http.CanonicalHeaderKey(name) == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return sent.Load(), transferError(ctx, err)
	}
	defer settle(resp.Body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		return true, answered(resp.StatusCode)
	}
	return true, nil
}

// settle reads the rest of a short answer, so that its connection can be used
// again.
func settle(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10)
	_ = body.Close()
}

// transferError is err without its URL, or the deadline of ours that caused it.
func transferError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
