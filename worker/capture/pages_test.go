package capture

import (
	"bytes"
	"fmt"
	"testing"
)

// document writes a small PDF in Chromium's form, with junk in a stream that
// looks like a page tree.
func document(count string) []byte {
	var b bytes.Buffer
	var at []int
	object := func(text string) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(at), text)
	}
	b.WriteString("%PDF-1.4\n")
	object("<</Producer (x)>>")
	object("<</Length 40>>\nstream\n/Type /Pages /Count 999 trailer startxref 1\nendstream")
	object("<</Type /Pages\n/Count " + count + "\n/Kids [5 0 R]>>")
	object("<</Type /Catalog\n/Pages 3 0 R>>")
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, n := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&b, "trailer\n<</Size 5\n/Root 4 0 R\n/Info 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", start)
	return b.Bytes()
}

func TestCountPages(t *testing.T) {
	for count, want := range map[string]int{"1": 1, "12": 12} {
		if n, err := countPages(document(count)); n != want || err != nil {
			t.Errorf("%s: %d, %v", count, n, err)
		}
	}
}

func FuzzCountPages(f *testing.F) {
	f.Add(document("3"))
	f.Add([]byte("startxref\n0\n"))
	f.Fuzz(func(t *testing.T, pdf []byte) {
		if n, err := countPages(pdf); err == nil && n < 0 {
			t.Errorf("%d pages", n)
		}
	})
}
