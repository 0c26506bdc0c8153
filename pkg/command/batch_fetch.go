package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/client"
)

const (
	// downloads is how many artifacts come at a time.
	downloads = 8
	// tries is how often bytes that are not the recorded ones are fetched.
	tries = 3
)

// fetchAll writes the artifacts of some lines.
func (f *follower) fetchAll(ctx context.Context, some []*client.LineResult) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(downloads)
	for _, l := range some {
		g.Go(func() error { return f.fetch(ctx, l) })
	}
	return g.Wait()
}

// fetch writes the artifact of a line, unless it is there.
func (f *follower) fetch(ctx context.Context, l *client.LineResult) error {
	if l.Result == nil || l.JobId == nil {
		return nil
	}
	path := f.folder.join(fileOf(l))
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Size() == l.Result.SizeBytes {
		f.show.file()
		return nil
	}
	var err error
	for range tries {
		if err = f.try(ctx, func() error { return f.download(ctx, l, path) }); !errors.Is(err, errDamaged) {
			break
		}
	}
	switch p, refused := errors.AsType[*client.Problem](err); {
	case err == nil:
		f.show.file()
		return nil
	case errors.Is(err, errDamaged):
	case refused && (p.Status == http.StatusGone || p.Status == http.StatusNotFound || p.Status == http.StatusConflict):
	default:
		return fmt.Errorf("the artifact of line %d: %w", l.Line, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost == nil {
		f.lost = map[int]string{}
	}
	f.lost[l.Line] = err.Error()
	return nil
}

func (f *follower) download(ctx context.Context, l *client.LineResult, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, artifactWithin, fmt.Errorf("%w: the artifact was not there within %s", client.ErrUnreachable, artifactWithin))
	defer cancel()
	body, err := f.c.Result(ctx, *l.JobId)
	if err != nil {
		return err
	}
	defer body.Close()
	return WriteFile(path, &checked{ctx: ctx, in: body, hash: sha256.New(), want: l.Result})
}

// errDamaged is in the chain of bytes that are not those that were recorded.
var errDamaged = errors.New("the bytes are not those that were rendered")

// checked reads an artifact and ends in an error if it is another one.
type checked struct {
	ctx  context.Context
	in   io.Reader
	hash hash.Hash
	n    int64
	want *client.Result
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		if c.ctx.Err() != nil {
			return n, context.Cause(c.ctx)
		}
		return n, fmt.Errorf("%w: %w", client.ErrUnreachable, err)
	case c.n != c.want.SizeBytes || !strings.EqualFold(hex.EncodeToString(c.hash.Sum(nil)), c.want.Sha256):
		return n, fmt.Errorf("%w (%d bytes of %d)", errDamaged, c.n, c.want.SizeBytes)
	}
	return n, io.EOF
}

// fileOf is the name of a line's artifact, the same as in the batch's ZIP.
func fileOf(l *client.LineResult) string {
	custom := ""
	if l.CustomId != nil {
		custom = *l.CustomId
	}
	return batch.FileName(l.Line, custom, l.Result.ContentType)
}
