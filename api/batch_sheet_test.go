package api

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"strings"
	"testing"

	"github.com/tintype/tintype/api/sheet"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
)

// picture is a PNG with a mark at a place.
func picture(t testing.TB, x, y int, paper color.Color) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 640, 480))
	draw.Draw(img, img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	draw.Draw(img, image.Rect(x, y, x+200, y+160), image.NewUniform(color.RGBA{30, 90, 160, 255}), image.Point{}, draw.Src)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBatchSheet(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "home"), line(2, "about"), line(3, "home again"), line(4, "invoice"), wrong(5, "<script>alert(1)</script>"),
		line(6, "failed"), line(7, "lost"), line(8, "not ours"), line(9, "waits"))
	for number, data := range map[int][]byte{
		1: picture(t, 20, 20, color.White), 2: picture(t, 400, 300, color.White), 3: picture(t, 20, 20, color.White), 7: []byte("x"), 8: []byte("no picture"),
	} {
		b.end(number, 1, job.Succeeded, data)
	}
	pdf := b.end(4, 1, job.Succeeded, []byte("%PDF-1.7")).Result
	pdf.ContentType, pdf.Pages, pdf.Width, pdf.Height = "application/pdf", 3, 0, 0
	b.end(6, 1, job.Failed, nil)
	if err := f.bucket.Delete(t.Context(), f.store.jobs[batch.JobID(b.ID, b.CreatedAt, 7, 1)].Result.Object); err != nil {
		t.Fatal(err)
	}
	path := "/v1/batches/" + b.ID + "/results?format=html"
	a := f.do("GET", path, "")
	body := a.Body.String()
	if a.Code != 200 || a.Header().Get("Content-Type") != "text/html; charset=utf-8" || a.Header().Get("Content-Security-Policy") != sheet.Policy() ||
		a.Header().Get("Content-Disposition") != "inline; filename="+b.ID+".html" || a.Header().Get("X-Results-Complete") != "false" {
		t.Fatalf("%d %v", a.Code, a.Header())
	}
	for text, want := range map[string]int{
		"<figure": 8, "data:image/jpeg;base64,": 3, "2 that look alike": 1, ">PDF<": 1, "3 pages, 1 kB": 1, "artifact_lost": 2, "page_crashed": 2,
		"no picture that can be shown": 2, "https://example.com/1\"": 1, "<script": 0, "waits": 0, "<!-- ": 0, "</html>": 1,
	} {
		if got := strings.Count(body, text); got != want {
			t.Errorf("%q is there %d times, want %d", text, got, want)
		}
	}
	if to := os.Getenv("SHEET"); to != "" {
		if err := os.WriteFile(to, a.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if h := f.do("HEAD", path, ""); h.Code != 200 || h.Body.Len() != 0 {
		t.Errorf("HEAD: %d", h.Code)
	}
	f.bucket.setDown(true)
	f.do("GET", path, "").problem(t, 503, "unavailable")
	b.change(func(b *batch.Batch) { b.Total = maxSheet + 1 })
	f.do("GET", path, "").problem(t, 400, "invalid_input")
}
