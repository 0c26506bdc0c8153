package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/config"
)

const (
	// leastShm is what large pages need of shared memory; with less a browser
	// uses files, which is slower.
	leastShm = 512 << 20
	// seatMemory is about what a browser with a usual page takes at most, and
	// baseMemory what everything else of a farm does, in bytes.
	seatMemory, baseMemory = 500 << 20, 500 << 20
	// leastDisk is the share of a file system, in hundredths, under which a farm
	// takes no jobs; below smallDisk, in bytes, that is soon.
	leastDisk, smallDisk = 10, 5 << 30
)

// sharedMemory looks at what Chromium's processes hand pictures over in.
func sharedMemory(path string) Finding {
	const fix = "mount -o remount,size=1g /dev/shm, or start the container with --shm-size=1g"
	free, _, err := space(path)
	switch {
	case err != nil:
		return warn("shared memory", fix, "there is no %s: browsers use files, which is slower", path)
	case free < leastShm:
		return warn("shared memory", fix, "%s has %s free, and 512 MB are wanted: browsers use files, which is slower", path, size(free))
	}
	return ok("shared memory", "%s free in %s", size(free), path)
}

// dataFolder looks at where a farm keeps what it holds.
func dataFolder(path string) Finding {
	const name = "data folder"
	path, err := filepath.Abs(path)
	if err != nil {
		return fail(name, "choose another folder with --data", "%v", err)
	}
	there := existing(path)
	st, err := os.Stat(there)
	switch {
	case err != nil:
		return fail(name, "choose another folder with --data", "%v", err)
	case !st.IsDir():
		return fail(name, "choose another folder with --data", "%s is no folder", there)
	case unix.Access(there, unix.W_OK|unix.X_OK) != nil:
		return fail(name, "choose another folder with --data, or have root make this one yours: chown "+strconv.Itoa(os.Geteuid())+" "+there,
			"%s cannot be written by this user", there)
	}
	if os.Geteuid() == 0 {
		// Postgres and the browsers step down and must pass through.
		for dir := there; ; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
				return fail(name, "chmod o+x "+dir, "%s is closed to the users that Postgres and browsers run as", dir)
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	if there != path {
		return ok(name, "%s will be made", path)
	}
	if pid := holder(path); pid != "" {
		return ok(name, "%s, in use by process %s", path, pid)
	}
	return ok(name, "%s", path)
}

// existing is path, or the nearest folder above it that is there.
func existing(path string) string {
	for {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// holder is the number of the process that holds a data folder; empty where
// none does.
func holder(path string) string {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR, 0)
	if err != nil {
		return ""
	}
	defer lock.Close()
	if !errors.Is(unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
		return ""
	}
	text, _ := os.ReadFile(lock.Name())
	return strings.TrimSpace(string(text))
}

// disk looks at the room for streams and artifacts.
func disk(path string) Finding {
	const name, fix = "disk", "free some, or choose a folder on another disk with --data"
	abs, err := filepath.Abs(path)
	if err != nil {
		return fail(name, fix, "%v", err)
	}
	free, whole, err := space(existing(abs))
	switch {
	case err != nil:
		return fail(name, fix, "%v", err)
	case free*100 < whole*leastDisk:
		return fail(name, fix, "%s of %s are free: under %d %% a farm takes no jobs", size(free), size(whole), leastDisk)
	case free < smallDisk:
		return warn(name, fix, "%s of %s are free", size(free), size(whole))
	}
	return ok(name, "%s of %s are free", size(free), size(whole))
}

func space(path string) (free, whole uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// memory compares what is available with what so many seats take.
func memory(file string, seats int) Finding {
	const name = "memory"
	text, err := os.ReadFile(file)
	if err != nil {
		return warn(name, "mount /proc", "nobody knows how much there is: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		rest, is := strings.CutPrefix(line, "MemAvailable:")
		if !is {
			continue
		}
		kB, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
		if err != nil {
			break
		}
		free, need := kB<<10, uint64(seats)*seatMemory+baseMemory
		if free < need {
			fewer := max(1, int(free/seatMemory)-1)
			return warn(name, "start with --seats "+strconv.Itoa(fewer), "%s are available, and %d seats may take %s", size(free), seats, size(need))
		}
		return ok(name, "%s are available, and %d seats may take %s", size(free), seats, size(need))
	}
	return warn(name, "look with: free -m", "%s does not say how much is available", file)
}

func size(bytes uint64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%d GB", bytes>>30)
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}

// ports tries the addresses that a farm listens on. One that the farm of this
// very folder has is no trouble.
func ports(cfg config.Doctor) (all []Finding) {
	for _, at := range []struct{ flag, address string }{
		{"--listen", cfg.Listen}, {"--admin-listen", cfg.AdminListen}, {"--cluster-listen", cfg.ClusterListen},
	} {
		if at.address == "" {
			continue
		}
		name := "port " + at.address
		l, err := net.Listen("tcp", at.address)
		switch path, _ := filepath.Abs(cfg.Data); {
		case err == nil:
			l.Close()
			all = append(all, ok(name, "free"))
		case errors.Is(err, unix.EADDRINUSE) && holder(path) != "":
			all = append(all, ok(name, "in use, as by the farm that runs in %s", path))
		case errors.Is(err, unix.EADDRINUSE):
			all = append(all, fail(name, "choose another address with "+at.flag+", or see who has it: ss -ltnp", "somebody else listens there"))
		case errors.Is(err, unix.EACCES):
			all = append(all, fail(name, "choose a port from 1024 on with "+at.flag, "this user may not listen there"))
		default:
			all = append(all, fail(name, "choose another address with "+at.flag, "%v", err))
		}
	}
	return all
}
