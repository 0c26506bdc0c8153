package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// A Setting is one value and where it came from.
type Setting struct {
	Name   string `json:"name"`   // the flag without its dashes, or the environment variable
	Value  string `json:"value"`  // *** for a secret that is set
	Source string `json:"source"` // default, flag, the environment variable, or the file
}

// settings lists what the chosen command takes and the environment can set.
func (r *reader) settings(ctx *kong.Context) []Setting {
	var out []Setting
	for flag := range flags(ctx) {
		if len(flag.Envs) == 0 {
			continue // an argument of one call, such as --width
		}
		s := Setting{Name: flag.Name, Value: show(flag.Target), Source: "default"}
		if flag.Tag.Has(tagEnvOnly) {
			s.Name = flag.Envs[0]
		}
		if flag.Tag.Has(tagSecret) && s.Value != "" {
			s.Value = "***"
		}
		env, _ := r.lookup(flag.Envs[0])
		switch file := r.files[flag]; {
		case onLine(ctx, flag):
			s.Source = "flag"
		case file != "":
			s.Source = "file " + file
		case env != "":
			s.Source = "environment " + flag.Envs[0]
		}
		out = append(out, s)
	}
	return out
}

func show(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// Print writes the settings as JSON, or as a table in which an empty value is a
// dash.
func Print(w io.Writer, settings []Setting, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(settings)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range settings {
		value := s.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, value, s.Source)
	}
	return t.Flush()
}
