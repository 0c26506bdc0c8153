package farm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/seal"
)

// A folder is the data folder of a farm, held by this process alone.
//
//	lock              the running process's pid; locked as long as it runs
//	admin.token       opens /admin
//	worker.token      opens the Work service
//	secret.key        what secrets in the database are sealed with
//	s3.access, s3.secret  the embedded bucket's keys
//	first.key         API key of the account "default"
//	nats.token, postgres.password, nats.url, postgres.url, backends.env
//	                  how other processes reach the stores (backends)
//	nats/ postgres/ s3/   the embedded back ends' own
//	demo/             the pictures of up --demo
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the folder if it is missing and takes its lock. A second
// process is refused in words: two servers over the same streams would both
// write to them, and nothing below would notice.
func openFolder(path string) (*folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	switch err := os.Mkdir(path, folderMode()); {
	case err == nil:
		if err := os.Chmod(path, folderMode()); err != nil { // whatever the umask took away
			return nil, fmt.Errorf("data folder: %w", err)
		}
	case !errors.Is(err, fs.ErrExist):
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	f := &folder{path: path, lock: lock}
	if err := f.take(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// folderMode lets others pass, and see nothing, where root owns the folder:
// Postgres and Chromium run as users of their own below it. Everything inside
// that they must not see is closed by itself.
func folderMode() fs.FileMode {
	if os.Geteuid() == 0 {
		return 0o711
	}
	return 0o700
}

func (f *folder) take() error {
	err := unix.Flock(int(f.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, readErr := io.ReadAll(io.LimitReader(f.lock, 20))
		if readErr != nil || len(pid) == 0 {
			pid = []byte("unknown")
		}
		return &InUse{Folder: f.path, PID: strings.TrimSpace(string(pid))}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.lock.Name(), err)
	}
	if err := f.lock.Truncate(0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if _, err := f.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// InUse is the error of a start in a folder that another process holds.
type InUse struct {
	Folder string
	PID    string
}

func (e *InUse) Error() string {
	return fmt.Sprintf("the data folder %s is in use by process %s: stop that one, or choose another folder with --data", e.Folder, e.PID)
}

// close lets the next process in. The file stays: a lock on a file that
// another start has just replaced would keep nobody out.
func (f *folder) close() error { return f.lock.Close() }

// join is a path inside the folder.
func (f *folder) join(name string) string { return filepath.Join(f.path, name) }

// sub makes a folder inside, closed to others.
func (f *folder) sub(name string) (string, error) {
	path := f.join(name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("data folder: %w", err)
	}
	return path, nil
}

// secret is given, or else what the file of that name holds; on the first
// start it makes 130 random bits and keeps them there.
func (f *folder) secret(given, name string) (string, error) {
	if given != "" {
		return given, nil
	}
	text, err := f.read(name)
	if err != nil || text != "" {
		return text, err
	}
	text = strings.ToLower(rand.Text())
	return text, f.write(name, text)
}

// secretKey is the box of the given key, or else of what secret.key holds; the
// first start makes one. Without it what is sealed is lost.
func (f *folder) secretKey(given string) (*seal.Box, error) {
	const name = "secret.key"
	text := given
	if text == "" {
		var err error
		if text, err = f.read(name); err != nil {
			return nil, err
		}
	}
	if text == "" {
		text = seal.NewKey()
		if err := f.write(name, text); err != nil {
			return nil, err
		}
	}
	box, err := seal.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.join(name), err)
	}
	return box, nil
}

// read gives a small file's text without its line end; "" when it is missing.
func (f *folder) read(name string) (string, error) {
	b, err := os.ReadFile(f.join(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// write keeps a small private file, whole or not at all, through a power cut.
func (f *folder) write(name, text string) error {
	tmp := f.join(name + ".tmp")
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	_, err = file.WriteString(text + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("data folder: write %s: %w", name, err)
	}
	return f.rename(name+".tmp", name)
}

func (f *folder) rename(from, to string) error {
	if err := os.Rename(f.join(from), f.join(to)); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	dir, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("data folder: sync: %w", err)
	}
	return nil
}

// disk is how many bytes are free for anybody on the folder's file system, and
// how many it has.
func (f *folder) disk(context.Context) (free, size uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(f.path, &st); err != nil {
		return 0, 0, fmt.Errorf("data folder: %w", err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// socketFolder makes the folder of this farm's unix sockets. It is apart from
// the data folder because a socket's whole path must fit 107 bytes, and named
// after it so that two farms of one machine do not meet.
func (f *folder) socketFolder() (string, error) {
	sum := sha256.Sum256([]byte(f.path))
	name := hex.EncodeToString(sum[:4])
	switch base := os.Getenv("XDG_RUNTIME_DIR"); {
	case os.Geteuid() == 0:
		return ownFolder("/run/tintype", name)
	case base != "":
		return ownFolder(base, "tintype-"+name)
	default:
		return ownFolder(os.TempDir(), "tintype-"+strconv.Itoa(os.Getuid())+"-"+name)
	}
}

// ownFolder makes base/name and refuses one that somebody else made before
// us: under /tmp anybody can.
func ownFolder(base, name string) (string, error) {
	path := filepath.Join(base, name)
	if err := os.MkdirAll(base, 0o711); err != nil {
		return "", fmt.Errorf("folder of sockets: %w", err)
	}
	if err := os.Mkdir(path, folderMode()); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("folder of sockets: %w", err)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return "", fmt.Errorf("folder of sockets: %w", err)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !st.IsDir() || !ok || int(sys.Uid) != os.Geteuid() {
		return "", fmt.Errorf("folder of sockets: %s belongs to somebody else", path)
	}
	if err := os.Chmod(path, folderMode()); err != nil {
		return "", fmt.Errorf("folder of sockets: %w", err)
	}
	return path, nil
}
