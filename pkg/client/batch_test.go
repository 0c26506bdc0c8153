package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

func TestUpload(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		q := r.URL.Query()
		if r.Method != "POST" || r.URL.Path != "/v1/batches" || q.Get("defaults") != `{"a":"&"}` || q.Get("on_error") != "skip" ||
			r.Header.Get("Content-Type") != "text/csv" || r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Idempotency-Key") != "k" ||
			r.Header.Get("Authorization") != "Bearer tt_live_x" || string(body) != "lines" {
			t.Errorf("%s %s %v %q", r.Method, r.URL, r.Header, body)
		}
		if q.Has("dry_run") {
			fmt.Fprint(w, `{"lines": 3, "valid": 2, "invalid": 1}`)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprint(w, `{"id": "batch_1", "status": "validating"}`)
	})
	in := func() BatchInput {
		return BatchInput{
			Body: strings.NewReader("lines"), Size: 5, ContentType: "text/csv", Gzip: true, Defaults: []byte(`{"a":"&"}`), OnError: "skip", Key: "k",
		}
	}
	if b, err := c.CreateBatch(t.Context(), in()); err != nil || b.Id != "batch_1" || b.Ended() {
		t.Errorf("%+v, %v", b, err)
	}
	if would, err := c.TryBatch(t.Context(), in()); err != nil || would.Valid != 2 {
		t.Errorf("%+v, %v", would, err)
	}
}

func TestLinesOfResults(t *testing.T) {
	const good = `{"line":1,"custom_id":"a","job_id":"job_1","status":"succeeded","result":{"size_bytes":7},"error":null,"cursor":"c1"}` + "\n"
	for name, test := range map[string]struct {
		body string
		want string
		err  bool
	}{
		"all":             {good + "\n" + good, "1 1", false},
		"none":            {"", "", false},
		"half a line":     {good + good[:30], "1", true},
		"no line's end":   {good + strings.TrimSpace(good), "1", true},
		"not Tintype's":   {"<html>\n", "", true},
		"a line too long": {good + strings.Repeat("x", maxLine+1) + "\n", "1", true},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			var broke error
			for l, err := range lines(t.Context(), io.NopCloser(iotest.HalfReader(strings.NewReader(test.body)))) {
				if broke = err; err != nil {
					continue
				}
				got = append(got, fmt.Sprint(l.Line))
				if string(l.Raw)+"\n" != good || *l.JobId != "job_1" || l.Result.SizeBytes != 7 {
					t.Errorf("read %+v", l)
				}
			}
			if strings.Join(got, " ") != test.want || (broke != nil) != test.err {
				t.Errorf("read %q, %v", got, broke)
			}
			if half := strings.HasPrefix(name, "half"); half && !errors.Is(broke, ErrUnreachable) {
				t.Errorf("a list that broke off: %v", broke)
			}
		})
	}
}

// What ended is asked for behind the cursor, what became of all is not.
func TestResultsAreAskedFor(t *testing.T) {
	var asked []string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RequestURI())
		if strings.HasSuffix(r.URL.Path, "/errors") {
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"code": "gone"}`)
		}
	})
	for range c.BatchEnds(t.Context(), "batch_1", "") {
		t.Error("a line of nothing")
	}
	for range c.BatchEnds(t.Context(), "batch_1", "5.x") {
		t.Error("a line of nothing")
	}
	for range c.BatchLines(t.Context(), "../a") {
		t.Error("a line of nothing")
	}
	if body, err := c.BatchResults(t.Context(), "batch_1", "zip"); err != nil || body.Close() != nil {
		t.Error(err)
	}
	_, err := c.BatchErrors(t.Context(), "batch_1", "csv")
	if p, ok := errors.AsType[*Problem](err); !ok || p.Code != "gone" {
		t.Error(err)
	}
	want := "/v1/batches/batch_1/results?order=ended, /v1/batches/batch_1/results?after=5.x&order=ended, /v1/batches/..%2Fa/results, " +
		"/v1/batches/batch_1/results?format=zip, /v1/batches/batch_1/errors?format=csv"
	if got := strings.Join(asked, ", "); got != want {
		t.Errorf("asked for %s\nwant %s", got, want)
	}
}

func TestBatches(t *testing.T) {
	var asked []string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		switch {
		case r.Method == "DELETE":
			w.WriteHeader(http.StatusNoContent)
		case r.URL.Path != "/v1/batches":
			fmt.Fprint(w, `{"id": "batch_1", "status": "running"}`)
		case r.URL.Query().Has("after"):
			fmt.Fprint(w, `{"data": [{"id": "batch_1"}], "has_more": false}`)
		default:
			fmt.Fprint(w, `{"data": [{"id": "batch_2"}], "has_more": true, "next_cursor": "c"}`)
		}
	})
	ctx := t.Context()
	var ids []string
	for b, err := range c.Batches(ctx, ListBatchesParams{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.Id)
	}
	for _, do := range []func() (*Batch, error){
		func() (*Batch, error) { return c.CancelBatch(ctx, "batch_1") }, func() (*Batch, error) { return c.PauseBatch(ctx, "batch_1") },
		func() (*Batch, error) { return c.ResumeBatch(ctx, "batch_1") }, func() (*Batch, error) { return c.RetryBatch(ctx, "batch_1") },
	} {
		if b, err := do(); err != nil || b.Id != "batch_1" {
			t.Errorf("%+v, %v", b, err)
		}
	}
	if err := c.DeleteBatch(ctx, "batch_1"); err != nil {
		t.Error(err)
	}
	const one = " /v1/batches/batch_1"
	want := []string{
		"GET /v1/batches", "GET /v1/batches?after=c", "POST" + one + "/cancel", "POST" + one + "/pause", "POST" + one + "/resume", "POST" + one + "/retry-failed",
		"DELETE" + one,
	}
	if strings.Join(asked, "\n") != strings.Join(want, "\n") || strings.Join(ids, " ") != "batch_2 batch_1" {
		t.Errorf("asked\n%s\nwant\n%s; got %v", strings.Join(asked, "\n"), strings.Join(want, "\n"), ids)
	}
}
