package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// syncTree makes the file or folder at path durable below root: path itself,
// then every folder from the one that holds it up to root.
//
// All folders are synced and not only new ones: one that was there already may
// have been made a moment ago by an upload that has not synced it yet, and then
// its name could still be lost. A sync of a folder that has nothing to write
// costs next to nothing.
//
// A path that is gone has been deleted by a later request: nothing to keep.
func syncTree(root, path string) error {
	for _, p := range chain(root, path) {
		if err := syncPath(p); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
	}
	return nil
}

// chain lists path and the folders above it, up to and with root.
func chain(root, path string) []string {
	root, path = filepath.Clean(root), filepath.Clean(path)
	list := []string{path}
	for path != root && len(path) > len(root) {
		path = filepath.Dir(path)
		list = append(list, path)
	}
	return list
}

// syncPath syncs one file or folder.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return f.Close()
}
