// Package needtest leaves a test out where what it runs on is not there.
//
// One rule holds for all of them: a test that lacks something is skipped with a
// line that says what, and fails instead where CI is set, since CI runs
// everything. What needs Chromium or Postgres is left out by -short too.
package needtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Chromium is where Debian's package has the browser.
const Chromium = "/usr/lib/chromium/chromium-headless-shell"

// Lacks skips the test for what it lacks, and fails it in CI.
func Lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if os.Getenv("CI") != "" {
		t.Fatalf("CI lacks something: %s", text)
	}
	t.Skip(text)
}

// Browser is for a test that runs a browser.
func Browser(t testing.TB) {
	t.Helper()
	long(t, "Chromium")
	if _, err := os.Stat(Chromium); err != nil {
		Lacks(t, "needs Chromium: apt-get install -y chromium-headless-shell (%v)", err)
	}
}

// Postgres is for a test that runs a Postgres.
func Postgres(t testing.TB) {
	t.Helper()
	long(t, "Postgres")
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err == nil && len(found) == 0 {
		err = errors.New("nothing at /usr/lib/postgresql/*/bin/postgres")
	}
	if err != nil {
		Lacks(t, "needs Postgres: sh deploy/install.sh test (%v)", err)
	}
}

// Farm is for a test that runs a whole one: on Postgres, with browsers.
func Farm(t testing.TB) {
	t.Helper()
	Postgres(t)
	Browser(t)
}

// Program is the path of a program, which is in a package of Debian.
func Program(t testing.TB, name, in string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacks(t, "needs %s: apt-get install -y %s (%v)", name, in, err)
	}
	return path
}

// long leaves out what takes long.
func long(t testing.TB, what string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %s: left out by -short", what)
	}
}
