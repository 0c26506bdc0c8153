package browser

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// What one process of a browser may take, whatever a page makes of it. They
// hold where there is no cgroup to hold the browser as a whole.
const (
	dataMB = 1536 // memory it writes to; reservations, of which Chromium makes 50 GB, do not count
	fileMB = 512  // one file; shared memory is files, and the largest picture one of 400 MB
	files  = 1024 // descriptors
	tasks  = 2048 // threads and processes of the browser's user in its user namespace
)

// limited is argv behind a shell that sets the limits: they must be there when
// the browser starts, and Go sets none for a child. Each is lowered to what
// this process itself may have. counted says that the browser's user has a user
// namespace of his own, in which the kernel counts his threads; elsewhere those
// of all browsers are counted together. The shells do not agree on the letter
// for them.
func limited(argv []string, counted bool) []string {
	// A bitmap over the limit is to be refused: the signal would end the browser.
	script := fmt.Sprintf("trap '' XFSZ && ulimit -c 0 && ulimit -d %d && ulimit -f %d && ulimit -n %d",
		lower(unix.RLIMIT_DATA, dataMB<<20)>>10, // kB
		lower(unix.RLIMIT_FSIZE, fileMB<<20)>>9, // blocks of 512 bytes
		lower(unix.RLIMIT_NOFILE, files))
	if counted {
		n := lower(unix.RLIMIT_NPROC, tasks)
		script += fmt.Sprintf(" && { ulimit -p %d 2>/dev/null || ulimit -u %d; }", n, n)
	}
	return append([]string{"/bin/sh", "-c", script + ` && exec "$@"`, "sh"}, argv...)
}

func lower(resource int, to uint64) uint64 {
	var have unix.Rlimit
	if err := unix.Getrlimit(resource, &have); err == nil && have.Max < to {
		return have.Max
	}
	return to
}
