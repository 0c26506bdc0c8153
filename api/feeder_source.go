package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tintype/tintype/pkg/batch"
)

const (
	// pieceBytes is how much of an object of lines is read at a time. It is not
	// kept open in between: feeding may take days.
	pieceBytes = 256 << 10
	// pieceMost bounds a line: one that is validated is far shorter.
	pieceMost = 16 << 20
)

// lineSource reads lines of an object, from a byte on.
type lineSource struct {
	bucket Bucket
	object string
	offset int64 // of what is read next
	piece  []byte
	last   bool // nothing follows the piece
}

// next is the next line and where it ends; io.EOF behind the last.
func (src *lineSource) next(ctx context.Context) (*batch.Line, int64, error) {
	for size := pieceBytes; ; size *= 2 {
		if i := bytes.IndexByte(src.piece, '\n'); i >= 0 {
			l := new(batch.Line)
			if err := json.Unmarshal(src.piece[:i], l); err != nil {
				return nil, 0, fmt.Errorf("%s at %d: %w", src.object, src.offset, err)
			}
			src.piece, src.offset = src.piece[i+1:], src.offset+int64(i)+1
			return l, src.offset, nil
		}
		switch {
		case src.last && len(src.piece) == 0:
			return nil, 0, io.EOF
		case src.last:
			return nil, 0, fmt.Errorf("%s ends within a line", src.object)
		case size > pieceMost:
			return nil, 0, fmt.Errorf("%s has a line of more than %d bytes at %d", src.object, pieceMost, src.offset)
		}
		if err := src.fill(ctx, size); err != nil {
			return nil, 0, err
		}
	}
}

// fill reads a piece from where the next line begins.
func (src *lineSource) fill(ctx context.Context, size int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bucketWithin, errors.New("the object store did not answer in time"))
	defer cancel()
	body, _, err := src.bucket.Open(ctx, src.object, src.offset)
	if err != nil {
		return fmt.Errorf("read lines: %w", err)
	}
	defer body.Close()
	piece := make([]byte, size)
	n, err := io.ReadFull(body, piece)
	src.last = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !src.last {
		return fmt.Errorf("read lines: %w", err)
	}
	src.piece = piece[:n]
	return nil
}
