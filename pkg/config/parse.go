package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tintype/tintype/pkg/option"
)

// ErrHelp is returned by Parse after it has printed the help that was asked
// for; there is nothing left to do.
var ErrHelp = errors.New("help was printed")

// Error is everything that is wrong with a command line and its environment.
type Error struct {
	Problems []string
}

func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0]
	}
	return fmt.Sprintf("%d problems:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// Parsed is a configuration that has no known problem.
type Parsed struct {
	Config
	// Command is the chosen command with its subcommand, such as "up" or
	// "key create".
	Command string
	// Settings are the values that the command takes, with their sources, in
	// the order of the help.
	Settings []Setting
}

// Parse reads args (without the program's name), the process's environment
// and the files of secrets. Help goes to out. The error is ErrHelp or *Error.
func Parse(args []string, out io.Writer) (*Parsed, error) {
	p := &Parsed{}
	in := newReader(os.LookupEnv)
	exited := false
	vars := kong.Vars{
		"data":     defaultData(),
		"seats":    strconv.Itoa(runtime.NumCPU()),
		"hostname": hostname(),
		"formats":  strings.Join(slices.DeleteFunc(slices.Clone(option.Formats), func(f string) bool { return f == "pdf" }), ", "),
	}
	k, err := kong.New(&p.Config, append(in.options(), vars,
		kong.Name("tintype"),
		kong.Description("A self-hosted screenshot and PDF farm."),
		kong.Writers(out, out),
		kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(manual))...)
	if err != nil {
		return nil, fmt.Errorf("the command line's grammar: %w", err) // a bug: the tags of Config
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := k.Parse(args)
	if exited {
		return nil, ErrHelp
	}
	problems := unknownNames(k.Model, os.Environ())
	if err != nil {
		return nil, &Error{append(problems, err.Error())}
	}

	words := strings.Fields(ctx.Command())
	p.Command = strings.Join(slices.DeleteFunc(words, func(w string) bool {
		return strings.HasPrefix(w, "<") || strings.HasPrefix(w, "[")
	}), " ")
	p.Settings = in.settings(ctx)
	problems = append(problems, in.problems(ctx)...)
	problems = append(problems, p.check()...)
	if len(problems) > 0 {
		return nil, &Error{problems}
	}
	return p, nil
}

// manual is a field's help with what it is when nobody sets it, and where else
// it can be set.
func manual(v *kong.Value) string {
	help := v.Help
	if v.HasDefault && v.Default != "" {
		help += " Default: " + v.Default + "."
	}
	if len(v.Tag.Envs) > 0 {
		help += " ($" + v.Tag.Envs[0] + ")"
	}
	return help
}

// defaultData is where root and everybody else keep a farm.
func defaultData() string {
	if os.Getuid() == 0 {
		return "/var/lib/tintype"
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "tintype-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(home, ".local/share/tintype")
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "worker"
	}
	return name
}
