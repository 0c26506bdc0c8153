package browser

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A folder holds every file of one browser: profile, home, temporary files. A
// locked file beside it says that it is in use, so that what a killed worker
// left behind can be told from what a living neighbour uses.
type folder struct {
	path string
	lock *os.File
}

const (
	folderPrefix = "browser-"
	lockSuffix   = ".lock"
)

// openParent makes and checks the folder that holds the browsers' folders. It
// may stand in a place that everyone can write to, so one that somebody else
// put there is refused.
func openParent(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("the browsers' folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("the browsers' folder: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("the browsers' folder: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("the browsers' folder %s belongs to somebody else or is open to others: remove it, or name another", dir)
	}
	// The umask may have taken the search bit that the browser's user needs.
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("the browsers' folder: %w", err)
	}
	return nil
}

// sweep removes the folders that no living process holds.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep the browsers' folder: %w", err)
	}
	for _, e := range entries {
		name, isLock := strings.CutSuffix(e.Name(), lockSuffix)
		if !strings.HasPrefix(name, folderPrefix) || !isLock {
			continue
		}
		lock, err := lockFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // in use
		}
		f := &folder{path: filepath.Join(dir, name), lock: lock}
		if err := errors.Join(groups().of(strings.TrimPrefix(name, folderPrefix)).remove(), f.remove()); err != nil {
			return err
		}
	}
	return nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink == 0 {
		f.Close()
		return nil, errors.New("a sweep removed the lock file before it was locked")
	}
	return f, nil
}

// newFolder makes a browser's folder with all that its environment names.
func newFolder(dir, name string, id identity) (*folder, error) {
	f := &folder{path: filepath.Join(dir, folderPrefix+name)}
	var err error
	// The lock is there before the folder is: a sweep never sees one alone.
	if f.lock, err = lockFile(f.path + lockSuffix); err != nil {
		return nil, fmt.Errorf("lock the browser's folder: %w", err)
	}
	for _, p := range []string{"", "profile", "tmp", "config", "cache", "data", "run"} {
		p = filepath.Join(f.path, p)
		if err := os.Mkdir(p, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("the browser's folder: %w", err), f.remove())
		}
		if id.change {
			if err := os.Lchown(p, id.uid, id.gid); err != nil {
				return nil, errors.Join(fmt.Errorf("the browser's folder: %w", err), f.remove())
			}
		}
	}
	return f, nil
}

// remove deletes the folder, then its lock file, then lets go of the lock.
func (f *folder) remove() error {
	err := os.RemoveAll(f.path)
	if err == nil {
		err = os.Remove(f.path + lockSuffix)
	}
	f.lock.Close()
	if err != nil {
		return fmt.Errorf("remove the browser's folder: %w", err)
	}
	return nil
}
