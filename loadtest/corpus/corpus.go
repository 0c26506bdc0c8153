// Package corpus is a web site made of the kinds of pages that a farm meets: a
// set to measure with, each with pixels that are known, and a set of hostile
// ones, each with the end that a render of it must have.
//
// It promises that the same build serves the same bytes at each start, and that
// nothing it serves leads outside of it. Where and how the pages are rendered
// is left to its callers.
package corpus

import (
	"fmt"
	"image"
	"image/color"
	"io"
	"net/http"
	"strings"
	"time"
)

// A Page is one kind of page for measurements, made for a viewport of Width by
// Height.
type Page struct {
	Name   string
	Probes []Probe // pixels of a finished picture of the viewport
	// Late are right only when the picture waited for more than the load: for
	// what scripts fetch or fill in after it.
	Late []Probe
}

// Width and Height are the viewport that the probes are of.
const (
	Width  = 1280
	Height = 800
)

// A Probe is a pixel that is known.
type Probe struct {
	X, Y int
	Is   color.RGBA
}

// Path is where the page is served.
func (p Page) Path() string { return "/p/" + p.Name }

// The mark that every page bears in its corner says that its body was drawn
// and its style was there.
var (
	markColor = color.RGBA{R: 0x1b, G: 0x7f, B: 0x3b, A: 255}
	mark      = Probe{X: 4, Y: 4, Is: markColor}
	lateColor = color.RGBA{R: 0xd0, G: 0x30, B: 0x90, A: 255}
)

// LateAfter is how long the answer to a page's own request takes.
const LateAfter = 150 * time.Millisecond

// Pages are the kinds, in a fixed order.
func Pages() []Page {
	tile := func(i int) color.RGBA { return imageColor(i) }
	return []Page{
		{Name: "trivial", Probes: []Probe{mark}},
		{Name: "article", Probes: []Probe{mark}},
		{Name: "images", Probes: []Probe{mark, {60, 60, tile(0)}, {60 + 6*120, 60 + 3*90, tile(36)}}},
		{Name: "css", Probes: []Probe{mark}},
		{Name: "font", Probes: []Probe{mark}},
		{Name: "script", Probes: []Probe{mark, {1276, 796, lateColor}}},
		{Name: "canvas", Probes: []Probe{mark, {640, 400, lateColor}}},
		{Name: "long", Probes: []Probe{mark}},
		{Name: "lazy", Probes: []Probe{mark, {60, 60, tile(100)}}},
		{Name: "fetch", Probes: []Probe{mark}, Late: []Probe{{640, 400, lateColor}}},
		{Name: "table", Probes: []Probe{mark}},
		{Name: "animated", Probes: []Probe{mark}},
		{Name: "svg", Probes: []Probe{mark, {1276, 796, lateColor}}},
		{Name: "scripts", Probes: []Probe{mark}},
	}
}

// Check compares the probes with a picture of a page. late says whether
// everything that comes after the load must be there too.
func (p Page) Check(img image.Image, late bool) error {
	if got := img.Bounds().Size(); got != image.Pt(Width, Height) {
		return fmt.Errorf("%s: the picture is %d by %d", p.Name, got.X, got.Y)
	}
	probes := p.Probes
	if late {
		probes = append(probes[:len(probes):len(probes)], p.Late...)
	}
	for _, probe := range probes {
		r, g, b, _ := img.At(probe.X, probe.Y).RGBA()
		if far(r, probe.Is.R) || far(g, probe.Is.G) || far(b, probe.Is.B) {
			return fmt.Errorf("%s: pixel %d,%d is #%02x%02x%02x and not #%02x%02x%02x", p.Name, probe.X, probe.Y,
				r>>8, g>>8, b>>8, probe.Is.R, probe.Is.G, probe.Is.B)
		}
	}
	return nil
}

// far allows for what a codec rounds.
func far(got uint32, want uint8) bool {
	d := int(got>>8) - int(want)
	return d < -12 || d > 12
}

// Handler serves the pages, what they are made of, and the hostile ones.
func Handler() http.Handler {
	m := http.NewServeMux()
	body := pageBodies()
	for _, p := range Pages() {
		text := []byte(head(p.Name) + body[p.Name])
		m.HandleFunc("GET "+p.Path(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write(text)
		})
	}
	assets(m)
	traps(m)
	leaks(m)
	return m
}

// head begins a page: its mark stands in the corner.
func head(title string) string {
	return fmt.Sprintf(`<!doctype html><html lang="en"><meta charset="utf-8"><title>%s</title>
<style>body{margin:0;font:16px/1.5 sans-serif;background:#fff;color:#222}
#mark{position:absolute;left:0;top:0;width:8px;height:8px;background:#1b7f3b;z-index:9}</style><body><div id="mark"></div>
`, title)
}

// assets are what pages are made of. Browsers may keep them, as they may those
// of most sites.
func assets(m *http.ServeMux) {
	kept := func(w http.ResponseWriter, kind string) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "max-age=3600")
	}
	m.HandleFunc("GET /i/{n}", func(w http.ResponseWriter, r *http.Request) {
		b, kind := picture(r.PathValue("n"))
		if b == nil {
			http.NotFound(w, r)
			return
		}
		kept(w, kind)
		w.Write(b)
	})
	m.HandleFunc("GET /f/{name}", func(w http.ResponseWriter, r *http.Request) {
		b := fonts[strings.TrimSuffix(r.PathValue("name"), ".ttf")]
		if b == nil {
			http.NotFound(w, r)
			return
		}
		kept(w, "font/ttf")
		w.Write(b)
	})
	m.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		kept(w, "text/css")
		io.WriteString(w, heavyStyle)
	})
	m.HandleFunc("GET /late.json", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(LateAfter):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"color":"#d03090"}`)
	})
	m.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
}
