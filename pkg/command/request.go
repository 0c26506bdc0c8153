package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
)

// maxFile is what the API takes as a body; what a file holds above it would be
// refused.
const maxFile = 10 << 20

// request makes a job of what the command line says. options are the flags of
// the option table.
func request(t Terminal, p config.Page, format string, options any) (req client.JobRequest, err error) {
	raw, err := json.Marshal(options)
	if err != nil {
		return req, fmt.Errorf("the options: %w", err)
	}
	body := make(map[string]any)
	if err := json.Unmarshal(raw, &body); err != nil {
		return req, fmt.Errorf("the options: %w", err)
	}
	for _, o := range option.Table {
		if v, said := body[o.Name]; said && o.TakesFile() {
			if body[o.Name], err = fromFiles(t, o, v); err != nil {
				return req, err
			}
		}
	}
	body["format"] = format
	if p.URL != "" {
		body["url"] = p.URL
	}
	for name, path := range map[string]string{"html": p.HTML, "markdown": p.Markdown} {
		if path == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(path, "@"); ok && rest != "" {
			path = rest // as the flags that take a text or a file write it
		}
		if body[name], err = t.read("--"+name, path); err != nil {
			return req, err
		}
	}
	for name, d := range map[string]time.Duration{"delay_ms": p.Delay, "timeout_ms": p.Timeout} {
		if _, said := body[name]; d != 0 && said {
			return req, &Usage{fmt.Sprintf("--%s is given as a duration too; give one of the two", strings.ReplaceAll(name, "_", "-"))}
		} else if d != 0 {
			body[name] = d.Milliseconds()
		}
	}
	if raw, err = json.Marshal(body); err != nil {
		return req, fmt.Errorf("the options: %w", err)
	}
	if err := json.Unmarshal(raw, &req); err != nil {
		return req, fmt.Errorf("the options: %w", err)
	}
	req.Force = optional(p.Force)
	if p.TTL != nil { // none and zero are two things
		req.TtlS = set(int(*p.TTL / time.Second))
	}
	return req, nil
}

// fromFiles puts what a file holds in the place of its name: @FILE for a text,
// and for lists and pairs an entry of it for each line of the file.
func fromFiles(t Terminal, o option.Option, v any) (any, error) {
	flag := "--" + strings.ReplaceAll(o.Name, "_", "-")
	switch v := v.(type) {
	case string:
		path, ok := strings.CutPrefix(v, "@")
		if !ok {
			return v, nil
		}
		text, err := t.read(flag, path)
		if o.Secret {
			text = strings.TrimRight(text, "\r\n") // editors add one
		}
		return text, err
	case []any:
		var all []string
		for _, one := range v {
			lines, err := entriesOf(t, flag, one.(string))
			if err != nil {
				return nil, err
			}
			all = append(all, lines...)
		}
		return all, nil
	case map[string]any:
		all := make(map[string]any)
		for name, value := range v {
			lines := []string{name + ":" + value.(string)}
			if value == "" { // what has no colon is no pair
				var err error
				if lines, err = entriesOf(t, flag, name); err != nil {
					return nil, err
				}
			}
			for _, line := range lines {
				name, value, ok := strings.Cut(line, ":")
				if !ok {
					return nil, &Usage{flag + ": want Name: value"}
				}
				all[strings.TrimSpace(name)] = strings.TrimSpace(value)
			}
		}
		return all, nil
	}
	return v, nil
}

// entriesOf are the lines of the file that an entry names, or the entry itself.
func entriesOf(t Terminal, flag, entry string) ([]string, error) {
	path, ok := strings.CutPrefix(entry, "@")
	if !ok {
		return []string{entry}, nil
	}
	text, err := t.read(flag, path)
	return slices.DeleteFunc(strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), func(line string) bool { return strings.TrimSpace(line) == "" }), err
}

// read is what a file holds; - is the standard input.
func (t Terminal) read(flag, path string) (string, error) {
	in := t.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", &Usage{flag + ": " + err.Error()}
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return "", &Usage{flag + ": " + err.Error()}
	case len(b) == 0:
		return "", &Usage{flag + ": " + path + " is empty"}
	case len(b) > maxFile:
		return "", &Usage{fmt.Sprintf("%s: more than %d MiB; put the page on a server and give its URL", flag, maxFile>>20)}
	}
	return string(b), nil
}

// formatFor is the format asked for, or the one that the output's name asks
// for.
func formatFor(format, output string) (string, error) {
	ext := strings.ToLower(filepath.Ext(output))
	if format == "" {
		format = "png"
		for _, f := range job.Formats {
			if ext == f.Ext() || ext == "."+string(f) {
				format = string(f)
			}
		}
		if why := option.FormatElsewhere(strings.TrimPrefix(ext, ".")); why != "" {
			return "", &Usage{fmt.Sprintf("-o %s: the format %s %s; or name one with --format", output, strings.TrimPrefix(ext, "."), why)}
		}
	}
	if format == string(job.PDF) {
		return "", &Usage{"documents are printed with: tintype pdf"}
	}
	return format, nil
}
