package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/option"
)

const (
	maxBody     = 10_000_000 // bytes of a request's body
	maxProblems = 50         // told of one request
	maxPointer  = 200        // bytes of a pointer: names may be as long as the body
)

// An input is the object that a request sent, in its body or its query,
// checked against the contract. Members that are unknown or of the wrong type
// are taken out of it and stand in problems, so that the rest can be checked
// further and all problems be told at once.
type input struct {
	members  map[string]any
	problems []fault.Field
	prefix   string // of pointers: "/" for a body, "" for a query
	dropped  bool   // a member was taken out
	texts    bool   // its values came as texts, as in a query
	raw      []byte // the body as it came; nil when members were changed
}

// readBody reads a JSON body whole.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return nil, fault.New(fault.Invalid, "the body is compressed (%s); send it plain", strconv.Quote(enc))
	}
	tooLarge := fault.New(fault.TooLarge, "the body is larger than %d bytes", maxBody)
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, notArrived(r, err)
	}
	return body, nil
}

// notArrived is what came of a body that could not be read.
func notArrived(r *http.Request, err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Before the context: the server ends that too when the deadline of its
		// reads has passed, and the client is there to be told.
		return fault.Wrap(fault.Invalid, err, "the body did not arrive within %v; send it faster, or a smaller one", requestWithin)
	case r.Context().Err() != nil:
		return fault.Wrap(fault.Canceled, err, "the client went away")
	}
	f := malformed("the body did not arrive whole")
	f.Err = err
	return f
}

// decodeBody checks a body. Its error is a body that is no JSON object at
// all; anything smaller is a problem of the input.
func (op *operation) decodeBody(body []byte) (*input, error) {
	value, problems, err := parseJSON("body", body)
	if err != nil {
		return nil, err
	}
	members, ok := value.(map[string]any)
	if !ok {
		return nil, invalid(fault.Field{Pointer: "", Detail: "must be an object, not " + valueKind(value)})
	}
	in := &input{members: members, problems: problems, prefix: "/", raw: body}
	if len(problems) > 0 {
		in.raw = nil
	}
	in.check(op.body)
	return in, nil
}

// decodeQuery checks a query string the same way: what a parameter's type is
// stands in the contract.
func (op *operation) decodeQuery(raw string) *input {
	in := &input{members: make(map[string]any)}
	if raw == "" { // no parameter is required by the contract, and most requests have none
		return in
	}
	values, err := url.ParseQuery(raw)
	split := op.renders() && splitURL(raw)
	if err != nil {
		in.add("", "the query cannot be read: "+strings.TrimPrefix(err.Error(), "invalid "))
	}
	in.fill(values, op.query)
	in.check(op.query)
	for i, p := range in.problems {
		if split && values.Has(p.Pointer) && strings.HasPrefix(p.Detail, notOffered) {
			in.problems[i].Detail += "; if it is a part of the page's URL, percent-encode the value of url (? is %3F, & is %26)"
		}
	}
	in.pairs()
	return in
}

// splitURL reports a query whose url has a query of its own that is not
// escaped: it ends at its first &, and the rest of it are parameters here.
func splitURL(raw string) bool {
	_, value, _ := strings.Cut("&"+raw, "&url=")
	value, _, more := strings.Cut(value, "&")
	return more && strings.Contains(value, "?")
}

// fill reads texts as members of the types that the contract says.
func (in *input) fill(values url.Values, schema *openapi3.Schema) {
	in.texts = true
	for _, name := range slices.Sorted(maps.Keys(values)) {
		texts := values[name]
		if slices.ContainsFunc(texts, func(text string) bool { return !utf8.ValidString(text) || strings.Contains(text, "\x00") }) {
			in.add(name, "is not UTF-8 text without U+0000")
			continue
		}
		text := texts[0]
		in.members[name] = text
		p := schema.Properties[name]
		if p != nil && p.Value.Type.Is("array") {
			in.members[name] = entries(p.Value, texts)
			continue
		}
		if len(texts) > 1 {
			in.add(name, "is given twice")
		}
		if p == nil {
			continue
		}
		switch s := p.Value; {
		case s.Type.Is("integer"), s.Type.Is("number"):
			if isNumber(text) {
				in.members[name] = json.Number(text)
			}
		case s.Type.Is("boolean"):
			if text == "true" || text == "false" {
				in.members[name] = text == "true"
			}
		}
	}
}

// entries are texts as the list that the contract says. Words that are chosen
// from may stand in one text, with commas or blanks between them; anything else
// may hold those, and is one entry.
func entries(s *openapi3.Schema, texts []string) []any {
	list := []any{}
	for _, text := range texts {
		if s.Items == nil || s.Items.Value.Enum == nil {
			list = append(list, text)
			continue
		}
		for one := range strings.FieldsFuncSeq(text, func(c rune) bool { return strings.ContainsRune(" ,;|", c) }) {
			list = append(list, one)
		}
	}
	return list
}

// pairs makes objects of the lists of "Name: value" that stand for them where
// there are no objects.
func (in *input) pairs() {
	for _, o := range option.Table {
		list, ok := in.members[o.Name].([]any)
		if o.Kind != option.Object || !ok {
			continue
		}
		members := make(map[string]any, len(list))
		for _, one := range list {
			name, value, ok := strings.Cut(one.(string), ":")
			name = strings.TrimSpace(name)
			switch _, twice := members[name]; {
			case !ok:
				in.add(in.prefix+o.Name, "must be Name: value, and one has no colon")
			case twice:
				in.add(in.prefix+o.Name, "has "+quotedName(name)+" twice")
			}
			members[name] = strings.TrimSpace(value)
		}
		in.members[o.Name] = members
	}
}

// isNumber reports whether a text is a number as JSON writes it.
func isNumber(text string) bool {
	return json.Valid([]byte(text)) && strings.Trim(text, "0123456789+-.eE") == ""
}

func (in *input) add(pointer, detail string) {
	in.problems = append(in.problems, fault.Field{Pointer: pointer, Detail: detail})
}

func (in *input) drop(name string) {
	delete(in.members, name)
	in.dropped, in.raw = true, nil
}

// check holds the members against the schema of an object.
func (in *input) check(schema *openapi3.Schema) {
	for _, name := range slices.Sorted(maps.Keys(in.members)) {
		if _, ok := schema.Properties[name]; !ok {
			in.add(in.prefix+escape(name), unknownName(name, schema.Properties))
			in.drop(name)
			continue
		}
		// No double holds it: neither the contract's checks nor the decoder
		// could say what is wrong.
		if at, ok := hugeNumber(in.prefix+escape(name), in.members[name]); ok {
			in.add(at, "is too large a number")
			in.drop(name)
		}
	}
	for _, e := range violations(schema, in.members) {
		path := e.JSONPointer()
		for i := range path {
			path[i] = escape(path[i])
		}
		at := in.prefix + strings.Join(path, "/")
		if e.SchemaField == "pattern" && e.Value == "" && e.Schema.MinLength > 0 {
			continue // that it is empty is told
		}
		if e.SchemaField == "required" && in.has(at) {
			continue // it was given, and taken out
		}
		in.add(at, in.words(path, e))
	}
	for name, v := range in.members {
		s := schema.Properties[name].Value
		if !fits(s, v) {
			in.drop(name)
			continue
		}
		// 80.0 is a whole number, in JSON Schema and in what some languages
		// write; Go's decoder wants it as 80.
		if n, ok := v.(json.Number); ok && s.Type.Is("integer") {
			whole, ok := wholeNumber(n)
			switch {
			case !ok:
				if !in.has(in.prefix + name) {
					in.add(in.prefix+name, "is too large a number")
				}
				in.drop(name)
			case whole != n:
				in.members[name], in.raw = whole, nil
			}
		}
	}
}

// words says what a violation of the member that path leads to means.
func (in *input) words(path []string, e *openapi3.SchemaError) string {
	if text, ok := e.Value.(string); ok && in.texts && e.SchemaField == "type" {
		return "must be " + kindOf(e.Schema) + ", not " + quotedName(text)
	}
	if len(path) != 1 {
		return words(e)
	}
	if at := askedAt(e.Value); at != "" && path[0] == "format" && e.SchemaField == "enum" {
		return words(e) + fmt.Sprintf(" here; for %v ask %s", e.Value, at)
	}
	if o := option.Find(path[0]); o != nil && o.Form != "" && e.SchemaField == "pattern" {
		return formless + o.Form
	}
	return words(e)
}

func (in *input) has(pointer string) bool {
	return slices.ContainsFunc(in.problems, func(f fault.Field) bool { return f.Pointer == pointer })
}

// into fills v, a generated model, with what is left of the input.
func (in *input) into(v any) error {
	raw := in.raw
	if raw == nil {
		var err error
		if raw, err = json.Marshal(in.members); err != nil {
			return fmt.Errorf("input: %w", err)
		}
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	return nil
}

// invalid is the refusal of a request with these problems; nil for none.
func invalid(problems ...fault.Field) error {
	if len(problems) == 0 {
		return nil
	}
	f := fault.New(fault.Invalid, "the request has %d problems; errors lists them", len(problems))
	f.Fields = slices.Clone(problems[:min(len(problems), maxProblems)])
	for i, p := range f.Fields {
		if len(p.Pointer) > maxPointer {
			f.Fields[i].Pointer = strings.ToValidUTF8(p.Pointer[:maxPointer], "") + "…"
		}
	}
	if len(problems) == 1 {
		f.Detail = problems[0].Detail
		if name := strings.TrimPrefix(f.Fields[0].Pointer, "/"); name != "" {
			f.Detail = name + ": " + f.Detail
		}
	}
	return f
}

// fits reports whether v has the type that the schema asks for. Of lists and
// objects all is to be right.
func fits(s *openapi3.Schema, v any) bool {
	switch v := v.(type) {
	case string:
		return s.Type.Is("string") && !(s.Format == "date-time" && len(violations(s, v)) > 0)
	case bool:
		return s.Type.Is("boolean")
	case json.Number:
		return s.Type.Is("number") || s.Type.Is("integer") && len(violations(&openapi3.Schema{Type: s.Type}, v)) == 0
	case map[string]any:
		return s.Type.Is("object") && len(violations(s, v)) == 0
	case []any:
		return s.Type.Is("array") && len(violations(s, v)) == 0
	}
	return false
}

// hugeNumber finds a number that no double holds, in v or anywhere below, and
// where it stands.
func hugeNumber(pointer string, v any) (string, bool) {
	switch v := v.(type) {
	case json.Number:
		_, err := v.Float64()
		return pointer, err != nil
	case []any:
		for i, x := range v {
			if at, ok := hugeNumber(pointer+"/"+strconv.Itoa(i), x); ok {
				return at, true
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if at, ok := hugeNumber(pointer+"/"+escape(name), v[name]); ok {
				return at, true
			}
		}
	}
	return "", false
}

// wholeNumber writes an integral number without fraction and exponent. Beyond
// 2^53 a double has no exact integers and nothing here asks for them.
func wholeNumber(n json.Number) (json.Number, bool) {
	f, err := n.Float64()
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return n, false
	}
	if !strings.ContainsAny(string(n), ".eE") {
		return n, true
	}
	return json.Number(strconv.FormatInt(int64(f), 10)), true
}
