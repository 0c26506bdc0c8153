package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/tintype/tintype/loadtest/plant"
)

// Every plant applies to the tree as it is, and a few are planted: cheap ones
// of different rooms. `make plants` plants all.
func TestPlants(t *testing.T) {
	all, err := plant.Read("testdata/plants")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	few := map[string]bool{"queue-one-too-many": true, "second-end-wins": true, "refusal-before-frame": true, "page-outlives-lease": true}
	for _, p := range all {
		t.Run(p.Name, func(t *testing.T) {
			if err := p.Applies(".."); err != nil {
				t.Error(err)
			}
			if row := fmt.Sprintf("| `%s` | %s | `%s` `%s` |\n", p.Name, p.Bug, strings.TrimPrefix(p.Package, "./"), strings.Trim(p.Test, "^$")); !strings.Contains(string(doc), row) {
				t.Errorf("docs/testing.md lacks the row %s", row)
			}
			if !few[p.Name] || testing.Short() {
				return
			}
			if err := p.Kill(t.Context(), ".."); err != nil {
				t.Errorf("%s: %v", p.Bug, err)
			}
		})
		delete(few, p.Name)
	}
	for name := range few {
		t.Errorf("there is no plant %s", name)
	}
}
