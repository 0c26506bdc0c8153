package command

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tintype/tintype/pkg/option"
)

// peek is how much of an input is looked at to see how it is written.
const peek = 4 << 10

// An input is a file of lines as it was when its digest was made.
type input struct {
	name   string // as it was given
	file   *os.File
	size   int64
	sum    [sha256.Size]byte
	format string // jsonl, csv or text
	zipped bool
}

// openInput opens the file that path names; - is standard input. What cannot
// be read twice is kept in a temporary file that has no name any more.
func openInput(in io.Reader, path, format string) (*input, error) {
	f, err := source(in, path)
	if err != nil {
		return nil, err
	}
	i := &input{name: path, file: f}
	if err := i.read(format); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return i, nil
}

func source(in io.Reader, path string) (*os.File, error) {
	if path == "-" {
		return spool(in)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &Usage{err.Error()}
	}
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case st.IsDir():
		return nil, errors.Join(&Usage{path + " is a folder; give a file of lines"}, f.Close())
	case st.Mode().IsRegular():
		return f, nil
	}
	defer f.Close()
	return spool(f)
}

// spool copies what can be read once.
func spool(from io.Reader) (*os.File, error) {
	tmp, err := os.CreateTemp("", "tintype-*")
	if err != nil {
		return nil, fmt.Errorf("keep the input: %w", err)
	}
	err = os.Remove(tmp.Name()) // it goes with this process, however that ends
	if err == nil {
		_, err = io.Copy(tmp, from)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("keep the input: %w", err), tmp.Close())
	}
	return tmp, nil
}

// read makes the digest and finds out how the input is written.
func (i *input) read(format string) error {
	head := make([]byte, peek)
	n, err := i.file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s: %w", i.name, err)
	}
	head = head[:n]
	if n == 0 {
		return &Usage{i.name + " is empty"}
	}
	i.zipped = bytes.HasPrefix(head, []byte{0x1f, 0x8b})
	if i.format, err = lineFormat(format, i.name, head, i.zipped); err != nil {
		return err
	}
	h := sha256.New()
	if i.size, err = io.Copy(h, io.NewSectionReader(i.file, 0, 1<<62)); err != nil {
		return fmt.Errorf("read %s: %w", i.name, err)
	}
	h.Sum(i.sum[:0])
	return nil
}

// lineFormat is how lines are written: as it was said, by the file's name, or
// by how it begins.
func lineFormat(format, name string, head []byte, zipped bool) (string, error) {
	switch strings.ToLower(format) {
	case "":
	case "jsonl", "csv", "text":
		return strings.ToLower(format), nil
	case "ndjson":
		return "jsonl", nil
	case "txt":
		return "text", nil
	case "png", "jpeg", "jpg", "webp", "pdf":
		return "", &Usage{fmt.Sprintf("--format says how the file is written: jsonl, csv or text; what is rendered is an option of the lines: --option format=%s", format)}
	default:
		return "", &Usage{fmt.Sprintf("--format %s: want jsonl, csv or text", format)}
	}
	switch ext := strings.ToLower(filepath.Ext(strings.TrimSuffix(strings.ToLower(name), ".gz"))); ext {
	case ".jsonl", ".ndjson":
		return "jsonl", nil
	case ".csv":
		return "csv", nil
	}
	if zipped {
		head = unzipped(head)
	}
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\ufeff")), " \t\r\n")
	first, _, _ := bytes.Cut(head, []byte("\n"))
	line := strings.ToLower(strings.TrimSpace(string(first)))
	names := strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(",;\t\" ", c) })
	switch {
	case strings.HasPrefix(line, "{"):
		return "jsonl", nil
	case strings.HasPrefix(line, "http://"), strings.HasPrefix(line, "https://"):
		return "text", nil
	case slices.Contains(names, "url"), slices.Contains(names, "html"):
		return "csv", nil
	}
	return "", &Usage{name + " is neither JSON objects, CSV with a column url or html, nor URLs, as far as its first line tells; say which with --format jsonl, csv or text"}
}

// unzipped is the beginning of what begins with head; as much as there is.
func unzipped(head []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(head))
	if err != nil {
		return nil
	}
	out := make([]byte, peek)
	n, _ := io.ReadFull(z, out) // it is cut off, so it ends in an error
	return out[:n]
}

// contentType is how the API calls the format.
func (i *input) contentType() string {
	switch i.format {
	case "csv":
		return "text/csv"
	case "text":
		return "text/plain"
	}
	return "application/x-ndjson"
}

// body reads the input from its start. It ends in an error, so that the upload
// is no request, if the file is not what it was.
func (i *input) body(read func(int64)) io.Reader {
	return &unchanged{in: bufio.NewReaderSize(io.NewSectionReader(i.file, 0, i.size), 256<<10), of: i, hash: sha256.New(), read: read}
}

type unchanged struct {
	in   io.Reader
	of   *input
	hash hash.Hash
	n    int64
	read func(int64)
}

func (u *unchanged) Read(p []byte) (int, error) {
	n, err := u.in.Read(p)
	u.hash.Write(p[:n])
	u.n += int64(n)
	if u.read != nil {
		u.read(u.n)
	}
	if errors.Is(err, io.EOF) && !bytes.Equal(u.hash.Sum(nil), u.of.sum[:]) {
		return n, &Usage{u.of.name + " changed while it was read; nothing was uploaded"}
	}
	return n, err
}

func (i *input) close() error { return i.file.Close() }

// digest is the same for the same lines with the same fields.
func (i *input) digest(defaults json.RawMessage, onError string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%x\n%s\n%s\n%s\n", i.sum, i.format, onError, defaults)
	return hex.EncodeToString(h.Sum(nil))
}

// lineDefaults are the fields for all lines: a JSON object or @FILE, and
// options over them.
func lineDefaults(given string, options []string) (json.RawMessage, error) {
	text := []byte(given)
	if name, ok := strings.CutPrefix(given, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, &Usage{"--defaults: " + err.Error()}
		}
		text = b
	}
	fields := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, &fields); err != nil || fields == nil {
			return nil, &Usage{`--defaults: want a JSON object such as {"format": "pdf"}, or @FILE with one`}
		}
		var flat bytes.Buffer
		if err := json.Compact(&flat, text); err != nil {
			return nil, &Usage{"--defaults: " + err.Error()}
		}
		text = flat.Bytes()
	}
	if len(options) == 0 {
		return text, nil // as it was given: what stands in it twice is the server's to refuse
	}
	over := map[string]bool{}
	for _, o := range options {
		name, value, ok := strings.Cut(o, "=")
		known := option.Find(name)
		list := known != nil && (known.Kind == option.List || known.Kind == option.Object)
		if !ok || name == "" || over[name] && !list {
			return nil, &Usage{fmt.Sprintf("--option %s: want a NAME=VALUE that is not there yet", o)}
		}
		var before json.RawMessage // of a list, which repeats its option
		if over[name] {
			before = fields[name]
		}
		over[name] = true
		var err error
		if fields[name], err = fieldOf(known, before, value); err != nil {
			return nil, &Usage{"--option " + name + ": " + err.Error()}
		}
	}
	return json.Marshal(fields)
}

// fieldOf is a value as an option's kind has it: a text is one even where it
// reads as a number. What nobody knows goes as it looks, for the server to judge.
func fieldOf(o *option.Option, before json.RawMessage, value string) (json.RawMessage, error) {
	if o == nil {
		return scalar(value), nil
	}
	switch o.Kind {
	case option.Text:
		return json.Marshal(value)
	case option.List:
		var list []string
		if before != nil {
			if err := json.Unmarshal(before, &list); err != nil {
				return nil, err
			}
		}
		return json.Marshal(append(list, value))
	case option.Object:
		pairs := make(map[string]string)
		if before != nil {
			if err := json.Unmarshal(before, &pairs); err != nil {
				return nil, err
			}
		}
		name, text, ok := strings.Cut(value, ":")
		if !ok {
			return nil, errors.New("want Name: value")
		}
		pairs[strings.TrimSpace(name)] = strings.TrimSpace(text)
		return json.Marshal(pairs)
	}
	return scalar(value), nil
}

// scalar is a number, true, false or null as JSON reads it, else text.
func scalar(value string) json.RawMessage {
	var v any
	if err := json.Unmarshal([]byte(value), &v); err == nil {
		if _, text := v.(string); !text {
			return json.RawMessage(value)
		}
	}
	b, err := json.Marshal(value)
	if err != nil {
		panic(err) // text is always JSON
	}
	return b
}
