package outbox

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// What is too long is taken out in the order that is promised, and named.
func TestLongBodies(t *testing.T) {
	long := func(n int) []string { return slices.Repeat([]string{strings.Repeat("é", 100)}, n) }
	resources := func(n int) (out []job.Resource) {
		for range n {
			out = append(out, job.Resource{URL: "https://example.com/" + strings.Repeat("x", 200), Reason: "r"})
		}
		return out
	}
	many := map[string]string{}
	for i := range 16 {
		many[string(rune('a'+i))] = strings.Repeat("ü", 500)
	}
	for name, c := range map[string]struct {
		change func(*job.Job)
		want   []string
	}{
		"short":    {func(*job.Job) {}, nil},
		"noisy":    {func(j *job.Job) { j.Evidence.ConsoleErrors = long(60) }, []string{"evidence.console_errors"}},
		"blocked":  {func(j *job.Job) { j.Evidence.BlockedRequests = resources(200) }, []string{"evidence.blocked_requests"}},
		"both":     {func(j *job.Job) { j.Evidence.FailedResources, j.Evidence.ConsoleErrors = resources(200), long(2) }, []string{"evidence.console_errors", "evidence.failed_resources"}},
		"title":    {func(j *job.Job) { j.Evidence.Title = strings.Repeat("\x00", 9000) }, []string{"evidence"}},
		"options":  {func(j *job.Job) { j.Options = []byte(`{"url":"` + strings.Repeat("x", 30_000) + `","format":"png"}`) }, []string{"evidence", "options"}},
		"detail":   {func(j *job.Job) { j.Failure.Detail = strings.Repeat("x", 30_000) }, []string{"evidence", "options", "error.detail"}},
		"metadata": {func(j *job.Job) { j.Metadata = many }, []string{"evidence", "options", "metadata"}},
		"no proof": {func(j *job.Job) { j.Evidence, j.Metadata = nil, many }, []string{"options", "metadata"}},
	} {
		j := failed("acc_a")
		j.Evidence, j.CustomID = &job.Evidence{Title: "t", StatusCode: 200}, "mine"
		c.change(j)
		before, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		body, err := encodeJob(webhook.JobFailed, j.FinishedAt, j, present)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var m struct {
			Data struct {
				Job struct {
					ID       string
					CustomID string `json:"custom_id"`
					Options  struct{ Format string }
				}
				Shortened []string
			}
		}
		if err := json.Unmarshal(body, &m); err != nil || len(body) >= 20_000 || m.Data.Job.ID != string(j.ID) || m.Data.Job.CustomID != "mine" {
			t.Errorf("%s: %d bytes, %v: %.200s", name, len(body), err, body)
		}
		if !slices.Equal(m.Data.Shortened, c.want) {
			t.Errorf("%s: shortened %q, want %q", name, m.Data.Shortened, c.want)
		}
		if name == "options" && m.Data.Job.Options.Format != "png" {
			t.Errorf("options %+v: the format stays", m.Data.Job.Options)
		}
		if after, err := json.Marshal(j); err != nil || string(after) != string(before) {
			t.Errorf("%s: the job was changed: %v", name, err)
		}
	}
	j := failed("acc_a")
	_, err := encodeJob(webhook.JobFailed, j.FinishedAt, j, func(*job.Job) (json.RawMessage, error) {
		return json.Marshal(strings.Repeat("x", 20_000))
	})
	if !errors.Is(err, errTooLong) {
		t.Errorf("%v: what cannot be shortened is not sent", err)
	}
}

// ASCII alone, and the same JSON.
func FuzzASCII(f *testing.F) {
	f.Add("plain")
	f.Add("Zürich 🚀 \u2028 \x7f \uffff")
	f.Fuzz(func(t *testing.T, text string) {
		in, err := json.Marshal(text)
		if err != nil {
			t.Skip()
		}
		body, err := encode(webhook.Test, time.Now(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range body {
			if b < ' ' || b > '~' {
				t.Fatalf("%q is not ASCII", body)
			}
		}
		var want string
		var got struct{ Data string }
		if json.Unmarshal(in, &want) != nil || json.Unmarshal(body, &got) != nil || got.Data != want {
			t.Errorf("%q became %q: %s", want, got.Data, body)
		}
	})
}
