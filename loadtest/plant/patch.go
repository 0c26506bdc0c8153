// Package plant breaks the farm on purpose: each plant is a patch with a known
// bug and the test that must notice it.
//
// It promises that the tree is only read: a plant changes copies of the files
// that it touches, and the go command is told to compile those instead
// (-overlay). A plant that does not apply, does not compile, or names a test
// that does not run proves nothing and is an error, not a kill.
package plant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// hunk is one change: these lines become those. Its place is where the old
// lines stand, wherever that is by now, so that a plant outlives changes
// elsewhere in its file.
type hunk struct {
	old, new []string
}

// parseDiff reads unified diffs, by file.
func parseDiff(text string) (map[string][]hunk, error) {
	files := map[string][]hunk{}
	file := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		hunks := files[file]
		switch {
		case strings.HasPrefix(line, "--- a/"), strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "index "):
			file = ""
		case strings.HasPrefix(line, "+++ b/"):
			file = strings.TrimPrefix(line, "+++ b/")
		case file == "":
			return nil, fmt.Errorf("line %q is of no file", line)
		case strings.HasPrefix(line, "@@ "):
			files[file] = append(hunks, hunk{})
		case len(hunks) == 0:
			return nil, fmt.Errorf("line %q of %s is of no hunk", line, file)
		default:
			h := &hunks[len(hunks)-1]
			mark, rest := " ", "" // an empty line of context may have lost its blank
			if line != "" {
				mark, rest = line[:1], line[1:]
			}
			switch mark {
			case " ":
				h.old, h.new = append(h.old, rest), append(h.new, rest)
			case "-":
				h.old = append(h.old, rest)
			case "+":
				h.new = append(h.new, rest)
			default:
				return nil, fmt.Errorf("line %q is no line of a diff", line)
			}
		}
	}
	if len(files) == 0 {
		return nil, errors.New("there is no diff")
	}
	return files, nil
}

// apply makes the changes, in order. Each one's old lines must stand in the
// text exactly once.
func apply(text string, hunks []hunk) (string, error) {
	lines := strings.Split(text, "\n")
	for _, h := range hunks {
		at := -1
		for i := 0; i+len(h.old) <= len(lines); i++ {
			if !slices.Equal(lines[i:i+len(h.old)], h.old) {
				continue
			}
			if at >= 0 {
				return "", fmt.Errorf("the lines to change stand at %d and at %d; give more context:\n%s", at+1, i+1, strings.Join(h.old, "\n"))
			}
			at = i
		}
		if at < 0 {
			return "", fmt.Errorf("the lines to change are not there any more:\n%s", strings.Join(h.old, "\n"))
		}
		lines = slices.Replace(lines, at, at+len(h.old), h.new...)
	}
	return strings.Join(lines, "\n"), nil
}
