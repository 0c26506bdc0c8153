package worker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/font"
)

// Characters that show as an empty box are counted, and no others, whether they
// are known beforehand or looked at.
func TestMissingGlyphs(t *testing.T) {
	known, err := font.Known()
	if err != nil {
		needtest.Browser(t) // which skips where nothing is installed
		t.Fatal(err)
	}
	var everyday strings.Builder
	for _, s := range font.Scripts {
		fmt.Fprintf(&everyday, "<p lang=%s>%s", s.Name, s.Probe)
	}
	// Some that no page is expected to have, so that each is looked at.
	var rare string
	for _, block := range [][2]rune{{0x16A0, 0x16EA}, {0x2D30, 0x2D67}, {0xA840, 0xA877}, {0x10330, 0x1034A}, {0x1F030, 0x1F093}} {
		for r := block[0]; r <= block[1]; r++ {
			if known.Has(r) {
				rare += string(r)
			}
		}
	}
	if len(rare) == 0 {
		t.Fatal("this machine has fonts for nothing rare")
	}
	b := newBench(t, nil)
	for what, c := range map[string]struct {
		html string
		want int
	}{
		"what pages are expected to have": {everyday.String(), 0},
		"what they are not":               {"<p>" + rare + "<p style='font:bold 30px monospace'>" + rare, 0},
		"no character":                    {"<p>It’s &#x378; and &#x378;&#x378;", 3},
		"of private use":                  {"<p>A&#xE000;B<p style='font-family:monospace'>&#xE000;&#xF8FE;", 3},
		"beside others":                   {"<h1>日本語 &#xE123;</h1>" + rare + "<b>😀&#xE123;</b>", 2},
		"not shown":                       {"<p style='display:none'>&#xE000;</p><p style='visibility:hidden'>&#xE000;</p><script>'\ue000'</script><style>/*\ue000*/</style><p>x", 0},
		"nothing":                         {"", 0},
		"many":                            {"<p>" + strings.Repeat("&#xE000;", 5000), 5000},
		"spaces and marks":                {"<p>&#x2003;&#x200D;&#xFE0F;&#xAD;e&#x301;&#x202E;x&#x2800;&#x3164;", 0},
	} {
		out := b.render(func(s *job.Spec) { s.HTML = "<!doctype html><meta charset=utf-8><body>" + c.html })
		if out.Failure != nil || out.Evidence.MissingGlyphs != c.want {
			t.Errorf("%s: %d are missing, want %d (%v)", what, out.Evidence.MissingGlyphs, c.want, out.Failure)
		}
	}
}

// The evidence says when a page got how far, in the order in which it did.
func TestMilestones(t *testing.T) {
	b := newBench(t, nil)
	out := b.render(func(s *job.Spec) { s.HTML, s.DelayMS = "<h1>Hello", 30 })
	m := out.Evidence.Timings
	if out.Failure != nil || m == nil {
		t.Fatalf("%v, %+v", out.Failure, m)
	}
	if m.CommittedMS < 1 || m.ParsedMS < 1 || m.PaintedMS < 1 || m.LoadedMS < m.ParsedMS || m.ReadyMS < m.LoadedMS+30 || m.CapturedMS < m.ReadyMS || m.CapturedMS > out.Timings.TotalMS+1 {
		t.Errorf("%+v of %+v", m, out.Timings)
	}
	out = b.render(func(s *job.Spec) { s.URL = "http://nowhere.invalid/" })
	if out.Failure == nil || out.Evidence.Timings != nil {
		t.Errorf("without a document: %v, %+v", out.Failure, out.Evidence.Timings)
	}
}
