package needtest

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// told is a test that keeps how it was ended.
type told struct {
	testing.TB
	failed, skipped string
}

func (t *told) Helper() {}

func (t *told) Fatalf(format string, args ...any) {
	t.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (t *told) Skip(args ...any) {
	t.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

func (t *told) Skipf(format string, args ...any) { t.Skip(fmt.Sprintf(format, args...)) }

// end runs what a test begins with, until that ends it.
func end(of func(testing.TB)) *told {
	t := &told{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		of(t)
	}()
	<-done
	return t
}

func TestLacks(t *testing.T) {
	missing := func(t testing.TB) { Program(t, "no-such-program", "no-such-package") }
	t.Setenv("CI", "")
	if got := end(missing); got.failed != "" || !strings.Contains(got.skipped, "apt-get install -y no-such-package") {
		t.Errorf("by hand: failed %q, skipped %q", got.failed, got.skipped)
	}
	t.Setenv("CI", "true")
	if got := end(missing); got.skipped != "" || !strings.Contains(got.failed, "apt-get install -y no-such-package") {
		t.Errorf("in CI: failed %q, skipped %q", got.failed, got.skipped)
	}
	if got := end(func(t testing.TB) { Program(t, "sh", "dash") }); got.failed+got.skipped != "" {
		t.Errorf("nothing is missing: failed %q, skipped %q", got.failed, got.skipped)
	}
	was := flag.Lookup("test.short").Value.String()
	t.Cleanup(func() { flag.Set("test.short", was) })
	flag.Set("test.short", "true")
	for what, need := range map[string]func(testing.TB){"Chromium": Browser, "Postgres": Postgres} {
		if got := end(need); got.failed != "" || !strings.Contains(got.skipped, what) {
			t.Errorf("%s with -short: failed %q, skipped %q", what, got.failed, got.skipped)
		}
	}
}
