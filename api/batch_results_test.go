package api

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
)

// wrong is a line that no job can be made of.
func wrong(number int, customID string) batch.Line {
	return batch.Line{Number: number, CustomID: customID, Errors: []batch.LineError{
		{Line: number, Column: 12, Code: "invalid_input", Field: fault.Field{Pointer: "/width", Detail: "must be 1 to 10000"}},
		{Line: number, Column: 30, Code: "invalid_input", Field: fault.Field{Pointer: "/colour", Detail: "is not offered"}},
	}}
}

func TestBatchResults(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "home"), wrong(2, "=SUM(A1)"), line(4, ""), line(5, "gone"), line(6, "past"), line(7, "refused"), line(8, "left"), line(9, "stopped"))
	b.end(1, 1, job.Succeeded, []byte("one"))
	b.end(9, 1, job.Canceled, nil)
	j := b.end(5, 1, job.Succeeded, []byte("five"))
	if _, err := f.store.DropResult(t.Context(), f.acct.ID, j.ID); err != nil {
		t.Fatal(err)
	}
	b.end(6, 1, job.Succeeded, []byte("six")).ExpiresAt = time.Now().Add(-time.Second)
	b.refuse(7, 1)

	path := "/v1/batches/" + b.ID + "/results"
	a := f.do("GET", path, "")
	if got, want := brief(readResults(t, a.Body.String())), "1 succeeded, 2 failed invalid_input, 5 succeeded gone, 6 succeeded gone, 7 failed forbidden, 9 canceled canceled"; got != want {
		t.Errorf("while it runs: %s, want %s", got, want)
	}
	for name, want := range map[string]string{
		"X-Batch-Status": "running", "X-Results-Complete": "false", "Content-Type": "application/x-ndjson",
		"Content-Disposition": "attachment; filename=" + b.ID + ".jsonl",
	} {
		if got := a.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	b.end(4, 1, job.Failed, nil)
	b.change(func(b *batch.Batch) { b.State, b.LeftOut = batch.Canceled, 1 })
	a = f.do("GET", path, "")
	if a.Header().Get("X-Results-Complete") != "true" {
		t.Error("it has ended, and its results are not complete")
	}
	text := strings.NewReplacer(b.ID, "BATCH", f.acct.ID, "ACCOUNT").Replace(a.Body.String())
	for _, l := range b.lines {
		text = strings.ReplaceAll(text, string(batch.JobID(b.ID, b.CreatedAt, l.Number, 1)), fmt.Sprint("JOB-", l.Number))
	}
	golden(t, "batch_results.jsonl", []byte(lateTime(text, f.store.jobs[batch.JobID(b.ID, b.CreatedAt, 6, 1)])))

	h := f.do("HEAD", path, "")
	if h.Code != 200 || h.Body.Len() != 0 || h.Header().Get("X-Results-Complete") != "true" {
		t.Errorf("HEAD: %d %q", h.Code, h.Body)
	}
	b.change(func(b *batch.Batch) { b.State = batch.Expired })
	if got := b.results(""); brief(got[6:7]) != "8 expired batch_expired" {
		t.Errorf("of a batch that expired: %s", brief(got))
	}
	b.change(func(b *batch.Batch) { b.State, b.LeftOut = batch.Completed, 0 })
	if got := b.results(""); brief(got[6:7]) != "8 failed internal" {
		t.Errorf("a row that is missing: %s", brief(got))
	}
}

// lateTime takes the one time out of a text that changes with the clock.
func lateTime(text string, j *job.Job) string {
	return strings.ReplaceAll(text, j.ExpiresAt.UTC().Format(time.RFC3339), "THEN")
}

// Cells of a CSV are those of the JSON, and none of them is a formula.
func TestBatchResultsAsCSV(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) { c.PublicURL = "https://shots.example.com" })
	formulas := []string{"=1+1", "+1", "-1", "@SUM(A1)", "\tx", `=HYPERLINK("http://x","y")`}
	var lines []batch.Line
	for i, name := range formulas {
		lines = append(lines, line(i+1, name))
	}
	lines = append(lines, line(50, "a \"quoted\"; name,\nof two lines"), wrong(51, ""))
	b := f.batch(lines...)
	for i := range formulas {
		b.end(i+1, 1, job.Succeeded, []byte("png"))
	}
	b.end(50, 1, job.Failed, nil).Failure = job.Fail(job.NavigationTimeout, job.StageNavigate, "=cmd|' /C calc'!A0")
	for _, q := range []struct{ query, accept string }{{"?format=csv", ""}, {"", "text/csv"}} {
		a := f.do("GET", "/v1/batches/"+b.ID+"/results"+q.query, "", header{"Accept": q.accept})
		rows, err := csv.NewReader(a.Body).ReadAll()
		if err != nil || len(rows) != 1+len(lines) || !slices.Equal(rows[0], resultHead) || a.Header().Get("Content-Type") != mediaOf["csv"] {
			t.Fatalf("%v, %d rows, %v", err, len(rows), a.Header())
		}
		for i, name := range formulas {
			want := []string{
				fmt.Sprint(i + 1), "'" + name, string(batch.JobID(b.ID, b.CreatedAt, i+1, 1)), "succeeded",
				"https://shots.example.com/v1/jobs/" + string(batch.JobID(b.ID, b.CreatedAt, i+1, 1)) + "/result",
				"image/png", "1280", "1024", "", "3", rows[i+1][10], "", "", "", "",
			}
			if !slices.Equal(rows[i+1], want) || len(rows[i+1][10]) != 64 {
				t.Errorf("%q, want %q", rows[i+1], want)
			}
		}
		if r := rows[len(formulas)+1]; r[1] != lines[len(formulas)].CustomID || r[12] != "'=cmd|' /C calc'!A0" || r[13] != "navigate" || r[14] != "true" {
			t.Errorf("%q", r)
		}
		if r := rows[len(formulas)+2]; r[1] != "" || r[2] != "" || r[12] != "'/width: must be 1 to 10000; /colour: is not offered" && r[12] != "/width: must be 1 to 10000; /colour: is not offered" {
			t.Errorf("%q", r)
		}
	}
}

// Of a line that was tried again the last end counts, and while it is tried
// again it has none.
func TestBatchResultsOfPasses(t *testing.T) {
	f := newFarm(t)
	var lines []batch.Line
	for i := range 8 {
		lines = append(lines, line(i+1, ""))
	}
	b := f.batch(lines...)
	b.end(1, 1, job.Succeeded, []byte("x"))
	for i := 2; i <= 7; i++ {
		b.end(i, 1, job.Failed, nil)
	}
	b.refuse(8, 1)
	b.change(func(of *batch.Batch) { of.Pass, of.PassObject = 2, "" }) // which is not there yet
	b.end(2, 2, job.Succeeded, []byte("x"))
	b.end(3, 2, job.Failed, nil)
	b.refuse(4, 2)
	if got, want := brief(b.results("")), "1 succeeded, 2 succeeded, 3 failed page_crashed, 4 failed forbidden"; got != want {
		t.Errorf("in the second pass: %s, want %s", got, want)
	}
	b.end(8, 2, job.Succeeded, []byte("x"))
	b.change(func(of *batch.Batch) { of.State, of.LeftOut = batch.Canceled, 3 })
	if got, want := brief(b.results("")), "1 succeeded, 2 succeeded, 3 failed page_crashed, 4 failed forbidden, "+
		"5 canceled batch_canceled, 6 canceled batch_canceled, 7 canceled batch_canceled, 8 succeeded"; got != want {
		t.Errorf("canceled in the second pass: %s, want %s", got, want)
	}
	// Nothing was left out, and what failed is tried for the third time.
	b.end(5, 2, job.Failed, nil)
	b.end(6, 2, job.Canceled, nil)
	b.end(7, 2, job.Expired, nil)
	b.change(func(of *batch.Batch) { of.State, of.LeftOut, of.Pass = batch.Running, 0, 3 })
	b.end(4, 3, job.Succeeded, []byte("x"))
	if got, want := brief(b.results("")), "1 succeeded, 2 succeeded, 4 succeeded, 6 canceled canceled, 7 expired expired, 8 succeeded"; got != want {
		t.Errorf("in the third pass: %s, want %s", got, want)
	}
}

// Whatever happens to the lines of a batch of several pages, there is one
// result for each once it has ended.
func TestBatchResultsAreWhole(t *testing.T) {
	f := newFarm(t)
	for _, size := range []int{0, 1, outcomePage - 1, outcomePage, outcomePage + 1, 2*outcomePage + 300} {
		var lines []batch.Line
		number, kinds := 0, rand.Perm(16)
		kind := func(i int) int { return kinds[i%16] / 2 }
		for i := range size {
			number += 1 + kind(i)/7 // with blank lines between
			if kind(i) == 0 {
				lines = append(lines, wrong(number, fmt.Sprint(number)))
			} else {
				lines = append(lines, line(number, fmt.Sprint(number)))
			}
		}
		b := f.batch(lines...)
		left := int64(0)
		for i, l := range lines {
			switch kind(i) {
			case 0:
			case 1:
				b.refuse(l.Number, 1)
			case 2:
				left++
			case 3:
				b.end(l.Number, 1, job.Failed, nil)
			default:
				b.end(l.Number, 1, job.Canceled, nil)
			}
		}
		b.change(func(b *batch.Batch) { b.State, b.LeftOut = batch.Canceled, left })
		got := b.results("")
		if len(got) != len(lines) {
			t.Fatalf("%d results of %d lines", len(got), len(lines))
		}
		for i, r := range got {
			if r.Line != lines[i].Number || *r.CustomId != lines[i].CustomID || r.Error == nil {
				t.Fatalf("result %d: %+v of %+v", i, r, lines[i])
			}
		}
		// A client that dies at any place and goes on behind what it has read.
		seen, after := map[int]bool{}, ""
		for {
			page := b.results("?order=ended" + after)
			if len(page) == 0 {
				break
			}
			page = page[:1+rand.IntN(len(page))]
			for _, r := range page {
				if seen[r.Line] {
					t.Fatalf("line %d twice", r.Line)
				}
				seen[r.Line] = true
			}
			after = "&after=" + *page[len(page)-1].Cursor
		}
		if len(seen) != len(lines) {
			t.Fatalf("in the order of ends %d lines, want %d", len(seen), len(lines))
		}
		for _, l := range lines {
			f.store.remove(batch.JobID(b.ID, b.CreatedAt, l.Number, 1))
		}
	}
}

func TestFollowBatch(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "a"), line(2, "b"), wrong(3, "c"), line(4, "d"), wrong(5, "e"), line(6, "f"))
	cursor := ""
	follow := func(want string) []BatchResult {
		t.Helper()
		query := "?order=ended"
		if cursor != "" {
			query += "&after=" + cursor
		}
		got := b.results(query)
		if brief(got) != want {
			t.Errorf("%s, want %s", brief(got), want)
		}
		if len(got) > 0 {
			cursor = *got[len(got)-1].Cursor
		}
		return got
	}
	follow("")
	b.end(4, 1, job.Succeeded, []byte("x"))
	b.end(2, 1, job.Failed, nil)
	if got := follow("4 succeeded, 2 failed page_crashed"); *got[0].CustomId != "d" || got[0].Result == nil {
		t.Errorf("%+v", got[0])
	}
	follow("")
	b.end(1, 1, job.Succeeded, []byte("x"))
	follow("1 succeeded")
	b.end(6, 1, job.Failed, nil)
	b.change(func(b *batch.Batch) { b.State = batch.Completed })
	got := follow("6 failed page_crashed, 3 failed invalid_input, 5 failed invalid_input")
	follow("")
	cursor = *got[1].Cursor
	follow("5 failed invalid_input")

	// Tried again: what ended anew comes, and so do the lines without a job.
	b.change(func(of *batch.Batch) { of.State, of.Pass = batch.Running, 2 })
	follow("")
	b.end(2, 2, job.Succeeded, []byte("x"))
	b.end(6, 2, job.Failed, nil)
	b.change(func(b *batch.Batch) { b.State = batch.Completed })
	follow("2 succeeded, 6 failed page_crashed, 3 failed invalid_input, 5 failed invalid_input")

	rows, err := csv.NewReader(f.do("GET", "/v1/batches/"+b.ID+"/results?order=ended&format=csv", "").Body).ReadAll()
	if err != nil || len(rows) != 1+8 || rows[8][15] != cursor || rows[0][15] != "cursor" {
		t.Errorf("as CSV: %v, %q", err, rows)
	}
	for query, pointer := range map[string]string{
		"?after=" + cursor: "after", "?order=ended&after=x": "after", "?order=ended&after=1.job_x": "after", "?order=newest": "order",
		"?order=ended&after=-1.": "after", "?order=ended&after=99999999999999999999.": "after", "?order=ended&after=" + cursor + ".1": "after",
		"?order=ended&after=01.": "after", "?format=xlsx": "format", "?limit=5": "limit", "?order=ended&after=999999999999999999.": "after",
	} {
		p := f.do("GET", "/v1/batches/"+b.ID+"/results"+query, "").problem(t, 400, "invalid_input")
		if p.Errors == nil || (*p.Errors)[0].Pointer != pointer {
			t.Errorf("%s: %+v", query, p)
		}
	}
}

// What is not there, not ours or not answering.
func TestNoBatchResults(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "a"))
	b.end(1, 1, job.Succeeded, []byte("x"))
	path := "/v1/batches/" + b.ID + "/results"
	_, other := f.store.newAccount("other")
	f.do("GET", path, "", header{"Authorization": "Bearer " + other}).problem(t, 404, "not_found")
	for _, id := range []string{batch.NewID(), "batch_x", "x", string(job.NewID()), "batch_" + strings.ToLower(b.ID[6:]), "batch_%00"} {
		f.do("GET", "/v1/batches/"+id+"/results", "").problem(t, 404, "not_found")
	}
	f.store.setDown(true)
	f.do("GET", path, "").problem(t, 503, "unavailable")
	f.store.setDown(false)
	f.bucket.setDown(true)
	f.do("GET", path, "").problem(t, 503, "unavailable")
	f.bucket.setDown(false)
	if err := f.bucket.Delete(t.Context(), b.Lines); err != nil {
		t.Fatal(err)
	}
	f.do("GET", path, "").problem(t, 410, "gone")
	b.change(func(b *batch.Batch) { b.State, b.Lines = batch.Validating, "" })
	if got := b.results(""); len(got) != 0 {
		t.Errorf("before its lines are read: %s", brief(got))
	}
}

// torn is a bucket whose streams break off again and again, or for good.
type torn struct {
	*memBucket
	after int          // bytes
	good  atomic.Int64 // streams that may be opened; later ones fail
}

func (b *torn) Open(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error) {
	if b.good.Add(-1) < 0 {
		return nil, object.Info{}, errors.New("connection refused")
	}
	body, info, err := b.memBucket.Open(ctx, key, offset)
	if err == nil && info.SizeBytes > int64(b.after) {
		body = io.NopCloser(io.MultiReader(io.LimitReader(body, int64(b.after)), failing{}))
	}
	return body, info, err
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// A stream of the object store that breaks off is opened again where it did;
// when that fails the client is not left to take half a list for a whole one.
func TestBatchResultsOfABrokenStream(t *testing.T) {
	b := &torn{after: 50_000}
	b.good.Store(1 << 30)
	f := newFarm(t, func(_ *Config, d *Deps) {
		b.memBucket = d.Bucket.(*memBucket)
		d.Bucket = b
	})
	var lines []batch.Line
	for i := range 2000 {
		lines = append(lines, line(i+1, strings.Repeat("x", 200)))
	}
	of := f.batch(lines...)
	of.change(func(b *batch.Batch) { b.State, b.LeftOut = batch.Canceled, int64(len(lines)) })
	if got := of.results(""); len(got) != len(lines) {
		t.Errorf("%d results", len(got))
	}
	b.good.Store(3)
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // the value itself
				t.Errorf("recovered %v", r)
			}
		}()
		r := httptest.NewRequest("GET", "/v1/batches/"+of.ID+"/results", nil)
		r.Header.Set("Authorization", "Bearer "+f.key)
		f.server.Handler().ServeHTTP(w, r)
	}()
	if w.Body.Len() == 0 || len(readResults(t, w.Body.String()[:strings.LastIndex(w.Body.String(), "\n")+1])) >= len(lines) {
		t.Errorf("%d bytes", w.Body.Len())
	}
}
