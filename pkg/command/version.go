package command

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Debian's place of the browser that workers run.
const chromiumBin = "/usr/lib/chromium/chromium-headless-shell"

// Version prints the versions of tintype, Go and Chromium.
func Version(ctx context.Context, t Terminal, version, chromium string) error {
	if chromium == "" {
		chromium = chromiumBin
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	browser := "not found at " + chromium + ": apt-get install chromium-headless-shell"
	if out, err := exec.CommandContext(ctx, chromium, "--version").Output(); err == nil {
		browser = strings.TrimSpace(string(out))
	}
	_, err := fmt.Fprintf(t.Out, "tintype   %s\ngo        %s %s/%s\nchromium  %s\n",
		version, runtime.Version(), runtime.GOOS, runtime.GOARCH, browser)
	return err
}
