package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/option"
)

// sample is a value of an option as the command line has it, and as a request
// has it.
func sample(o option.Option) (text string, value any) {
	switch o.Kind {
	case option.Flag:
		return "false", false
	case option.Whole:
		return "7", 7.0
	case option.Number:
		return "0.5", 0.5
	case option.List:
		return "a, b", []any{"a, b"}
	case option.Object:
		return "A: b:c", map[string]any{"A": "b:c"}
	}
	return "text, with a comma", "text, with a comma"
}

// Every option that is offered is a flag, under its heading, and reaches the
// server.
func TestEveryOptionIsAFlag(t *testing.T) {
	t.Setenv("TINTYPE_KEY", "k")
	help := make(map[string]string)
	for _, command := range []string{"shot", "pdf"} {
		var out strings.Builder
		if _, err := config.Parse([]string{command, "--help"}, &out); err == nil {
			t.Fatal("no help")
		}
		help[command] = out.String()
	}
	for _, o := range option.Table {
		command := "shot"
		if len(o.For) == 1 && o.For[0] == "pdf" {
			command = "pdf"
		}
		switch o.Name {
		case "url", "html", "markdown", "format":
			continue
		}
		text, want := sample(o)
		flag := "--" + strings.ReplaceAll(o.Name, "_", "-")
		if !strings.Contains(help[command], flag) || !strings.Contains(help[command], string(o.Group)) {
			t.Errorf("%s: the help of %s has not the flag, or not the heading %s", o.Name, command, o.Group)
		}
		for _, word := range o.Enum {
			if !strings.Contains(strings.Join(strings.Fields(help[command]), " "), word) {
				t.Errorf("%s: the help of %s does not say that it may be %s", o.Name, command, word)
			}
		}
		cfg, err := config.Parse([]string{command, "http://example.com/", flag + "=" + text}, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", o.Name, err)
			continue
		}
		page, options := cfg.Shot.Page, any(cfg.Shot.ShotOptions)
		if command == "pdf" {
			page, options = cfg.PDF.Page, any(cfg.PDF.PDFOptions)
		}
		req, err := request(Terminal{}, page, "png", options)
		if err != nil {
			t.Errorf("%s: %v", o.Name, err)
			continue
		}
		raw, err := json.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		body := make(map[string]any)
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(body[o.Name]) != fmt.Sprint(want) || len(body) != 3 {
			t.Errorf("%s %s was sent as %s", flag, text, raw)
		}
	}
}

// What is long or secret is also read from files.
func TestOptionsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "@" + path
	}
	from := func(o option.Option, v any) string {
		got, err := fromFiles(Terminal{In: strings.NewReader("typed")}, o, v)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(got)
	}
	text, secret := option.Option{Name: "js"}, option.Option{Name: "authorization", Secret: true}
	headers, cookies := option.Option{Name: "headers", Secret: true}, option.Option{Name: "cookies", Secret: true}
	lines := write("lines", "A: 1\r\n\nB:2\n")
	for _, c := range []struct {
		o    option.Option
		v    any
		want string
	}{
		{text, "1+1", "1+1"},
		{text, write("js", "2+2\n"), "2+2\n"},
		{text, "@-", "typed"},
		{text, "@" + dir + "/none", "--js: open " + dir + "/none"},
		{secret, write("token", "Bearer x\n"), "Bearer x"},
		{cookies, []any{"a=b", lines}, "[a=b A: 1 B:2]"},
		{headers, map[string]any{"C": "3", lines: ""}, "map[A:1 B:2 C:3]"},
		{headers, map[string]any{"C": ""}, "--headers: want Name: value"},
	} {
		if got := from(c.o, c.v); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %v: %s, want %s", c.o.Name, c.v, got, c.want)
		}
	}
}

// --html and --markdown take the name of a file, and that with the @ of other
// flags too.
func TestSourcesFromFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(path, []byte("# Hi"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, "@" + path} {
		req, err := request(Terminal{}, config.Page{Markdown: name}, "png", struct{}{})
		if err != nil || req.Markdown == nil || *req.Markdown != "# Hi" {
			t.Errorf("%s: %v, %v", name, req.Markdown, err)
		}
	}
}

func TestFormatFor(t *testing.T) {
	for _, c := range []struct{ format, output, want string }{
		{"", "", "png"},
		{"", "a.jpg", "jpeg"},
		{"", "a.JPEG", "jpeg"},
		{"", "a.webp", "webp"},
		{"webp", "a.png", "webp"},
		{"", "a.pdf", "error"},
		{"pdf", "", "error"},
		{"", "a.xyz", "png"},
		{"", "a.gif", "error"},
		{"", "a.AVIF", "error"},
		{"png", "a.gif", "png"},
	} {
		got, err := formatFor(c.format, c.output)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q, %q: %s, want %s", c.format, c.output, got, c.want)
		}
	}
}

// The commands in the documents are ones that there are.
func TestCommandsOfTheDocs(t *testing.T) {
	t.Setenv("TINTYPE_KEY", "k")
	for path, least := range map[string]int{"../../docs/options.md": 2, "../../README.md": 5} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(strings.TrimPrefix(line, "bin/"))
			if len(words) < 2 || words[0] != "tintype" || words[1] != "shot" && words[1] != "pdf" {
				continue
			}
			ran++
			if _, err := config.Parse(words[1:], io.Discard); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		if ran < least {
			t.Errorf("%s: %d commands", path, ran)
		}
	}
}

// Options of lines have the kinds of the table.
func TestOptionsOfLines(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    string
	}{
		{[]string{"width=800", "full_page=true", "device_scale_factor=1.5"}, `{"device_scale_factor":1.5,"full_page":true,"width":800}`},
		{[]string{"pdf_margin_top=10", "js=1+1"}, `{"js":"1+1","pdf_margin_top":"10"}`},
		{[]string{"click=a, b", "click=[c]"}, `{"click":["a, b","[c]"]}`},
		{[]string{"ttl_s=60", "custom=x"}, `{"custom":"x","ttl_s":60}`},
		{[]string{"width=1", "width=2"}, "--option width=2"},
	} {
		got, err := lineDefaults("", c.options)
		if err != nil {
			got = []byte(err.Error())
		}
		if !strings.HasPrefix(string(got), c.want) {
			t.Errorf("%v: %s, want %s", c.options, got, c.want)
		}
	}
}
