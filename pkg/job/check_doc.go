package job

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

var paperNames = slices.Sorted(maps.Keys(papers))

// checkDocument holds the options of a PDF against each other, and brings the
// name of its paper into its one form.
func (s *Spec) checkDocument() (errs []*FieldError) {
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	if s.PDFScale != 0 && !(s.PDFScale >= 0.1 && s.PDFScale <= 2) { // the negation also catches NaN
		bad("pdf_scale", "must be 0.1 to 2, not %v", s.PDFScale)
	}
	if s.Format != PDF {
		return errs
	}
	switch i := slices.IndexFunc(paperNames, func(name string) bool { return strings.EqualFold(name, s.PDFPageSize) }); {
	case i >= 0 && paperNames[i] == defaultPaper:
		s.PDFPageSize = ""
	case i >= 0:
		s.PDFPageSize = paperNames[i]
	case s.PDFPageSize != "":
		bad("pdf_page_size", "must be one of %s, not %q", strings.Join(paperNames, ", "), s.PDFPageSize)
	}
	sheet, wrong := s.sheet()
	errs = append(errs, wrong...)
	if e := sheet.fits(); e != nil && len(wrong) == 0 {
		errs = append(errs, e)
	}
	if _, err := PageRanges(s.PDFPageRange); err != nil {
		bad("pdf_page_range", "%s", err)
	}
	for _, t := range []struct{ field, markup string }{{"pdf_header", s.PDFHeader}, {"pdf_footer", s.PDFFooter}} {
		if _, err := PrintTemplate(t.markup); err != nil {
			bad(t.field, "%s", err)
		}
	}
	if s.PDFOutline && s.PDFTagged != nil && !*s.PDFTagged {
		bad("pdf_outline", "is made of the tags; leave pdf_tagged out, or make it true")
	}
	if s.FullPage && s.PDFPageRange != "" {
		bad("pdf_page_range", "chooses among pages, and full_page makes one; give one of the two")
	}
	return errs
}
