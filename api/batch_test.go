package api

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
)

var ndjson = header{"Content-Type": "application/x-ndjson"}

// upload uploads a batch that must be accepted.
func (f *farm) upload(target, body string, headers ...header) Batch {
	f.t.Helper()
	return f.do("POST", target, body, headers...).batch(f.t, http.StatusAccepted)
}

func (a answered) batch(t testing.TB, status int) Batch {
	t.Helper()
	if a.Code != status {
		t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	var b Batch
	a.json(t, &b)
	return b
}

// validated is what validating a batch makes of it, and its lines.
func (f *farm) validated(id string) (*batch.Batch, []batch.Line) {
	f.t.Helper()
	b, err := f.store.Batch(f.t.Context(), f.acct.ID, id)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.server.validate(f.t.Context(), b); err != nil {
		f.t.Fatal(err)
	}
	var out []batch.Line
	if b.Lines != "" {
		for dec := json.NewDecoder(bytes.NewReader(f.bucket.objects[b.Lines])); dec.More(); {
			var l batch.Line
			if err := dec.Decode(&l); err != nil {
				f.t.Fatal(err)
			}
			out = append(out, l)
		}
	}
	return b, out
}

func packed(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestUploadBatch(t *testing.T) {
	f := newFarm(t)
	const input = `{"url":"https://example.com/a","custom_id":"a"}` + "\n\n" + `{"html":"<p>","width":800.0,"metadata":{"k":"v"},"ttl_s":5,"force":true}`
	a := f.do("POST", "/v1/batches?custom_id=mine&on_error=skip&metadata=%7B%22a%22%3A%22b%22%7D&batch_line_events=true", input, ndjson)
	v := a.batch(t, http.StatusAccepted)
	if v.Status != "validating" || v.CustomId == nil || *v.CustomId != "mine" || v.Metadata["a"] != "b" || v.Format != "jsonl" || v.OnError != "skip" {
		t.Errorf("%s", a.Body)
	}
	if got := a.Header().Get("Location"); got != "/v1/batches/"+v.Id || got != v.Links.Self {
		t.Errorf("Location %q", got)
	}
	if life := v.ExpiresAt.Sub(v.CreatedAt.Time); life != batchExpires {
		t.Errorf("lives for %s", life)
	}
	b, got := f.validated(v.Id)
	if b.Key == "" || b.Address != "203.0.113.7" && b.Address == "" || !b.LineEvents || b.InputBytes != int64(len(input)) {
		t.Errorf("%+v", b)
	}
	first, second := job.Defaults(), job.Defaults()
	first.URL, second.HTML, second.Width = "https://example.com/a", "<p>", 800
	ttl := 5
	want := []batch.Line{
		{Number: 1, CustomID: "a", Metadata: nil, Spec: first.Marshal()},
		{Number: 3, Metadata: map[string]string{"k": "v"}, Spec: second.Marshal(), TTLS: &ttl, Force: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if b.Total != 2 || b.Invalid != 0 || b.PassTotal != 2 || b.PassObject != b.Lines || b.Failure != "" || !strings.HasPrefix(b.Lines, "b/"+f.acct.ID+"/"+v.Id+"/") {
		t.Errorf("%+v", b)
	}
}

func TestUploadRefuses(t *testing.T) {
	f := newFarm(t)
	line := `{"url":"https://example.com/"}`
	for name, c := range map[string]struct {
		query, body string
		headers     header
		code        string
		pointer     string
		status      int
	}{
		"no type":             {body: line, code: "invalid_input", pointer: "Content-Type"},
		"a form":              {body: line, headers: header{"Content-Type": "application/x-www-form-urlencoded"}, code: "invalid_input", pointer: "Content-Type"},
		"nothing":             {headers: ndjson, code: "invalid_input"},
		"another packing":     {body: line, headers: header{"Content-Type": "text/csv", "Content-Encoding": "br"}, code: "invalid_input", pointer: "Content-Encoding"},
		"not packed":          {body: line, headers: header{"Content-Type": "text/csv", "Content-Encoding": "gzip"}, code: "invalid_input", pointer: "Content-Encoding"},
		"an unknown format":   {query: "format=xml", body: line, code: "invalid_input", pointer: "format"},
		"an unknown setting":  {query: "on_eror=skip", body: line, headers: ndjson, code: "invalid_input", pointer: "on_eror"},
		"another on_error":    {query: "on_error=stop", body: line, headers: ndjson, code: "invalid_input", pointer: "on_error"},
		"defaults not JSON":   {query: "defaults=width", body: line, headers: ndjson, code: "invalid_input", pointer: "defaults"},
		"defaults a list":     {query: "defaults=[]", body: line, headers: ndjson, code: "invalid_input", pointer: "defaults"},
		"a wrong default":     {query: `defaults={"width":0}`, body: line, headers: ndjson, code: "invalid_input", pointer: "defaults/width"},
		"an unknown default":  {query: `defaults={"widht":1}`, body: line, headers: ndjson, code: "invalid_input", pointer: "defaults/widht"},
		"a default custom_id": {query: `defaults={"custom_id":"a"}`, body: line, headers: ndjson, code: "invalid_input", pointer: "defaults/custom_id"},
		"a default twice":     {query: `defaults={"width":1,"width":2}`, body: line, headers: ndjson, code: "invalid_input", pointer: "defaults/width"},
		"long defaults":       {query: `defaults={"html":"` + strings.Repeat("x", 64<<10) + `"}`, body: line, headers: ndjson, code: "invalid_input", pointer: "defaults"},
		"metadata no texts":   {query: `metadata={"a":1}`, body: line, headers: ndjson, code: "invalid_input", pointer: "metadata"},
	} {
		query := strings.NewReplacer(`"`, "%22", "{", "%7B", "}", "%7D").Replace(c.query)
		p := f.do("POST", "/v1/batches?"+query, c.body, c.headers).problem(t, http.StatusBadRequest, c.code)
		if c.pointer != "" && (p.Errors == nil || (*p.Errors)[0].Pointer != c.pointer) {
			t.Errorf("%s: %+v", name, p)
		}
		if p.Detail == "" {
			t.Errorf("%s: no words", name)
		}
	}
	if keys := f.bucket.keys(); len(keys) > 0 {
		t.Errorf("stored all the same: %q", keys)
	}
}

func TestUploadIsKeyed(t *testing.T) {
	f := newFarm(t)
	key := header{"Content-Type": "text/plain", "Idempotency-Key": "k"}
	const body = "https://example.com/\n"
	first := f.upload(`/v1/batches?defaults=%7B%22width%22:800,%22height%22:600%7D`, body, key)
	// The order of members and how numbers are written make no difference.
	a := f.do("POST", `/v1/batches?defaults=%7B%22height%22:600.0,%20%22width%22:800%7D`, body, key)
	if again := a.batch(t, http.StatusAccepted); again.Id != first.Id || a.Header().Get("X-Idempotent-Replay") != "true" {
		t.Errorf("%s, replay %q", a.Body, a.Header().Get("X-Idempotent-Replay"))
	}
	for name, target := range map[string]string{"other defaults": "/v1/batches?defaults=%7B%22width%22:801%7D", "no defaults": "/v1/batches"} {
		if a := f.do("POST", target, body, key); a.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	f.do("POST", `/v1/batches?defaults=%7B%22width%22:800,%22height%22:600%7D`, body+body, key).problem(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	f.store.changeBatch(first.Id, func(b *batch.Batch) { b.State = batch.Completed })
	a = f.do("POST", `/v1/batches?defaults=%7B%22width%22:800,%22height%22:600%7D`, body, key)
	if again := a.batch(t, http.StatusAccepted); again.Id != first.Id || again.Status != "completed" || again.Progress != 1 {
		t.Errorf("%s", a.Body)
	}
	form := func(fields string) (string, header) {
		return "--x\r\nContent-Disposition: form-data; name=file; filename=a.txt\r\n\r\n" + body + fields + "\r\n--x--\r\n",
			header{"Content-Type": "multipart/form-data; boundary=x", "Idempotency-Key": "k"}
	}
	text, head := form("\r\n--x\r\nContent-Disposition: form-data; name=defaults\r\n\r\n{\"width\":800,\"height\":600}")
	if again := f.do("POST", "/v1/batches", text, head).batch(t, http.StatusAccepted); again.Id != first.Id {
		t.Errorf("as a form it is %s, not %s", again.Id, first.Id)
	}
	// That nothing is to be made may be said behind the file.
	text, head = form("\r\n--x\r\nContent-Disposition: form-data; name=dry_run\r\n\r\ntrue")
	if a := f.do("POST", "/v1/batches", text, head); a.Code != http.StatusOK {
		t.Errorf("a dry run with a key that was used: %d %s", a.Code, a.Body)
	}
	if keys := f.bucket.keys(); len(keys) != 1 {
		t.Errorf("in the bucket: %q", keys)
	}
}

func TestUploadWithoutStores(t *testing.T) {
	f := newFarm(t)
	f.bucket.setDown(true)
	f.do("POST", "/v1/batches", "https://example.com/", header{"Content-Type": "text/plain"}).problem(t, http.StatusServiceUnavailable, "unavailable")
	f.bucket.setDown(false)
	// The key of the request is remembered; the batch is not.
	f.do("GET", "/v1/account", "")
	f.store.setDown(true)
	f.do("POST", "/v1/batches", "https://example.com/", header{"Content-Type": "text/plain"}).problem(t, http.StatusServiceUnavailable, "unavailable")
	f.store.setDown(false)
	if len(f.store.batches) != 0 {
		t.Errorf("%+v", f.store.batches)
	}
}

func TestValidateFormats(t *testing.T) {
	f := newFarm(t)
	plain := job.Defaults()
	plain.URL, plain.Width, plain.FullPage = "https://example.com/a", 800, true
	wide := plain
	wide.URL, wide.Width = "https://example.com/b", 1000
	const defaults = `{"width":800,"full_page":true,"metadata":{"from":"defaults"}}`
	for name, c := range map[string]struct{ media, body string }{
		"jsonl":            {"application/x-ndjson", `{"url":"https://example.com/a"}` + "\n" + `{"url":"https://example.com/b","width":1000}`},
		"jsonl of Windows": {"application/x-ndjson", "\ufeff" + `{"url":"https://example.com/a"}` + "\r\n" + `{"url":"https://example.com/b","width":1000}` + "\r\n\r\n"},
		"csv":              {"text/csv; charset=utf-8", "url,width\nhttps://example.com/a,\nhttps://example.com/b,1000\n"},
		"csv of Excel":     {"text/csv", "\ufeffurl;width;full_page\r\nhttps://example.com/a;;TRUE\r\n\"https://example.com/b\";1000;\r\n"},
		"packed":           {"text/csv", packed(t, "url,width\nhttps://example.com/a,\nhttps://example.com/b,1000")},
	} {
		v := f.upload("/v1/batches?defaults="+url.QueryEscape(defaults), c.body, header{"Content-Type": c.media})
		b, got := f.validated(v.Id)
		if b.Failure != "" || len(got) != 2 || b.Total != 2 {
			t.Errorf("%s: %q, %+v", name, b.Failure, got)
			continue
		}
		if !bytes.Equal(got[0].Spec, plain.Marshal()) || !bytes.Equal(got[1].Spec, wide.Marshal()) || got[1].Metadata["from"] != "defaults" {
			t.Errorf("%s: %s\n%s", name, got[0].Spec, got[1].Spec)
		}
	}
	v := f.upload("/v1/batches", " https://example.com/a \n\nhttps://example.com/b", header{"Content-Type": "text/plain"})
	if _, got := f.validated(v.Id); len(got) != 2 || got[1].Number != 3 || !strings.Contains(string(got[1].Spec), "https://example.com/b") {
		t.Errorf("text: %+v", got)
	}
}
