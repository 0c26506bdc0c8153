package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/fault"
)

const (
	maxDepth  = 32     // levels of nesting in a body
	maxValues = 10_000 // values in a body, so that refusing many costs little
)

// parseJSON reads a body, or what else is called what, strictly, with its
// numbers as they were written, and lists what is wrong with single members. Its
// error is one that is not JSON, or too much of it.
func parseJSON(what string, body []byte) (any, []fault.Field, error) {
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return nil, nil, malformed("there is no %s: send a JSON object", what)
	case !utf8.Valid(body):
		return nil, nil, malformed("the %s is not valid UTF-8", what)
	case deep(body):
		return nil, nil, malformed("the %s is nested more than %d deep", what, maxDepth)
	case !json.Valid(body):
		err := syntaxError(body)
		f := malformed("the %s is not JSON: %v", what, err)
		if e, ok := errors.AsType[*json.SyntaxError](err); ok {
			f.Detail += fmt.Sprintf(" (at byte %d)", e.Offset)
		}
		f.Err = err
		return nil, nil, f
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(body))}
	p.dec.UseNumber()
	value, err := p.value("")
	if err != nil {
		return nil, nil, malformed("the %s cannot be read: %v", what, err)
	}
	return value, p.problems, nil
}

func malformed(format string, args ...any) *fault.Error {
	f := fault.New(fault.Invalid, format, args...)
	f.Code = "malformed_json"
	return f
}

// A parser builds a value out of valid JSON as json.Unmarshal would, and
// notes what that keeps silent about: names given twice, and U+0000, which
// the archive cannot hold.
type parser struct {
	dec      *json.Decoder
	values   int
	problems []fault.Field
}

func (p *parser) value(pointer string) (any, error) {
	if p.values++; p.values > maxValues {
		return nil, fmt.Errorf("it holds more than %d values", maxValues)
	}
	tok, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case string:
		if strings.Contains(tok, "\x00") {
			p.problems = append(p.problems, fault.Field{Pointer: pointer, Detail: "holds U+0000"})
			return strings.ReplaceAll(tok, "\x00", ""), nil
		}
		return tok, nil
	case json.Delim:
		if tok == '[' {
			return p.array(pointer)
		}
		return p.object(pointer)
	}
	return tok, nil
}

func (p *parser) array(pointer string) (any, error) {
	list := []any{}
	for p.dec.More() {
		v, err := p.value(pointer + "/" + strconv.Itoa(len(list)))
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := p.dec.Token()
	return list, err
}

func (p *parser) object(pointer string) (any, error) {
	members := make(map[string]any)
	for p.dec.More() {
		tok, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name := tok.(string) // a valid object has nothing else here
		at := pointer + "/" + escape(name)
		v, err := p.value(at)
		if err != nil {
			return nil, err
		}
		if _, twice := members[name]; twice {
			p.problems = append(p.problems, fault.Field{Pointer: at, Detail: "is given twice"})
			continue
		}
		if strings.Contains(name, "\x00") {
			p.problems = append(p.problems, fault.Field{Pointer: at, Detail: "has U+0000 in its name"})
			continue
		}
		members[name] = v
	}
	_, err := p.dec.Token()
	return members, err
}

// deep reports nesting beyond maxDepth without parsing: it runs before
// anything that recurses or allocates by depth.
func deep(body []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{', c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}

// syntaxError says where JSON ends to be JSON.
func syntaxError(body []byte) error {
	var v json.RawMessage
	return json.Unmarshal(body, &v)
}

// escape writes a name as a reference token of a JSON pointer (RFC 6901
// section 3).
func escape(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

func valueKind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}
