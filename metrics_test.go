package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Every metric is explained in docs/operations.md, and what is explained there
// exists.
func TestMetricsAreDocumented(t *testing.T) {
	inCode, inDocs := map[string]bool{}, map[string]bool{}
	name := regexp.MustCompile(`"(tintype_[a-z_]+)"`)
	for _, dir := range []string{"api", "pkg", "scheduler", "worker"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, m := range name.FindAllSubmatch(text, -1) {
				inCode[string(m[1])] = true // or the beginning of several
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, m := range regexp.MustCompile("`(tintype_[a-z_]+)").FindAllStringSubmatch(cell, -1) {
			if strings.HasPrefix(line, "| ") {
				inDocs[m[1]] = true
			}
		}
	}
	for name := range inDocs {
		for begin := range inCode {
			if strings.HasSuffix(begin, "_") && strings.HasPrefix(name, begin) {
				inCode[name] = true
			}
		}
	}
	maps.DeleteFunc(inCode, func(name string, _ bool) bool { return strings.HasSuffix(name, "_") })
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(inDocs))); diff != "" {
		t.Errorf("metrics of the code and of docs/operations.md (-code +docs):\n%s", diff)
	}
}
