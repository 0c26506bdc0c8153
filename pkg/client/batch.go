package client

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// uploadRate is the least that an upload is given time for, bytes a second.
const uploadRate = 64 << 10

// A BatchInput is a file of lines.
type BatchInput struct {
	Body        io.Reader
	Size        int64  // in bytes, as it is sent
	ContentType string // application/x-ndjson, text/csv or text/plain
	Gzip        bool   // Body is compressed
	Defaults    json.RawMessage
	OnError     string // reject or skip; empty: the server's default
	Key         string // Idempotency-Key; empty: none
}

// CreateBatch uploads a file of lines and returns the batch as it was accepted.
func (c *Client) CreateBatch(ctx context.Context, in BatchInput) (*Batch, error) {
	return call[Batch](ctx, uploadWithin(in.Size), func(ctx context.Context) (*http.Response, error) { return c.upload(ctx, in, false) })
}

// TryBatch says what CreateBatch would make of a file. Nothing is stored.
func (c *Client) TryBatch(ctx context.Context, in BatchInput) (*DryRun, error) {
	return call[DryRun](ctx, uploadWithin(in.Size), func(ctx context.Context) (*http.Response, error) { return c.upload(ctx, in, true) })
}

// uploadWithin is how long an upload of so many bytes may take.
func uploadWithin(size int64) time.Duration {
	return 10*callWithin + time.Duration(size/uploadRate)*time.Second
}

func (c *Client) upload(ctx context.Context, in BatchInput, dry bool) (*http.Response, error) {
	q := url.Values{}
	if len(in.Defaults) > 0 {
		q.Set("defaults", string(in.Defaults))
	}
	if in.OnError != "" {
		q.Set("on_error", in.OnError)
	}
	if dry {
		q.Set("dry_run", "true")
	}
	req, err := c.request(ctx, http.MethodPost, "/v1/batches", q, in.Body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", in.ContentType)
	if in.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if in.Key != "" {
		req.Header.Set("Idempotency-Key", in.Key)
	}
	return c.raw.Client.Do(req)
}

// Batch looks a batch up.
func (c *Client) Batch(ctx context.Context, id string) (*Batch, error) {
	return call[Batch](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
		req, err := c.request(ctx, http.MethodGet, "/v1/batches/"+url.PathEscape(id), nil, nil)
		if err != nil {
			return nil, err
		}
		return c.raw.Client.Do(req)
	})
}

// Batches are the account's batches, the newest first. of says which; its Limit
// and After are not needed.
func (c *Client) Batches(ctx context.Context, of ListBatchesParams) iter.Seq2[*Batch, error] {
	return listed(func(after *string) ([]Batch, *string, error) {
		from := of
		if after != nil {
			from.After = after
		}
		page, err := call[BatchList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ListBatches(ctx, &from) })
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// CancelBatch ends a batch; what runs is canceled.
func (c *Client) CancelBatch(ctx context.Context, id string) (*Batch, error) {
	return call[Batch](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.CancelBatch(ctx, id) })
}

// PauseBatch keeps further lines from becoming jobs.
func (c *Client) PauseBatch(ctx context.Context, id string) (*Batch, error) {
	return call[Batch](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.PauseBatch(ctx, id) })
}

// ResumeBatch ends a pause.
func (c *Client) ResumeBatch(ctx context.Context, id string) (*Batch, error) {
	return call[Batch](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.ResumeBatch(ctx, id) })
}

// RetryBatch tries the lines of an ended batch again that failed.
func (c *Client) RetryBatch(ctx context.Context, id string) (*Batch, error) {
	return call[Batch](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.RetryBatch(ctx, id) })
}

// DeleteBatch deletes an ended batch, with the results of its lines.
func (c *Client) DeleteBatch(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.DeleteBatch(ctx, id) })
	return err
}

// Ended reports a batch in which nothing happens by itself any more.
func (b *Batch) Ended() bool {
	switch b.Status {
	case "completed", "canceled", "expired", "failed":
		return true
	}
	return false
}

// BatchLines are the results of a batch in the order of its input: of every
// line, once it has ended, and before of those that have.
func (c *Client) BatchLines(ctx context.Context, id string) iter.Seq2[*LineResult, error] {
	return c.results(ctx, id, nil)
}

// BatchEnds are the lines that have ended behind the cursor after, in the order
// in which they did. Each has a Cursor; asked again behind the last one there
// are no gaps.
func (c *Client) BatchEnds(ctx context.Context, id, after string) iter.Seq2[*LineResult, error] {
	q := url.Values{"order": {"ended"}}
	if after != "" {
		q.Set("after", after)
	}
	return c.results(ctx, id, q)
}

func (c *Client) results(ctx context.Context, id string, q url.Values) iter.Seq2[*LineResult, error] {
	return func(yield func(*LineResult, error) bool) {
		body, err := c.batchFile(ctx, id, "results", q)
		if err != nil {
			yield(nil, err)
			return
		}
		for l, err := range lines(ctx, body) {
			if !yield(l, err) {
				return
			}
		}
	}
}

// BatchResults opens the results as jsonl, csv, zip or html. The caller closes
// them. The last two are made of pictures, which the server may be at for long
// before the next of their bytes: their reading is bounded by ctx alone.
func (c *Client) BatchResults(ctx context.Context, id, format string) (io.ReadCloser, error) {
	return c.batchFile(ctx, id, "results", url.Values{"format": {format}})
}

// BatchErrors opens what was wrong with the lines of which no job could be
// made, as jsonl or csv. The caller closes it.
func (c *Client) BatchErrors(ctx context.Context, id, format string) (io.ReadCloser, error) {
	return c.batchFile(ctx, id, "errors", url.Values{"format": {format}})
}

func (c *Client) batchFile(ctx context.Context, id, what string, q url.Values) (io.ReadCloser, error) {
	send := func(ctx context.Context) (*http.Response, error) {
		req, err := c.request(ctx, http.MethodGet, "/v1/batches/"+url.PathEscape(id)+"/"+what, q, nil)
		if err != nil {
			return nil, err
		}
		return c.raw.Client.Do(req)
	}
	if f := q.Get("format"); f == "zip" || f == "html" {
		return await(ctx, send)
	}
	return open(ctx, send)
}
