package capture

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestIntricateMarkdown: what takes time by its square is given up, and what
// read it ends.
func TestIntricateMarkdown(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, source := range map[string]string{
		"quotes":      strings.Repeat("> ", 130_000),
		"brackets":    strings.Repeat("[a](", 65_000),
		"lists":       strings.Repeat("* > ", 65_000),
		"definitions": strings.Repeat("[a]: b\n", 37_000),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := fromMarkdown(ctx, source); !errors.Is(err, errSlow) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestMarkdownTitle(t *testing.T) {
	for source, want := range map[string]string{
		"# A *b* `c` & <d>\n\n# E": "<title>A b c &amp; </title>",
		"Head\n====":               "<title>Head</title>",
		"no head":                  "<title></title>",
	} {
		if got, err := fromMarkdown(t.Context(), source); err != nil || !strings.Contains(got, want) {
			t.Errorf("%q: %v, %s", source, err, got[:min(len(got), 200)])
		}
	}
}
