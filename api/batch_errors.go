package api

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// errorHead are the columns of a CSV of errors.
var errorHead = []string{"line", "column", "code", "pointer", "detail"}

// getBatchErrors is GET /v1/batches/{id}/errors.
func (s *Server) getBatchErrors(w http.ResponseWriter, r *http.Request, c *call) error {
	kind := format(w, r, c, "jsonl", "csv")
	b, err := s.batchOfPath(r, c)
	if err != nil {
		return err
	}
	if b.State == batch.Validating {
		return &fault.Error{
			Kind: fault.Conflict, Code: "not_finished", RetryAfter: time.Second,
			Detail: "the lines are still being read; ask again when the batch is not validating any more",
		}
	}
	next, done := s.wrongLines(r, b)
	defer done()
	some, err := next() // so that what goes wrong first is told as a problem
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	attach(w, b.ID+"-errors", kind)
	w.WriteHeader(http.StatusOK)
	out, table, text := steady{w}, (*csv.Writer)(nil), new(bytes.Buffer)
	if kind == "csv" {
		table = csv.NewWriter(text)
		table.UseCRLF = true
		_ = table.Write(errorHead) // into memory
	}
	for {
		for _, e := range some {
			if table != nil {
				_ = table.Write(errorCells(e)) // into memory
				continue
			}
			line, err := marshal(presentLineError(e))
			if err != nil {
				return err
			}
			text.Write(append(line, '\n'))
		}
		if table != nil {
			table.Flush()
		}
		if some == nil || text.Len() >= resultPiece {
			if _, err := out.Write(text.Bytes()); err != nil {
				return fault.Wrap(fault.Canceled, err, "the client went away")
			}
			text.Reset()
		}
		if some == nil {
			return nil
		}
		if some, err = next(); err != nil && !errors.Is(err, io.EOF) {
			return err // half a list was sent: the connection is broken off
		}
	}
}

// wrongLines gives what is wrong with a batch, a line at a time, until io.EOF.
func (s *Server) wrongLines(r *http.Request, b *batch.Batch) (next func() ([]batch.LineError, error), done func()) {
	left := b.Invalid // lines; behind the last of them nobody needs to look
	if b.Lines == "" {
		told := b.Failure == ""
		return func() ([]batch.LineError, error) {
			if told {
				return nil, io.EOF
			}
			told = true
			return []batch.LineError{{Code: "invalid_input", Field: fault.Field{Detail: b.Failure}}}, nil
		}, func() {}
	}
	lines := s.readLines(r.Context(), b.Lines)
	return func() ([]batch.LineError, error) {
		for left > 0 {
			l, err := lines.next()
			if err != nil {
				return nil, err
			}
			if len(l.Errors) > 0 {
				left--
				return l.Errors, nil
			}
		}
		return nil, io.EOF
	}, lines.close
}

// errorCells are the cells of an error, none of which a spreadsheet takes for a
// formula.
func errorCells(e batch.LineError) []string {
	column := ""
	if e.Column > 0 {
		column = strconv.Itoa(e.Column)
	}
	return []string{strconv.Itoa(e.Line), column, cell(e.Code), cell(e.Pointer), cell(e.Detail)}
}
