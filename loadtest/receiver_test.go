package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What arrives is taken apart, and what no message may be is said.
func TestReceiver(t *testing.T) {
	got := make(chan hooked, 1)
	r, err := newReceiver(func(h hooked) { got <- h })
	if err != nil {
		t.Fatal(err)
	}
	post := func(url, body string, header ...string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range header {
			req.Header.Set(name, "msg_1")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	all := []string{"webhook-id", "webhook-timestamp", "webhook-signature", "X-Tintype-Signature"}
	body := func(kind, data string) string {
		return fmt.Sprintf(`{"type":%q,"timestamp":"2026-11-22T07:00:00.000Z","data":%s}`, kind, data)
	}
	job := `{"job":{"id":"job_1","status":"failed","finished_at":"2026-11-22T07:00:00.000Z","options":{}}}`
	for name, c := range map[string]struct {
		body   string
		header []string
		wrong  string
	}{
		"good":          {body("job.failed", job), all, ""},
		"a batch":       {body("batch.completed", `{"batch":{"id":"job_1","status":"failed"}}`), all, ""},
		"unsigned":      {body("job.failed", job), all[:2], "without webhook-signature"},
		"another type":  {body("job.succeeded", job), all, "tells of a job that is failed"},
		"its HTML":      {body("job.failed", strings.Replace(job, `{}`, `{"html":"x"}`, 1)), all, "shows its HTML"},
		"not ASCII":     {body("job.failed", strings.Replace(job, `{}`, `{"title":"é"}`, 1)), all, "byte 0xc3"},
		"too long":      {body("job.failed", strings.Replace(job, `{}`, `{"title":"`+strings.Repeat("x", maxHook)+`"}`, 1)), all, "bytes"},
		"without types": {body("", job), all, "without type"},
		"no JSON":       {"hello", all, "invalid character"},
	} {
		status, err := post(r.url("here", false), c.body, c.header...)
		h := <-got
		if status != http.StatusNoContent || err != nil || h.place != "here" || h.id != "msg_1" {
			t.Errorf("%s: %d %v %+v", name, status, err, h)
		}
		if (h.broken == "") != (c.wrong == "") || !strings.Contains(h.broken, c.wrong) {
			t.Errorf("%s: %q, want %q", name, h.broken, c.wrong)
		}
		if c.wrong == "" && (h.subject != "job_1" || h.state != "failed") {
			t.Errorf("%s: %+v", name, h)
		}
	}
	hung := make(chan error, 1)
	go func() {
		_, err := post(r.url("here", true), "{}")
		hung <- err
	}()
	for r.hung.Load() == 0 {
		time.Sleep(time.Millisecond) // it is on its way
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
	if err := <-hung; err == nil {
		t.Error("what hangs was answered")
	}
}

// A message that comes again is the same message; two for one end are not.
func TestTellings(t *testing.T) {
	told := newTellings()
	began := time.Now()
	for range 2 {
		told.take(hooked{place: "1", subject: "job_1", id: "msg_1", at: began.Add(time.Second), finished: began})
	}
	told.take(hooked{place: "2", subject: "job_1", id: "msg_2", at: began, finished: began})
	if told.count() != 2 || told.again != 1 || len(told.broken) != 0 || told.took[[2]string{"1", "job_1"}] != time.Second {
		t.Errorf("%+v", told)
	}
	if err := told.until(t.Context(), 2); err != nil {
		t.Error(err)
	}
	told.take(hooked{place: "1", subject: "job_1", id: "msg_3", at: began})
	told.take(hooked{place: "1", subject: "job_2", broken: "is none"})
	if told.count() != 2 || len(told.broken) != 2 {
		t.Errorf("%+v", told)
	}
}
