package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Sheet is the paper of a PDF and what is left white at its sides, in inches.
type Sheet struct {
	Width, Height            float64
	Top, Right, Bottom, Left float64
}

// papers are the sizes of pdf_page_size in inches, upright (ISO 216 and
// ANSI/ASME Y14.1; a ledger is a tabloid on its side).
const defaultPaper = "A4"

var papers = map[string][2]float64{
	"A0": {33.11, 46.81}, "A1": {23.39, 33.11}, "A2": {16.54, 23.39}, "A3": {11.69, 16.54},
	"A4": {8.27, 11.69}, "A5": {5.83, 8.27}, "A6": {4.13, 5.83},
	"Letter": {8.5, 11}, "Legal": {8.5, 14}, "Tabloid": {11, 17}, "Ledger": {17, 11},
}

// Bounds of a sheet in inches. 200 are 14,400 points, the longest side that
// PDF readers need to know (ISO 32000-1, annex C).
const (
	minPaper = 0.4
	maxPaper = 200
	minPrint = 0.2 // between two margins
)

// margins by name, in inches; "default" is the browser's own centimetre.
var margins = map[string]float64{"": 1 / 2.54, "default": 1 / 2.54, "none": 0, "minimum": 0.25}

// inches of the units of lengths; a bare number is in CSS pixels.
var inches = map[string]float64{"": 1. / 96, "px": 1. / 96, "pt": 1. / 72, "pc": 1. / 6, "in": 1, "cm": 1 / 2.54, "mm": 1 / 25.4}

// length reads a length such as 21cm, in inches.
func length(text string) (float64, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	unit, known := inches[text[len(number):]]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known || n < 0 {
		return 0, fmt.Errorf("is not a length: a number with mm, cm, in, pt, pc or px, such as 21cm; alone it is px")
	}
	return n * unit, nil
}

// Sheet is the paper that the spec asks for. What Normalize would refuse is
// left at its default.
func (s *Spec) Sheet() Sheet {
	sheet, _ := s.sheet()
	return sheet
}

func (s *Spec) sheet() (sheet Sheet, errs []*FieldError) {
	read := func(field, text string, least, most float64) (float64, bool) {
		if text == "" {
			return 0, false
		}
		n, err := length(text)
		if err == nil && (n < least || n > most) {
			err = fmt.Errorf("must be %s to %s, not %s", inInches(least), inInches(most), text)
		}
		if err != nil {
			errs = append(errs, &FieldError{Field: field, Detail: err.Error()})
		}
		return n, err == nil
	}
	paper, known := papers[s.PDFPageSize]
	if !known {
		paper = papers[defaultPaper]
	}
	sheet.Width, sheet.Height = paper[0], paper[1]
	if s.PDFPageSize == "" {
		w, okW := read("pdf_page_width", s.PDFPageWidth, minPaper, maxPaper)
		h, okH := read("pdf_page_height", s.PDFPageHeight, minPaper, maxPaper)
		if okW && okH {
			sheet.Width, sheet.Height = w, h
		}
	}
	if s.PDFOrientation == "landscape" {
		sheet.Width, sheet.Height = sheet.Height, sheet.Width
	}
	all := margins[s.PDFMargin]
	sheet.Top, sheet.Right, sheet.Bottom, sheet.Left = all, all, all, all
	for _, side := range []struct {
		field, text string
		margin      *float64
	}{
		{"pdf_margin_top", s.PDFMarginTop, &sheet.Top},
		{"pdf_margin_right", s.PDFMarginRight, &sheet.Right},
		{"pdf_margin_bottom", s.PDFMarginBottom, &sheet.Bottom},
		{"pdf_margin_left", s.PDFMarginLeft, &sheet.Left},
	} {
		if n, ok := read(side.field, side.text, 0, maxPaper); ok {
			*side.margin = n
		}
	}
	return sheet, errs
}

func inInches(n float64) string {
	return strconv.FormatFloat(n, 'f', -1, 64) + " in"
}

// fits is what is wrong with a sheet that leaves nothing to print on.
func (s *Sheet) fits() *FieldError {
	for _, axis := range []struct {
		field             string
		side, first, last float64
		sides             string
	}{
		{"pdf_margin_left", s.Width, s.Left, s.Right, "left and right"},
		{"pdf_margin_top", s.Height, s.Top, s.Bottom, "top and bottom"},
	} {
		if left := axis.side - axis.first - axis.last; left < minPrint {
			return &FieldError{Field: axis.field, Detail: fmt.Sprintf(
				"the margins %s (%.2f and %.2f in) leave less than %s of the paper's %.2f in: lower them, or take a larger paper",
				axis.sides, axis.first, axis.last, inInches(minPrint), axis.side)}
		}
	}
	return nil
}

// A PageRange is a run of pages, both ends included.
type PageRange struct{ First, Last int }

// lastPage stands for the open end of a range.
const lastPage = 1_000_000

// PageRanges reads pdf_page_range, such as "1-3,7,9-", as runs that are in
// order and apart from each other; none for an empty text.
func PageRanges(text string) ([]PageRange, error) {
	if text == "" {
		return nil, nil
	}
	var runs []PageRange
	for piece := range strings.SplitSeq(text, ",") {
		piece = strings.TrimSpace(piece)
		first, last, isRun := strings.Cut(piece, "-")
		run := PageRange{1, lastPage}
		var err error
		if first != "" {
			run.First, err = strconv.Atoi(first)
		}
		if last != "" && err == nil {
			run.Last, err = strconv.Atoi(last)
		}
		switch {
		case err != nil || piece == "" || piece == "-":
			return nil, fmt.Errorf("has the piece %q; each is a page or a run of pages, such as 1-3,7,9-", piece)
		case !isRun:
			run.Last = run.First
		}
		switch {
		case run.First < 1 || run.Last > lastPage:
			return nil, fmt.Errorf("has the piece %q; pages count from 1 to %d", piece, lastPage)
		case run.First > run.Last:
			return nil, fmt.Errorf("has the piece %q, which ends before it begins", piece)
		}
		runs = append(runs, run)
	}
	slices.SortFunc(runs, func(a, b PageRange) int { return a.First - b.First })
	apart := runs[:1]
	for _, run := range runs[1:] {
		if end := &apart[len(apart)-1]; run.First <= end.Last+1 {
			end.Last = max(end.Last, run.Last)
		} else {
			apart = append(apart, run)
		}
	}
	return apart, nil
}
