package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tintype/tintype/pkg/typo"
)

// Tags of our own on the fields of Config.
const (
	tagSecret  = "secret"  // masked when printed; has a _FILE variant
	tagEnvOnly = "envonly" // no flag: every user of the machine can read a command line
)

// reader turns texts into values without stopping at the first bad one.
type reader struct {
	lookup func(string) (string, bool)
	bad    map[*kong.Value][]string // what could not be read, by field
	files  map[*kong.Flag]string    // the file that a secret came from
}

func newReader(lookup func(string) (string, bool)) *reader {
	return &reader{lookup: lookup, bad: map[*kong.Value][]string{}, files: map[*kong.Flag]string{}}
}

func (r *reader) options() []kong.Option {
	return []kong.Option{
		kong.KindMapper(reflect.String, r.mapper(func(text string, v reflect.Value) error {
			v.SetString(text)
			return nil
		})),
		kong.KindMapper(reflect.Int, r.mapper(func(text string, v reflect.Value) error {
			n, err := strconv.Atoi(text)
			v.SetInt(int64(n))
			return wrong(err, "a whole number", text)
		})),
		kong.KindMapper(reflect.Float64, r.mapper(func(text string, v reflect.Value) error {
			f, err := strconv.ParseFloat(text, 64)
			v.SetFloat(f)
			return wrong(err, "a number", text)
		})),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), r.mapper(func(text string, v reflect.Value) error {
			d, err := time.ParseDuration(text)
			v.SetInt(int64(d))
			return wrong(err, "a duration such as 30s or 1m", text)
		})),
		kong.KindMapper(reflect.Bool, switchMapper{r}),
		kong.Resolvers(kong.ResolverFunc(r.secretFile)),
	}
}

func wrong(err error, want, text string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("want %s, not %q", want, text)
}

// mapper reads one text with parse and keeps what it says.
func (r *reader) mapper(parse func(string, reflect.Value) error) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		token, err := ctx.Scan.PopValue("value")
		if err != nil {
			return err // a flag without its value: nothing after it can be trusted
		}
		text := fmt.Sprint(token.Value)
		if text == "" && ctx.Value.HasDefault {
			text = ctx.Value.Default
		}
		if text == "" && target.Kind() != reflect.String {
			return nil
		}
		if err := parse(text, target); err != nil {
			r.bad[ctx.Value] = append(r.bad[ctx.Value], err.Error())
		}
		return nil
	}
}

// switchMapper reads a flag that needs no value.
type switchMapper struct{ *reader }

func (switchMapper) IsBool() bool { return true }

func (m switchMapper) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		target.SetBool(true)
		return nil
	}
	switch text := strings.ToLower(fmt.Sprint(ctx.Scan.Pop().Value)); text {
	case "1", "true", "yes", "on":
		target.SetBool(true)
	case "", "0", "false", "no", "off":
		target.SetBool(false)
	default:
		m.bad[ctx.Value] = append(m.bad[ctx.Value], fmt.Sprintf("want true or false, not %q", text))
	}
	return nil
}

// secretFile reads a secret from the file that its _FILE variant names. It is
// asked only for flags that the command line does not set.
func (r *reader) secretFile(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !flag.Tag.Has(tagSecret) || len(flag.Envs) == 0 {
		return nil, nil
	}
	name := flag.Envs[0] + "_FILE"
	path, _ := r.lookup(name)
	if path == "" {
		return nil, nil
	}
	if v, _ := r.lookup(flag.Envs[0]); v != "" {
		r.bad[flag.Value] = append(r.bad[flag.Value], fmt.Sprintf("is set twice: set %s or %s", flag.Envs[0], name))
		return nil, nil
	}
	text, err := readSecret(path)
	if err != nil {
		r.bad[flag.Value] = append(r.bad[flag.Value], fmt.Sprintf("%s: %v", name, err))
		return nil, nil
	}
	r.files[flag] = path
	return text, nil
}

// readSecret is the content of a file of one secret, without the line end
// that editors and echo add.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// problems are those of the fields that the chosen command has.
func (r *reader) problems(ctx *kong.Context) []string {
	var out []string
	for flag := range flags(ctx) {
		set := onLine(ctx, flag)
		name := "--" + flag.Name
		if flag.Tag.Has(tagEnvOnly) || !set && len(flag.Envs) > 0 {
			name = flag.Envs[0]
		}
		if set && flag.Tag.Has(tagEnvOnly) {
			out = append(out, fmt.Sprintf("unknown flag --%s: it is set in the environment, as %s", flag.Name, name))
		}
		for _, what := range slices.Compact(r.bad[flag.Value]) {
			out = append(out, name+": "+what)
		}
	}
	return out
}

// flags yields the flags of the chosen command, parents first.
func flags(ctx *kong.Context) func(yield func(*kong.Flag) bool) {
	return func(yield func(*kong.Flag) bool) {
		seen := map[*kong.Flag]bool{}
		for _, path := range ctx.Path {
			if path.App == nil && path.Command == nil {
				continue
			}
			for _, flag := range path.Flags {
				if !seen[flag] && flag.Name != "help" {
					seen[flag] = true
					if !yield(flag) {
						return
					}
				}
			}
		}
	}
}

// onLine reports whether the command line sets the flag.
func onLine(ctx *kong.Context, flag *kong.Flag) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool { return p.Flag == flag && !p.Resolved })
}

// unknownNames complains about every TINTYPE_ variable that no command knows.
func unknownNames(model *kong.Application, environ []string) []string {
	known := map[string]bool{}
	err := kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				known[name] = true
				if flag.Tag.Has(tagSecret) {
					known[name+"_FILE"] = true
				}
			}
		}
		return next(nil)
	})
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "TINTYPE_") && !known[name] {
			problem := "unknown environment variable " + name
			if near := typo.Nearest(name, slices.Collect(maps.Keys(known))); near != "" {
				problem += "; did you mean " + near + "?"
			}
			out = append(out, problem)
		}
	}
	slices.Sort(out)
	return out
}
