package job

import (
	"math"
	"strings"
	"testing"
)

func TestSheet(t *testing.T) {
	centimetre := 1 / 2.54
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   Sheet
	}{
		"default":   {func(*Spec) {}, Sheet{8.27, 11.69, centimetre, centimetre, centimetre, centimetre}},
		"landscape": {func(s *Spec) { s.PDFPageSize, s.PDFOrientation = "Letter", "landscape" }, Sheet{11, 8.5, centimetre, centimetre, centimetre, centimetre}},
		"none":      {func(s *Spec) { s.PDFMargin = "none" }, Sheet{Width: 8.27, Height: 11.69}},
		"one side":  {func(s *Spec) { s.PDFMargin, s.PDFMarginLeft = "minimum", "0" }, Sheet{8.27, 11.69, .25, .25, .25, 0}},
		"lengths":   {func(s *Spec) { s.PDFMargin, s.PDFPageWidth, s.PDFPageHeight = "none", "254mm", "960" }, Sheet{Width: 10, Height: 10}},
		"size first": {func(s *Spec) {
			s.PDFMargin, s.PDFPageSize, s.PDFPageWidth, s.PDFPageHeight = "none", "A6", "10in", "10in"
		}, Sheet{Width: 4.13, Height: 5.83}},
		"default size first": {func(s *Spec) {
			s.PDFMargin, s.PDFPageSize, s.PDFPageWidth, s.PDFPageHeight = "none", "a4", "10in", "10in"
		}, Sheet{Width: 8.27, Height: 11.69}},
		"small units": {func(s *Spec) { s.PDFMargin, s.PDFPageWidth, s.PDFPageHeight = "none", "720pt", "12pc" }, Sheet{Width: 10, Height: 2}},
	} {
		s := Defaults()
		s.URL, s.Format = "https://example.com/", PDF
		tc.change(&s)
		if errs := s.Normalize(60_000); errs != nil {
			t.Errorf("%s: %v", name, errs)
		}
		got := s.Sheet()
		for i, pair := range [][2]float64{{got.Width, tc.want.Width}, {got.Height, tc.want.Height}, {got.Top, tc.want.Top}, {got.Right, tc.want.Right}, {got.Bottom, tc.want.Bottom}, {got.Left, tc.want.Left}} {
			if math.Abs(pair[0]-pair[1]) > 1e-9 {
				t.Errorf("%s: number %d is %v, want %v", name, i, pair[0], pair[1])
			}
		}
	}
}

func TestDocumentRefusals(t *testing.T) {
	no := false
	for name, tc := range map[string]struct {
		change      func(*Spec)
		field, says string
	}{
		"paper":          {func(s *Spec) { s.PDFPageSize = "B5" }, "pdf_page_size", "one of A0, A1"},
		"unit":           {func(s *Spec) { s.PDFPageWidth, s.PDFPageHeight = "3em", "3in" }, "pdf_page_width", "a number with mm"},
		"number":         {func(s *Spec) { s.PDFMarginTop = "1.2.3in" }, "pdf_margin_top", "not a length"},
		"small paper":    {func(s *Spec) { s.PDFPageWidth, s.PDFPageHeight = "1cm", "9cm" }, "pdf_page_width", "0.4 in to 200 in"},
		"long paper":     {func(s *Spec) { s.PDFPageWidth, s.PDFPageHeight = "10cm", "201in" }, "pdf_page_height", "0.4 in to 200 in"},
		"wide margins":   {func(s *Spec) { s.PDFMarginLeft, s.PDFMarginRight = "4in", "4.2in" }, "pdf_margin_left", "leave less than 0.2 in"},
		"high margins":   {func(s *Spec) { s.PDFMarginTop = "12in" }, "pdf_margin_top", "leave less than"},
		"no range":       {func(s *Spec) { s.PDFPageRange = "1,,2" }, "pdf_page_range", "piece"},
		"dash":           {func(s *Spec) { s.PDFPageRange = "-" }, "pdf_page_range", "piece"},
		"page zero":      {func(s *Spec) { s.PDFPageRange = "0-3" }, "pdf_page_range", "count from 1"},
		"backwards":      {func(s *Spec) { s.PDFPageRange = "5-3" }, "pdf_page_range", "ends before it begins"},
		"huge page":      {func(s *Spec) { s.PDFPageRange = "99999999999999999999" }, "pdf_page_range", "piece"},
		"script":         {func(s *Spec) { s.PDFHeader = "<script>1</script>" }, "pdf_header", "<script>"},
		"footer too":     {func(s *Spec) { s.PDFFooter = "<iframe src=/>" }, "pdf_footer", "<iframe>"},
		"untagged":       {func(s *Spec) { s.PDFOutline, s.PDFTagged = true, &no }, "pdf_outline", "pdf_tagged"},
		"page of a page": {func(s *Spec) { s.FullPage, s.PDFPageRange = true, "2" }, "pdf_page_range", "full_page makes one"},
	} {
		s := Defaults()
		s.URL, s.Format = "https://example.com/", PDF
		tc.change(&s)
		errs := s.Normalize(60_000)
		if len(errs) != 1 || errs[0].Field != tc.field || !strings.Contains(errs[0].Detail, tc.says) {
			t.Errorf("%s: %v", name, errs)
		}
	}
}

func TestPaperNames(t *testing.T) {
	for given, want := range map[string]string{"a4": "", "A4": "", "legal": "Legal", "a0": "A0"} {
		s := Defaults()
		s.URL, s.Format, s.PDFPageSize = "https://example.com/", PDF, given
		if errs := s.Normalize(60_000); errs != nil || s.PDFPageSize != want {
			t.Errorf("%s became %q, %v", given, s.PDFPageSize, errs)
		}
	}
}

func TestPageRanges(t *testing.T) {
	for text, want := range map[string][]PageRange{
		"":              nil,
		"3":             {{3, 3}},
		" 7 , 1-3":      {{1, 3}, {7, 7}},
		"1-3,2-5,6":     {{1, 6}},
		"4-":            {{4, lastPage}},
		"-2,9-":         {{1, 2}, {9, lastPage}},
		"1-10,3,5-6,12": {{1, 10}, {12, 12}},
	} {
		got, err := PageRanges(text)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", text, got, err)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v", text, got)
			}
		}
	}
}

func FuzzPageRanges(f *testing.F) {
	for _, s := range []string{"1-3,7", "-", "9-", "1,,2", "99999999999999999999-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		runs, err := PageRanges(text)
		if err != nil {
			return
		}
		for i, r := range runs {
			if r.First < 1 || r.Last < r.First || i > 0 && r.First <= runs[i-1].Last+1 {
				t.Errorf("%q became %v", text, runs)
			}
		}
	})
}
