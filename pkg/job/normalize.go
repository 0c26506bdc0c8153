package job

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/option"
)

// A row is an option with where a spec has it.
type row struct {
	option.Option
	index   []int // of its field in a Spec
	absent  bool  // its zero value is its absence
	pattern *regexp.Regexp
	needs   []*row
}

// rows are the options that a spec has fields for, in the order of the table.
var rows = func() (list []*row) {
	fields := make(map[string]reflect.StructField)
	for _, of := range []reflect.Type{reflect.TypeFor[Spec](), reflect.TypeFor[Secrets]()} {
		for _, f := range reflect.VisibleFields(of) {
			if of == reflect.TypeFor[Secrets]() {
				at, _ := reflect.TypeFor[Spec]().FieldByName("Secrets")
				f.Index = append(slices.Clone(at.Index), f.Index...)
			}
			fields[f.Tag.Get("json")] = f
		}
	}
	named := make(map[string]*row)
	for _, o := range option.Table {
		r := &row{Option: o}
		f, ok := fields[o.Name]
		if !ok {
			f, r.absent = fields[o.Name+",omitempty"], true
		}
		if r.index = f.Index; r.index == nil {
			continue // retina, which stands for another one
		}
		if o.Pattern != "" {
			r.pattern = regexp.MustCompile(o.Pattern)
		}
		named[o.Name] = r
		list = append(list, r)
	}
	for _, r := range list {
		for _, name := range r.Needs {
			r.needs = append(r.needs, named[name])
		}
	}
	return list
}()

// Normalize brings every field into its one form: the URL serialised, other
// spellings of a word as that word, and what is said although it is so by itself
// as if it was not said. It checks every field and returns all that is wrong, in
// the order of the table. wallMS is the plan's wall budget, the upper bound of
// TimeoutMS.
func (s *Spec) Normalize(wallMS int) []*FieldError {
	errs := s.checkSource()
	sized := s.PDFPageSize != "" // before the default is taken for none
	at := reflect.ValueOf(s).Elem()
	var said []*row
	for _, r := range rows {
		v := at.FieldByIndex(r.index)
		if v.IsZero() && r.absent {
			continue
		}
		if r.absent {
			if r.settle(v); !v.IsZero() {
				said = append(said, r)
			}
		}
		if err := r.check(v, wallMS); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.checkTogether(at, said)...)
	if sized { // it goes before them
		s.PDFPageWidth, s.PDFPageHeight = "", ""
	}
	for _, own := range [][]*FieldError{s.checkSize(), s.checkActs(), s.checkDocument(), s.checkNetwork(), s.checkSecrets()} {
		errs = preferring(errs, own)
	}
	return errs
}

// formless begins what the table says of a text that its pattern does not
// match.
const formless = "does not have the form it must have: "

// preferring adds errors of fields that nothing was said of yet. They can tell
// more of a text's form than the table does.
func preferring(errs, better []*FieldError) []*FieldError {
	for _, e := range better {
		i := slices.IndexFunc(errs, func(old *FieldError) bool { return old.Field == e.Field })
		switch {
		case i < 0:
			errs = append(errs, e)
		case strings.HasPrefix(errs[i].Detail, formless):
			errs[i] = e
		}
	}
	return errs
}

// checkSource checks what says what to render.
func (s *Spec) checkSource() (errs []*FieldError) {
	var given []string
	for _, source := range []struct{ name, text string }{{"url", s.URL}, {"html", s.HTML}, {"markdown", s.Markdown}} {
		if source.text != "" {
			given = append(given, source.name)
		}
	}
	names := "url or html"
	if option.Find("markdown") != nil {
		names = "url, html or markdown"
	}
	switch {
	case len(given) == 0:
		errs = append(errs, &FieldError{Field: "url", Detail: "give " + names + ": one of them says what to render"})
	case len(given) > 1:
		errs = append(errs, &FieldError{Field: given[1], Detail: "give " + given[0] + " or " + given[1] + ", not both"})
	}
	if s.URL == "" {
		return errs
	}
	u, err := CheckURL(s.URL)
	if err != nil { // it stays, or others would say that there is none
		return append(errs, err)
	}
	s.URL = u
	return errs
}

// checkTogether checks what the options that are said have to do with each
// other.
func (s *Spec) checkTogether(at reflect.Value, said []*row) (errs []*FieldError) {
	for _, r := range said {
		bad := func(format string, args ...any) {
			errs = append(errs, &FieldError{Field: r.Name, Others: true, Detail: fmt.Sprintf(format, args...)})
		}
		if slices.Contains(Formats, s.Format) && !r.ForFormat(string(s.Format)) {
			bad("is for %s alone, and format is %s; leave it out, or ask for another format", strings.Join(r.For, ", "), s.Format)
			continue
		}
		if len(r.needs) > 0 && !slices.Contains(r.Alone, string(s.Format)) && !slices.ContainsFunc(r.needs, func(n *row) bool { return !at.FieldByIndex(n.index).IsZero() }) {
			bad("goes with %s; give that too, or leave this out", strings.Join(r.Needs, " or "))
		}
	}
	return errs
}

// settle takes a value that is so by itself for none.
func (r *row) settle(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		if r.Default != nil && v.Elem().Interface() == reflect.ValueOf(r.Default).Convert(v.Type().Elem()).Interface() {
			v.SetZero()
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		if word, ok := r.Also[v.String()]; ok {
			v.SetString(word)
		}
		if v.String() == r.Default {
			v.SetZero()
		}
	case reflect.Int:
		if d, ok := r.Default.(int); ok && v.Int() == int64(d) {
			v.SetZero()
		}
	case reflect.Float64:
		if r.Default != nil && v.Float() == reflect.ValueOf(r.Default).Convert(v.Type()).Float() {
			v.SetZero()
		}
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		}
	}
}

// check holds a value against its row.
func (r *row) check(v reflect.Value, wallMS int) *FieldError {
	bad := func(format string, args ...any) *FieldError {
		return &FieldError{Field: r.Name, Detail: fmt.Sprintf(format, args...)}
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch r.Kind {
	case option.Text:
		if word, ok := r.Also[v.String()]; ok {
			v.SetString(word)
		}
		if v.String() == "" && r.absent {
			return nil // it was what it is by itself
		}
		if text := r.wrongText(v.String()); text != "" {
			return bad("%s", text)
		}
	case option.Whole, option.Number:
		n, most, why := 0.0, r.Max, ""
		if v.CanInt() {
			n = float64(v.Int())
		} else {
			n = v.Float()
		}
		if r.Name == "timeout_ms" {
			most, why = float64(wallMS), " (the plan's wall budget)"
		}
		if v.IsZero() && r.absent || r.Min == 0 && most == 0 {
			return nil
		}
		if !(n >= r.Min && n <= most) { // the negation also catches NaN
			unit := r.Unit
			if unit != "" {
				unit = " " + unit
			}
			return bad("must be %s to %s%s%s, not %s", decimal(r.Min), decimal(most), unit, why, decimal(n))
		}
	case option.List:
		if r.Max > 0 && v.Len() > int(r.Max) {
			return bad("must have at most %d entries, not %d", int(r.Max), v.Len())
		}
		for i := range v.Len() {
			if word, ok := r.Also[v.Index(i).String()]; ok {
				v.Index(i).SetString(word)
			}
			if text := r.wrongEntry(v.Index(i).String()); text != "" {
				return bad("entry %d %s", i+1, text)
			}
		}
	case option.Object:
		if r.Max > 0 && v.Len() > int(r.Max) {
			return bad("must have at most %d members, not %d", int(r.Max), v.Len())
		}
		members, _ := v.Interface().(map[string]string)
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if r.Each > 0 && utf8.RuneCountInString(members[name]) > r.Each {
				return bad("%s must be at most %d characters long", shown(name), r.Each)
			}
		}
	}
	return nil
}

// wrongText says what is wrong with a text; empty if nothing is.
func (r *row) wrongText(text string) string {
	n := utf8.RuneCountInString(text)
	switch {
	case r.Name == "format" && option.FormatElsewhere(text) != "":
		return option.FormatElsewhere(text)
	case r.Enum != nil:
		if !slices.Contains(r.Enum, text) {
			return fmt.Sprintf("must be one of %s, not %s", strings.Join(r.Enum, ", "), shown(text))
		}
	case r.Min > 0 && n < int(r.Min):
		return fmt.Sprintf("must be at least %d characters long", int(r.Min))
	case r.Max > 0 && n > int(r.Max):
		return fmt.Sprintf("must be at most %d characters long, not %d", int(r.Max), n)
	case r.pattern != nil && !r.pattern.MatchString(text):
		return formless + r.Form
	}
	return ""
}

// wrongEntry says what is wrong with an entry of a list.
func (r *row) wrongEntry(text string) string {
	switch {
	case r.Enum != nil:
		if !slices.Contains(r.Enum, text) {
			return fmt.Sprintf("must be one of %s, not %s", strings.Join(r.Enum, ", "), shown(text))
		}
	case text == "":
		return "must not be empty"
	case r.Each > 0 && utf8.RuneCountInString(text) > r.Each:
		return fmt.Sprintf("must be at most %d characters long", r.Each)
	}
	return ""
}

// shown is a text of a client in quotes, cut where it is long.
func shown(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.Quote(strings.ToValidUTF8(text[:most], "")) + "…"
	}
	return strconv.Quote(text)
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
