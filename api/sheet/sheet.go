// Package sheet makes the contact sheet of a batch: one HTML file with a small
// picture of everything that was rendered.
//
// It promises that
//  1. the file asks nobody for anything: pictures and style are in it, there is
//     no script, and its policy (CSP) forbids all else, offline too;
//  2. no text of a client or a page becomes markup, and no link leads anywhere
//     but to http and https;
//  3. pictures that look alike stand together.
//
// It leaves to others: fetching artifacts, and how many lines there may be. The
// thumbnails are in memory until the sheet is written, at most 16 kB each.
package sheet

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"slices"
	"time"
)

// A Cell is one line of the batch.
type Cell struct {
	Line     int
	CustomID string
	Status   string // state of a job
	URL      string // of the page; empty where it was the client's own markup
	Result   string // where the artifact is; empty if there is none
	About    string // of the artifact, such as 1280 × 1024, 34 kB
	Code     string // why there is no artifact
	Detail   string
	Thumb    *Thumb // nil: there is no picture to show
	Why      string // why there is none, where there is an artifact
}

// A Sheet is what is shown.
type Sheet struct {
	Title  string
	Status string // of the batch
	Made   time.Time
	Cells  []Cell // in the order of lines
}

//go:embed sheet.css
var style string

//go:embed sheet.html
var page string

var pages = template.Must(template.New("sheet").Funcs(template.FuncMap{
	"picture": func(t *Thumb) template.URL {
		return template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(t.JPEG)) //nolint:gosec // our own bytes
	},
	"web": func(text string) string {
		if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return ""
		}
		return text
	},
	"style": func() template.HTML { return template.HTML("<style>" + style + "</style>") }, //nolint:gosec // our own file
}).Parse(page))

// Policy is the Content-Security-Policy that goes with a sheet, as a header.
func Policy() string { return policy() + "; frame-ancestors 'none'; sandbox allow-popups" }

func policy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}

// group is cells that stand together.
type group struct {
	Title string
	Alike bool
	Cells []*Cell
}

// Begin writes what comes before the cells, so that whoever waits sees
// something.
func Begin(w io.Writer, title string) error {
	return pages.ExecuteTemplate(w, "begin", struct{ Title, Policy string }{title, policy()})
}

// Write writes the rest.
func Write(w io.Writer, s *Sheet) error {
	counts := map[string]int{}
	for _, c := range s.Cells {
		counts[c.Status]++
	}
	type filter struct {
		Name  string
		Count int
	}
	filters := []filter{{"all", len(s.Cells)}}
	for _, name := range []string{"succeeded", "failed", "canceled", "expired"} {
		filters = append(filters, filter{name, counts[name]})
	}
	err := pages.ExecuteTemplate(w, "head", struct {
		*Sheet
		Filters []filter
	}{s, filters})
	for _, g := range s.groups() {
		if err == nil {
			err = pages.ExecuteTemplate(w, "group", g)
		}
	}
	if err == nil {
		err = pages.ExecuteTemplate(w, "end", nil)
	}
	return err
}

// groups are pictures that look alike, the most first; then those that nothing
// is like; then what is no picture, and what failed by why.
func (s *Sheet) groups() []group {
	var alike [][]*Cell
	rest := map[string]*group{}
	var order []string
	for i := range s.Cells {
		c := &s.Cells[i]
		if c.Thumb == nil {
			title := cmp.Or(c.Code, c.Why, c.Status)
			if rest[title] == nil {
				rest[title] = &group{Title: title}
				order = append(order, title)
			}
			rest[title].Cells = append(rest[title].Cells, c)
			continue
		}
		at := slices.IndexFunc(alike, func(g []*Cell) bool { return g[0].Thumb.alike(c.Thumb) })
		if at < 0 {
			alike, at = append(alike, nil), len(alike)
		}
		alike[at] = append(alike[at], c)
	}
	slices.SortStableFunc(alike, func(a, b []*Cell) int { return cmp.Compare(len(b), len(a)) })
	var out []group
	alone := group{Title: "unlike all others"}
	for _, cells := range alike {
		if len(cells) == 1 {
			alone.Cells = append(alone.Cells, cells[0])
			continue
		}
		out = append(out, group{Title: fmt.Sprintf("%d that look alike", len(cells)), Alike: true, Cells: cells})
	}
	if len(alone.Cells) > 0 {
		out = append(out, alone)
	}
	for _, title := range order {
		out = append(out, *rest[title])
	}
	return out
}
