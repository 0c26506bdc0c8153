// Package option is the table of everything that a request to render may say:
// one row an option, with its type, range, unit, default and words. The API's
// contract, its validation, the command line and docs/options.md are made of it
// (go generate), so that none of them knows an option that another does not.
//
// It leaves to package job what rules hold between options, and to the worker
// what they do.
package option

import (
	"maps"
	"slices"
)

// A Kind is the type of an option's value.
type Kind string

const (
	Text   Kind = "text"
	Whole  Kind = "whole"  // a whole number
	Number Kind = "number" // with or without a fraction
	Flag   Kind = "flag"
	List   Kind = "list"   // of texts
	Object Kind = "object" // texts by name
)

// A Group is the heading that an option stands under in the documents.
type Group string

const (
	Source    Group = "What to render"
	Output    Group = "What comes out"
	Size      Group = "Size and device"
	WholePage Group = "The whole page"
	Part      Group = "A part of the page, and pictures made smaller"
	State     Group = "What the page is like"
	Waiting   Group = "Waiting"
	Failing   Group = "When a page is a failure"
	Blocking  Group = "What is not loaded"
	Request   Group = "What the page's server sees"
	Paper     Group = "PDF"
	Seen      Group = "Evidence"
)

// An Option is one row of the table that the API's contract, its validation,
// the command line and docs/options.md are made of.
type Option struct {
	Name  string // in JSON and in the query
	Group Group
	Kind  Kind
	Enum  []string // the only texts, of a Text or of each entry of a List; nil: any
	// Also are other spellings of those, which are taken for them.
	Also map[string]string
	// Min and Max are the bounds of a number, of the characters of a Text, of
	// the entries of a List and of the members of an Object; both zero: none.
	Min, Max float64
	Each     int      // most characters of an entry of a List, or of a value of an Object
	Pattern  string   // of a Text; empty: any
	Form     string   // what Pattern wants, in words
	Unit     string   // of a number, such as "milliseconds"
	Default  any      // what its absence means, as in JSON; nil: nothing is done
	For      []string // formats it is offered for; nil: every one
	Needs    []string // at least one of these options must be given too
	Alone    []string // formats in which it needs none of those
	Secret   bool     // sealed at rest, and shown to nobody again
	Doc      string   // what it does, in Markdown, ending in a full stop
}

// Pictures are the formats that are made of pixels.
var Pictures = []string{"png", "jpeg", "webp"}

// walked are the formats whose pages are scrolled through: some of them always.
var walked = append(slices.Clone(Pictures), "pdf")

// ForFormat reports whether the option means anything for artifacts of that format.
func (o *Option) ForFormat(format string) bool { return o.For == nil || slices.Contains(o.For, format) }

// TakesFile reports an option whose value the command line also reads from a
// file, since it is long, or to be seen by nobody who lists processes.
func (o *Option) TakesFile() bool {
	return o.Secret || o.Kind == Text && o.Enum == nil && o.Max > 4096
}

// Spellings are the texts that the option takes, those it stands for first.
func (o *Option) Spellings() []string {
	return append(slices.Clone(o.Enum), slices.Sorted(maps.Keys(o.Also))...)
}

// Find is the row of that name; nil if there is none.
func Find(name string) *Option {
	i := slices.IndexFunc(Table, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return &Table[i]
}
