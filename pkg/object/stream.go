package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// partSize is how much of a stream is in memory. S3 takes 10,000 parts of at
	// least 5 MiB.
	partSize = 8 << 20
	// firstRead is read before the room for a whole part is made: most streams
	// are shorter.
	firstRead = 64 << 10
	// readWithin bounds each read of an open object.
	readWithin = time.Minute
)

// PutStream stores what body holds, whatever its size, under key, and returns
// how much that was. It keeps 8 MiB of it in memory. ErrExists if the key is
// taken. An error of body comes back as it is, and nothing is stored then; after
// any other one the object may be there all the same.
func (b *Bucket) PutStream(ctx context.Context, key string, body io.Reader, contentType string) (int64, error) {
	first := make([]byte, firstRead)
	n, err := io.ReadFull(body, first)
	if err == nil {
		whole := make([]byte, partSize)
		copy(whole, first)
		first = whole
		var more int
		more, err = io.ReadFull(body, first[n:])
		n += more
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return int64(n), b.Put(ctx, key, bytes.NewReader(first[:n]), int64(n), contentType)
	case err != nil:
		return 0, err
	}
	return b.putParts(ctx, key, first, body, contentType)
}

// putParts stores a full part and what follows it.
func (b *Bucket) putParts(ctx context.Context, key string, part []byte, rest io.Reader, contentType string) (size int64, err error) {
	opts := minio.PutObjectOptions{ContentType: contentType}
	call, cancel := within(ctx, callWithin, "begin the upload")
	id, err := b.client.NewMultipartUpload(call, b.name, key, opts)
	err = b.fail(call, "begin upload of", key, err)
	cancel()
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil { // or its parts would lie there for ever
			call, cancel := within(context.WithoutCancel(ctx), callWithin, "drop the upload")
			defer cancel()
			_ = b.client.AbortMultipartUpload(call, b.name, key, id) // the first error is the one to tell
		}
	}()
	var parts []minio.CompletePart
	for n := len(part); n > 0; {
		call, cancel := within(ctx, bodyWithin, "put the part")
		done, err := b.client.PutObjectPart(call, b.name, key, id, len(parts)+1, bytes.NewReader(part[:n]), int64(n), minio.PutObjectPartOptions{})
		err = b.fail(call, "put a part of", key, err)
		cancel()
		if err != nil {
			return 0, err
		}
		parts = append(parts, minio.CompletePart{PartNumber: done.PartNumber, ETag: done.ETag})
		size += int64(n)
		if n < len(part) {
			break
		}
		n, err = io.ReadFull(rest, part)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, err
		}
	}
	opts.SetMatchETagExcept("*")
	call, cancel = within(ctx, bodyWithin, "complete the upload")
	defer cancel()
	_, err = b.client.CompleteMultipartUpload(call, b.name, key, id, parts, opts)
	return size, b.fail(call, "complete upload of", key, err)
}

// DropUploads removes what is left of streams that were begun before then and
// are not stored: whoever put them was killed, and List does not show them. It
// returns how many there were. On an error the others have been tried.
func (b *Bucket) DropUploads(ctx context.Context, before time.Time) (int, error) {
	ctx, cancel := within(ctx, pageWithin, "list the uploads")
	defer cancel()
	dropped, errs := 0, []error(nil)
	for up := range b.client.ListIncompleteUploads(ctx, b.name, "", true) {
		if up.Err != nil {
			errs = append(errs, b.fail(ctx, "list uploads", "", up.Err))
			continue
		}
		if !up.Initiated.Before(before) {
			continue
		}
		err := b.fail(ctx, "drop an upload of", up.Key, b.client.AbortMultipartUpload(ctx, b.name, up.Key, up.UploadID))
		if err == nil {
			dropped++
		}
		errs = append(errs, err)
	}
	return dropped, errors.Join(errs...)
}

// Open opens an object from a byte on; Info.SizeBytes is how many follow.
// Unlike those of Get its reads go on for as long as ctx does: each has a
// deadline of its own. ErrNotFound if there is no such object.
func (b *Bucket) Open(ctx context.Context, key string, offset int64) (io.ReadCloser, Info, error) {
	var opts minio.GetObjectOptions
	if offset > 0 {
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, Info{}, fmt.Errorf("open %s at %d: %w", key, offset, err)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(readWithin, func() { cancel(fmt.Errorf("object store did not send within %s", readWithin)) })
	body, oi, _, err := b.client.GetObject(ctx, b.name, key, opts)
	late.Stop()
	if answer := minio.ToErrorResponse(err); err != nil && answer.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		cancel(nil)
		return io.NopCloser(bytes.NewReader(nil)), Info{Key: key}, nil // it ends there
	}
	if err != nil {
		err = b.fail(ctx, "open", key, err)
		cancel(nil)
		return nil, Info{}, err
	}
	oi.Key = key
	return &stream{ctx: ctx, body: body, late: late, cancel: cancel}, info(oi), nil
}

// stream is the body of an open object.
type stream struct {
	ctx    context.Context // ended by late
	body   io.ReadCloser
	late   *time.Timer
	cancel context.CancelCauseFunc
}

func (s *stream) Read(p []byte) (int, error) {
	s.late.Reset(readWithin)
	n, err := s.body.Read(p)
	s.late.Stop()
	if err != nil && !errors.Is(err, io.EOF) && context.Cause(s.ctx) != nil {
		err = fmt.Errorf("%w: %w", context.Cause(s.ctx), err)
	}
	return n, err
}

func (s *stream) Close() error {
	s.late.Stop()
	defer s.cancel(nil)
	return s.body.Close()
}
