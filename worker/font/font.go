// Package font knows which characters this machine's fonts have, as fontconfig
// tells it, which is what Chromium asks too.
//
// It promises that a character that it calls known has a glyph in some font,
// whatever the page says of families. What it does not know may still have one,
// in a font that the page brings along.
package font

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// listWithin bounds the question to fontconfig. It may have to write its cache
// first, which takes seconds where there are many fonts.
const listWithin = 30 * time.Second

// ErrNoTool says that fontconfig's fc-list is not there to be asked.
var ErrNoTool = errors.New("fc-list is not there (Debian: apt-get install fontconfig)")

// A Coverage is a set of characters.
type Coverage struct {
	ranges []span // sorted, apart
}

type span struct{ from, to rune }

// Known is what the fonts of this machine have, asked once for the process.
var Known = sync.OnceValues(func() (*Coverage, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), listWithin, errors.New("fc-list did not answer in time"))
	defer cancel()
	return List(ctx)
})

// KnownClass is the Class of Known, once for the process.
var KnownClass = sync.OnceValue(func() string {
	known, _ := Known() // what it does not know is looked at in the page
	return known.Class()
})

// List asks fontconfig. Its error may be ErrNoTool.
func List(ctx context.Context) (*Coverage, error) {
	out, err := exec.CommandContext(ctx, "fc-list", ":scalable=true", "--format", `%{charset}\n`).Output()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, ErrNoTool
	case err != nil:
		return nil, fmt.Errorf("fc-list: %w", cmp.Or(context.Cause(ctx), err))
	}
	return parse(string(out))
}

// parse reads lines of hexadecimal numbers and ranges, such as "20-7e a0".
func parse(text string) (*Coverage, error) {
	var spans []span
	seen := map[string]bool{} // the faces of one family have the same characters
	for line := range strings.Lines(text) {
		if seen[line] {
			continue
		}
		seen[line] = true
		for field := range strings.FieldsSeq(line) {
			first, last, ranged := strings.Cut(field, "-")
			if !ranged {
				last = first
			}
			from, err := strconv.ParseUint(first, 16, 21)
			to, err2 := strconv.ParseUint(last, 16, 21)
			if err := errors.Join(err, err2); err != nil || to < from {
				return nil, fmt.Errorf("fc-list says %q where characters should be", field)
			}
			spans = append(spans, span{rune(from), rune(to)})
		}
	}
	return &Coverage{merge(spans)}, nil
}

func merge(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Has reports whether some font has the character.
func (c *Coverage) Has(r rune) bool {
	i, found := slices.BinarySearchFunc(c.ranges, r, func(s span, r rune) int { return cmp.Compare(s.from, r) })
	return found || i > 0 && r <= c.ranges[i-1].to
}

// mostRanges bounds what Class writes: every page is looked at with it.
const mostRanges = 48

// plain are the characters that any font for Latin has, or that show nothing.
var plain = span{0, 0xff}

// Class is a set of characters that need no looking at, as it stands between
// the brackets of a regular expression of JavaScript with the u flag: those
// that are known in the runs of everyday characters and in the longest, and
// those in between that show nothing by themselves. A nil coverage has those of
// Latin.
func (c *Coverage) Class() string {
	spans := []span{plain}
	if c != nil {
		spans = append(spans, c.ranges...)
	}
	spans = bridge(merge(spans))
	common := map[span]bool{}
	for _, r := range everyday {
		if i := slices.IndexFunc(spans, func(s span) bool { return s.from <= r && r <= s.to }); i >= 0 {
			common[spans[i]] = true
		}
	}
	slices.SortStableFunc(spans, func(a, b span) int {
		if common[a] != common[b] {
			return map[bool]int{true: -1, false: 1}[common[a]]
		}
		return cmp.Compare(b.to-b.from, a.to-a.from)
	})
	spans = slices.Clone(spans[:min(len(spans), mostRanges)])
	var b strings.Builder
	for _, s := range merge(spans) {
		fmt.Fprintf(&b, `\u{%x}-\u{%x}`, s.from, s.to)
	}
	return b.String()
}

// bridge joins spans that nothing lies between that could be missing.
func bridge(spans []span) []span {
	out := spans[:1:1]
	for _, s := range spans[1:] {
		last := &out[len(out)-1]
		if silent(last.to+1, s.from-1) {
			last.to = s.to
			continue
		}
		out = append(out, s)
	}
	return out
}

func silent(from, to rune) bool {
	for r := from; r <= to; r++ {
		if !unicode.In(r, unicode.M, unicode.Z, unicode.Cc, unicode.Cf) {
			return false
		}
	}
	return true
}
