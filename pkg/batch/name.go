package batch

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/job"
)

// maxCustomName bounds the part of a file's name that a client chose, in bytes.
const maxCustomName = 100

// FileName names the artifact of a line, in a ZIP and in a folder: by its
// number, which makes it unique and sorts, and by what the client calls it, as
// far as every file system takes that.
func FileName(line int, customID, contentType string) string {
	ext := ".bin"
	if f := job.FormatOf(contentType); f != "" {
		ext = f.Ext()
	}
	name := strings.Map(func(c rune) rune {
		switch {
		case c == utf8.RuneError, unicode.Is(unicode.C, c), strings.ContainsRune(`/\:*?"<>|`, c), unicode.IsSpace(c):
			return '_' // no path, nothing that some file system refuses, nothing that is not seen
		}
		return c
	}, customID)
	for len(name) > maxCustomName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	if name != "" {
		name = "-" + name
	}
	return fmt.Sprintf("%07d%s%s", line, name, ext)
}
