package command

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInputs(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, `{"url": "http://x/"}`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ file, format, content, want string }{
		"by name":          {"a.NDJSON", "", "x", "jsonl"},
		"csv by name":      {"a.csv", "", "x", "csv"},
		"packed, by name":  {"a.csv.gz", "", packed.String(), "csv"},
		"packed, by look":  {"a.gz", "", packed.String(), "jsonl"},
		"objects":          {"a", "", "\ufeff\r\n {\"url\": 1}", "jsonl"},
		"addresses":        {"a.txt", "", "\nHTTPS://x/?a,b\n", "text"},
		"columns":          {"a", "", "custom_id,\"url\",width\r\n", "csv"},
		"semicolons":       {"a", "", "custom_id;url;width\n", "csv"},
		"tabs":             {"a.txt", "", "custom_id\turl\n", "csv"},
		"as it is said":    {"a.csv", "Text", "x", "text"},
		"as it is called":  {"a", "ndjson", "x", "jsonl"},
		"one column alone": {"list.dat", "", "url\nhttp://x/", "csv"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), test.file)
			if err := os.WriteFile(path, []byte(test.content), 0o644); err != nil {
				t.Fatal(err)
			}
			in, err := openInput(nil, path, test.format)
			if err != nil {
				t.Fatal(err)
			}
			defer in.close()
			if in.format != test.want || in.zipped != strings.HasSuffix(test.file, ".gz") {
				t.Errorf("%s, packed %t; want %s", in.format, in.zipped, test.want)
			}
			if b, err := io.ReadAll(in.body(nil)); err != nil || string(b) != test.content {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

// A file that changes under the upload is not uploaded, and not half of each.
func TestInputChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte("http://a/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	in, err := openInput(nil, path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	if err := os.WriteFile(path, []byte("http://b/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(in.body(nil)); ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "changed") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte("http://a/\nhttp://c/\n"), 0o644); err != nil { // grows behind what was there
		t.Fatal(err)
	}
	if b, err := io.ReadAll(in.body(nil)); err != nil || string(b) != "http://a/\n" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestScalars(t *testing.T) {
	for value, want := range map[string]string{
		"800": "800", "true": "true", "1.5": "1.5", "pdf": `"pdf"`, `"7"`: `"\"7\""`, "": `""`, `{"a": 1}`: `{"a": 1}`, "007": `"007"`, "a b": `"a b"`,
	} {
		if got := string(scalar(value)); got != want {
			t.Errorf("%s is %s, want %s", value, got, want)
		}
	}
}
