package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// debianBins is where Debian and Ubuntu keep the server's binaries, one folder a
// major version. They are not in PATH.
const debianBins = "/usr/lib/postgresql/*/bin"

// binaries is a folder with initdb and postgres.
type binaries struct {
	dir   string
	major string // "15"
}

func (b binaries) initdb() string   { return filepath.Join(b.dir, "initdb") }
func (b binaries) postgres() string { return filepath.Join(b.dir, "postgres") }

// findBinaries looks in dir or, where that is empty, in the places of a pattern
// (Debian's) and then in PATH. Of several versions it takes the one that wrote the cluster (major,
// if not empty), else the newest.
func findBinaries(dir, places, major string) (binaries, error) {
	if dir != "" {
		if !complete(dir) {
			return binaries{}, fmt.Errorf("there is no initdb and postgres in %s", dir)
		}
		return inspect(dir)
	}
	found, err := filepath.Glob(places)
	if err != nil {
		return binaries{}, err
	}
	found = slices.DeleteFunc(found, func(dir string) bool { return !complete(dir) })
	slices.SortFunc(found, func(a, b string) int { return folderVersion(b) - folderVersion(a) })
	for _, dir := range found {
		if filepath.Base(filepath.Dir(dir)) == major {
			return inspect(dir)
		}
	}
	if len(found) > 0 {
		return inspect(found[0])
	}
	path, err := exec.LookPath("initdb")
	if err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && complete(filepath.Dir(path)) {
			return inspect(filepath.Dir(path))
		}
	}
	return binaries{}, errors.New("no Postgres server is installed: apt-get install postgresql")
}

// complete tells whether dir has all that is needed.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// folderVersion is the 15 of /usr/lib/postgresql/15/bin, and 0 where there is none.
func folderVersion(dir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return n
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)

// inspect asks the binary for its version.
func inspect(dir string) (binaries, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, errors.New("postgres --version gave no answer in 10 s"))
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return binaries{}, fmt.Errorf("ask the binary in %s for its version: %w", dir, errors.Join(err, context.Cause(ctx)))
	}
	m := versionText.FindSubmatch(out)
	if m == nil {
		return binaries{}, fmt.Errorf("the binary in %s calls itself %q, which names no Postgres version", dir, out)
	}
	return binaries{dir: dir, major: string(m[1])}, nil
}

// clusterVersion is the major version that wrote the cluster in dir, or empty if
// there is no cluster. A folder that holds anything else is refused.
func clusterVersion(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err == nil {
		return string(trimLine(data)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for a cluster: %w", err)
	}
	if len(names) > 0 {
		return "", fmt.Errorf("%s holds other things than a Postgres cluster, for example %s: choose another folder", dir, names[0].Name())
	}
	return "", nil
}
