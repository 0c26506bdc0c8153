package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	l := lines{run: "r", n: 300, bad: func(line int) bool { return line == 7 }}
	text, err := io.ReadAll(iotest.OneByteReader(l.reader()))
	if err != nil || int64(len(text)) != l.size() || strings.Count(string(text), "\n") != 300 || strings.Count(string(text), "ftp:") != 1 {
		t.Errorf("%v, %d bytes, want %d", err, len(text), l.size())
	}
	if err := iotest.TestReader(l.reader(), text); err != nil {
		t.Error(err)
	}
}

// What is wrong with results is found, and only that.
func TestResultsAreJudged(t *testing.T) {
	l := lines{run: "r", n: 3, bad: func(line int) bool { return line == 2 }}
	line := func(n int, job, status, rest string) string {
		return fmt.Sprintf(`{"line":%d,"custom_id":"r-%d","job_id":%s,"status":%q%s}`+"\n", n, n, job, status, rest)
	}
	one := line(1, `"job_1"`, "succeeded", `,"result":{"sha256":"00"},"error":null`)
	two := line(2, `null`, "failed", `,"error":{"code":"invalid_url"}`)
	three := line(3, `"job_3"`, "failed", `,"error":{"code":"tls_error"}`)
	for name, c := range map[string]struct{ text, want string }{
		"good":             {one + two + three, ""},
		"in another order": {three + one + two, ""},
		"missing":          {one + two, "line 3 has no result"},
		"twice":            {one + one + two + three, "two results"},
		"of no line":       {one + two + three + line(4, `"job_4"`, "failed", ""), "line 4 of 3"},
		"one job for two":  {one + two + line(3, `"job_1"`, "failed", ""), "have one job"},
		"another name":     {one + two + strings.Replace(three, "r-3", "r-1", 1), "is r-1"},
		"cut off":          {one + two + three[:20], "within a line"},
		"no JSON":          {one + two + three + "hello\n", "no JSON"},
		"a job of no line": {one + line(2, `"job_2"`, "failed", `,"error":{"code":"invalid_url"}`) + three, "is none"},
		"nothing to show":  {line(1, `"job_1"`, "succeeded", "") + two + three, "without a job or a result"},
	} {
		wrong, err := l.results(strings.NewReader(c.text), nil)
		if err != nil || (len(wrong) == 0) != (c.want == "") || !strings.Contains(strings.Join(wrong, "; "), c.want) {
			t.Errorf("%s: %v, %q, want %q", name, err, wrong, c.want)
		}
	}
}
