package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/batch"
)

// keepFile is a file of the account's.
func (f *farm) keepFile(name, text string) *batch.File {
	f.t.Helper()
	id := batch.NewFileID()
	sum := sha256.Sum256([]byte(text))
	file := &batch.File{ID: id, Account: f.acct.ID, Name: name, Object: "f/" + f.acct.ID + "/" + id, SizeBytes: int64(len(text)), SHA256: sum[:]}
	f.bucket.set(file.Object, []byte(text))
	if err := f.store.InsertFile(f.t.Context(), file, fileExpires); err != nil {
		f.t.Fatal(err)
	}
	return file
}

// A part of a form: the header's values, and its text.
type part struct{ name, file, media, text string }

func formOf(parts ...part) (string, header) {
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "--limit\r\nContent-Disposition: form-data; name=%q", p.name)
		if p.file != "" {
			fmt.Fprintf(&b, "; filename=%q", p.file)
		}
		if p.media != "" {
			b.WriteString("\r\nContent-Type: " + p.media)
		}
		b.WriteString("\r\n\r\n" + p.text + "\r\n")
	}
	return b.String() + "--limit--\r\n", header{"Content-Type": `multipart/form-data; boundary="limit"`}
}

func TestFiles(t *testing.T) {
	f := newFarm(t)
	const text = "url\nhttps://example.com/\n"
	sum := sha256.Sum256([]byte(text))
	body, form := formOf(part{"file", `C:\shots\pages.csv`, "text/csv", text})
	var ids []string
	for i, a := range []answered{
		f.do("POST", "/v1/files", body, form),
		f.do("POST", "/v1/files?name=other.csv", text),
		f.do("POST", "/v1/files", text, header{"Content-Type": "text/csv"}),
	} {
		name := [...]string{"pages.csv", "other.csv", ""}[i]
		var v File
		a.json(t, &v)
		if a.Code != http.StatusCreated || deref(v.Name) != name || v.SizeBytes != int64(len(text)) || v.Sha256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
		if got := string(f.bucket.objects["f/"+f.acct.ID+"/"+v.Id]); got != text || a.Header().Get("Location") != "/v1/files/"+v.Id {
			t.Errorf("%s: %q at %s", name, got, a.Header().Get("Location"))
		}
		ids = append(ids, v.Id)
	}
	var page FileList
	f.do("GET", "/v1/files?limit=2", "").json(t, &page)
	if len(page.Data) != 2 || !page.HasMore || page.Data[0].Id != ids[2] {
		t.Errorf("%+v", page)
	}
	f.do("GET", "/v1/files?after="+*page.NextCursor, "").json(t, &page)
	if len(page.Data) != 1 || page.HasMore || page.Data[0].Id != ids[0] {
		t.Errorf("%+v", page)
	}
	if a := f.do("DELETE", "/v1/files/"+ids[0], ""); a.Code != http.StatusNoContent {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for _, id := range []string{ids[0], "file_x", "job_" + ids[1][5:], "file_\xff"} {
		f.do("GET", "/v1/files/"+strings.ReplaceAll(id, "\xff", "%FF"), "").problem(t, http.StatusNotFound, "not_found")
	}
	f.do("DELETE", "/v1/files/"+ids[0], "").problem(t, http.StatusNotFound, "not_found")
	if _, there := f.bucket.objects["f/"+f.acct.ID+"/"+ids[0]]; there {
		t.Error("its bytes are still there")
	}
	f.do("GET", "/v1/files?after=job_1", "").problem(t, http.StatusBadRequest, "invalid_input")
	f.do("POST", "/v1/files", "").problem(t, http.StatusBadRequest, "invalid_input")
}

func TestFormsRefuse(t *testing.T) {
	f := newFarm(t)
	file := part{"file", "a.txt", "text/plain", "https://example.com/"}
	many := []part{file}
	for range 60 {
		many = append(many, part{name: "on_error", text: "skip"})
	}
	for name, c := range map[string]struct {
		parts   []part
		pointer string
	}{
		"no file":          {[]part{{name: "defaults", text: "{}"}}, "file"},
		"two files":        {[]part{file, file}, "file"},
		"an empty file":    {[]part{{"file", "a.txt", "", ""}}, ""},
		"an unknown field": {[]part{file, {name: "widht", text: "1"}}, "widht"},
		"a field twice":    {[]part{file, {name: "on_error", text: "skip"}, {name: "on_error", text: "skip"}}, "on_error"},
		"a wrong field":    {[]part{{name: "on_error", text: "stop"}, file}, "on_error"},
		"a wrong default":  {[]part{file, {name: "defaults", text: `{"width":"wide"}`}}, "defaults/width"},
		"a long field":     {[]part{file, {name: "defaults", text: strings.Repeat("x", maxDefaults+1)}}, "defaults"},
		"of no format":     {[]part{{"file", "pages", "application/octet-stream", "x"}}, "format"},
		"many fields":      {many, ""},
	} {
		body, form := formOf(c.parts...)
		p := f.do("POST", "/v1/batches", body, form).problem(t, http.StatusBadRequest, "invalid_input")
		if c.pointer != "" && (p.Errors == nil || (*p.Errors)[0].Pointer != c.pointer) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	body, form := formOf(file)
	f.do("POST", "/v1/batches?on_error=skip", body[:len(body)-30], form).problem(t, http.StatusBadRequest, "invalid_input")
	f.do("POST", "/v1/batches", body, header{"Content-Type": "multipart/form-data"}).problem(t, http.StatusBadRequest, "invalid_input")
	both, form := formOf(file, part{name: "on_error", text: "skip"})
	f.do("POST", "/v1/batches?on_error=skip", both, form).problem(t, http.StatusBadRequest, "invalid_input")
	if keys := f.bucket.keys(); len(keys) > 0 || len(f.store.batches) > 0 {
		t.Errorf("left behind: %q, %+v", keys, f.store.batches)
	}
}

// The same input and settings are one upload under a key, whichever way they
// come.
func TestWaysToUpload(t *testing.T) {
	f := newFarm(t)
	const text = "url,custom_id\nhttps://example.com/,a\n"
	key := header{"Idempotency-Key": "k"}
	first := f.upload("/v1/batches?defaults=%7B%22width%22:800%7D&on_error=skip", text, header{"Content-Type": "text/csv"}, key)
	b, _ := f.validated(first.Id)
	if b.Total != 1 || b.Failure != "" {
		t.Fatalf("%+v", b)
	}
	settings := []part{{name: "defaults", text: `{"width": 800.0}`}, {name: "on_error", text: "skip"}}
	file := f.keepFile("pages.csv", text)
	fields, form := formOf(append(settings, part{"file", "pages.csv", "application/octet-stream", text})...)
	reversed, _ := formOf(append([]part{{"file", "pages", "text/csv", text}}, settings...)...)
	inQuery, _ := formOf(part{"file", "pages.csv", "text/plain", text})
	before := len(f.bucket.keys())
	for name, a := range map[string]answered{
		"a form":                  f.do("POST", "/v1/batches", fields, form, key),
		"a form, the file first":  f.do("POST", "/v1/batches", reversed, form, key),
		"a form and a query":      f.do("POST", "/v1/batches?defaults=%7B%22width%22:800%7D&on_error=skip", inQuery, form, key),
		"a file":                  f.do("POST", "/v1/batches", `{"file_id":"`+file.ID+`","on_error":"skip","defaults":{"width":800}}`, header{"Content-Type": "application/json"}, key),
		"a file, one way or both": f.do("POST", "/v1/batches?on_error=skip", `{"file_id":"`+file.ID+`","defaults":{"width":800}}`, header{"Content-Type": "application/json"}, key),
	} {
		if again := a.batch(t, http.StatusAccepted); again.Id != first.Id || a.Header().Get("X-Idempotent-Replay") != "true" {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
	if after := f.bucket.keys(); len(after) != before {
		t.Errorf("left behind: %q", after)
	}
	for name, v := range map[string]Batch{
		"a form": f.upload("/v1/batches", fields, form),
		"a file": f.upload("/v1/batches", `{"file_id":"`+file.ID+`","on_error":"skip","defaults":{"width":800}}`, header{"Content-Type": "application/json"}),
	} {
		b, got := f.validated(v.Id)
		if len(got) != 1 || got[0].CustomID != "a" || !strings.Contains(string(got[0].Spec), `"width":800`) || v.Format != "csv" {
			t.Errorf("%s: %+v %+v", name, b, got)
		}
		if name == "a file" && (b.Input != file.Object || b.File != file.ID) {
			t.Errorf("%+v", b)
		}
	}
	f.do("DELETE", "/v1/files/"+file.ID, "").problem(t, http.StatusConflict, "conflict")
	f.do("POST", "/v1/batches", `{"file_id":"`+batch.NewFileID()+`"}`, header{"Content-Type": "application/json"}).problem(t, http.StatusBadRequest, "invalid_input")
	unnamed := f.keepFile("pages", text)
	p := f.do("POST", "/v1/batches", `{"file_id":"`+unnamed.ID+`"}`, header{"Content-Type": "application/json"}).problem(t, http.StatusBadRequest, "invalid_input")
	if (*p.Errors)[0].Pointer != "/format" {
		t.Errorf("%+v", p)
	}
}
