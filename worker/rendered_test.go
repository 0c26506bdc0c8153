package worker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/option"
)

// Every option that is offered is set by a test of this package, which renders
// with real browsers: that is how one is known to do what it says.
func TestEveryOptionIsRendered(t *testing.T) {
	set := fieldsSet(t)
	fields := map[string]string{"retina": "DeviceScaleFactor"} // by the names of options
	for _, of := range []reflect.Type{reflect.TypeFor[job.Spec](), reflect.TypeFor[job.Secrets]()} {
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			fields[name] = f.Name
		}
	}
	for _, o := range option.Table {
		if !set[fields[o.Name]] {
			t.Errorf("no test renders with %s: one has to set %s of a spec, and to see what that changes", o.Name, fields[o.Name])
		}
	}
}

// fieldsSet are the names of the fields that the tests of this folder set.
func fieldsSet(t *testing.T) map[string]bool {
	t.Helper()
	set := make(map[string]bool)
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, to := range n.Lhs {
					if s, ok := to.(*ast.SelectorExpr); ok {
						set[s.Sel.Name] = true
					}
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok {
					set[key.Name] = true
				}
			}
			return true
		})
	}
	return set
}
