package seeds

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// published is how many lines each seed has.
var published = map[string]int{"P2I": 13, "WEBSHOT": 14, "URLBOX": 5, "SSAPI": 21, "SHOTIT": 11}

// The table in docs/seeds.md has every published line once; each of its tests
// is there, under the line's name; and there is no test of a line that is not in
// the table, or not with this package.
func TestEveryLine(t *testing.T) {
	text, err := os.ReadFile("../../docs/seeds.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]string{} // packages, by line
	for _, row := range regexp.MustCompile(`(?m)^\| (SEED-[A-Z0-9]+-\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$`).FindAllStringSubmatch(string(text), -1) {
		if table[row[1]] != nil {
			t.Errorf("%s is in the table twice", row[1])
		}
		for name := range strings.SplitSeq(row[3], ",") {
			table[row[1]] = append(table[row[1]], strings.TrimSpace(name))
		}
		if strings.TrimSpace(row[2]) == "" || strings.TrimSpace(row[3]) == "" {
			t.Errorf("%s says nothing, or has no test", row[1])
		}
	}
	for seed, n := range published {
		for i := 1; i <= n; i++ {
			if id := "SEED-" + seed + "-" + strconv.Itoa(i); table[id] == nil {
				t.Errorf("%s is not in the table", id)
			}
		}
		if over := "SEED-" + seed + "-" + strconv.Itoa(n+1); table[over] != nil {
			t.Errorf("%s is in the table, and not published", over)
		}
	}
	for _, open := range []string{"SEED-SSAPI-18", "SEED-SSAPI-20", "SEED-SSAPI-21"} {
		if !regexp.MustCompile(`(?m)^\| ` + open + ` \|.*\*\*[Oo]pen\*\*`).Match(text) {
			t.Errorf("%s needs the camera, and does not say that it is open", open)
		}
	}

	tested := map[string][]string{"loadtest/seeds": nil, "scheduler": subtests(t, "../../scheduler")}
	for _, s := range seeds {
		for _, l := range s.lines {
			tested["loadtest/seeds"] = append(tested["loadtest/seeds"], l.id)
		}
	}
	for name, lines := range tested {
		for _, id := range lines {
			if !slices.Contains(table[id], name) {
				t.Errorf("%s is tested in %s, and the table does not say so", id, name)
			}
		}
		slices.Sort(lines)
		if len(slices.Compact(slices.Clone(lines))) != len(lines) {
			t.Errorf("%s tests a line twice: %q", name, lines)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(table)) {
		for _, name := range table[id] {
			if !slices.Contains(tested[name], id) {
				t.Errorf("%s has no test in %s", id, name)
			}
		}
	}
}

// subtests are the names of lines under which a package's tests run something.
func subtests(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			of, isRun := call.Fun.(*ast.SelectorExpr)
			name, isText := call.Args[0].(*ast.BasicLit)
			if isRun && isText && of.Sel.Name == "Run" && strings.HasPrefix(name.Value, `"SEED-`) {
				names = append(names, strings.Trim(name.Value, `"`))
			}
			return true
		})
	}
	return names
}
