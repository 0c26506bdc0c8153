package account

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/tintype/tintype/pkg/typo"
)

// reader walks the tree of a YAML file and gathers what is wrong with it: it
// goes on after each problem, so that one look at the file mends them all.
type reader struct {
	file     string
	problems []PolicyProblem
}

func (r *reader) add(at *token.Position, key, format string, args ...any) {
	r.problems = append(r.problems, PolicyProblem{Line: at.Line, Column: at.Column, Key: key, Rule: fmt.Sprintf(format, args...)})
}

// err is everything that was gathered, in the order of the file.
func (r *reader) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b PolicyProblem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &PolicyError{File: r.file, Problems: r.problems}
}

// document parses the file and opens its one mapping. It is nil where there is
// nothing to go on with.
func (r *reader) document(text []byte, known ...string) *section {
	top := &token.Position{Line: 1, Column: 1}
	switch {
	case len(text) > maxFile:
		r.add(top, "", "the file has %d bytes; a policy has at most %d", len(text), maxFile)
		return nil
	case !utf8.Valid(text):
		r.add(top, "", "the file is not UTF-8 text")
		return nil
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey()) // which are reported with the rest
	if err != nil {
		if e, ok := errors.AsType[yamlError](err); ok {
			at := top
			if t := e.GetToken(); t != nil && t.Position != nil {
				at = t.Position
			}
			r.add(at, "", "this is not YAML: %s", e.GetMessage())
		} else {
			r.add(top, "", "this is not YAML: %v", err)
		}
		return nil
	}
	var body ast.Node
	for _, d := range file.Docs {
		switch {
		case d.Body == nil:
		case body == nil:
			body = d.Body
		default:
			r.add(place(d.Body), "", "a second document begins here; a policy is one")
		}
	}
	if body == nil {
		r.add(top, "", "the file is empty; a policy begins with version: 1")
		return nil
	}
	return r.open("", body, top, known)
}

// yamlError is how the library tells where a file is not YAML.
type yamlError interface {
	error
	GetToken() *token.Token
	GetMessage() string
}

// section is a mapping of the file.
type section struct {
	r       *reader
	path    string // of its key, such as plans[1].over_threads; "" is the file
	at      *token.Position
	members map[string]*ast.MappingValueNode
}

// open reads the keys of a mapping. It is nil for anything else.
func (r *reader) open(path string, n ast.Node, at *token.Position, known []string) *section {
	s := &section{r: r, path: path, at: at, members: map[string]*ast.MappingValueNode{}}
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.add(place(n), path, "must be keys with values, %s", not(n))
		return nil
	}
	for _, v := range values {
		t := v.Key.GetToken()
		name := t.Value
		switch first := s.members[name]; {
		case !slices.Contains(known, name):
			r.add(t.Position, s.key(shorten(name)), "is not known%s", meant(name, known))
		case first != nil:
			r.add(t.Position, s.key(name), "is given twice, first in line %d", first.Key.GetToken().Position.Line)
		default:
			s.members[name] = v
		}
	}
	return s
}

func (s *section) key(name string) string {
	if s.path == "" {
		return name
	}
	return s.path + "." + name
}

// position is where a key stands, or the section where it is missing.
func (s *section) position(key string) *token.Position {
	if m := s.members[key]; m != nil {
		return m.Key.GetToken().Position
	}
	return s.at
}

func (s *section) line(key string) int { return s.position(key).Line }

func (s *section) problem(key, format string, args ...any) {
	s.r.add(s.position(key), s.key(key), format, args...)
}

// need reports a key that is missing.
func (s *section) need(key, why string) bool {
	if s.members[key] == nil {
		s.problem(key, "is missing: %s", why)
		return false
	}
	return true
}

// reject refuses keys that only make sense together with another one.
func (s *section) reject(with string, keys ...string) {
	for _, key := range keys {
		if s.members[key] != nil {
			s.problem(key, "goes with %s; leave it out", with)
		}
	}
}

// section opens the mapping under a key; nil if there is none.
func (s *section) section(key string, known ...string) *section {
	m := s.members[key]
	if m == nil {
		return nil
	}
	return s.r.open(s.key(key), m.Value, s.position(key), known)
}

// sections opens each mapping of the list under a key.
func (s *section) sections(key string, most int, known ...string) []*section {
	list, ok := s.members[key].Value.(*ast.SequenceNode)
	switch {
	case !ok:
		s.problem(key, "must be a list, %s", not(s.members[key].Value))
		return nil
	case len(list.Values) < 1 || len(list.Values) > most:
		s.problem(key, "must have 1 to %d entries, not %d", most, len(list.Values))
		return nil
	}
	var out []*section
	for i, n := range list.Values {
		if m := s.r.open(fmt.Sprintf("%s[%d]", s.key(key), i), n, place(n), known); m != nil {
			out = append(out, m)
		}
	}
	return out
}

// integer reads a whole number from lo to hi; what is missing or wrong stays
// as it is.
func (s *section) integer(key string, into *int, lo, hi int, unit string) {
	s.whole(key, into, fmt.Sprintf("%d to %d%s", lo, hi, unit), func(n int) bool { return n >= lo && n <= hi })
}

// integerOr reads a whole number from lo to hi, or a word that stands for one.
func (s *section) integerOr(key string, into *int, lo, hi int, unit, word string, meaning int) {
	want := fmt.Sprintf("%d to %d%s, or %s", lo, hi, unit, word)
	if m := s.members[key]; m != nil {
		if t, ok := m.Value.(*ast.StringNode); ok {
			if t.Value == word {
				*into = meaning
			} else {
				s.r.add(place(t), s.key(key), "must be %s, %s%s", want, not(t), meant(t.Value, []string{word}))
			}
			return
		}
	}
	s.whole(key, into, want, func(n int) bool { return n >= lo && n <= hi })
}

// oneOf reads a whole number out of a few.
func (s *section) oneOf(key string, into *int, values ...int) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = strconv.Itoa(v)
	}
	s.whole(key, into, either(texts), func(n int) bool { return slices.Contains(values, n) })
}

func (s *section) whole(key string, into *int, want string, right func(int) bool) {
	m := s.members[key]
	if m == nil {
		return
	}
	if n, ok := whole(m.Value); ok && right(n) {
		*into = n
		return
	}
	s.r.add(place(m.Value), s.key(key), "must be %s, %s", want, not(m.Value))
}

// whole is the number that a node says in decimal digits.
func whole(n ast.Node) (int, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	switch v := i.Value.(type) {
	case int64:
		return int(v), true
	case uint64:
		return int(v), v <= math.MaxInt
	}
	return 0, false
}

// boolean reads true or false.
func (s *section) boolean(key string, into *bool) {
	m := s.members[key]
	if m == nil {
		return
	}
	b, ok := m.Value.(*ast.BoolNode)
	if !ok {
		s.r.add(place(m.Value), s.key(key), "must be true or false, %s", not(m.Value))
		return
	}
	*into = b.Value
}

// text reads a text and reports whether there is one.
func (s *section) text(key string, into *string) bool {
	m := s.members[key]
	if m == nil {
		return false
	}
	t, ok := m.Value.(*ast.StringNode)
	switch {
	case ok:
		*into = t.Value
	case isScalar(m.Value):
		s.r.add(place(m.Value), s.key(key), "must be a text, %s; put it in quotes", not(m.Value))
	default:
		s.r.add(place(m.Value), s.key(key), "must be a text, %s", not(m.Value))
	}
	return ok
}

// word reads one of a few words. It reports false where there is another one.
func (s *section) word(key string, into *string, words ...string) bool {
	if s.members[key] == nil {
		return true
	}
	if !s.text(key, into) {
		return false
	}
	if !slices.Contains(words, *into) {
		s.r.add(place(s.members[key].Value), s.key(key), "must be %s, not %q%s", either(words), shorten(*into), meant(*into, words))
		return false
	}
	return true
}

// emptyList reports whether there is a list without entries under a key.
func (s *section) emptyList(key string) bool {
	list, ok := s.members[key].Value.(*ast.SequenceNode)
	return ok && len(list.Values) == 0
}

// listMost bounds a list of words.
const listMost = 100

// entry is a text in a list.
type entry struct {
	*ast.StringNode
	key string // such as formats[1]
}

// list is the texts of the list under a key; nil if there is none.
func (s *section) list(key string, most int) []entry {
	m := s.members[key]
	if m == nil {
		return nil
	}
	list, ok := m.Value.(*ast.SequenceNode)
	switch {
	case !ok:
		s.r.add(place(m.Value), s.key(key), "must be a list, %s", not(m.Value))
		return nil
	case len(list.Values) > most:
		s.problem(key, "must have at most %d entries, not %d", most, len(list.Values))
		return nil
	}
	var texts []entry
	for i, n := range list.Values {
		at := fmt.Sprintf("%s[%d]", s.key(key), i)
		if t, ok := n.(*ast.StringNode); ok {
			texts = append(texts, entry{t, at})
		} else {
			s.r.add(place(n), at, "must be a text, %s", not(n))
		}
	}
	return texts
}

// words reads a list of some of a few words.
func (s *section) words(key string, words ...string) []string {
	var out []string
	for _, t := range s.list(key, listMost) {
		switch {
		case !slices.Contains(words, t.Value):
			s.r.add(place(t), t.key, "must be %s, not %q%s", either(words), shorten(t.Value), meant(t.Value, words))
		case slices.Contains(out, t.Value):
			s.r.add(place(t), t.key, "is there twice")
		default:
			out = append(out, t.Value)
		}
	}
	return out
}

// prefixes reads a list of networks; an address is a network of one.
func (s *section) prefixes(key string, most int) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range s.list(key, most) {
		p, err := netip.ParsePrefix(t.Value)
		if a, addrErr := netip.ParseAddr(t.Value); addrErr == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			s.r.add(place(t), t.key, "must be an address or a network such as 10.0.0.0/8, not %q", shorten(t.Value))
			continue
		}
		out = append(out, p.Masked())
	}
	return out
}

// decimal reads a number that is not negative, with as many digits behind the
// point at most, as a whole number of the last one.
func (s *section) decimal(key string, into *int64, digits int) {
	m := s.members[key]
	if m == nil {
		return
	}
	text := m.Value.GetToken().Value
	whole, fraction, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", max(0, digits-len(fraction))), 10, 64)
	if !isScalar(m.Value) || err != nil || n < 0 || len(fraction) > digits || whole == "" || strings.ContainsAny(text, "+-_xob") {
		s.r.add(place(m.Value), s.key(key), "must be a decimal number of at most %d digits behind the point, %s", digits, not(m.Value))
		return
	}
	*into = n
}

// either lists words to choose from.
func either(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " or " + words[n]
	}
	return strings.Join(words, "")
}

// meant names the known word that was meant, if one is near.
func meant(name string, known []string) string {
	if near := typo.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// place is where a node begins. A mapping's own token is its first colon.
func place(n ast.Node) *token.Position {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key.GetToken().Position
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken().Position
	}
	return n.GetToken().Position
}

func isScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return true
	}
	return false
}

// not says what is there instead of what must be.
func not(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "not keys with values"
	case *ast.SequenceNode:
		return "not a list"
	case *ast.NullNode:
		return "not empty"
	case *ast.StringNode:
		return fmt.Sprintf("not the text %q", shorten(n.Value))
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return "without anchors, aliases and tags"
	case *ast.LiteralNode:
		return "not a block of text"
	}
	return "not " + shorten(n.GetToken().Value)
}

// shorten keeps a line of a report a line.
func shorten(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
