package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
)

// A lineReading understands the lines of one input: each is a request to
// POST /v1/jobs, judged by the same code. It is read by many at once.
type lineReading struct {
	fields   *openapi3.Schema // of such a request
	seal     func(*job.Secrets) []byte
	terms    terms
	defaults map[string]any
	format   batch.Format
	columns  []string // of CSV

	defaultsSize int // bytes
}

// rivals are members of which one makes another pointless: a line that has one
// of a pair has the say over both.
var rivals = [][]string{sources, {"retina", "device_scale_factor"}}

// worn are what a device says: a line that names its own does not want what the
// defaults say of another.
var worn = []string{"width", "height", "device_scale_factor", "retina", "mobile", "touch", "landscape", "user_agent"}

// object takes the name of a column apart that is one member of an object, such
// as metadata.customer.
func (lr *lineReading) object(column string) (name, member string, ok bool) {
	name, member, ok = strings.Cut(column, ".")
	p := lr.fields.Properties[name]
	return name, member, ok && member != "" && p != nil && p.Value.Type.Is("object")
}

// is reports whether a column has a value of that type.
func (lr *lineReading) is(column, kind string) bool {
	p := lr.fields.Properties[column]
	return p != nil && p.Value.Type.Is(kind)
}

// name takes in what a CSV file calls its columns. Its error is a
// *lines.Refused: a column that nobody knows is one in every line.
func (lr *lineReading) name(header []lines.Cell) error {
	refuse := func(at lines.Cell, pointer, detail string) error {
		return &lines.Refused{Wrong: batch.LineError{
			Line: 1, Column: at.Column, Code: lines.CodeInvalid, Field: fault.Field{Pointer: pointer, Detail: detail},
		}}
	}
	for _, cell := range header {
		name := strings.TrimSpace(cell.Text)
		pointer := "/" + escape(name)
		switch _, _, ok := lr.object(name); {
		case name == "":
			return refuse(cell, "", "the column has no name: the first line names what each column is, such as url,custom_id")
		case slices.Contains(lr.columns, name) && !lr.is(name, "array"):
			return refuse(cell, pointer, "the column "+quotedName(name)+" is there twice")
		case ok:
		case lr.fields.Properties[name] == nil:
			return refuse(cell, pointer, "the column "+quotedName(name)+" "+unknownName(name, lr.fields.Properties))
		case lr.is(name, "object"):
			return refuse(cell, pointer, "the column "+quotedName(name)+" is an object: make a column of each member, such as "+name+".NAME")
		}
		lr.columns = append(lr.columns, name)
	}
	return nil
}

// quotedName shows a name that may be anything.
func quotedName(name string) string {
	if len(name) > maxPointer {
		name = strings.ToValidUTF8(name[:maxPointer], "") + "…"
	}
	b, err := marshal(name)
	if err != nil {
		return `""` // a string always marshals
	}
	return string(b)
}

// read makes of a line what is fed.
func (lr *lineReading) read(l lines.Line) batch.Line {
	out := batch.Line{Number: l.Number}
	var in *input
	if l.Wrong == nil {
		in, l.Wrong = lr.input(l)
	}
	if l.Wrong != nil {
		out.Errors = []batch.LineError{*l.Wrong}
		return out
	}
	in.check(lr.fields)
	sub, err := submissionFrom(in, job.PNG, lr.terms)
	if sub != nil && !in.has("/custom_id") {
		out.CustomID = sub.customID
	}
	if err != nil {
		out.Errors = lr.errors(l, err)
		return out
	}
	out.Metadata, out.Spec, out.TTLS, out.Force = sub.metadata, sub.spec.Marshal(), sub.ttlS, sub.force
	out.Secrets, out.Webhook = lr.seal(&sub.spec.Secrets), sub.webhook
	return out
}

// input is what a line says, over what the defaults do.
func (lr *lineReading) input(l lines.Line) (*input, *batch.LineError) {
	in := &input{prefix: "/", texts: lr.format == batch.CSV}
	switch lr.format {
	case batch.Text:
		in.members = map[string]any{"url": string(bytes.TrimSpace(l.Text))}
	case batch.CSV:
		in.members = lr.cells(l.Cells)
	default:
		value, problems, err := parseJSON("line", l.Text)
		if err != nil {
			f := fault.From(err)
			wrong := &batch.LineError{Line: l.Number, Code: f.Code, Field: fault.Field{Detail: f.Detail}}
			if e, ok := errors.AsType[*json.SyntaxError](f.Err); ok {
				wrong.Column = int(e.Offset)
			}
			return nil, wrong
		}
		members, ok := value.(map[string]any)
		if !ok {
			return nil, &batch.LineError{Line: l.Number, Column: 1, Code: lines.CodeInvalid, Field: fault.Field{Detail: "the line must be a JSON object, not " + valueKind(value)}}
		}
		in.members, in.problems, in.raw = members, problems, l.Text
		if len(problems) > 0 {
			in.raw = nil
		}
	}
	lr.complete(in)
	return in, nil
}

// complete fills in what a line does not say.
func (lr *lineReading) complete(in *input) {
	if len(lr.defaults) == 0 {
		return
	}
	in.raw = nil
	own := maps.Clone(in.members)
	for name, v := range lr.defaults {
		if _, said := own[name]; said || overruled(own, name) {
			continue
		}
		in.members[name] = v
	}
}

// overruled reports a default that something the line says makes pointless:
// that of another source, say, or one for another format than the line's.
func overruled(own map[string]any, name string) bool {
	if _, said := own["device"]; said && slices.Contains(worn, name) {
		return true
	}
	for _, some := range rivals {
		if slices.Contains(some, name) {
			return slices.ContainsFunc(some, func(other string) bool { _, said := own[other]; return said })
		}
	}
	format, said := own["format"].(string)
	o := option.Find(name)
	if !said || o == nil {
		return false
	}
	f := option.Find("format")
	if word, ok := f.Also[format]; ok {
		format = word
	}
	return slices.Contains(f.Enum, format) && !o.ForFormat(format)
}

// cells are a record of CSV as the members that it stands for, by the types of
// the contract. An empty cell says nothing. What is not of its type stays a
// text, for the contract to refuse.
func (lr *lineReading) cells(record []lines.Cell) map[string]any {
	members := make(map[string]any, len(record))
	for i, cell := range record {
		name, text := lr.columns[i], cell.Text
		if text == "" {
			continue
		}
		if object, member, ok := lr.object(name); ok {
			pairs, _ := members[object].(map[string]any)
			if pairs == nil {
				pairs = make(map[string]any)
				members[object] = pairs
			}
			pairs[member] = text
			continue
		}
		value := typed(lr.fields.Properties[name].Value, text)
		if more, ok := value.([]any); ok { // another column of the same list
			before, _ := members[name].([]any)
			value = append(before, more...)
		}
		members[name] = value
	}
	return members
}

// typed reads a text as a value of the type that the contract says.
func typed(s *openapi3.Schema, text string) any {
	plain := strings.TrimSpace(text)
	switch {
	case s.Type.Is("integer"), s.Type.Is("number"):
		if isNumber(plain) {
			return json.Number(plain)
		}
	case s.Type.Is("boolean"): // spreadsheets write them in capitals
		switch strings.ToLower(plain) {
		case "true":
			return true
		case "false":
			return false
		}
	case s.Type.Is("array"):
		return entries(s, []string{text})
	}
	return text
}

// errors are those of a refused line, each with where it stands.
func (lr *lineReading) errors(l lines.Line, err error) []batch.LineError {
	f := fault.From(err)
	code := f.Code
	if code == "" {
		code = lines.CodeInvalid
	}
	out := make([]batch.LineError, len(f.Fields))
	for i, field := range f.Fields {
		out[i] = batch.LineError{Line: l.Number, Column: lr.column(l, field.Pointer), Code: code, Field: field}
	}
	if len(out) == 0 {
		out = []batch.LineError{{Line: l.Number, Code: code, Field: fault.Field{Detail: f.Detail}}}
	}
	return out
}

// column is where the value stands that a pointer names; 0 where that is
// nowhere in the line.
func (lr *lineReading) column(l lines.Line, pointer string) int {
	name, rest, _ := strings.Cut(strings.TrimPrefix(pointer, "/"), "/")
	name = unescape(name)
	switch lr.format {
	case batch.Text:
		if name == "url" {
			return 1
		}
	case batch.CSV:
		if rest != "" && lr.is(name, "object") {
			name += "." + unescape(rest)
		}
		for i, column := range lr.columns {
			if column == name && l.Cells[i].Text != "" {
				return l.Cells[i].Column
			}
		}
	default:
		return memberAt(l.Text, name)
	}
	return 0
}

// unescape is the inverse of escape.
func unescape(token string) string {
	return strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
}

// memberAt is the column of the last value of that name in a valid JSON object;
// 0 if it has none.
func memberAt(object []byte, name string) int {
	dec, at := json.NewDecoder(bytes.NewReader(object)), 0
	if _, err := dec.Token(); err != nil {
		return 0
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return at
		}
		from := dec.InputOffset()
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return at
		}
		if tok == name {
			// Behind the colon and the space around it.
			at = int(from) + bytes.IndexFunc(object[from:], func(c rune) bool { return !strings.ContainsRune(": \t\r", c) }) + 1
		}
	}
	return at
}
