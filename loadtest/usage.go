package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userHz is the unit of times in /proc: Linux fixes it at 100 for programs.
const userHz = 100

// cpuOf is the processor time of the processes roots and all below them, by
// name. Children that have ended count through the parent that collected them.
func cpuOf(roots ...int) (map[string]time.Duration, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	type process struct {
		name   string
		parent int
		cpu    time.Duration
	}
	all := map[int]process{}
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended while we looked
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if err != nil || open < 0 || end < 0 {
			continue
		}
		f := strings.Fields(string(text[end+1:])) // from field 3 of proc(5) on: the state
		if len(f) < 15 {
			continue
		}
		p := process{name: string(text[open+1 : end])}
		if p.parent, err = strconv.Atoi(f[1]); err != nil {
			continue
		}
		for _, ticks := range f[11:15] { // utime stime cutime cstime
			n, err := strconv.ParseInt(ticks, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			p.cpu += time.Duration(n) * time.Second / userHz
		}
		all[pid] = p
	}
	for _, root := range roots {
		if _, ok := all[root]; !ok {
			return nil, fmt.Errorf("there is no process %d", root)
		}
	}
	sum := map[string]time.Duration{}
	for pid, p := range all {
		for at := pid; at > 1; at = all[at].parent {
			if slices.Contains(roots, at) {
				sum[p.name] += p.cpu
				break
			}
		}
	}
	return sum, nil
}

// ownCPU is the processor time of this process alone.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// flushesOf is how many flush requests the disk under a folder has completed
// since the machine started, from every process: the one count of fsyncs that
// the kernel keeps. ok is false where there is no such disk, as on tmpfs.
func flushesOf(folder string) (n int64, ok bool) {
	var st unix.Stat_t
	if folder == "" || unix.Stat(folder, &st) != nil {
		return 0, false
	}
	device, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0, false
	}
	if _, err := os.Stat(filepath.Join(device, "partition")); err == nil {
		device = filepath.Dir(device) // flushes are counted for whole disks alone
	}
	text, err := os.ReadFile(filepath.Join(device, "stat"))
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(text))
	if len(f) < 16 {
		return 0, false
	}
	n, err = strconv.ParseInt(f[15], 10, 64)
	return n, err == nil
}

// residentOf is the resident memory of a process, in kB.
func residentOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if of, found := strings.CutPrefix(line, "VmRSS:"); found {
			return strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(of), " kB"), 10, 64)
		}
	}
	return 0, fmt.Errorf("process %d has no resident memory", pid)
}

// resident watches the resident memory of a process.
type resident struct {
	pid   int
	end   chan struct{}
	ended chan struct{}
	peak  atomic.Int64
}

func watchResident(pid int) *resident {
	r := &resident{pid: pid, end: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for {
			r.look()
			select {
			case <-r.end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return r
}

func (r *resident) look() {
	if now, err := residentOf(r.pid); err == nil && now > r.peak.Load() { // one goroutine stores at a time, or nearly
		r.peak.Store(now)
	}
}

// most is the most since the last call.
func (r *resident) most() int64 {
	r.look()
	return r.peak.Swap(0)
}

func (r *resident) stop() { close(r.end); <-r.ended }
