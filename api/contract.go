package api

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/tintype/tintype/pkg/option"
	"github.com/tintype/tintype/pkg/typo"
)

// openapiYAML is the contract. It is served as it is, and what a request may
// hold is read from it: there is no second list of fields.
//
//go:embed openapi.yaml
var openapiYAML []byte

// An operation is what the contract says a request may hold.
type operation struct {
	body  *openapi3.Schema // of JSON; nil: none is read
	takes []string         // media types of bodies
	query *openapi3.Schema // an object with one property a parameter
	keyed bool             // takes an Idempotency-Key
}

// loadContract reads openapiYAML into operations by "METHOD /path", the form
// that the route table has.
func loadContract() (map[string]*operation, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapiYAML)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	ops := make(map[string]*operation)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			op := &operation{query: &openapi3.Schema{
				Type: &openapi3.Types{"object"}, Properties: openapi3.Schemas{},
				AdditionalProperties: openapi3.AdditionalProperties{Has: new(bool)},
			}}
			for _, p := range append(append(openapi3.Parameters{}, item.Parameters...), o.Parameters...) {
				if p.Value.In == openapi3.ParameterInQuery {
					op.query.Properties[p.Value.Name] = p.Value.Schema
				}
				op.keyed = op.keyed || p.Value.In == openapi3.ParameterInHeader && p.Value.Name == keyHeader
			}
			if o.RequestBody != nil {
				if media := o.RequestBody.Value.Content["application/json"]; media != nil {
					op.body = media.Schema.Value
				}
				op.takes = slices.Sorted(maps.Keys(o.RequestBody.Value.Content))
			}
			ops[method+" "+path] = op
		}
	}
	return ops, nil
}

// renders reports an operation whose query is a request to render.
func (op *operation) renders() bool { return op.query.Properties["url"] != nil }

// checks are the options of every validation: all problems at once, and
// date-time as RFC 3339 has it.
var checks = []openapi3.SchemaValidationOption{
	openapi3.MultiErrors(), openapi3.VisitAsRequest(), openapi3.EnableFormatValidation(),
	openapi3.WithStringFormatValidator("date-time", openapi3.NewCallbackValidator(func(s string) error {
		_, err := time.Parse(time.RFC3339, s)
		return err
	})),
}

// violations lists what value breaks of schema.
func violations(schema *openapi3.Schema, value any) []*openapi3.SchemaError {
	var list []*openapi3.SchemaError
	var flatten func(error)
	flatten = func(err error) {
		if all, ok := err.(openapi3.MultiError); ok {
			for _, err := range all {
				flatten(err)
			}
			return
		}
		if one, ok := errors.AsType[*openapi3.SchemaError](err); ok {
			list = append(list, one)
		}
	}
	flatten(schema.VisitJSON(value, checks...))
	return list
}

// words says what a violation means to whoever wrote the request.
func words(e *openapi3.SchemaError) string {
	s := e.Schema
	switch e.SchemaField {
	case "type", "nullable":
		is := valueKind(e.Value)
		if s.Type.Is("integer") && is == "a number" {
			is = "a fraction"
		}
		return fmt.Sprintf("must be %s, not %s", kindOf(s), is)
	case "enum":
		names := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			names[i] = fmt.Sprint(v)
		}
		return "must be one of " + strings.Join(names, ", ")
	case "required":
		return "is required"
	case "minimum", "maximum":
		switch {
		case s.Min == nil:
			return "must be at most " + number(*s.Max)
		case s.Max == nil:
			return "must be at least " + number(*s.Min)
		}
		return "must be " + number(*s.Min) + " to " + number(*s.Max)
	case "minLength":
		return "must not be empty"
	case "maxLength":
		return fmt.Sprintf("must be at most %d characters long", *s.MaxLength)
	case "maxItems":
		return fmt.Sprintf("must have at most %d entries", *s.MaxItems)
	case "minItems":
		return "must not be empty"
	case "uniqueItems":
		return "has an entry twice"
	case "maxProperties":
		return fmt.Sprintf("must have at most %d members", *s.MaxProps)
	case "format":
		return "must be a date and time as RFC 3339 has it, such as 2027-01-31T12:00:00Z"
	}
	form := strings.TrimSpace(s.Description)
	if form == "" { // of a parameter, say, which describes itself elsewhere
		form = s.Pattern
	}
	return formless + form
}

// askedAt is where a format is offered that is not here; empty if it is nowhere.
func askedAt(format any) string {
	o := option.Find("format")
	name, _ := format.(string)
	if also, ok := o.Also[name]; ok {
		name = also
	}
	switch {
	case name == "pdf":
		return "/v1/pdf or /v1/jobs"
	case slices.Contains(option.Pictures, name):
		return "/v1/screenshot or /v1/jobs"
	case slices.Contains(o.Enum, name):
		return "/v1/jobs"
	}
	return ""
}

// formless begins what is said of a text that its pattern does not match.
const formless = "does not have the form it must have: "

func kindOf(s *openapi3.Schema) string {
	switch {
	case s.Type.Is("string"):
		return "a string"
	case s.Type.Is("integer"):
		return "a whole number"
	case s.Type.Is("number"):
		return "a number"
	case s.Type.Is("boolean"):
		return "true or false"
	case s.Type.Is("array"):
		return "a list"
	}
	return "an object"
}

// notOffered begins what is said of a name that is not known.
const notOffered = "is not offered"

// unknownName says that a name is not offered, and which one may be meant.
func unknownName(name string, properties openapi3.Schemas) string {
	known := slices.Collect(maps.Keys(properties))
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) }); i >= 0 {
		return notOffered + "; write it " + known[i]
	}
	if way := option.Elsewhere(name); way != "" {
		return notOffered + ": " + way
	}
	if o := option.Find(name); o != nil && o.For != nil { // elsewhere it is
		return "is for " + strings.Join(o.For, ", ") + " alone"
	}
	if option.Beside(name) {
		return notOffered + " here; POST /v1/jobs takes it"
	}
	if near := typo.Nearest(name, known); near != "" {
		return notOffered + "; did you mean " + near + "?"
	}
	return notOffered
}
