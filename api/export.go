package api

import (
	"bytes"
	"encoding/csv"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/tintype/tintype/pkg/fault"
)

// exportPage is how many rows of an export are in memory at a time.
const exportPage = 1000

// mediaOf are the content types of the formats that lists come in.
var mediaOf = map[string]string{
	"json":  "application/json",
	"csv":   "text/csv; charset=utf-8; header=present",
	"jsonl": "application/x-ndjson",
}

// format is which of the offers an answer comes in: what ?format= says, else
// what Accept prefers, else the first.
func format(w http.ResponseWriter, r *http.Request, c *call, offers ...string) string {
	if name, ok := c.query.members["format"].(string); ok {
		return name
	}
	w.Header().Add("Vary", "Accept")
	best, weight := offers[0], 0.0
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue // a preference that is not understood is ignored
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		for _, name := range offers {
			known, _, _ := strings.Cut(mediaOf[name], ";")
			if (media == known || media == "application/jsonl" && name == "jsonl") && q > weight {
				best, weight = name, q
			}
		}
	}
	return best
}

// cell is a text that a spreadsheet does not take for a formula: what would
// begin one goes behind an apostrophe, which is not shown.
func cell(text string) string {
	if strings.IndexAny(text, "=+-@\t\r\n＝＋－＠") == 0 {
		return "'" + text
	}
	return text
}

// attach makes an answer a file to keep.
func attach(w http.ResponseWriter, name, format string) {
	h := w.Header()
	h.Set("Content-Type", mediaOf[format])
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name + "." + format}))
}

// writeCSV answers with a short table (RFC 4180).
func writeCSV(w http.ResponseWriter, name string, head []string, rows [][]string) error {
	var b bytes.Buffer
	lines := csv.NewWriter(&b)
	lines.UseCRLF = true
	if err := lines.WriteAll(append([][]string{head}, rows...)); err != nil {
		return err
	}
	attach(w, name, "csv")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(b.Bytes()) // the client that went away is noticed by the server
	return nil
}

// A table is a list that comes in pages, and whole.
type table[T any] struct {
	name string // of the file
	head []string
	// page reads rows from behind a cursor on, "" is the beginning; at most
	// limit of them.
	page   func(after string, limit int) ([]T, error)
	cursor func(T) string // behind the row
	cells  func(T) []string
}

// stream answers with all of it, a page after the other, so that neither the
// size of the list nor the pace of the client costs memory or a connection of
// the archive.
func (l table[T]) stream(w http.ResponseWriter, r *http.Request, format string) error {
	rows, err := l.page("", exportPage)
	if err != nil {
		return err
	}
	attach(w, l.name, format)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	out := steady{w}
	var b bytes.Buffer
	lines := csv.NewWriter(&b)
	lines.UseCRLF = true
	if format == "csv" {
		if err := lines.Write(l.head); err != nil {
			return err
		}
	}
	for {
		for _, row := range rows {
			if format == "csv" {
				err = lines.Write(l.cells(row))
			} else {
				var line []byte
				line, err = marshal(row)
				b.Write(append(line, '\n'))
			}
			if err != nil {
				return err
			}
		}
		lines.Flush()
		if _, err := out.Write(b.Bytes()); err != nil {
			return fault.Wrap(fault.Canceled, err, "the client went away")
		}
		b.Reset()
		if len(rows) < exportPage {
			return nil
		}
		if rows, err = l.page(l.cursor(rows[len(rows)-1]), exportPage); err != nil {
			return err // half a list was sent: the connection is broken off
		}
	}
}

// unpaged reports an answer in a format that has no pages: the whole list. What
// belongs to pages is refused by name then.
func unpaged(c *call, format string) (bool, error) {
	if format == "json" {
		return false, nil
	}
	var problems []fault.Field
	for _, name := range []string{"after", "limit"} {
		if _, given := c.query.members[name]; given {
			problems = append(problems, fault.Field{Pointer: name, Detail: "goes with format json; " + format + " is the whole list"})
		}
	}
	return true, invalid(problems...)
}
