package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// uploadBuffer is what an upload may have in memory: a part of the stream to
	// the bucket.
	uploadBuffer = 8 << 20
	// smallUpload needs no such buffer.
	smallUpload = 64 << 10
	// uploadPiece is what has to arrive within requestWithin, again and again.
	uploadPiece = 64 << 10
)

// An upload is an input on its way into the bucket.
type upload struct {
	object string
	size   int64
	gzip   bool
	sum    []byte // SHA-256
}

// formatOf is how the lines of a raw body are written.
func formatOf(r *http.Request) (batch.Format, error) {
	header := r.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(header)
	if format := batchMedia[media]; err == nil && format != "" {
		return format, nil
	}
	said := "is missing"
	if header != "" {
		said = "is " + strconv.Quote(header)
	}
	return "", invalid(fault.Field{
		Pointer: "Content-Type",
		Detail:  said + "; send application/x-ndjson, text/csv or text/plain, or say ?format=jsonl, csv or text",
	})
}

// arriving is the body of an upload: within its bounds, looked at as it passes,
// and at the pace of its client as long as that goes on sending.
type arriving struct {
	body   *bufio.Reader
	digest hash.Hash
	size   int64
	gzip   bool
}

// arrive begins to read a body.
func arrive(w http.ResponseWriter, r *http.Request) (*arriving, error) {
	packed := false
	switch enc := strings.ToLower(r.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		packed = true
	default:
		return nil, invalid(fault.Field{Pointer: "Content-Encoding", Detail: "is " + strconv.Quote(enc) + "; send the input plain or packed with gzip"})
	}
	if r.ContentLength > lines.MaxBytes {
		return nil, tooLargeUpload()
	}
	limited := http.MaxBytesReader(w, r.Body, lines.MaxBytes)
	a := &arriving{body: bufio.NewReader(&patient{to: http.NewResponseController(w), body: limited, request: r}), digest: sha256.New()}
	start, err := a.body.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	a.gzip = lines.Gzipped(start)
	switch {
	case len(start) == 0:
		return nil, fault.New(fault.Invalid, "there is no body: send the lines of the batch")
	case packed && !a.gzip:
		return nil, invalid(fault.Field{Pointer: "Content-Encoding", Detail: "is gzip, and the body is not; leave the header out"})
	}
	return a, nil
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	a.digest.Write(p[:n])
	a.size += int64(n)
	return n, err
}

func tooLargeUpload() error {
	return fault.New(fault.TooLarge, "the input is larger than %d bytes; split it, or pack it with gzip", lines.MaxBytes)
}

// patient reads a body for as long as its client keeps sending. Only the time
// in which it is waited for counts, not that in which the bucket takes what
// there is. Its errors are faults.
type patient struct {
	to      *http.ResponseController
	body    io.Reader
	request *http.Request
	waited  time.Duration // for this piece
	piece   int           // bytes of it that are here
}

func (p *patient) Read(b []byte) (int, error) {
	began := time.Now()
	// A writer without deadlines, as in tests, has none to move.
	_ = p.to.SetReadDeadline(began.Add(requestWithin - p.waited))
	_ = p.to.SetWriteDeadline(began.Add(requestWithin + answerSlack))
	n, err := p.body.Read(b)
	p.waited += time.Since(began)
	if p.piece += n; p.piece >= uploadPiece {
		p.waited, p.piece = 0, 0
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return n, tooLargeUpload()
	}
	return n, notArrived(p.request, err)
}

// storeUpload puts the body of a request into the bucket.
func (s *Server) storeUpload(w http.ResponseWriter, r *http.Request, c *call, up *upload) error {
	a, err := arrive(w, r)
	if err != nil {
		return err
	}
	release, err := s.uploadRoom(r.Context(), c, r.ContentLength)
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.deps.Bucket.PutStream(r.Context(), up.object, a, r.Header.Get("Content-Type")); err != nil {
		return unavailable(err, "the object store does not take the input at the moment; try again")
	}
	up.size, up.gzip, up.sum = a.size, a.gzip, a.digest.Sum(nil)
	return nil
}

// measureUpload reads a body for its digest alone.
func (s *Server) measureUpload(w http.ResponseWriter, r *http.Request, up *upload) error {
	a, err := arrive(w, r)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, a); err != nil {
		return err
	}
	up.size, up.gzip, up.sum = a.size, a.gzip, a.digest.Sum(nil)
	return nil
}

// uploadRoom waits for the memory that an upload of that size takes; less than
// 0 is one that does not say.
func (s *Server) uploadRoom(ctx context.Context, c *call, size int64) (release func(), err error) {
	if size >= 0 && size <= smallUpload {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestWithin, fmt.Errorf("no room for an upload within %v", requestWithin))
	defer cancel()
	release, err = s.buffers.acquire(ctx, c.account.ID, uploadBuffer)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "too many uploads are under way; try again")
	}
	return release, nil
}
