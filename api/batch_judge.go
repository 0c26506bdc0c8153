package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// maxUnderstood bounds what an input becomes, in bytes: its defaults are in
	// each line of that.
	maxUnderstood = 2 << 30
	// chunkBytes is about what the lines of a chunk have together, before and
	// after they are understood.
	chunkBytes = 256 << 10
	// lineOverhead is what a line becomes beside what it says.
	lineOverhead = 512
)

// A chunk is some lines on their way through somebody who understands them.
type chunk struct {
	lines []lines.Line
	done  chan []batch.Line // has room for the one answer
}

// judge reads lines, has them understood side by side, and gives them to each in
// the order of the input. An input that is refused as a whole is a
// *lines.Refused. Half of the processors are left to requests that somebody
// waits for.
func (s *Server) judge(ctx context.Context, input io.Reader, lr *lineReading, each func([]batch.Line) error) error {
	g, ctx := errgroup.WithContext(ctx)
	judges := max(1, runtime.GOMAXPROCS(0)/2)
	work, order := make(chan chunk), make(chan chunk, 2*judges)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return readChunks(input, lr, func(c chunk) error {
			for _, to := range []chan chunk{order, work} {
				select {
				case to <- c:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	for range judges {
		g.Go(func() error {
			for c := range work {
				out := make([]batch.Line, len(c.lines))
				for i, l := range c.lines {
					out[i] = lr.read(l)
				}
				c.done <- out
			}
			return nil
		})
	}
	g.Go(func() error {
		for c := range order {
			select {
			case out := <-c.done:
				if err := each(out); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return g.Wait()
}

// readChunks reads an input into chunks.
func readChunks(input io.Reader, lr *lineReading, send func(chunk) error) error {
	plain, err := lines.Unpack(input)
	if err != nil {
		return err
	}
	r := lines.New(plain, lr.format)
	header, err := r.Header()
	if err != nil {
		return err
	}
	if err := lr.name(header); err != nil {
		return err
	}
	var next []lines.Line
	size := 0
	flush := func() error {
		c := chunk{lines: next, done: make(chan []batch.Line, 1)}
		next, size = nil, 0
		return send(c)
	}
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		next = append(next, l)
		size += l.Size() + lr.defaultsSize + lineOverhead
		if size >= chunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(next) == 0 {
		return nil
	}
	return flush()
}

// lineSums counts lines that were understood, and finds those that have the
// custom_id of another one.
type lineSums struct {
	total, invalid int64
	named          map[[16]byte]int32 // digest of a custom_id: which line has it
	errors         []batch.LineError  // the first maxTold
	bytes          int64              // written
}

// maxTold is how many errors a dry run tells of.
const maxTold = 100

func newLineSums() *lineSums { return &lineSums{named: make(map[[16]byte]int32)} }

// take counts a line, and judges it beside those before.
func (sum *lineSums) take(l *batch.Line) {
	sum.total++
	if l.CustomID != "" {
		digest := [16]byte(sha256Short(l.CustomID))
		if other, taken := sum.named[digest]; taken {
			l.Errors = append(l.Errors, batch.LineError{Line: l.Number, Code: lines.CodeInvalid, Field: fault.Field{
				Pointer: "/custom_id", Detail: fmt.Sprintf("is that of line %d; each line needs its own", other),
			}})
		} else {
			sum.named[digest] = int32(l.Number)
		}
	}
	if len(l.Errors) == 0 {
		return
	}
	sum.invalid++
	l.Metadata, l.Spec, l.Secrets, l.TTLS, l.Force, l.Webhook = nil, nil, nil, nil, false, nil
	if room := maxTold - len(sum.errors); room > 0 {
		sum.errors = append(sum.errors, l.Errors[:min(room, len(l.Errors))]...)
	}
}

func sha256Short(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:16]
}

// writeTo takes lines and writes them down, one a line.
func (sum *lineSums) writeTo(w io.Writer) func([]batch.Line) error {
	return func(some []batch.Line) error {
		var out []byte
		for i := range some {
			sum.take(&some[i])
			text, err := json.Marshal(&some[i])
			if err != nil {
				return fmt.Errorf("line %d: %w", some[i].Number, err)
			}
			out = append(append(out, text...), '\n')
		}
		if sum.bytes += int64(len(out)); sum.bytes > maxUnderstood {
			return &lines.Refused{Wrong: batch.LineError{Line: some[0].Number, Code: lines.CodeTooLarge, Field: fault.Field{
				Detail: fmt.Sprintf("the lines are larger than %d bytes with the defaults filled in; split the input, or shorten the defaults", maxUnderstood),
			}}}
		}
		_, err := w.Write(out)
		return err
	}
}

// failure is why a batch of these lines fails; empty if it does not.
func (sum *lineSums) failure(do batch.OnError) string {
	switch {
	case sum.total == 0:
		return "the input has no lines"
	case sum.invalid == sum.total:
		return "no job can be made of any line; errors lists what is wrong"
	case sum.invalid > 0 && do == batch.Reject:
		return fmt.Sprintf("no job can be made of %d of the %d lines, and with on_error=reject none is made of the others; errors lists what is wrong, and on_error=skip goes on without them", sum.invalid, sum.total)
	}
	return ""
}

// whyRefused is why an input is refused as a whole, with where.
func whyRefused(e batch.LineError) string {
	switch {
	case e.Line == 0:
		return e.Detail
	case e.Column == 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Detail)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Detail)
}
