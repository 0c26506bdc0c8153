package option

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The table says of each option all that its readers need.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, o := range Table {
		switch {
		case seen[o.Name]:
			t.Errorf("%s is there twice", o.Name)
		case !regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`).MatchString(o.Name):
			t.Errorf("%s is no name in small letters", o.Name)
		case !strings.HasSuffix(o.Doc, "."):
			t.Errorf("%s: its words do not end in a full stop", o.Name)
		case o.Group == "" || o.Kind == "":
			t.Errorf("%s has no heading or no kind", o.Name)
		case o.Enum != nil && o.Default != nil && !slices.Contains(o.Enum, o.Default.(string)):
			t.Errorf("%s is %v by itself, which it cannot be", o.Name, o.Default)
		case o.Kind == Flag && o.Default == nil && o.Name != "mobile" && o.Name != "touch":
			t.Errorf("%s does not say what it is by itself", o.Name)
		case (o.Pattern == "") != (o.Form == ""):
			t.Errorf("%s does not say in words what form it has", o.Name)
		case strings.HasSuffix(o.Name, "_ms") && o.Unit != "milliseconds":
			t.Errorf("%s is in milliseconds", o.Name)
		}
		seen[o.Name] = true
		for name, word := range o.Also {
			if !slices.Contains(o.Enum, word) || slices.Contains(o.Enum, name) {
				t.Errorf("%s: %s cannot stand for %s", o.Name, name, word)
			}
		}
		for _, f := range o.For {
			if !slices.Contains([]string{"png", "jpeg", "webp", "pdf", "html", "mhtml", "markdown", "text"}, f) {
				t.Errorf("%s is for %s, which is no format", o.Name, f)
			}
		}
	}
}

// Names of other services lead to options of ours, and none is one.
func TestElsewhere(t *testing.T) {
	ours := func(name string) bool {
		return slices.ContainsFunc(Table, func(o Option) bool { return o.Name == name })
	}
	for theirs, name := range renamed {
		if name, _, _ := strings.Cut(name, ","); !ours(name) && !slices.Contains(beside, name) {
			t.Errorf("%s is said to be %s here, which is no option", theirs, name)
		}
		if ours(theirs) {
			t.Errorf("%s is an option and has another name", theirs)
		}
	}
	for _, o := range Table {
		if why := Elsewhere(o.Name); why != "" {
			t.Errorf("%s is an option and refused: %s", o.Name, why)
		}
	}
	for name, want := range map[string]string{
		"video_codec": "moving pictures are not made", "s3_bucket": "own store", "viewport_width": "here it is width",
		"watermark_text": "not written on", "llm_prompt": "no language model", "options": "beside url", "failOnHttpStatusCodes": "here it is fail_on_4xx, and fail_on_5xx", "delay": "here it is delay_ms, in milliseconds", "colour": "",
	} {
		if got := Elsewhere(name); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for format, offered := range map[string]bool{"avif": true, "AVIF": true, "gif": true, "png": false, "nonsense": false} {
		if got := FormatElsewhere(format); (got != "") != offered {
			t.Errorf("%s: %q", format, got)
		}
	}
}
