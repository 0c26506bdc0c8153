package worker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// inTheWay is a page whose images and whose form stand in the place of what
// scripts ask a document and an element for: document.querySelector is an image
// here, in every world.
func inTheWay() string {
	var b strings.Builder
	b.WriteString(`<!doctype html><meta charset=utf-8><title>In the way</title><style>body{margin:0;background:#0000ff}
		form{margin-left:100px;width:100px;height:50px;background:#ff0000} form:hover{background:#ffff00} #low{margin-top:1000px} y{position:fixed}</style>`)
	for _, name := range []string{
		"addEventListener", "adoptedStyleSheets", "body", "contains", "createElement", "createTreeWalker", "defaultView", "documentElement",
		"elementFromPoint", "fonts", "getAnimations", "head", "images", "querySelector", "querySelectorAll", "readyState", "scrollingElement", "title",
	} {
		fmt.Fprintf(&b, "<img name=%s style='display:none'>", name)
	}
	b.WriteString(`<img id=tintypeSheets style="display:none">`)
	for _, id := range []string{"top", "low"} {
		fmt.Fprintf(&b, "<form id=%s onclick=\"event.currentTarget.setAttribute('style','background:#00ff00')\" onsubmit='return false'>", id)
		for _, name := range []string{
			"append", "checkVisibility", "children", "contains", "contentDocument", "getAnimations", "getBoundingClientRect", "getClientRects", "innerText",
			"isConnected", "matches", "nodeType", "parentElement", "parentNode", "querySelectorAll", "replaceWith", "scrollIntoView", "shadowRoot", "style", "textContent",
		} {
			fmt.Fprintf(&b, "<input type=hidden name=%s>", name)
		}
		b.WriteString("</form>")
	}
	return b.String() + "<p>words &#xE000;<div style='height:500px'></div><script>low.after(document.createElementNS('urn:x', 'y'))</script>"
}

// What a page calls its images and inputs changes nothing of what our scripts
// see of it and do to it.
func TestClobberedPage(t *testing.T) {
	all := &studio{bench: newBench(t, nil)}
	page := inTheWay()
	run := func(name string, test func(*studio)) {
		t.Run(name, func(t *testing.T) { test(all.with(t)) })
	}
	of := func(change func(*job.Spec)) func(*job.Spec) {
		return func(s *job.Spec) {
			s.HTML = page
			if change != nil {
				change(s)
			}
		}
	}
	yellow := red
	yellow.G = 255

	run("plain", func(s *studio) {
		img, e := s.picture(of(nil))
		s.wantColor(img, 150, 25, red)
		if e.Title != "In the way" || e.MissingGlyphs != 1 || e.UnloadedImages != 0 || len(e.TimedOut)+len(e.ConsoleErrors) > 0 {
			s.Errorf("evidence %+v", e)
		}
	})
	run("acts", func(s *studio) {
		img, e := s.picture(of(func(s *job.Spec) {
			s.CSS = "@import 'data:text/css,form{width:200px}';"
			s.Click, s.Hover, s.FailIfSelectorMissing = []string{"#top"}, "#top", true
			s.WaitFor, s.WaitToLeave = "form", ".nothing"
		}))
		s.wantColor(img, 250, 25, green)
		if len(e.TimedOut) > 0 {
			s.Errorf("evidence %+v", e)
		}
		img, _ = s.picture(of(func(s *job.Spec) { s.CSS, s.HideSelector, s.Hover = "form{width:200px}", "p", "#top" }))
		s.wantColor(img, 250, 25, yellow)
		img, _ = s.picture(of(func(s *job.Spec) { s.ScrollTo, s.FailIfSelectorMissing = "#low", true }))
		s.wantColor(img, 150, 25, red)
		s.wantColor(img, 150, 75, blue)
		img, _ = s.picture(of(func(s *job.Spec) { s.Click = []string{"#low"} })) // out of view, and back
		s.wantColor(img, 150, 25, red)
	})
	run("rules", func(s *studio) {
		s.picture(of(func(s *job.Spec) {
			s.FailIfContentMissing, s.FailIfContentContains, s.FailIfSelectorPresent = []string{"words"}, []string{"others"}, "table"
		}))
		s.wantFailure(job.FailOn, of(func(s *job.Spec) { s.FailIfContentContains = []string{"words"} }))
		s.wantFailure(job.FailOn, of(func(s *job.Spec) { s.FailIfContentMissing = []string{"others"} }))
		s.wantFailure(job.FailOn, of(func(s *job.Spec) { s.FailIfSelectorPresent = "#low" }))
		s.wantFailure(job.WaitTimeout, of(func(s *job.Spec) { s.WaitToLeave, s.WaitTimeoutMS = "form", 100 }))
	})
	run("part", func(s *studio) {
		img, _ := s.picture(of(func(s *job.Spec) { s.Selector = "#low" }))
		s.wantSize(img, 100, 50)
		s.wantColor(img, 50, 25, red)
	})
	run("whole", func(s *studio) {
		for _, mode := range []string{"", "stitch"} {
			img, _ := s.picture(of(func(s *job.Spec) {
				s.FullPage, s.FullPageMode, s.CSS = true, mode, "#top{position:fixed;top:0;left:0} #low{position:sticky} p{margin:0;height:50px}"
			}))
			s.wantSize(img, 320, 1600)
			s.wantColor(img, 150, 25, red)
			s.wantColor(img, 150, 225, blue)
			s.wantColor(img, 150, 1025, red)
		}
	})
	run("deterministic", func(s *studio) {
		img, _ := s.picture(of(func(s *job.Spec) { s.Deterministic, s.Click = true, []string{"#top"} }))
		s.wantColor(img, 150, 25, green)
	})
	run("document", func(s *studio) {
		for _, full := range []bool{false, true} {
			out := s.render(of(func(s *job.Spec) { s.Format, s.FullPage = job.PDF, full }))
			if out.Failure != nil || full && out.Artifact.Pages != 1 {
				s.Errorf("full page %t: %v, %+v", full, out.Failure, out.Artifact)
			}
		}
	})
}
