package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

// UploadFile stores a file that batches may be made of. size is what body has;
// it bounds how long the upload may take. A name such as pages.csv.gz says how
// its lines are written.
func (c *Client) UploadFile(ctx context.Context, name string, body io.Reader, size int64) (*File, error) {
	return call[File](ctx, uploadWithin(size), func(ctx context.Context) (*http.Response, error) {
		q := url.Values{}
		if name != "" {
			q.Set("name", name)
		}
		req, err := c.request(ctx, http.MethodPost, "/v1/files", q, body)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		return c.raw.Client.Do(req)
	})
}

// ListFiles lists the account's files, the newest first.
func (c *Client) ListFiles(ctx context.Context) ([]File, error) {
	limit := mostOnPage
	return gathered(func(after *string) ([]File, *string, error) {
		page, err := call[FileList](ctx, callWithin, func(ctx context.Context) (*http.Response, error) {
			return c.raw.ListFiles(ctx, &ListFilesParams{Limit: &limit, After: after})
		})
		if err != nil {
			return nil, nil, err
		}
		return page.Data, behind(page.HasMore, page.NextCursor), nil
	})
}

// File looks a file up.
func (c *Client) File(ctx context.Context, id string) (*File, error) {
	return call[File](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.GetFile(ctx, id) })
}

// DeleteFile deletes a file; batches that were made of it go on.
func (c *Client) DeleteFile(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, callWithin, func(ctx context.Context) (*http.Response, error) { return c.raw.DeleteFile(ctx, id) })
	return err
}
