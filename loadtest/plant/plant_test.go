package plant

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const head = "Bug: one and one is three\nPackage: ./sum\nTest: ^TestSum$\n\n"

// tree is a module with one function and one test.
func tree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":          "module example.com/tree\n\ngo 1.26\n",
		"sum/sum.go":      "package sum\n\nfunc Sum(a, b int) int {\n\treturn a + b\n}\n\nfunc Idle() int {\n\treturn 0\n}\n",
		"sum/sum_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(1, 1) != 2 {\n\t\tt.Error(\"not 2\")\n\t}\n}\n\nfunc TestSkip(t *testing.T) { t.Skip() }\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func diff(old, new string) string {
	return "--- a/sum/sum.go\n+++ b/sum/sum.go\n@@ -1,1 +1,1 @@\n-" + old + "\n+" + new + "\n"
}

// A plant is killed when its test fails, and in no other case.
func TestKill(t *testing.T) {
	root := tree(t)
	for name, test := range map[string]struct{ text, want string }{
		"noticed":          {head + diff("\treturn a + b", "\treturn a + b + 1"), ""},
		"by a panic":       {head + diff("\treturn a + b", "\tpanic(\"no\")"), ""},
		"green":            {head + diff("\treturn a + b", "\treturn b + a"), "stays green"},
		"does not compile": {head + diff("\treturn a + b", "\treturn c"), "does not compile"},
		"does not apply":   {head + diff("\treturn a - b", "\treturn 0"), "not there any more"},
		"twice there":      {head + diff("}", "{"), "more context"},
		"no such test":     {strings.Replace(head, "TestSum", "TestNobody", 1) + diff("\treturn a + b", "\treturn 3"), "no verdict"},
		"skipped":          {strings.Replace(head, "TestSum", "TestSkip", 1) + diff("\treturn a + b", "\treturn 3"), "no verdict"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			switch err = p.Kill(t.Context(), root); {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(root, "sum/sum.go")); err != nil || !strings.Contains(string(text), "return a + b\n") {
		t.Errorf("the tree was changed: %s, %v", text, err)
	}
}

func TestGreen(t *testing.T) {
	root := tree(t)
	p, err := parse(head + diff("\treturn a + b", "\treturn 3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Green(t.Context(), root, []*Plant{p}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sum/sum.go"), []byte("package sum\n\nfunc Sum(a, b int) int { return 3 }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Green(t.Context(), root, []*Plant{p}); err == nil {
		t.Error("a test that fails anyway is taken for green")
	}
}

func TestHeads(t *testing.T) {
	for name, text := range map[string]string{
		"no diff":     head,
		"no head":     diff("a", "b"),
		"no test":     "Bug: b\nPackage: ./sum\n\n" + diff("a", "b"),
		"other field": "Bug: b\nPackage: ./sum\nTests: x\n\n" + diff("a", "b"),
		"no pattern":  "Bug: b\nPackage: ./sum\nTest: (\n\n" + diff("a", "b"),
		"no hunk":     head + "--- a/x\n+++ b/x\n+y\n",
		"no file":     head + "@@ -1 +1 @@\n-a\n+b\n",
	} {
		if p, err := parse(text); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
