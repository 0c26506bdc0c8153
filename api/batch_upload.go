package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"path"
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

// An upload is an input in the bucket.
type upload struct {
	object string
	size   int64
	gzip   bool
	sum    []byte // SHA-256
	file   string // whose bytes they are; empty: the batch's own
}

// formatOf is how the lines of a raw body are written.
func formatOf(r *http.Request, media string) (batch.Format, error) {
	if format := batchMedia[media]; format != "" {
		return format, nil
	}
	said := "is missing"
	if header := r.Header.Get("Content-Type"); header != "" {
		said = "is " + quotedName(header)
	}
	return "", invalid(fault.Field{
		Pointer: "Content-Type",
		Detail:  said + "; send application/x-ndjson, text/csv or text/plain, or say ?format=jsonl, csv or text",
	})
}

// nameFormats are how lines are written in files by the ends of their names.
var nameFormats = map[string]batch.Format{
	".jsonl": batch.JSONL, ".ndjson": batch.JSONL, ".csv": batch.CSV, ".txt": batch.Text,
}

// formatOfName is how the lines of a file are written; empty where its name
// does not say.
func formatOfName(name string) batch.Format {
	name = strings.TrimSuffix(strings.ToLower(name), ".gz")
	return nameFormats[path.Ext(name)]
}

// arriving is the body of an upload: within its bounds, looked at as it passes,
// and at the pace of its client as long as that goes on sending.
type arriving struct {
	body   *bufio.Reader
	digest hash.Hash
	size   int64
	gzip   bool
	err    error // why it did not arrive
}

// arrive begins to read the body of a request.
func arrive(w http.ResponseWriter, r *http.Request) (*arriving, error) {
	packed := false
	switch enc := strings.ToLower(r.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		packed = true
	default:
		return nil, invalid(fault.Field{Pointer: "Content-Encoding", Detail: "is " + quotedName(enc) + "; send the input plain or packed with gzip"})
	}
	body, err := patientBody(w, r, lines.MaxBytes)
	if err != nil {
		return nil, err
	}
	a, err := arriveFrom(body)
	switch {
	case err != nil:
		return nil, err
	case packed && !a.gzip:
		return nil, invalid(fault.Field{Pointer: "Content-Encoding", Detail: "is gzip, and the body is not; leave the header out"})
	}
	return a, nil
}

// patientBody is the body of a request of at most so many bytes.
func patientBody(w http.ResponseWriter, r *http.Request, most int64) (io.Reader, error) {
	if r.ContentLength > most {
		return nil, tooLargeUpload()
	}
	return &patient{to: http.NewResponseController(w), body: http.MaxBytesReader(w, r.Body, most), request: r}, nil
}

// arriveFrom begins to read an input.
func arriveFrom(body io.Reader) (*arriving, error) {
	a := &arriving{body: bufio.NewReader(body), digest: sha256.New()}
	start, err := a.body.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(start) == 0 {
		return nil, fault.New(fault.Invalid, "the upload is empty: send the lines of the batch")
	}
	a.gzip = lines.Gzipped(start)
	return a, nil
}

// upload is what has arrived.
func (a *arriving) upload(object string) upload {
	return upload{object: object, size: a.size, gzip: a.gzip, sum: a.digest.Sum(nil)}
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	a.digest.Write(p[:n])
	if a.size += int64(n); a.size > lines.MaxBytes {
		err = tooLargeUpload()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		a.err = err
	}
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
	f := fault.From(notArrived(p.request, err))
	f.Code = "" // it need not be JSON
	return n, f
}

// store puts what arrives into the bucket. Size is what is expected; less than 0
// where nobody says.
func (s *Server) store(ctx context.Context, c *call, object string, a *arriving, size int64) error {
	release, err := s.uploadRoom(ctx, c, size)
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.deps.Bucket.PutStream(ctx, object, a, "application/octet-stream"); err != nil {
		if a.err != nil {
			return a.err
		}
		return unavailable(err, "the object store does not take the upload at the moment; try again")
	}
	return nil
}

// uploadRoom waits for the memory that an upload takes.
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
