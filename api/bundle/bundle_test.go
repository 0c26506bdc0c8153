package bundle

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

var then = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func put(t testing.TB, w *Writer, name string, data []byte) {
	t.Helper()
	out, err := w.Stored(name, int64(len(data)), crc32.ChecksumIEEE(data), then)
	if err == nil {
		_, err = out.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func text(w *Writer, name, content string) error {
	return w.Packed(name, then, func(to io.Writer) error {
		_, err := io.WriteString(to, content)
		return err
	})
}

// The standard library, Info-ZIP and Python read what is written.
func TestForeignReaders(t *testing.T) {
	var b bytes.Buffer
	w := New(&b)
	long := strings.Repeat(`{"line":1}`+"\n", 50_000)
	put(t, w, "0000001-home.png", []byte("the first"))
	put(t, w, "0000002-日本語.png", bytes.Repeat([]byte("x"), 100_000))
	put(t, w, "empty", nil)
	if err := errors.Join(text(w, "results.jsonl", long), text(w, "none.txt", "")); err != nil {
		t.Fatal(err)
	}
	put(t, w, "last.png", []byte("the last"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"0000001-home.png": "the first", "0000002-日本語.png": strings.Repeat("x", 100_000), "empty": "",
		"results.jsonl": long, "none.txt": "", "last.png": "the last",
	}
	if len(r.File) != len(want) {
		t.Fatalf("%d entries", len(r.File))
	}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil || string(data) != want[f.Name] || f.NonUTF8 || !f.Modified.Equal(then) || f.Mode() != 0o644 {
			t.Errorf("%s: %d bytes, %v, %s, %s", f.Name, len(data), err, f.Modified, f.Mode())
		}
	}
	path := filepath.Join(t.TempDir(), "a.zip")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for tool, args := range map[string][]string{
		"unzip": {"-tq", path}, "python3": {"-c", "import sys,zipfile;z=zipfile.ZipFile(sys.argv[1]);assert z.testzip() is None;assert len(z.namelist())==6", path},
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("no %s here", tool)
			continue
		}
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", tool, err, out)
		}
	}
}

// What is not as was said is an error, and no ZIP.
func TestNotAsWasSaid(t *testing.T) {
	for name, fill := range map[string]func(w *Writer) error{
		"shorter": func(w *Writer) error {
			_, err := w.Stored("a", 5, 0, then)
			return err
		},
		"longer": func(w *Writer) error {
			out, err := w.Stored("a", 1, crc32.ChecksumIEEE([]byte("x")), then)
			_, long := out.Write([]byte("xx"))
			return errors.Join(err, long)
		},
		"other checksum": func(w *Writer) error {
			out, err := w.Stored("a", 1, 7, then)
			_, err2 := out.Write([]byte("x"))
			return errors.Join(err, err2)
		},
		"no name":   func(w *Writer) error { return text(w, "", "x") },
		"not UTF-8": func(w *Writer) error { return text(w, "\xff", "x") },
		"too long":  func(w *Writer) error { return text(w, strings.Repeat("x", 1<<16), "x") },
		"fails":     func(w *Writer) error { return w.Packed("a", then, func(io.Writer) error { return io.ErrNoProgress }) },
	} {
		w := New(io.Discard)
		if err := fill(w); err == nil {
			if err = w.Close(); err == nil {
				t.Errorf("%s: it is taken", name)
			}
		}
		w.Discard()
	}
}

// More entries than 16 bits count, behind more bytes than 32 bits do, and
// without memory for them.
func TestZIP64(t *testing.T) {
	const base, entries = 5 << 30, 100_000
	far, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	w := New(far)
	w.out.n = base // as if so much had been written
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range entries {
		put(t, w, fmt.Sprintf("%07d-%060d.png", i, i), []byte("x"))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 3*spoolAt {
		t.Errorf("%d entries hold %d bytes", entries, grown)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := far.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(behind{far, base}, base+info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != entries {
		t.Fatalf("%d entries", len(r.File))
	}
	for _, i := range []int{0, 1, 65_535, 65_536, entries - 1} {
		in, err := r.File[i].Open()
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(in); err != nil || string(data) != "x" || !strings.HasPrefix(r.File[i].Name, fmt.Sprintf("%07d-", i)) {
			t.Errorf("entry %d: %q %v", i, data, err)
		}
	}
}

// behind is a file that stands behind so many zeros.
type behind struct {
	io.ReaderAt
	base int64
}

func (b behind) ReadAt(p []byte, at int64) (int, error) {
	if at < b.base {
		return 0, fmt.Errorf("nothing is at %d", at)
	}
	return b.ReaderAt.ReadAt(p, at-b.base)
}

// An entry that is itself too long for 32 bits.
func TestLongEntry(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 4 GB to nowhere: left out with -short")
	}
	const size = 1<<32 + 5
	zeros, sum := make([]byte, 1<<20), crc32.NewIEEE()
	each := func(do func(p []byte)) {
		for left := int64(size); left > 0; left -= int64(len(zeros)) {
			do(zeros[:min(left, int64(len(zeros)))])
		}
	}
	each(func(p []byte) { sum.Write(p) })
	var ends ends
	w := New(&ends)
	out, err := w.Stored("long", size, sum.Sum32(), then)
	if err != nil {
		t.Fatal(err)
	}
	each(func(p []byte) {
		if _, err := out.Write(p); err != nil {
			t.Fatal(err)
		}
	})
	put(t, w, "behind it", []byte("x"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(&ends, ends.n)
	if err != nil {
		t.Fatal(err)
	}
	if f := r.File[0]; f.UncompressedSize64 != size || f.CRC32 != sum.Sum32() {
		t.Errorf("%+v", f.FileHeader)
	}
	in, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, in); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if in, err = r.File[1].Open(); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(in); err != nil || string(data) != "x" {
		t.Errorf("%q %v", data, err)
	}
}

// ends keeps the first and the last bytes of what is written; between them
// are zeros.
type ends struct {
	n          int64
	first, end []byte
	from       int64 // of end
}

func (e *ends) Write(p []byte) (int, error) {
	const keep = 4096
	if len(e.first) < keep {
		e.first = append(e.first, p[:min(len(p), keep-len(e.first))]...)
	}
	e.n += int64(len(p))
	if e.end = append(e.end, p...); len(e.end) > keep {
		e.end = bytes.Clone(e.end[len(e.end)-keep:])
	}
	e.from = e.n - int64(len(e.end))
	return len(p), nil
}

func (e *ends) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	if at < int64(len(e.first)) {
		copy(p, e.first[at:])
	}
	if last := at + int64(len(p)); last > e.from {
		copy(p[max(0, e.from-at):], e.end[max(0, at-e.from):])
	}
	if at+int64(len(p)) > e.n {
		return int(e.n - at), io.EOF
	}
	return len(p), nil
}
