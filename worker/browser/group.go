package browser

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// members lists the processes of a process group that are not zombies.
// Chromium's children stay in their browser's group, in whichever namespace.
func members(pgid int) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		state, group, ok := readStat(pid)
		if ok && group == pgid && state != 'Z' && state != 'X' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ofKind lists the members of a browser's group that run as one of Chromium's
// process types, such as renderer.
func ofKind(pgid int, kind string) (pids []int) {
	for _, pid := range members(pgid) {
		cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && bytes.Contains(cmdline, []byte("--type="+kind)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// readStat reads state and process group from /proc/PID/stat (proc(5)). The
// name in brackets may hold anything, so fields are counted from its end.
func readStat(pid int) (state byte, group int, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 3 {
		return 0, 0, false
	}
	group, err = strconv.Atoi(fields[2])
	return fields[0][0], group, err == nil
}

// memory sums what processes hold for themselves and in shared memory of their
// own, in bytes. Unlike the resident size it does not count the binary's pages
// once for each process.
func memory(pids []int) (total int64) {
	for _, pid := range pids {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(b)) {
			key, v, _ := strings.Cut(line, ":")
			if key == "RssAnon" || key == "RssShmem" {
				n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
				total += n << 10
			}
		}
	}
	return total
}

// statusField reads one line of /proc/PID/status, which anyone may read.
func statusField(pid int, key string) (string, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}

// signalGroup kills a process group whose leader was not reaped yet: after
// that its number may be anybody's.
func signalGroup(pgid int, reaped <-chan struct{}) {
	select {
	case <-reaped:
	default:
		syscall.Kill(-pgid, syscall.SIGKILL)
	}
}

// killGroup ends a process group as a whole and waits until none of it runs.
// The leader is reaped by whoever started it, who then closes reaped; what was
// left to us by our being process 1 or a subreaper is reaped here.
func killGroup(pgid int, reaped <-chan struct{}) error {
	const patience = 5 * time.Second
	end := time.Now().Add(patience)
	signalGroup(pgid, reaped)
	select {
	case <-reaped:
	case <-time.After(patience):
		return errors.New("the browser outlived SIGKILL by " + patience.String())
	}
	for wait := time.Millisecond; len(members(pgid)) > 0; wait = min(2*wait, 50*time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("processes of the browser outlived SIGKILL by " + patience.String())
		}
		syscall.Kill(-pgid, syscall.SIGKILL)
		time.Sleep(wait)
	}
	for wait := time.Millisecond; ; {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-pgid, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR || err == nil && pid > 0:
		case err != nil:
			return nil // none of them is ours, or none is left
		case time.Now().After(end):
			return errors.New("processes of the browser were not to be reaped within " + patience.String())
		default: // dead, but for threads that are still on their way out
			time.Sleep(wait)
			wait = min(2*wait, 50*time.Millisecond)
		}
	}
}
