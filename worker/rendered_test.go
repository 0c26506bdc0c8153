package worker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
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

// notSeen are the options that no picture can show, and why.
var notSeen = map[string]string{
	"optimize_for_speed":       "the pixels are the same: TestPictureFormats compares every one",
	"wait_timeout_ms":          "a wait that is over fails the job",
	"navigation_timeout_ms":    "a server that is late fails the job",
	"timeout_ms":               "the end of the time fails the job, or says in the evidence what was not waited for",
	"fail_on_timeout":          "fails the job, or leaves the picture as it is",
	"fail_on_4xx":              "fails the job, or leaves the picture as it is",
	"fail_on_5xx":              "fails the job, or leaves the picture as it is",
	"fail_on_console_error":    "fails the job, or leaves the picture as it is",
	"fail_on_resource_error":   "fails the job, or leaves the picture as it is",
	"fail_if_request_failed":   "fails the job, or leaves the picture as it is",
	"fail_if_selector_missing": "fails the job, or leaves the picture as it is",
	"fail_if_selector_present": "fails the job, or leaves the picture as it is",
	"fail_if_content_contains": "fails the job, or leaves the picture as it is",
	"fail_if_content_missing":  "fails the job, or leaves the picture as it is",
	"pdf_outline":              "bookmarks stand beside the pages: TestPaper reads them",
	"pdf_tagged":               "tags are not drawn: TestPaper asks for them",
	"save_metadata":            "goes into the evidence: TestWords finds the same artifact",
}

// Every option that changes how an artifact looks has a golden picture, which
// a test compares.
func TestEveryOptionHasAPicture(t *testing.T) {
	shown := optionsShown(t)
	for _, o := range option.Table {
		why, hidden := notSeen[o.Name]
		switch {
		case hidden && shown[o.Name]:
			t.Errorf("%s has a picture, and is told to have none since it %q", o.Name, why)
		case !hidden && !shown[o.Name]:
			t.Errorf("no test compares a picture of %s: give wantPicture one whose name begins so, or say in notSeen why it cannot be seen", o.Name)
		}
	}
	for name := range notSeen {
		if !slices.ContainsFunc(option.Table, func(o option.Option) bool { return o.Name == name }) {
			t.Errorf("%s is no option", name)
		}
	}
	files, err := filepath.Glob("testdata/pictures/*.png")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d pictures, %v", len(files), err)
	}
	for _, path := range files {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".png"), "-")
		if !shown[name] {
			t.Errorf("%s: no test compares pictures of %q", path, name)
		}
		if info, err := os.Stat(path); err != nil || info.Size() > 16<<10 {
			t.Errorf("%s has more than 16 KiB: make it smaller, or of fewer colours (%v)", path, err)
		}
	}
}

// optionsShown are the options that the tests of this folder compare pictures
// of: the first word of a picture's name, and those that are given also.
func optionsShown(t *testing.T) map[string]bool {
	t.Helper()
	shown := make(map[string]bool)
	inspect(t, func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return
		}
		var names []ast.Expr
		switch f := call.Fun.(type) {
		case *ast.Ident:
			if f.Name == "wantPicture" && len(call.Args) > 2 {
				names = call.Args[2:]
			}
		case *ast.SelectorExpr:
			if f.Sel.Name == "wantInked" && len(call.Args) > 4 {
				names = append([]ast.Expr{call.Args[0]}, call.Args[5:]...)
			}
		}
		for _, name := range names {
			if text := beginning(name); text != "" {
				first, _, _ := strings.Cut(text, " ")
				shown[first] = true
			}
		}
	})
	return shown
}

// beginning is the literal that a text begins with in the source; empty where
// it begins with something else.
func beginning(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return beginning(e.X)
	}
	return ""
}

// fieldsSet are the names of the fields that the tests of this folder set.
func fieldsSet(t *testing.T) map[string]bool {
	t.Helper()
	set := make(map[string]bool)
	inspect(t, func(n ast.Node) {
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
	})
	return set
}

// inspect looks at all that the tests of this folder are written of.
func inspect(t *testing.T, look func(ast.Node)) {
	t.Helper()
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
			look(n)
			return true
		})
	}
}
