package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// lines are those of a batch's input: line i of n (1 is the first) asks for a
// page of its own and has a custom_id of its own.
type lines struct {
	run string // begins every custom_id
	n   int

	bad   func(line int) bool // lines that are none; nil: all are good
	fails func(line int) bool // lines whose page does not answer; nil: all do
}

// name is a line's custom_id.
func (l lines) name(line int) string { return fmt.Sprintf("%s-%d", l.run, line) }

// text is a line as JSONL has it.
func (l lines) text(line int) string {
	if l.invalid(line) {
		return fmt.Sprintf(`{"url":"ftp://example.com/","custom_id":"%s"}`+"\n", l.name(line))
	}
	page := l.name(line)
	if l.fails != nil && l.fails(line) {
		page = failing + page
	}
	return fmt.Sprintf(`{"url":"https://example.com/%s","custom_id":"%s"}`+"\n", page, l.name(line))
}

func (l lines) invalid(line int) bool { return l.bad != nil && l.bad(line) }

// reader is the input as JSONL. It is made as it is read.
func (l lines) reader() io.Reader { return &lineReader{lines: l} }

// size is how long the input is.
func (l lines) size() (n int64) {
	for i := range l.n {
		n += int64(len(l.text(i + 1)))
	}
	return n
}

type lineReader struct {
	lines
	at   int // lines made
	left []byte
}

func (r *lineReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(r.left) == 0 {
			if r.at == r.n {
				break
			}
			r.at++
			r.left = []byte(r.text(r.at))
		}
		m := copy(p[n:], r.left)
		n, r.left = n+m, r.left[m:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// resultLine is what matters of a line of results.
type resultLine struct {
	Line     int    `json:"line"`
	CustomID string `json:"custom_id"`
	JobID    string `json:"job_id"`
	Status   string `json:"status"`
	Result   *struct {
		SHA256 string `json:"sha256"`
	} `json:"result"`
	Error *struct {
		Code string `json:"code"`
	} `json:"error"`
}

// results reads a batch's results to their end and says what no batch that has
// ended may show: a line of input without a line of results, or with two, one
// that is another one's, or a job for two lines.
func (l lines) results(from io.Reader, each func(resultLine) error) (wrong []string, err error) {
	seen, jobs := make([]bool, l.n+1), make(map[string]int, l.n)
	odd := func(format string, args ...any) {
		if len(wrong) < 20 {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	read := bufio.NewReaderSize(from, 64<<10)
	for {
		text, err := read.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(text) > 0 {
				odd("the results end within a line: %.100q", text)
			}
			break
		}
		if err != nil {
			return wrong, err
		}
		var r resultLine
		if err := json.Unmarshal(text, &r); err != nil {
			odd("a result that is no JSON: %v: %.200q", err, text)
			continue
		}
		if r.Line < 1 || r.Line > l.n {
			odd("a result of line %d of %d", r.Line, l.n)
			continue
		}
		switch first, twice := jobs[r.JobID]; {
		case seen[r.Line]:
			odd("line %d has two results", r.Line)
		case r.CustomID != l.name(r.Line):
			odd("line %d is %s in its result", r.Line, r.CustomID)
		case l.invalid(r.Line) && (r.JobID != "" || r.Status != "failed" || r.Error == nil):
			odd("line %d is none, and its result is %s of job %q", r.Line, r.Status, r.JobID)
		case !l.invalid(r.Line) && r.JobID != "" && twice:
			odd("lines %d and %d have one job, %s", first, r.Line, r.JobID)
		case r.Status == "succeeded" && (r.Result == nil || r.JobID == "" || r.Error != nil):
			odd("line %d succeeded without a job or a result", r.Line)
		}
		seen[r.Line], jobs[r.JobID] = true, r.Line
		if each != nil {
			if err := each(r); err != nil {
				odd("line %d: %v", r.Line, err)
			}
		}
	}
	for line, ok := range seen[1:] {
		if !ok {
			odd("line %d has no result", line+1)
		}
	}
	return wrong, nil
}
