// Command optiongen writes the option table into the API's contract, between
// the marks that it finds there, into docs/options.md, and as the flags of the
// commands that render.
//
// Usage: optiongen openapi.yaml options.md options.gen.go
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tintype/tintype/pkg/option"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: optiongen openapi.yaml options.md options.gen.go")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "optiongen:", err)
		os.Exit(1)
	}
}

func run(contract, document, source string) error {
	text, err := os.ReadFile(contract)
	if err != nil {
		return err
	}
	if text, err = fill(text); err != nil {
		return fmt.Errorf("%s: %w", contract, err)
	}
	if err := os.WriteFile(contract, text, 0o644); err != nil {
		return err
	}
	code, err := flags()
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return errors.Join(os.WriteFile(document, markdown(), 0o644), os.WriteFile(source, code, 0o644))
}

// The marks stand in comments of their own lines; their indent is that of what
// is written between them.
const (
	begin = "# options begin: "
	end   = "# options end"
)

// fill writes each marked section anew.
func fill(text []byte) ([]byte, error) {
	sections := map[string]func() []string{
		"schemas":       schemas,
		"job":           func() []string { return properties(option.Table, "Format") },
		"picture":       func() []string { return properties(pictures(), "ImageFormat") },
		"pdf":           func() []string { return properties(documents(), "PdfFormat") },
		"shown":         shown,
		"picture query": func() []string { return parameters(pictures(), "ImageFormat") },
		"pdf query":     func() []string { return parameters(documents(), "PdfFormat") },
	}
	var out bytes.Buffer
	skipping := false
	for line := range strings.Lines(string(text)) {
		trimmed := strings.TrimSpace(line)
		if trimmed == end {
			skipping = false
		}
		if !skipping {
			out.WriteString(line)
		}
		name, ok := strings.CutPrefix(trimmed, begin)
		if !ok {
			continue
		}
		section := sections[name]
		if section == nil || skipping {
			return nil, fmt.Errorf("the mark %q is not known, or stands in a section", trimmed)
		}
		delete(sections, name)
		skipping = true
		indent := line[:strings.Index(line, "#")]
		for _, l := range section() {
			out.WriteString(indent + l + "\n")
		}
	}
	if skipping || len(sections) > 0 {
		return nil, fmt.Errorf("a section has no end, or there is none of these: %v", sections)
	}
	return out.Bytes(), nil
}

func pictures() (list []option.Option) {
	for _, o := range option.Table {
		if slices.ContainsFunc(option.Pictures, o.ForFormat) {
			list = append(list, o)
		}
	}
	return list
}

func documents() (list []option.Option) {
	for _, o := range option.Table {
		if o.ForFormat("pdf") {
			list = append(list, o)
		}
	}
	return list
}

// component is the name of an option's schema.
func component(name, format string) string {
	switch name {
	case "url":
		return "PageUrl"
	case "html":
		return "PageHtml"
	case "format":
		return format
	}
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

func properties(options []option.Option, format string) (lines []string) {
	for _, o := range options {
		lines = append(lines, fmt.Sprintf(`%s: {$ref: "#/components/schemas/%s"}`, o.Name, component(o.Name, format)))
	}
	return lines
}

func parameters(options []option.Option, format string) (lines []string) {
	for _, o := range options {
		if o.Kind == option.Object {
			lines = append(lines, fmt.Sprintf(`- {name: %s, in: query, schema: {type: array, maxItems: %s, items: {type: string, pattern: "^[^:]+:", description: "`+"`Name: value`"+`."}}, description: "Each as `+"`Name: value`"+`."}`, o.Name, number(o.Max)))
			continue
		}
		lines = append(lines, fmt.Sprintf(`- {name: %s, in: query, schema: {$ref: "#/components/schemas/%s"}}`, o.Name, component(o.Name, format)))
	}
	return lines
}

// byHand are options whose schema stands in the contract itself, since more
// is said of it there than the table can.
var byHand = []string{"url", "html"}

func schemas() (lines []string) {
	for _, o := range option.Table {
		switch {
		case slices.Contains(byHand, o.Name):
			continue
		case o.Name == "format":
			lines = append(lines, formats(o)...)
			continue
		}
		lines = append(lines, component(o.Name, "")+":")
		for _, l := range schema(o) {
			lines = append(lines, "  "+l)
		}
	}
	return lines
}

// formats are the schemas of a format where every one is offered, and where
// pictures or documents alone are.
func formats(o option.Option) (lines []string) {
	for _, some := range []struct {
		name  string
		has   func(format string) bool
		words string
	}{
		{"Format", func(string) bool { return true }, o.Doc},
		{"ImageFormat", func(f string) bool { return slices.Contains(option.Pictures, f) }, "Kind of picture. `jpg` is `jpeg`."},
		{"PdfFormat", func(f string) bool { return f == "pdf" }, "`pdf` and nothing else."},
	} {
		one := o
		one.Enum, one.Also, one.Doc = nil, make(map[string]string), some.words
		for _, f := range o.Enum {
			if some.has(f) {
				one.Enum = append(one.Enum, f)
			}
		}
		for name, f := range o.Also {
			if some.has(f) {
				one.Also[name] = f
			}
		}
		one.Default = one.Enum[0]
		lines = append(lines, some.name+":")
		for _, l := range schema(one) {
			lines = append(lines, "  "+l)
		}
	}
	return lines
}

// schema is that of one option, as JSON Schema 2020-12 has it.
func schema(o option.Option) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	least, most := int(o.Min), int(o.Max)
	bounded := o.Min != 0 || o.Max != 0
	switch o.Kind {
	case option.Flag:
		add("type: boolean")
	case option.Whole, option.Number:
		if o.Kind == option.Whole {
			add("type: integer")
		} else {
			add("type: number")
			add("format: double")
		}
		if bounded {
			add("minimum: %s", number(o.Min))
		}
		if o.Max != 0 {
			add("maximum: %s", number(o.Max))
		}
	case option.Text:
		add("type: string")
		if least > 0 {
			add("minLength: %d", least)
		}
		if most > 0 {
			add("maxLength: %d", most)
		}
		if o.Pattern != "" {
			add("pattern: %s", quoted(o.Pattern))
		}
		if o.Enum != nil {
			add("enum: %s", quoted(o.Spellings()))
		}
	case option.List:
		add("type: array")
		if most > 0 {
			add("maxItems: %d", most)
		}
		item := map[string]any{"type": "string", "minLength": 1}
		if o.Each > 0 {
			item["maxLength"] = o.Each
		}
		if o.Enum != nil {
			item = map[string]any{"type": "string", "enum": o.Spellings()}
		}
		add("items: %s", quoted(item))
	case option.Object:
		add("type: object")
		if most > 0 {
			add("maxProperties: %d", most)
		}
		value := map[string]any{"type": "string"}
		if o.Each > 0 {
			value["maxLength"] = o.Each
		}
		add("additionalProperties: %s", quoted(value))
	}
	if o.Default != nil {
		add("default: %s", quoted(o.Default))
	}
	add("description: %s", quoted(strings.TrimSpace(o.Doc+" "+extent(o))))
	return lines
}

// shown are the options as a job shows them.
func shown() (lines []string) {
	for _, o := range option.Table {
		if o.Secret || o.Name == "retina" {
			continue
		}
		kind := map[option.Kind]string{
			option.Text: "string", option.Whole: "integer", option.Number: "number, format: double", option.Flag: "boolean",
			option.List: "array, items: {type: string}", option.Object: "object, additionalProperties: {type: string}",
		}[o.Kind]
		lines = append(lines, fmt.Sprintf("%s: {type: %s}", o.Name, kind))
	}
	return lines
}

// extent says in words what the bounds are.
func extent(o option.Option) string {
	switch {
	case o.Kind == option.Whole || o.Kind == option.Number:
		unit := o.Unit
		if unit != "" {
			unit = " " + unit
		}
		switch {
		case o.Max != 0:
			return number(o.Min) + " to " + number(o.Max) + unit + "."
		case o.Min != 0:
			return "At least " + number(o.Min) + unit + "."
		}
	case o.Kind == option.List && o.Max > 0:
		return "At most " + number(o.Max) + "."
	case o.Kind == option.Object && o.Max > 0:
		return "At most " + number(o.Max) + "."
	case o.Kind == option.Text && o.Enum == nil && o.Max > 0:
		return "At most " + number(o.Max) + " characters."
	}
	return ""
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// quoted is a value as JSON, which is YAML too.
func quoted(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // the table holds nothing that JSON cannot
	}
	return strings.TrimSpace(b.String())
}

// head is what the document says before its tables.
//
//go:embed head.md
var head []byte

// markdown is the document for people.
func markdown() []byte {
	var b bytes.Buffer
	b.Write(head)
	var group option.Group
	for _, o := range option.Table {
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n## %s\n\n| option | value | default | what it does |\n|---|---|---|---|\n", group)
		}
		value := string(o.Kind)
		switch {
		case o.Kind == option.Flag:
			value = "`true`, `false`"
		case o.Enum != nil:
			value = "`" + strings.Join(o.Enum, "`, `") + "`"
			if o.Kind == option.List {
				value = "list of " + value
			}
		case o.Kind == option.List:
			value = "list of texts"
		case o.Kind == option.Object:
			value = "texts by name"
		case o.Kind == option.Whole:
			value = "whole number"
		}
		def := ""
		if o.Default != nil {
			def = "`" + strings.Trim(quoted(o.Default), `"`) + "`"
		}
		notes := []string{o.Doc, extent(o)}
		if o.For != nil && o.Group != option.Paper { // its heading says so
			notes = append(notes, "For "+strings.Join(o.For, ", ")+" alone.")
		}
		if o.Needs != nil {
			but := ""
			if o.Alone != nil {
				but = ", but in " + strings.Join(o.Alone, ", ")
			}
			notes = append(notes, "Needs `"+strings.Join(o.Needs, "` or `")+"`"+but+".")
		}
		if o.Secret {
			notes = append(notes, "Kept sealed and never shown.")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", o.Name, value, def, strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), " "))
	}
	return b.Bytes()
}
