package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
)

const (
	// outcomePage is how many rows of a batch are in memory at a time.
	outcomePage = 1000
	// outcomeWithin bounds the reading of such a page.
	outcomeWithin = 15 * time.Second
	// reopenings is how often an object is opened again at the place where
	// reading it failed, without a byte in between: while a slow client reads,
	// its connection is idle for long.
	reopenings = 3
)

// An outcome is what became of one line of a batch. It has a job, or an error,
// or both.
type outcome struct {
	line     int
	customID string
	spec     json.RawMessage // of a line that a job can be made of
	job      *job.Job        // that it was made into; nil: none
	state    job.State       // its end
	failure  *BatchLineError // why it has no artifact
}

// outcomes reads the lines of a batch that have ended, in the order of the
// input: what the lines are from their object, what became of them from the
// archive, side by side and a page at a time, so that the size of the batch
// costs no memory.
type outcomes struct {
	server   *Server
	batch    *batch.Batch
	lines    *lineReader
	jobs     pager[*job.Job]
	refusals pager[batch.Refusal]
	now      time.Time
}

// outcomes opens a batch, as it is now. One that has no lines yet has none.
func (s *Server) outcomes(ctx context.Context, b *batch.Batch) (*outcomes, error) {
	o := &outcomes{server: s, batch: b, now: time.Now()}
	if b.Lines == "" {
		return o, nil
	}
	o.lines = s.readLines(ctx, b.Lines)
	if err := o.lines.open(); err != nil {
		return nil, err
	}
	o.jobs = pager[*job.Job]{of: func(j *job.Job) int { return j.Line }, page: func(after int) ([]*job.Job, error) {
		return paged(ctx, func(ctx context.Context) ([]*job.Job, error) {
			return s.deps.Store.BatchJobs(ctx, b, after, outcomePage)
		})
	}}
	o.refusals = pager[batch.Refusal]{of: func(r batch.Refusal) int { return r.Line }, page: func(after int) ([]batch.Refusal, error) {
		return paged(ctx, func(ctx context.Context) ([]batch.Refusal, error) {
			return s.deps.Store.BatchRefusals(ctx, b, after, outcomePage)
		})
	}}
	return o, nil
}

func (o *outcomes) close() {
	if o.lines != nil {
		o.lines.close()
	}
}

// next is the next line that has ended; io.EOF says that there is none.
func (o *outcomes) next() (*outcome, error) {
	for o.lines != nil {
		l, err := o.lines.next()
		if err != nil {
			return nil, err
		}
		out, err := o.of(l)
		if out != nil || err != nil {
			return out, err
		}
	}
	return nil, io.EOF
}

// of is what became of a line; nil while it has not ended.
func (o *outcomes) of(l *batch.Line) (*outcome, error) {
	out := &outcome{line: l.Number, customID: l.CustomID, spec: l.Spec}
	if len(l.Errors) > 0 {
		out.state, out.failure = job.Failed, invalidLine(l)
		return out, nil
	}
	j, ran, err := o.jobs.at(l.Number)
	if err != nil {
		return nil, err
	}
	refusal, refused, err := o.refusals.at(l.Number)
	if err != nil {
		return nil, err
	}
	refused = refused && (!ran || refusal.Pass > j.Pass)
	again := false // it failed in the pass before this one, so it is tried again in this one
	switch {
	case refused:
		again = refusal.Pass == o.batch.Pass-1
	case ran:
		again = j.State == job.Failed && j.Pass == o.batch.Pass-1
	}
	switch {
	case refused && !again:
		out.state = job.Failed
		out.failure = &BatchLineError{Code: refusal.Code, Detail: refusal.Detail}
	case ran && !again:
		out.ran(j, o.now)
	case !o.batch.State.Ended():
		return nil, nil
	case o.batch.LeftOut == 0:
		out.state = job.Failed
		out.failure = &BatchLineError{Code: string(job.Internal), Detail: "the archive has no row of the line's job", Retryable: true}
	case o.batch.State == batch.Expired:
		out.state = job.Expired
		out.failure = &BatchLineError{Code: "batch_expired", Detail: "the batch expired before this line became a job", Retryable: true}
	case o.batch.State == batch.Failed:
		out.state = job.Canceled
		out.failure = &BatchLineError{Code: "batch_failed", Detail: "no job was made, since other lines are wrong: on_error is reject", Retryable: true}
	default:
		out.state = job.Canceled
		out.failure = &BatchLineError{Code: "batch_canceled", Detail: "the batch was canceled before this line became a job", Retryable: true}
	}
	return out, nil
}

// ran takes in what the line's job came to.
func (out *outcome) ran(j *job.Job, now time.Time) {
	out.job, out.state = j, j.State
	switch {
	case j.Failure != nil:
		f := j.Failure
		out.failure = &BatchLineError{Code: string(f.Code), Detail: f.Detail, Stage: orNull(string(f.Stage)), Retryable: f.Retryable}
	case j.Result == nil:
		out.failure = &BatchLineError{Code: string(j.State), Detail: "the job ended as " + string(j.State), Retryable: true}
	case j.Result.Gone:
		out.failure = &BatchLineError{Code: "gone", Detail: "the artifact was deleted"}
	case retained(j, now) != nil:
		out.failure = &BatchLineError{Code: "gone", Detail: fault.From(retained(j, now)).Detail}
	}
}

// artifact is what the line was rendered to; nil when there is nothing to be
// fetched any more.
func (out *outcome) artifact() *job.Result {
	if out.job == nil || out.failure != nil {
		return nil
	}
	return out.job.Result
}

// invalidLine says all that is wrong with a line, as far as it fits.
func invalidLine(l *batch.Line) *BatchLineError {
	var all []string
	for _, e := range l.Errors {
		text := e.Detail
		if e.Pointer != "" {
			text = e.Pointer + ": " + text
		}
		all = append(all, text)
	}
	return &BatchLineError{Code: l.Errors[0].Code, Detail: strings.Join(all, "; ")}
}

// paged reads one page of the archive.
func paged[T any](ctx context.Context, read func(context.Context) ([]T, error)) ([]T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, outcomeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	rows, err := read(ctx)
	if err != nil {
		return nil, unavailable(err, "the archive does not answer at the moment; try again")
	}
	return rows, nil
}

// A pager reads rows that are in the order of lines, and not one for each.
type pager[T any] struct {
	page func(after int) ([]T, error) // those behind a line
	of   func(T) int
	rows []T
	last int  // line that was asked behind of
	done bool // there are no further pages
}

// at is the row of a line; lines are asked for in their order.
func (p *pager[T]) at(line int) (row T, ok bool, err error) {
	for {
		for len(p.rows) > 0 && p.of(p.rows[0]) < line {
			p.rows = p.rows[1:]
		}
		if len(p.rows) > 0 || p.done {
			break
		}
		p.last = max(p.last, line-1) // what is before is of no use any more
		if p.rows, err = p.page(p.last); err != nil {
			return row, false, err
		}
		if p.done = len(p.rows) < outcomePage; len(p.rows) > 0 {
			p.last = p.of(p.rows[len(p.rows)-1])
		}
	}
	if len(p.rows) > 0 && p.of(p.rows[0]) == line {
		return p.rows[0], true, nil
	}
	return row, false, nil
}

// lineReader reads an object of lines.
type lineReader struct {
	ctx    context.Context // of the request
	bucket Bucket
	key    string
	body   io.ReadCloser
	offset int64 // that the next byte of body has
	size   int64
	failed int // how often in a row
	lines  *json.Decoder
}

func (s *Server) readLines(ctx context.Context, key string) *lineReader {
	r := &lineReader{ctx: ctx, bucket: s.deps.Bucket, key: key, size: -1}
	r.lines = json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	return r
}

// open opens the object where it is to be read on.
func (r *lineReader) open() error {
	body, info, err := r.bucket.Open(r.ctx, r.key, r.offset)
	switch {
	case errors.Is(err, object.ErrNotFound):
		return fault.Wrap(fault.Gone, err, "the batch was deleted")
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "the object store does not answer at the moment; try again")
	}
	r.body = body
	if r.size < 0 {
		r.size = r.offset + info.SizeBytes
	}
	return nil
}

func (r *lineReader) close() {
	if r.body != nil {
		_ = r.body.Close() // it was only read
	}
	r.body = nil
}

// Read is for lines.
func (r *lineReader) Read(p []byte) (int, error) {
	for {
		if r.body == nil {
			if err := r.open(); err != nil {
				return 0, err
			}
		}
		n, err := r.body.Read(p)
		r.offset += int64(n)
		if n > 0 {
			r.failed = 0
			return n, nil
		}
		if errors.Is(err, io.EOF) && r.offset >= r.size {
			return 0, io.EOF
		}
		if err == nil {
			continue
		}
		r.close()
		if r.failed++; r.failed > reopenings || r.ctx.Err() != nil {
			return 0, fault.Wrap(fault.Unavailable, err, "the object store does not answer at the moment; try again")
		}
	}
}

func (r *lineReader) next() (*batch.Line, error) {
	l := new(batch.Line)
	err := r.lines.Decode(l)
	switch f := (*fault.Error)(nil); {
	case err == nil, errors.Is(err, io.EOF):
		return l, err
	case errors.As(err, &f):
		return nil, f
	}
	return nil, fmt.Errorf("%s: %w", r.key, err)
}
