package sheet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// drawn is a picture of a page: a head, and blocks that a seed places.
func drawn(seed uint64, width, height int, paper color.Color) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	draw.Draw(img, img.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	rnd := rand.New(rand.NewPCG(seed, 1))
	for range 12 {
		x, y := rnd.IntN(width), rnd.IntN(height)
		block := image.Rect(x, y, x+width/4, y+height/6)
		draw.Draw(img, block, image.NewUniform(color.RGBA{uint8(rnd.IntN(200)), uint8(rnd.IntN(200)), uint8(rnd.IntN(200)), 255}), image.Point{}, draw.Src)
	}
	return img
}

func encoded(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func thumb(t testing.TB, img image.Image) *Thumb {
	t.Helper()
	th, err := Thumbnail(encoded(t, img))
	if err != nil {
		t.Fatal(err)
	}
	return th
}

func TestThumbnail(t *testing.T) {
	noise := image.NewNRGBA(image.Rect(0, 0, 640, 512))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(rand.IntN(256))
	}
	palette := image.NewPaletted(image.Rect(0, 0, 300, 300), color.Palette{color.White, color.Black})
	for name, c := range map[string]struct {
		img           image.Image
		width, height int
	}{
		"a screen":      {drawn(1, 640, 512, color.White), 240, 180},
		"a long page":   {drawn(2, 640, 4500, color.White), 240, 180},
		"a flat one":    {drawn(3, 640, 20, color.White), 240, 7},
		"a small one":   {drawn(4, 20, 10, color.White), 20, 10},
		"one pixel":     {image.NewNRGBA(image.Rect(0, 0, 1, 1)), 1, 1},
		"noise":         {noise, 240, 180},
		"grey":          {image.NewGray(image.Rect(0, 0, 300, 300)), 240, 180},
		"of few colors": {palette, 240, 180},
	} {
		th := thumb(t, c.img)
		got, err := jpeg.DecodeConfig(bytes.NewReader(th.JPEG))
		if err != nil || got.Width != c.width || got.Height != c.height || th.Width != c.width || th.Height != c.height || len(th.JPEG) > maxThumb {
			t.Errorf("%s: %+v, %v, %d bytes; want %d × %d", name, got, err, len(th.JPEG), c.width, c.height)
		}
	}
	// What is not there is white, and JPEG is read, too.
	clear := thumb(t, image.NewNRGBA(image.Rect(0, 0, 100, 100)))
	if clear.light != 255 {
		t.Errorf("what is not there has a light of %d", clear.light)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, drawn(1, 640, 512, color.White), nil); err != nil {
		t.Fatal(err)
	}
	if th, err := Thumbnail(b.Bytes()); err != nil || !th.alike(thumb(t, drawn(1, 640, 512, color.White))) {
		t.Errorf("as JPEG: %v", err)
	}
}

// What strangers may have put into the bucket's picture.
func TestNoThumbnail(t *testing.T) {
	whole := encoded(t, drawn(1, 640, 480, color.White))
	bomb := bytes.Clone(whole)
	binary.BigEndian.PutUint32(bomb[16:], 60_000) // width and height of the header, with its checksum
	binary.BigEndian.PutUint32(bomb[20:], 60_000)
	binary.BigEndian.PutUint32(bomb[29:], crc32.ChecksumIEEE(bomb[12:29]))
	for name, data := range map[string][]byte{
		"nothing": nil, "text": []byte("<svg onload=alert(1)>"), "cut off": whole[:len(whole)/2], "a bomb": bomb,
		"no JPEG": {0xff, 0xd8, 0xff}, "a GIF": []byte("GIF89a\x01\x00\x01\x00"),
	} {
		if th, err := Thumbnail(data); err == nil {
			t.Errorf("%s: %+v", name, th)
		}
	}
}

func TestAlike(t *testing.T) {
	a, b := thumb(t, drawn(1, 640, 512, color.White)), thumb(t, drawn(2, 640, 512, color.White))
	img := drawn(1, 640, 512, color.White).(*image.NRGBA)
	draw.Draw(img, image.Rect(300, 10, 350, 20), image.NewUniform(color.Black), image.Point{}, draw.Src) // another date
	again := thumb(t, img)
	white, black := thumb(t, image.NewNRGBA(image.Rect(0, 0, 800, 600))), thumb(t, image.NewGray(image.Rect(0, 0, 800, 600)))
	if !a.alike(again) || a.alike(b) || white.alike(black) {
		t.Errorf("alike: the same with another date %v, another page %v, white and black %v", a.alike(again), a.alike(b), white.alike(black))
	}
}

func cells(t testing.TB) []Cell {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	one := thumb(t, drawn(1, 640, 512, color.White))
	return []Cell{
		{Line: 1, CustomID: "home", Status: "succeeded", URL: "https://example.com/", Result: "/v1/jobs/job_1/result", About: "1280 × 1024, 9 kB", Thumb: one},
		{Line: 2, CustomID: evil, Status: "succeeded", URL: "https://example.com/?q=" + evil, Result: evil, About: evil, Thumb: thumb(t, drawn(2, 640, 512, color.White))},
		{Line: 3, CustomID: "</title></style><style>*{background:url(https://evil.example/)}</style>", Status: "failed", URL: "javascript:alert(1)", Code: evil, Detail: evil},
		{Line: 4, CustomID: "again", Status: "succeeded", URL: "https://example.com/", Result: "/r", Thumb: one},
		{Line: 5, Status: "succeeded", URL: "", Result: "/r", About: "3 pages, 80 kB", Why: "PDF"},
		{Line: 6, Status: "canceled", URL: "data:text/html,<script>alert(1)</script>", Code: "batch_canceled", Detail: "\u202egnp.exe"},
	}
}

// No text becomes markup, and nothing in the file leads out of it but links to
// web pages.
func TestSheetIsClosed(t *testing.T) {
	var b bytes.Buffer
	if err := Begin(&b, `</title><script>alert(1)</script>`); err != nil {
		t.Fatal(err)
	}
	if err := Write(&b, &Sheet{Title: `<b onclick="x">`, Status: "completed", Made: time.Now().UTC(), Cells: cells(t)}); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		for _, a := range n.Attr {
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "srcset", a.Key == "background":
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			case a.Key == "src" && !strings.HasPrefix(a.Val, "data:image/jpeg;base64,"), a.Key == "href" && !strings.HasPrefix(a.Val, "https://example.com/"):
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "script", "link", "iframe", "object", "embed", "base", "form", "svg":
			t.Errorf("<%s>", n.Data)
		}
	}
	if count["figure"] != 6 || count["img"] != 3 || count["style"] != 1 || count["section"] != 5 || count["a"] != 3 || count["meta"] != 4 {
		t.Errorf("%v", count)
	}
	if strings.Contains(style, "url(") || strings.Contains(style, "@import") || strings.Contains(style, "<") {
		t.Error("the style leads out of the file, or out of its element")
	}
}

func TestGroups(t *testing.T) {
	s := &Sheet{Cells: cells(t)}
	var got []string
	for _, g := range s.groups() {
		var lines []string
		for _, c := range g.Cells {
			lines = append(lines, fmt.Sprint(c.Line))
		}
		got = append(got, strings.Join(lines, "+"))
	}
	if want := "1+4 2 3 5 6"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func BenchmarkThumbnail(b *testing.B) {
	data := encoded(b, drawn(1, 1280, 1024, color.White))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Thumbnail(data); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzThumbnail(f *testing.F) {
	small := encoded(f, drawn(1, 64, 48, color.White))
	f.Add(small)
	f.Add(small[:100])
	var b bytes.Buffer
	if err := jpeg.Encode(&b, drawn(1, 64, 48, color.White), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		th, err := Thumbnail(data)
		if err == nil && (th.Width < 1 || th.Width > thumbWidth || th.Height < 1 || th.Height > thumbHeight) {
			t.Errorf("%d × %d", th.Width, th.Height)
		}
	})
}
