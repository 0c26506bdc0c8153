package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/tintype/tintype/pkg/client"
)

const (
	// shown is how many lines that failed are named; the rest is in a file.
	shown = 20

	resultsFile = "results.jsonl"
	errorsFile  = "errors.jsonl"
)

// note remembers a line that has no artifact.
func (f *follower) note(l *client.LineResult) {
	f.mu.Lock()
	lost := f.lost[l.Line]
	f.mu.Unlock()
	if l.Result != nil && lost == "" {
		return
	}
	if len(f.failed) == shown {
		f.more++
		return
	}
	f.failed = append(f.failed, lineWords(l, lost))
}

// lineWords say why a line has no artifact.
func lineWords(l *client.LineResult, lost string) string {
	s := fmt.Sprintf("line %d", l.Line)
	if l.CustomId != nil {
		s += fmt.Sprintf(" (%s)", *l.CustomId)
	}
	switch {
	case lost != "":
		return s + ": " + lost
	case l.Error == nil:
		return s + ": " + string(l.Status)
	}
	s += ": " + l.Error.Code
	if l.Error.Detail != "" {
		s += ": " + l.Error.Detail
	}
	if l.Error.Retryable {
		s += " (trying again may help)"
	}
	return s
}

// list writes the list of all lines, each with its file, and fetches what is
// not there although its line has succeeded.
func (f *follower) list(ctx context.Context) error {
	return f.try(ctx, func() error {
		f.failed, f.more = nil, 0
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := WriteFile(f.folder.join(resultsFile), r)
			r.CloseWithError(err) //nolint:errcheck // it never fails
			done <- err
		}()
		out := bufio.NewWriter(w)
		err := f.rows(ctx, out)
		if err == nil {
			err = out.Flush()
		}
		w.CloseWithError(err) //nolint:errcheck // it never fails; nil is the end of the file
		if wrote := <-done; err == nil {
			err = wrote
		}
		return err
	})
}

func (f *follower) rows(ctx context.Context, out io.Writer) error {
	var some []*client.LineResult
	flush := func() error {
		if err := f.fetchAll(ctx, some); err != nil {
			return err
		}
		for _, l := range some {
			row, err := f.row(l)
			if err != nil {
				return err
			}
			if _, err := out.Write(row); err != nil {
				return err
			}
		}
		some = some[:0]
		return nil
	}
	for l, err := range f.c.BatchLines(ctx, f.id) {
		f.alive(err)
		if err != nil {
			return err
		}
		if some = append(some, l); len(some) == chunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// row is the server's line and, behind it, the name of its file.
func (f *follower) row(l *client.LineResult) ([]byte, error) {
	f.note(l)
	file := []byte("null")
	if l.Result != nil && f.lost[l.Line] == "" {
		var err error
		if file, err = json.Marshal(fileOf(l)); err != nil {
			return nil, err
		}
	}
	head, ok := bytes.CutSuffix(bytes.TrimSpace(l.Raw), []byte("}"))
	if !ok {
		return nil, errors.New("the server's answer is not Tintype's: a line of results is no object")
	}
	return fmt.Appendf(head, `,"file":%s}`+"\n", file), nil
}

// report says how it ended, which lines failed and why.
func (f *follower) report(ctx context.Context, end *client.Batch) error {
	if end.Status == "failed" {
		return f.rejected(ctx, end)
	}
	where, err := "", error(nil)
	if f.folder != nil {
		where = "; all lines are in " + f.folder.join(resultsFile)
		err = f.list(ctx)
	}
	f.show.clear()
	if err != nil {
		return fmt.Errorf("%s: %w", f.id, err)
	}
	f.sayFailed()
	n := end.Counts
	bad := n.Failed + n.Canceled + n.Expired
	if f.folder != nil {
		bad = int64(len(f.failed)) + f.more // also those whose artifact is gone by now
	}
	if bad > 0 || end.Status != "completed" {
		return &LinesFailed{f.id, fmt.Sprintf("%s, %s of %s without a result%s", end.Status, thousands(bad), count(n.Total, "line"), where)}
	}
	f.show.say("%s: %s, %s%s", f.id, end.Status, count(n.Succeeded, "line"), where)
	return nil
}

func (f *follower) sayFailed() {
	for _, words := range f.failed {
		f.show.say("  %s", words)
	}
	if f.more > 0 {
		f.show.say("  and %s more", thousands(f.more))
	}
}

// rejected says what is wrong with the lines of a batch of which no job was
// made. The folder is then good for the file that is put right.
func (f *follower) rejected(ctx context.Context, end *client.Batch) error {
	text := "failed"
	if end.Failure != nil && *end.Failure != "" {
		text = *end.Failure
	}
	body, err := f.c.BatchErrors(ctx, f.id, "jsonl")
	if err != nil {
		return fmt.Errorf("%s: %s, and what is wrong with its lines cannot be read: %w", f.id, text, err)
	}
	defer body.Close()
	list := io.Reader(body)
	if f.folder != nil {
		path := f.folder.join(errorsFile)
		if err := WriteFile(path, body); err != nil {
			return err
		}
		kept, err := os.Open(path)
		if err != nil {
			return err
		}
		defer kept.Close()
		list = kept
		text += "; all errors are in " + path
	}
	if err := f.readErrors(list); err != nil {
		return err
	}
	f.sayFailed()
	if f.folder != nil {
		if err := f.folder.forget(); err != nil {
			return err
		}
	}
	return &LinesFailed{f.id, text}
}

func (f *follower) readErrors(in io.Reader) error {
	lines := json.NewDecoder(in)
	for {
		var e client.LineError
		switch err := lines.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read what is wrong with the lines: %w", err)
		}
		if len(f.failed) == shown {
			f.more++
			continue
		}
		f.failed = append(f.failed, errorWords(e))
	}
}

// errorWords say what is wrong with a line, or with the whole input.
func errorWords(e client.LineError) string {
	s := "the file"
	if e.Line > 0 {
		s = fmt.Sprintf("line %d", e.Line)
	}
	if e.Column != nil {
		s += fmt.Sprintf(", column %d", *e.Column)
	}
	if e.Pointer != "" {
		s += ", " + e.Pointer
	}
	return s + ": " + e.Detail
}
