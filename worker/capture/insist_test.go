package capture

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/browser"
)

// TestInsist: an answer that Chromium gives for a document on its way out is
// asked for again, and believed in the end.
func TestInsist(t *testing.T) {
	needtest.Browser(t)
	home, err := os.MkdirTemp("", "tintype-insist-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Chmod(home, 0o711); err != nil {
		t.Fatal(err)
	}
	b, err := browser.Launch(t.Context(), browser.Config{Dir: filepath.Join(home, "browsers"), FlagsOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Kill() })
	tab, err := b.NewTab(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		refusals, calls int
		code            job.Code
	}{
		"at once":    {0, 1, ""},
		"after two":  {2, 3, ""},
		"after four": {4, 5, ""},
		"never":      {100, 5, job.Internal},
	} {
		a := &attempt{tab: tab, spec: &job.Spec{}, track: newTracker(tab.Frame()), start: time.Now(), end: time.Now().Add(time.Minute)}
		calls := 0
		body, fail := a.insist(t.Context(), func(ctx context.Context, limit time.Duration) ([]byte, error) {
			if calls++; calls <= c.refusals {
				return nil, &browser.ProtocolError{Method: "Page.captureScreenshot", Code: -32000, Message: "Unable to capture screenshot"}
			}
			return a.tab.Screenshot(ctx, limit, proto.PageCaptureScreenshot{Format: proto.PageCaptureScreenshotFormatPng})
		})
		switch {
		case calls != c.calls:
			t.Errorf("%s: %d calls, want %d", name, calls, c.calls)
		case c.code == "" && (fail != nil || len(body) == 0):
			t.Errorf("%s: %v, %d bytes", name, fail, len(body))
		case c.code != "" && (fail == nil || fail.Code != c.code):
			t.Errorf("%s: %v, want %s", name, fail, c.code)
		}
		if held := c.refusals > 0; a.isHeld != held {
			t.Errorf("%s: the page is held: %t", name, a.isHeld)
		}
	}
}
