package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/batch"
)

// judged uploads a batch and validates it, as a feeder does.
func (f *farm) judged(target, body string, headers ...header) Batch {
	f.t.Helper()
	v := f.upload(target, body, headers...)
	b, _ := f.validated(v.Id)
	b.State = batch.Running
	if b.Failure != "" {
		b.State = batch.Failed
	}
	f.store.changeBatch(v.Id, func(stored *batch.Batch) { *stored = *b })
	return v
}

func TestBatchErrors(t *testing.T) {
	f := newFarm(t)
	fresh := f.upload("/v1/batches", "https://example.com/", header{"Content-Type": "text/plain"})
	if a := f.do("GET", fresh.Links.Errors, ""); a.problem(t, http.StatusConflict, "not_finished").Detail == "" || a.Header().Get("Retry-After") == "" {
		t.Errorf("%v", a.Header())
	}
	text := "url,custom_id\nfile:///x,=1+1\nhttps://example.com/,b\n,\"@x\"\nhttps://example.com/,b\n"
	v := f.judged("/v1/batches?on_error=skip", text, header{"Content-Type": "text/csv"})
	a := f.do("GET", v.Links.Errors, "")
	want := []string{
		`{"line":2,"column":1,"code":"invalid_url","pointer":"/url","detail":"has the scheme`,
		`{"line":4,"column":null,"code":"invalid_input","pointer":"/url","detail":"give url, html or markdown`,
		`{"line":5,"column":null,"code":"invalid_input","pointer":"/custom_id","detail":"is that of line 3; each line needs its own"}`,
	}
	got := strings.Split(strings.TrimSpace(a.Body.String()), "\n")
	if a.Code != http.StatusOK || len(got) != len(want) || a.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v\n%s", a.Code, a.Header(), a.Body)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%s\nwant %s", got[i], want[i])
		}
	}
	a = f.do("GET", v.Links.Errors+"?format=csv", "")
	rows := strings.Split(a.Body.String(), "\r\n")
	if len(rows) != 5 || rows[0] != "line,column,code,pointer,detail" || !strings.HasPrefix(rows[1], `2,1,invalid_url,/url,"has the scheme ""file"";`) || !strings.HasPrefix(rows[3], "5,,invalid_input,/custom_id,") {
		t.Errorf("%q", rows)
	}
	// Of the whole input.
	v = f.judged("/v1/batches", "url,widht\nhttps://example.com/,1", header{"Content-Type": "text/csv"})
	if got := f.do("GET", v.Links.Errors, "").Body.String(); got != `{"line":0,"column":null,"code":"invalid_input","pointer":"","detail":"line 1, column 5: the column \"widht\" is not offered; did you mean width?"}`+"\n" {
		t.Errorf("%s", got)
	}
	// Of none.
	v = f.judged("/v1/batches", "https://example.com/", header{"Content-Type": "text/plain"})
	if a := f.do("GET", v.Links.Errors, ""); a.Code != http.StatusOK || a.Body.Len() != 0 {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	f.do("GET", "/v1/batches/"+batch.NewID()+"/errors", "").problem(t, http.StatusNotFound, "not_found")
	f.do("GET", v.Links.Errors+"?format=zip", "").problem(t, http.StatusBadRequest, "invalid_input")
}

// A list that is longer than a piece, and formulas in it.
func TestManyBatchErrors(t *testing.T) {
	f := newFarm(t)
	var text strings.Builder
	for n := range 3000 {
		fmt.Fprintf(&text, `{"html":"x","=cmd|%d":1}`+"\n", n)
	}
	v := f.judged("/v1/batches", text.String(), ndjson)
	a := f.do("GET", v.Links.Errors, "", header{"Accept": "text/csv"})
	rows := strings.Split(strings.TrimSpace(a.Body.String()), "\r\n")
	if len(rows) != 3001 || rows[3000] != "3000,25,invalid_input,/=cmd|2999,is not offered" {
		t.Errorf("%d rows, the last %q", len(rows), rows[len(rows)-1])
	}
	f.bucket.setDown(true)
	f.do("GET", v.Links.Errors, "").problem(t, http.StatusServiceUnavailable, "unavailable")
}
