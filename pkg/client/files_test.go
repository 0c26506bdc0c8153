package client

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	var asked []string
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		body := ""
		if r.Body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			body = string(b)
		}
		asked = append(asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+body))
		switch {
		case r.Method == "DELETE":
			w.WriteHeader(http.StatusNoContent)
		case r.Method == "GET" && r.URL.Path == "/v1/files" && !r.URL.Query().Has("after"):
			fmt.Fprint(w, `{"data": [{"id": "file_2"}], "has_more": true, "next_cursor": "c"}`)
		case r.Method == "GET" && r.URL.Path == "/v1/files":
			fmt.Fprint(w, `{"data": [{"id": "file_1"}], "has_more": false, "next_cursor": null}`)
		default:
			fmt.Fprint(w, `{"id": "file_1", "size_bytes": 5}`)
		}
	})
	ctx := t.Context()
	if f, err := c.UploadFile(ctx, "a b.csv", strings.NewReader("lines"), 5); err != nil || f.Id != "file_1" || f.SizeBytes != 5 {
		t.Errorf("%+v, %v", f, err)
	}
	if all, err := c.ListFiles(ctx); err != nil || len(all) != 2 || all[1].Id != "file_1" {
		t.Errorf("%+v, %v", all, err)
	}
	if f, err := c.File(ctx, "file_1"); err != nil || f.Id != "file_1" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := c.DeleteFile(ctx, "file_1"); err != nil {
		t.Error(err)
	}
	want := []string{
		"POST /v1/files?name=a+b.csv lines", "GET /v1/files?limit=200", "GET /v1/files?limit=200&after=c", "GET /v1/files/file_1", "DELETE /v1/files/file_1",
	}
	if strings.Join(asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}
