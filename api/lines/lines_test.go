package lines

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/batch"
)

// read gives every line as "number: what it says", or "number:column code".
func read(t testing.TB, format batch.Format, input io.Reader) (got []string, err error) {
	t.Helper()
	plain, err := Unpack(input)
	if err != nil {
		return nil, err
	}
	r := New(plain, format)
	header, err := r.Header()
	if err != nil {
		return nil, err
	}
	if header != nil {
		got = append(got, "1: "+cells(header))
	}
	for {
		l, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		switch {
		case l.Wrong != nil:
			got = append(got, fmt.Sprintf("%d:%d %s", l.Wrong.Line, l.Wrong.Column, l.Wrong.Code))
		case format == batch.CSV:
			got = append(got, fmt.Sprintf("%d: %s", l.Number, cells(l.Cells)))
		default:
			got = append(got, fmt.Sprintf("%d: %s", l.Number, l.Text))
		}
	}
}

func cells(list []Cell) string {
	texts := make([]string, len(list))
	for i, c := range list {
		texts[i] = fmt.Sprintf("%d=%s", c.Column, c.Text)
	}
	return strings.Join(texts, " ")
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", batch.MaxLine)
	for name, c := range map[string]struct {
		format batch.Format
		input  string
		want   []string
	}{
		"nothing":                {batch.Text, "", nil},
		"blank ones count":       {batch.Text, "\n \t\r\na\n\n\nb", []string{"3: a", "6: b"}},
		"Windows":                {batch.JSONL, "\ufeff{}\r\n[]\r\n", []string{"1: {}", "2: []"}},
		"a mark alone":           {batch.JSONL, "\ufeff", nil},
		"not UTF-8":              {batch.JSONL, "{}\n\"\xff\"\n{}", []string{"1: {}", "2:2 malformed_json", "3: {}"}},
		"NUL":                    {batch.Text, "ab\x00\nc", []string{"1:3 invalid_url", "2: c"}},
		"as long as may be":      {batch.Text, long + "\n" + long + "\r\n" + long, []string{"1: " + long, "2: " + long, "3: " + long}},
		"too long":               {batch.Text, "a\n" + long + "x\nb\n" + long + long + long + "\nc\n" + long + "x", []string{"1: a", "2:0 too_large", "3: b", "4:0 too_large", "5: c", "6:0 too_large"}},
		"CSV":                    {batch.CSV, "a,b\n1,\"x\"\"\ny\"\n\n2,z", []string{"1: 1=a 3=b", "2: 1=1 3=x\"\ny", "5: 1=2 3=z"}},
		"semicolons":             {batch.CSV, "a;b\r\n1,2;3\r\n", []string{"1: 1=a 3=b", "2: 1=1,2 5=3"}},
		"tabs":                   {batch.CSV, "a\tb\n1,2\t3", []string{"1: 1=a 3=b", "2: 1=1,2 5=3"}},
		"one column":             {batch.CSV, "url\nx\n", []string{"1: 1=url", "2: 1=x"}},
		"too many cells":         {batch.CSV, "a,b\n1,2,3\n4,5", []string{"1: 1=a 3=b", "2:0 malformed_csv", "3: 1=4 3=5"}},
		"too few cells":          {batch.CSV, "a,b\n1\n4,5", []string{"1: 1=a 3=b", "2:0 malformed_csv", "3: 1=4 3=5"}},
		"a bare quote":           {batch.CSV, "a,b\n1\",2\n4,5\n", []string{"1: 1=a 3=b", "2:2 malformed_csv", "3: 1=4 3=5"}},
		"a bare quote, and more": {batch.CSV, "a,b\nx\"y,2\n4,\"5\"\n6,7\n", []string{"1: 1=a 3=b", "2:2 malformed_csv", "3: 1=4 3=5", "4: 1=6 3=7"}},
		"behind a quote":         {batch.CSV, "a,b\n\"1\"x,2\n4,5\n", []string{"1: 1=a 3=b", "2:3 malformed_csv", "3: 1=4 3=5"}},
		"a quote never closed":   {batch.CSV, "a,b\n\"1,2\n4,5\n6,7", []string{"1: 1=a 3=b", "2:0 malformed_csv", "3: 1=4 3=5", "4: 1=6 3=7"}},
		"a quote closed too far": {batch.CSV, "a,b\n\"1,2\n4," + long + "\n6,7\n8,\"", []string{"1: 1=a 3=b", "2:0 too_large", "3:0 too_large", "4: 1=6 3=7", "5:0 malformed_csv"}},
		"not UTF-8 in CSV":       {batch.CSV, "a,b\n1,\"\n\xff\"\n4,5", []string{"1: 1=a 3=b", "3:1 malformed_csv", "4: 1=4 3=5"}},
	} {
		for how, input := range map[string]io.Reader{
			"whole": strings.NewReader(c.input), "by bytes": iotest.OneByteReader(strings.NewReader(c.input)),
			"with EOF": iotest.DataErrReader(strings.NewReader(c.input)), "packed": bytes.NewReader(pack(t, []byte(c.input))),
		} {
			got, err := read(t, c.format, input)
			for i := range got { // the column of a quote that is not closed is where the parser gave up
				if c.format == batch.CSV && strings.HasSuffix(got[i], " malformed_csv") && i < len(c.want) && strings.HasSuffix(c.want[i], ":0 malformed_csv") {
					number, _, _ := strings.Cut(got[i], ":")
					got[i] = number + ":0 malformed_csv"
				}
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
			} else if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%.400s", name, how, diff)
			}
		}
	}
}

func pack(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRefused(t *testing.T) {
	whole := pack(t, []byte(strings.Repeat("https://example.com/\n", 1000)))
	broken := bytes.Clone(whole)
	broken[len(broken)-6] ^= 1
	for name, c := range map[string]struct {
		format batch.Format
		input  string
		code   string
	}{
		"UTF-16":           {batch.Text, "\xff\xfeh\x00", CodeInvalid},
		"UTF-16 the other": {batch.CSV, "\xfe\xff\x00h", CodeInvalid},
		"no header":        {batch.CSV, "\n\n", CodeCSV},
		"a broken header":  {batch.CSV, "a,\"b\nc,d", CodeCSV},
		"cut off":          {batch.Text, string(whole[:len(whole)/2]), CodeInvalid},
		"no gzip":          {batch.Text, "\x1f\x8bhello", CodeInvalid},
		"a wrong digest":   {batch.Text, string(broken), CodeInvalid},
		"a bomb":           {batch.Text, string(pack(t, make([]byte, 4<<20))), CodeTooLarge},
		"packed twice":     {batch.JSONL, string(pack(t, whole)), ""},
	} {
		_, err := read(t, c.format, strings.NewReader(c.input))
		refused, ok := errors.AsType[*Refused](err)
		if c.code == "" && err != nil || c.code != "" && (!ok || refused.Wrong.Code != c.code || refused.Wrong.Detail == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost := errors.New("connection reset")
	for _, input := range []string{"https://example.com/\n", string(whole[:40])} {
		_, err := read(t, batch.Text, io.MultiReader(strings.NewReader(input), iotest.ErrReader(lost)))
		if !errors.Is(err, lost) {
			t.Errorf("%.10q: a lost connection became %v", input, err)
		}
	}
}

func TestTooManyLines(t *testing.T) {
	input := strings.Repeat("a\n\n", 11)
	r := New(strings.NewReader(input), batch.Text)
	r.most = 10
	for range 10 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Next()
	if refused, ok := errors.AsType[*Refused](err); !ok || refused.Wrong.Code != CodeTooLarge || refused.Wrong.Line != 21 {
		t.Errorf("%+v", err)
	}
}

func TestTooManyBlankLines(t *testing.T) {
	for lines, ok := range map[int]bool{9: true, 10: true, 11: false} {
		r := New(strings.NewReader(strings.Repeat("\n", lines-1)+"a\n"), batch.Text)
		r.last = 10
		l, err := r.Next()
		if ok && (err != nil || l.Number != lines) {
			t.Errorf("%d lines: %+v, %v", lines, l, err)
		}
		if refused, is := errors.AsType[*Refused](err); !ok && (!is || refused.Wrong.Code != CodeTooLarge) {
			t.Errorf("%d lines: %+v, %v", lines, l, err)
		}
	}
}

// repeated says the same over and over.
type repeated struct {
	text []byte
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// A line of a gigabyte, a quote that is never closed and a bomb cost no more
// memory than a line may have.
func TestMemoryIsFlat(t *testing.T) {
	const size = 6 << 20
	for name, c := range map[string]struct {
		format batch.Format
		text   string
		size   int64
	}{
		"a line without an end":   {batch.JSONL, strings.Repeat("x", 1000), size},
		"a quote without an end":  {batch.CSV, "a,b\n\"" + strings.Repeat("c,d\n", 1<<18), size},
		"nothing but quotes":      {batch.CSV, strings.Repeat("\"", 1000), size},
		"every line a bare quote": {batch.CSV, strings.Repeat("a\"b\n", 100), size / 8},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := New(io.LimitReader(io.MultiReader(strings.NewReader("url\n"), &repeated{text: []byte(c.text)}), c.size), c.format)
		var most uint64
		if _, err := r.Header(); err != nil {
			t.Fatal(name, err)
		}
		n := 0
		for {
			_, err := r.Next()
			if err != nil {
				if refused, ok := errors.AsType[*Refused](err); err != io.EOF && (!ok || refused.Wrong.Code != CodeTooLarge) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
			if n++; n%50_000 == 1 {
				runtime.GC()
				runtime.ReadMemStats(&after)
				if after.HeapAlloc > before.HeapAlloc {
					most = max(most, after.HeapAlloc-before.HeapAlloc)
				}
			}
		}
		if most > 4<<20 {
			t.Errorf("%s: %d bytes in memory after %d lines", name, most, n)
		}
	}
}

// Whatever is read, lines come in order, no longer than they may be, and end.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"a,b\n\"1\",2\n", "\"\n\"\"\n", "{\"a\":1}\r\n", "\ufeffx", "\xff\n\x00", "a;b\n\";\n\n", "\x1f\x8b\x08"} {
		for format := range 3 {
			f.Add(uint8(format), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, input []byte) {
		format := []batch.Format{batch.JSONL, batch.CSV, batch.Text}[kind%3]
		plain, err := Unpack(bytes.NewReader(input))
		if err != nil {
			return
		}
		r := New(plain, format)
		header, err := r.Header()
		if err != nil {
			return
		}
		last := 0
		for {
			l, err := r.Next()
			if err != nil {
				if _, ok := errors.AsType[*Refused](err); err != io.EOF && !ok {
					t.Fatal(err)
				}
				return
			}
			if l.Number <= last || l.Size() > batch.MaxLine {
				t.Fatalf("line %d after %d, %d bytes", l.Number, last, l.Size())
			}
			if last = l.Number; l.Wrong == nil && format == batch.CSV && len(l.Cells) != len(header) {
				t.Fatalf("line %d has %d cells", l.Number, len(l.Cells))
			}
		}
	})
}
