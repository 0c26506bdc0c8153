// Package lines reads the input of a batch: its lines, as they were written.
//
// It promises that
//  1. it keeps no more of the input in memory than one line of the longest
//     kind, however the input is made: a line without an end, a quote that is
//     never closed, a file that unpacks to a million times its size;
//  2. what is wrong with a line costs that line alone, and is told with where it
//     stands; what is wrong with the whole input is a *Refused;
//  3. any other error is the reader's it was given.
//
// What the lines say is the caller's to understand.
package lines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// Codes of what is wrong, as in problem documents.
const (
	CodeJSON     = "malformed_json"
	CodeCSV      = "malformed_csv"
	CodeInvalid  = "invalid_input"
	CodeURL      = "invalid_url"
	CodeTooLarge = "too_large"
)

// A Line is one line with something on it.
type Line struct {
	Number int    // of the input, blank ones counted; 1 is the first
	Text   []byte // without its end; of CSV nil
	Cells  []Cell // of CSV
	Wrong  *batch.LineError
}

// Size is about how much the line says, in bytes.
func (l Line) Size() int {
	n := len(l.Text)
	for _, c := range l.Cells {
		n += len(c.Text)
	}
	return n
}

// A Cell is one of a CSV record.
type Cell struct {
	Text   string
	Column int // in bytes; 1 is the first
}

// Refused is why no line of an input counts.
type Refused struct{ Wrong batch.LineError }

func (r *Refused) Error() string { return r.Wrong.Detail }

func refuse(line int, code, format string, args ...any) *Refused {
	return &Refused{batch.LineError{Line: line, Code: code, Field: fault.Field{Detail: fmt.Sprintf(format, args...)}}}
}

// A Reader reads lines. Make one with New.
type Reader struct {
	buf    *bufio.Reader
	format batch.Format
	most   int // lines with something on them
	last   int // number of a line
	number int // of the last line
	count  int // of lines with something on them
	csv    csvReader
	begun  bool
}

// New reads from r, which Unpack has gone over.
func New(r io.Reader, format batch.Format) *Reader {
	// A line as long as may be, with its end, fits.
	return &Reader{buf: bufio.NewReaderSize(r, batch.MaxLine+2), format: format, most: batch.MaxLines, last: batch.MaxNumber}
}

var (
	bom      = []byte("\xef\xbb\xbf")
	utf16BOM = [][]byte{[]byte("\xff\xfe"), []byte("\xfe\xff")}
)

// Header reads the first record of CSV, which is no line. Other formats have
// none. It comes before Next.
func (r *Reader) Header() ([]Cell, error) {
	if r.format != batch.CSV {
		return nil, nil
	}
	line, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, refuse(1, CodeCSV, "the input is empty: its first line must name the columns, such as url,custom_id")
	case err != nil:
		return nil, err
	case line.Wrong != nil:
		return nil, &Refused{*line.Wrong}
	}
	r.csv.fields = len(line.Cells)
	return line.Cells, nil
}

// Next is the next line with something on it, io.EOF behind the last.
func (r *Reader) Next() (Line, error) {
	line, err := r.next()
	if err != nil {
		return line, err
	}
	if r.count++; r.count > r.most {
		return Line{}, refuse(line.Number, CodeTooLarge, "the input has more than %d lines; split it", r.most)
	}
	return line, nil
}

func (r *Reader) next() (Line, error) {
	if !r.begun {
		r.begun = true
		if err := r.begin(); err != nil {
			return Line{}, err
		}
	}
	for {
		text, whole, err := r.record()
		if err != nil {
			return Line{}, err
		}
		if r.number >= r.last {
			return Line{}, refuse(r.number, CodeTooLarge, "the input has more than %d lines, blank ones counted; split it", r.last)
		}
		line := Line{Number: r.number + 1}
		switch {
		case !whole:
			line.Wrong = wrong(line.Number, 0, CodeTooLarge, "is longer than %d bytes%s", batch.MaxLine, r.unclosed(text))
			err = r.skip()
		case len(bytes.TrimSpace(text)) == 0:
			err = r.take(text)
			if err == nil {
				continue
			}
		default:
			line, err = r.read(line, text)
		}
		return line, err
	}
}

// begin passes over a byte order mark.
func (r *Reader) begin() error {
	start, err := r.buf.Peek(len(bom))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, mark := range utf16BOM {
		if bytes.HasPrefix(start, mark) {
			return refuse(1, CodeInvalid, "the input is UTF-16; save it as UTF-8")
		}
	}
	if bytes.Equal(start, bom) {
		_, err = r.buf.Discard(len(bom))
		return err
	}
	return nil
}

// record finds the next line, with its end, without taking it; of CSV it goes on
// to the line in which the last quote is closed. Whole is false where the end is
// farther away than a line may be long: text is what there is then. io.EOF when
// nothing is left.
func (r *Reader) record() (text []byte, whole bool, err error) {
	quoted := false
	for seen := 0; ; {
		_, err := r.buf.Peek(seen + 1)
		text, _ := r.buf.Peek(r.buf.Buffered())
		for seen < len(text) {
			n := bytes.IndexByte(text[seen:], '\n')
			part := text[seen:]
			if n >= 0 {
				part = part[:n+1]
			}
			seen += len(part)
			quoted = quoted != (r.format == batch.CSV && bytes.Count(part, quote)%2 == 1)
			if n >= 0 && !quoted {
				return text[:seen], trimmed(text[:seen]) <= batch.MaxLine, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF) && len(text) > 0:
			return text, trimmed(text) <= batch.MaxLine, nil
		case errors.Is(err, bufio.ErrBufferFull), err == nil && len(text) == r.buf.Size():
			return text, false, nil
		case err != nil:
			return nil, false, err
		}
	}
}

var quote = []byte{'"'}

// trimmed is how long a line is without its end.
func trimmed(text []byte) int { return len(bytes.TrimRight(text, "\r\n")) }

// unclosed is a hint.
func (r *Reader) unclosed(text []byte) string {
	if r.format == batch.CSV && bytes.IndexByte(text, '"') >= 0 {
		return "; a quote may not be closed"
	}
	return ""
}

// take takes what record found.
func (r *Reader) take(text []byte) error {
	r.number += lineEnds(text)
	_, err := r.buf.Discard(len(text))
	return err
}

// lineEnds is how many lines text is.
func lineEnds(text []byte) int {
	n := bytes.Count(text, []byte{'\n'})
	if len(text) > 0 && text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// skip takes one line, however long it is, so that the next may be read. Of a
// record with line ends in it that is the first one: where a quote is not
// closed the others are records.
func (r *Reader) skip() error {
	r.number++
	for {
		_, err := r.buf.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return nil // told by the next record
		}
		return err
	}
}

// read takes a line and looks at it.
func (r *Reader) read(line Line, text []byte) (Line, error) {
	malformed := map[batch.Format]string{batch.JSONL: CodeJSON, batch.CSV: CodeCSV, batch.Text: CodeURL}[r.format]
	if at := badByte(text); at >= 0 {
		what := "is not valid UTF-8"
		if text[at] == 0 {
			what = "holds U+0000"
		}
		line.Wrong = wrong(line.Number, column(text, at), malformed, "%s", what)
		line.Wrong.Line += bytes.Count(text[:at], []byte{'\n'})
		return line, r.take(text)
	}
	if r.format == batch.CSV {
		cells, bad := r.csv.parse(line.Number, text)
		if bad != nil && bad.malformed {
			line.Wrong = &bad.LineError
			return line, r.skip()
		}
		if line.Cells = cells; bad != nil {
			line.Wrong = &bad.LineError
		}
		return line, r.take(text)
	}
	line.Text = bytes.Clone(bytes.TrimRight(text, "\r\n"))
	return line, r.take(text)
}

// badByte is where text is not UTF-8, or U+0000; -1 if it is fine.
func badByte(text []byte) int {
	if at := bytes.IndexByte(text, 0); at >= 0 {
		return at
	}
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; at < len(text); {
		c, n := utf8.DecodeRune(text[at:])
		if c == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return -1
}

// column is that of a byte of text.
func column(text []byte, at int) int { return at - bytes.LastIndexByte(text[:at], '\n') }

func wrong(line, column int, code, format string, args ...any) *batch.LineError {
	return &batch.LineError{Line: line, Column: column, Code: code, Field: fault.Field{Detail: "the line " + strings.TrimPrefix(fmt.Sprintf(format, args...), "the line ")}}
}
