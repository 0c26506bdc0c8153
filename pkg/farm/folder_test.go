package farm

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *folder {
	t.Helper()
	f, err := openFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.close(); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	return f
}

func TestFolderIsHeldByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	f := open(t, path)
	_, err := openFolder(path)
	inUse, ok := errors.AsType[*InUse](err)
	if !ok {
		t.Fatalf("the second start got %v", err)
	}
	if inUse.PID != strconv.Itoa(os.Getpid()) || !strings.Contains(err.Error(), path) {
		t.Errorf("the error names neither the process nor the folder: %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	open(t, path) // what the first left does not keep the next out
}

func TestFolderModes(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "above", "data"))
	st, err := os.Stat(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != folderMode() {
		t.Errorf("the folder has mode %o, want %o", st.Mode().Perm(), folderMode())
	}
	if _, err := f.secret("", "x.token"); err != nil {
		t.Fatal(err)
	}
	if st, err = os.Stat(f.join("x.token")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("a secret has mode %v (%v), want 0600", st.Mode(), err)
	}
}

func TestSecretIsMadeOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	f := open(t, path)
	first, err := f.secret("", "x.token")
	if err != nil || len(first) < 26 {
		t.Fatalf("secret %q, %v", first, err)
	}
	again, err := f.secret("", "x.token")
	if err != nil || again != first {
		t.Errorf("the second start has %q (%v), not %q", again, err, first)
	}
	given, err := f.secret("mine", "x.token")
	if err != nil || given != "mine" {
		t.Errorf("a given secret became %q (%v)", given, err)
	}
	if kept, err := f.read("x.token"); err != nil || kept != first {
		t.Errorf("a given secret replaced the kept one: %q (%v)", kept, err)
	}
}

func TestSocketFolder(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	a, b := open(t, filepath.Join(t.TempDir(), strings.Repeat("long", 30))), open(t, filepath.Join(t.TempDir(), "b"))
	pathA, err := a.socketFolder()
	if err != nil {
		t.Fatal(err)
	}
	pathB, err := b.socketFolder()
	if err != nil {
		t.Fatal(err)
	}
	if pathA == pathB {
		t.Error("two farms share their sockets")
	}
	if again, err := a.socketFolder(); err != nil || again != pathA {
		t.Errorf("the second start has %q (%v), not %q", again, err, pathA)
	}
	if os.Geteuid() == 0 {
		for _, path := range []string{pathA, pathB} {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSocketFolderOfSomebodyElse(t *testing.T) {
	base := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(base, "tintype-x")); err != nil {
		t.Fatal(err)
	}
	if _, err := ownFolder(base, "tintype-x"); err == nil {
		t.Error("a link that was there before us was taken for our folder")
	}
}

func TestOlder(t *testing.T) {
	for version, want := range map[string]bool{
		"2.15.2": false, "2.15.10": false, "2.16.0-RC.1": false, "3.0.0": false, "2.15": true, "2.15.1": true, "2.9.22": true, "": true,
	} {
		if got := older(version, leastNATS); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}
