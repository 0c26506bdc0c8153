package job

import (
	"strings"
	"testing"
)

func TestNotSelector(t *testing.T) {
	for _, good := range []string{
		"a", "*", "#id", ".a.b > c ~ d + e", "ul li:nth-child(2n + 1)", `[href="a]b{,;"]`, `[data-x='"']`, "a, b , c",
		`.sm\:flex`, `#\31 23`, ":has(> img)", ":is(h1, h2):not(.x, [y])", "svg|rect", "*|*", "::part(x)", "a::before", "div p", "Ünïcode",
		`[a$="x" i]`, "h1", "a-1", ".a1 b2", "#a-5", "--5", "a:nth-child(5)", "a[b=\"5\"] > c", `\31 23 a`, "\\31\r\n23", `.\000031 2`, `.\35 5`, "é5", `\-5`, "custom-element", "a>b", " a ", `.w-1\/2`, `a:hover`, `[a=b]`, `.\@x`,
	} {
		if why := notSelector(good); why != "" {
			t.Errorf("%s: %s", good, why)
		}
	}
	for bad, why := range map[string]string{
		"": "missing", " ": "missing", "a,": "missing", ",a": "missing", "a,,b": "missing", "//div": "XPath", "xpath=//a": "XPath",
		"a[": "missing at its end", "a]": "closes", "a(]": "closes", `a["x]`: "no end", "a {": "no place", "a}": "no place", "a;b": "no place",
		"> a": "begins", "a >": "ends", "a > , b": "missing", `a\`: "backslash", "a.": "no name", "#": "no name", `"a"`: "quote", "@media": "no place", "<div>": "no place",
		"a['x\ny']": "no end", "100%": "digit", "a%": "no place",
		"123": "digit", "#1a": `[id="1a"]`, ".5x": `[class~="1a"]`, "-5": "digit", "#-5": "digit", "a, 5": "digit", "a 5": "digit", "a>5": "digit", "a:5": "digit", `\31  5`: "digit", "a -5": "digit",
	} {
		if got := notSelector(bad); !strings.Contains(got, why) {
			t.Errorf("%s: %q, want %q in it", bad, got, why)
		}
	}
}

func FuzzNotSelector(f *testing.F) {
	f.Add(`a[b="c"] > d, e:not(f)`)
	f.Add(`\`)
	f.Fuzz(func(t *testing.T, text string) {
		// What has no brackets, quotes or escapes cannot be refused for them.
		if why := notSelector(text); !strings.ContainsAny(text, `()[]"'\`) && (strings.Contains(why, "closes") || strings.Contains(why, "quoted") || strings.Contains(why, "backslash")) {
			t.Errorf("%q: %s", text, why)
		}
	})
}

func TestChecksOfActs(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Spec)
		field  string
	}{
		"selectors": {func(s *Spec) { s.Click = []string{"a", "b["} }, "click/1"},
		"hover":     {func(s *Spec) { s.Hover = "//x" }, "hover"},
		"scroll":    {func(s *Spec) { s.ScrollTo = "12px;" }, "scroll_to"},
		"wait":      {func(s *Spec) { s.WaitFor = "a," }, "wait_for"},
		"leave":     {func(s *Spec) { s.WaitToLeave = "a)" }, "wait_to_leave"},
		"present":   {func(s *Spec) { s.FailIfSelectorPresent = "{}" }, "fail_if_selector_present"},
		"hide":      {func(s *Spec) { s.HideSelector = "a{}" }, "hide_selector"},
		"good": {func(s *Spec) {
			s.Click, s.Hover, s.ScrollTo, s.WaitFor = []string{"a"}, "b", "1200", "c"
		}, ""},
	} {
		s := Defaults()
		s.URL = "http://example.com/"
		tt.change(&s)
		errs := s.Normalize(60_000)
		switch {
		case tt.field == "" && len(errs) > 0:
			t.Errorf("%s: %v", name, errs[0])
		case tt.field != "" && (len(errs) != 1 || errs[0].Field != tt.field):
			t.Errorf("%s: %v, want one of %s", name, errs, tt.field)
		}
	}
	for text, want := range map[string]string{
		"1000000000": "0 to 1000000", "1000001": "0 to 1000000", "-5": "0 to 1000000", "1e3": "0 to 1000000", "1.2.3": "0 to 1000000", "99999999px": "0 to 1000000", "5 x": `unit "x"`,
		"100em": `unit "em"`, "50%": `unit "%"`, "20 vh": `unit "vh"`, ".5e9": "0 to 1000000", "#1a": "[id=", "1000000": "", "1000000px": "", "0.5": "", "#a": "", ".e5": "",
	} {
		s := Defaults()
		s.URL, s.ScrollTo = "http://example.com/", text
		errs := s.Normalize(60_000)
		if want == "" && errs != nil || want != "" && (len(errs) != 1 || errs[0].Field != "scroll_to" || !strings.Contains(errs[0].Detail, want)) {
			t.Errorf("scroll_to %s: %v, want %q", text, errs, want)
		}
	}
	for text, want := range map[string]float64{"0": 0, "1200": 1200, "12.5px": 12.5} {
		s := Spec{SpecState: SpecState{ScrollTo: text}}
		if got, ok := s.ScrollTop(); !ok || got != want {
			t.Errorf("%s is %v, %t", text, got, ok)
		}
	}
	// What says nothing new is not said.
	pdf, png := Defaults(), Defaults()
	pdf.URL, png.URL = "http://example.com/", "http://example.com/"
	pdf.Format, pdf.Media, png.Media = PDF, "print", "screen"
	pdf.Normalize(60_000)
	png.Normalize(60_000)
	if pdf.Media != "" || png.Media != "" {
		t.Errorf("media stays: %q, %q", pdf.Media, png.Media)
	}
}
