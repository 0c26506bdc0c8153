package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// maxLine bounds a line of results: a job's error and result, and its names.
const maxLine = 1 << 20

// A LineResult is what became of one line of a batch.
type LineResult struct {
	BatchResult
	Raw []byte // the line as the server sent it
}

// lines reads a JSON object a line. The body is closed when the reading ends.
// A body that breaks off is ErrUnreachable.
func lines(ctx context.Context, body io.ReadCloser) iter.Seq2[*LineResult, error] {
	return func(yield func(*LineResult, error) bool) {
		defer body.Close()
		in := bufio.NewScanner(body)
		in.Buffer(make([]byte, 64<<10), maxLine)
		in.Split(wholeLines)
		for in.Scan() {
			if len(in.Bytes()) == 0 {
				continue
			}
			l := &LineResult{Raw: append([]byte(nil), in.Bytes()...)}
			if err := json.Unmarshal(l.Raw, &l.BatchResult); err != nil {
				yield(nil, fmt.Errorf("the server's answer is not Tintype's: %w", err))
				return
			}
			if !yield(l, nil) {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(nil, unreachable(ctx, err))
		}
	}
}

// wholeLines splits at \n and takes a last line that lacks it for a body that
// broke off.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}
