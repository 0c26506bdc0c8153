// Package policies is the policy files that come with Tintype, as bytes: one
// truth for who reads them here and for the program that has them built in.
// What is in them is pkg/account's to read.
package policies

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed *.yaml
var files embed.FS

// Names are the files without their extension, in order.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		panic("policies: " + err.Error()) // they are built in
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return names
}

// Text is the file of that name; false if there is none.
func Text(name string) ([]byte, bool) {
	text, err := files.ReadFile(name + ".yaml")
	return text, err == nil
}
