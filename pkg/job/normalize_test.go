package job

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/option"
)

// page is a spec that is right, with these fields on top.
func page(t *testing.T, fields map[string]any) *Spec {
	t.Helper()
	s := Defaults()
	s.URL = "https://example.com/"
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for _, into := range []any{&s, &s.Secrets} {
		if err := json.Unmarshal(b, into); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
	return &s
}

// sample is a value of an option that is not its default.
func sample(o option.Option) any {
	special := map[string]any{
		"clip": "0,0,10,10", "img_bg": "abc", "user_agent": "me", "basic_auth": "a:b", "accept_lang": "de",
		"pdf_page_range": "1-2", "pdf_margin": "none", "pdf_scale": 0.5, "tz": "Europe/Berlin",
	}
	if v, ok := special[o.Name]; ok {
		return v
	}
	switch o.Kind {
	case option.Flag:
		return o.Default != true
	case option.Whole, option.Number:
		return max(o.Min, 1)
	case option.List:
		if o.Enum != nil {
			return o.Enum[:1]
		}
		return []string{"a"}
	case option.Object:
		return map[string]string{"A": "b"}
	}
	if o.Enum != nil {
		return o.Enum[slices.IndexFunc(o.Enum, func(s string) bool { return s != o.Default })]
	}
	if strings.HasSuffix(o.Name, "selector") {
		return "#a"
	}
	return strings.Repeat("1", max(1, int(o.Min)))
}

// A spec has a field for each option, of a kind that can hold it, and can tell
// its absence.
func TestEveryOptionHasAField(t *testing.T) {
	for _, o := range option.Table {
		if o.Name == "retina" {
			continue // it stands for device_scale_factor
		}
		i := slices.IndexFunc(rows, func(r *row) bool { return r.Name == o.Name })
		if i < 0 {
			t.Errorf("a spec has no field %s", o.Name)
			continue
		}
		r := rows[i]
		kind := reflect.TypeFor[Spec]().FieldByIndex(r.index).Type
		if o.Default == true && r.absent && kind.Kind() != reflect.Pointer {
			t.Errorf("%s is true by itself, and its field cannot tell that from false", o.Name)
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		want := map[option.Kind]reflect.Kind{
			option.Text: reflect.String, option.Whole: reflect.Int, option.Number: reflect.Float64, option.Flag: reflect.Bool,
			option.List: reflect.Slice, option.Object: reflect.Map,
		}[o.Kind]
		if kind.Kind() != want {
			t.Errorf("%s is a %s, and its field a %s", o.Name, o.Kind, kind)
		}
		if slices.Contains(r.needs, nil) {
			t.Errorf("%s needs one of %v, which are not all options", o.Name, o.Needs)
		}
	}
}

// What is said and is so by itself is as if it was not said.
func TestDefaultsAreNotKept(t *testing.T) {
	plain := page(t, nil)
	if errs := plain.Normalize(60_000); len(errs) > 0 {
		t.Fatal(errs[0])
	}
	for _, o := range option.Table {
		if o.Default == nil || o.Name == "retina" {
			continue
		}
		s := page(t, map[string]any{o.Name: o.Default})
		if errs := s.Normalize(60_000); len(errs) > 0 {
			t.Errorf("%s at its default: %v", o.Name, errs[0])
		}
		if got, want := string(s.Marshal()), string(plain.Marshal()); got != want {
			t.Errorf("%s at its default:\n%s, want\n%s", o.Name, got, want)
		}
	}
}

// Each option goes where the table says, and nowhere else.
func TestOptionsGoTogether(t *testing.T) {
	for _, r := range rows {
		o := r.Option
		if slices.Contains([]string{"url", "html", "markdown", "format"}, o.Name) || !r.absent {
			continue
		}
		fields := map[string]any{o.Name: sample(o)}
		for _, n := range r.needs {
			fields[n.Name] = sample(n.Option)
			for _, further := range n.needs {
				fields[further.Name] = sample(further.Option)
			}
		}
		if o.For != nil && !slices.Contains(o.For, "png") {
			fields["format"] = o.For[0]
		}
		told := func() (about []string) {
			for _, e := range page(t, fields).Normalize(60_000) {
				if e.Others && e.Field == o.Name {
					about = append(about, e.Detail)
				}
			}
			return about
		}
		if got := told(); len(got) > 0 {
			t.Errorf("%v: %q", fields, got)
		}
		if r.needs != nil && o.Name != "img_position" { // img_fit of that is so by itself
			for _, n := range r.needs {
				delete(fields, n.Name)
			}
			if got := told(); len(got) != 1 || !strings.HasPrefix(got[0], "goes with "+o.Needs[0]) {
				t.Errorf("%s without %v: %q", o.Name, o.Needs, got)
			}
			for _, f := range o.Alone {
				fields["format"] = f
				if got := told(); len(got) > 0 {
					t.Errorf("%s without %v for %s: %q", o.Name, o.Needs, f, got)
				}
			}
		}
		for _, f := range Formats {
			if fields["format"] = f; !o.ForFormat(string(f)) {
				if got := told(); len(got) != 1 || !strings.HasPrefix(got[0], "is for ") || !strings.Contains(got[0], string(f)) {
					t.Errorf("%s for %s: %q", o.Name, f, got)
				}
			}
		}
	}
}

// Bounds are told in the words of the table.
func TestBoundsOfOptions(t *testing.T) {
	for _, o := range option.Table {
		var fields []any
		switch {
		case o.Enum != nil && o.Kind == option.Text:
			fields = append(fields, "nonsense", strings.Repeat("n", 1000))
		case o.Kind == option.Text && o.Max > 0:
			fields = append(fields, strings.Repeat("1", int(o.Max)+1))
		case o.Kind == option.Text && o.Pattern != "":
			fields = append(fields, "\x01", "no\x7f")
		case (o.Kind == option.Whole || o.Kind == option.Number) && o.Max > 0:
			fields = append(fields, o.Max+1, -181)
		case o.Kind == option.List:
			fields = append(fields, slices.Repeat([]string{"image"}, int(o.Max)+1), []string{""})
		case o.Kind == option.Object:
			many := make(map[string]string)
			for i := range int(o.Max) + 1 {
				many[fmt.Sprint(i)] = "x"
			}
			fields = append(fields, many, map[string]string{"a": strings.Repeat("x", o.Each+1)})
		}
		for _, v := range fields {
			told := ""
			for _, e := range page(t, map[string]any{o.Name: v}).Normalize(60_000) {
				if e.Field == o.Name && !e.Others {
					told = e.Detail
				}
			}
			if told == "" || len(told) > 1000 {
				t.Errorf("%s: %.50v: told %q", o.Name, v, told)
			}
			if o.Unit != "" && !strings.Contains(told, o.Unit) {
				t.Errorf("%s: %q does not name its unit", o.Name, told)
			}
		}
	}
}

func TestSpellings(t *testing.T) {
	s := page(t, map[string]any{"format": "pdf", "pdf_page_size": "a4"})
	if errs := s.Normalize(60_000); len(errs) > 0 || s.PDFPageSize != "" {
		t.Errorf("a4: %q, %v", s.PDFPageSize, errs)
	}
	s = page(t, map[string]any{"format": "pdf", "pdf_page_size": "letter"})
	if errs := s.Normalize(60_000); len(errs) > 0 || s.PDFPageSize != "Letter" {
		t.Errorf("letter: %q, %v", s.PDFPageSize, errs)
	}
	s = page(t, map[string]any{"block_resources": []string{"image", "document"}})
	if errs := s.Normalize(60_000); len(errs) > 0 || strings.Join(s.BlockResources, " ") != "image frame" {
		t.Errorf("document: %q, %v", s.BlockResources, errs)
	}
	s = page(t, map[string]any{"format": "avif"})
	if errs := s.Normalize(60_000); len(errs) != 1 || !strings.Contains(errs[0].Detail, "no encoder") {
		t.Errorf("avif: %v", errs)
	}
}

// Normalising what is normal changes nothing.
func TestNormalizeTwice(t *testing.T) {
	for _, r := range rows {
		fields := map[string]any{r.Name: sample(r.Option)}
		if r.Name == "url" || r.Name == "html" {
			continue
		}
		s := page(t, fields)
		s.Normalize(60_000)
		once := s.Marshal()
		s.Normalize(60_000)
		if got := s.Marshal(); string(got) != string(once) {
			t.Errorf("%s, then %s", once, got)
		}
	}
}

func BenchmarkNormalize(b *testing.B) {
	s := Defaults()
	s.URL = "https://example.com/"
	b.ReportAllocs()
	for b.Loop() {
		if errs := s.Normalize(60_000); len(errs) > 0 {
			b.Fatal(errs[0])
		}
	}
}
