package capture

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

var (
	pdfRoot  = regexp.MustCompile(`/Root\s+(\d+)\s+\d+\s+R`)
	pdfPages = regexp.MustCompile(`/Pages\s+(\d+)\s+\d+\s+R`)
	pdfCount = regexp.MustCompile(`/Count\s+(\d+)`)
)

// countPages reads the number of pages of a PDF as Chromium writes it: with a
// plain cross-reference table and its page tree outside of compressed objects
// (ISO 32000-1, 7.5.4 and 7.7.3). It follows the references from the trailer,
// because text and pictures of the page may hold anything.
func countPages(pdf []byte) (int, error) {
	at := bytes.LastIndex(pdf, []byte("startxref"))
	if at < 0 {
		return 0, errors.New("pdf: no startxref")
	}
	start, err := leadingInt(pdf[at+len("startxref"):])
	if err != nil || start < 0 || start >= len(pdf) {
		return 0, errors.New("pdf: bad startxref")
	}
	table, trailer, ok := bytes.Cut(pdf[start:], []byte("trailer"))
	if !ok {
		return 0, errors.New("pdf: no trailer")
	}
	catalog, err := pdfObject(pdf, table, pdfRoot, trailer)
	if err != nil {
		return 0, err
	}
	tree, err := pdfObject(pdf, table, pdfPages, catalog)
	if err != nil {
		return 0, err
	}
	m := pdfCount.FindSubmatch(tree)
	if m == nil {
		return 0, errors.New("pdf: the page tree has no count")
	}
	return strconv.Atoi(string(m[1]))
}

// pdfObject follows the reference that ref finds in text, by way of the
// cross-reference table, to the object's own text.
func pdfObject(pdf, table []byte, ref *regexp.Regexp, text []byte) ([]byte, error) {
	m := ref.FindSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("pdf: no reference %s", ref)
	}
	number, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return nil, err
	}
	// "xref", then "0 N", then lines of 20 bytes, the object's number counting
	// from the first.
	lines := bytes.SplitN(table, []byte("\n"), 3)
	if len(lines) < 3 || !bytes.HasPrefix(bytes.TrimSpace(lines[1]), []byte("0 ")) {
		return nil, errors.New("pdf: a cross-reference table of an unknown form")
	}
	if entry := number * 20; entry+10 <= len(lines[2]) {
		at, err := strconv.Atoi(string(lines[2][entry : entry+10]))
		if err != nil || at >= len(pdf) {
			return nil, errors.New("pdf: bad cross-reference")
		}
		object, _, _ := bytes.Cut(pdf[at:], []byte("endobj"))
		if !bytes.HasPrefix(object, []byte(strconv.Itoa(number)+" ")) {
			return nil, errors.New("pdf: a cross-reference leads elsewhere")
		}
		return object, nil
	}
	return nil, errors.New("pdf: a reference out of range")
}

func leadingInt(b []byte) (int, error) {
	b = bytes.TrimSpace(b)
	end := bytes.IndexFunc(b, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(b)
	}
	return strconv.Atoi(string(b[:end]))
}
