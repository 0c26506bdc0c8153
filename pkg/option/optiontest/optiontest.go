// Package optiontest keeps account of which tests render with which options.
//
// It promises that an option which is offered and that no test renders with
// fails a test by its name. What such a test has to show is its own.
package optiontest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/option"
)

// Renders says that the test renders with each of these options and without it,
// and asserts the difference. The names are written out, so that Check finds
// them without running the test.
func Renders(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if option.Find(name) == nil {
			t.Errorf("%s is no option that is offered", name)
		}
	}
}

// Check fails for each offered option that no call of Renders names, in the
// tests of the folders and below.
func Check(t testing.TB, folders ...string) {
	t.Helper()
	rendered := make(map[string]bool)
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				for _, name := range named(n) {
					rendered[name] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range option.Offered() {
		if !rendered[o.Name] {
			t.Errorf("no test renders with %s: add optiontest.Renders(t, %q) to one that renders with and without it", o.Name, o.Name)
		}
	}
}

// named are the names in a call of Renders.
func named(n ast.Node) (names []string) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Renders" {
		return nil
	}
	for _, arg := range call.Args {
		if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name, err := strconv.Unquote(lit.Value); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}
