package lines

import (
	"bytes"
	"encoding/csv"
	"errors"

	"github.com/tintype/tintype/pkg/batch"
)

// csvReader parses records one by one, each of which is whole.
type csvReader struct {
	fields int // of each record; 0: this is the header
	comma  rune
	source bytes.Reader // of parser, which reads ahead: it holds one record
	parser *csv.Reader  // nil: to be made
}

// badRecord is what is wrong with a record.
type badRecord struct {
	batch.LineError
	malformed bool // where it ends is not known
}

// parse reads one record, which begins in that line.
func (c *csvReader) parse(number int, text []byte) ([]Cell, *badRecord) {
	if c.comma == 0 {
		c.comma = separator(text)
	}
	if c.parser == nil {
		c.parser = csv.NewReader(&c.source)
		c.parser.FieldsPerRecord, c.parser.ReuseRecord, c.parser.Comma = -1, true, c.comma
	}
	if text[len(text)-1] != '\n' { // or the parser would look for more
		text = append(bytes.Clone(text), '\n')
	}
	c.source.Reset(text)
	before := c.parser.InputOffset()
	record, err := c.parser.Read()
	if err != nil {
		c.parser = nil // it holds what is left of the record
		bad := &badRecord{malformed: true}
		at := 0
		detail := "is not CSV"
		if e, ok := errors.AsType[*csv.ParseError](err); ok {
			at = e.Column
			switch {
			case errors.Is(e.Err, csv.ErrBareQuote):
				detail = `is not CSV: a quote in a cell without quotes; put the cell in quotes and write each quote in it twice`
			case errors.Is(e.Err, csv.ErrQuote):
				detail = `is not CSV: a quote is not closed, or something follows the closing one; write a quote inside a cell twice`
			}
		}
		bad.LineError = *wrong(number, at, CodeCSV, "%s", detail)
		return nil, bad
	}
	if c.parser.InputOffset()-before != int64(len(text)) {
		c.parser = nil
		return nil, &badRecord{malformed: true, LineError: *wrong(number, 0, CodeCSV, "is not CSV: its quotes do not match")}
	}
	cells := make([]Cell, len(record))
	for i, text := range record {
		_, at := c.parser.FieldPos(i)
		cells[i] = Cell{Text: text, Column: at}
	}
	if c.fields > 0 && len(cells) != c.fields {
		return cells, &badRecord{LineError: *wrong(number, 0, CodeCSV, "has %d cells, and the first line names %d columns", len(cells), c.fields)}
	}
	return cells, nil
}

// separator is what stands between the names of the columns: some programs
// write semicolons or tabs. No name has one in it.
func separator(header []byte) rune {
	if at := bytes.IndexAny(header, ",;\t"); at >= 0 {
		return rune(header[at])
	}
	return ','
}
