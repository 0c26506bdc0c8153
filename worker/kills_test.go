package worker_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/needtest"
)

// TestKills kills the browser again and again, as the kernel would, and counts
// what is left of it: files, processes, zombies, descriptors. TINTYPE_KILLS
// says how often; the long run is 200.
func TestKills(t *testing.T) {
	needtest.Browser(t)
	kills := 6
	if s := os.Getenv("TINTYPE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	// What the browser leaves behind comes to this process, not to a first
	// process of the machine that may or may not reap.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	b := newBench(t, nil)
	<-b.seat.Ready()
	descriptors, threads := count(t, "/proc/self/fd/*"), count(t, "/proc/self/task/*")
	killed := map[string]bool{} // browsers, by the name of their folders and groups
	for i := range kills {
		living, _ := filepath.Glob(b.dir + "/browser-????????????????") // without its lock
		for _, name := range living {
			killed[filepath.Base(name)] = true
		}
		switch i % 3 {
		case 0:
			b.killAll("")
		case 1:
			b.killAll("zygote")
			b.killAll("")
		case 2: // all at once: nobody is left to reap another
			for _, pids := range b.group() {
				for _, pid := range pids {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
		b.wantWell()
		<-b.seat.Ready()
		for _, z := range zombies() {
			t.Fatalf("after %d kills there is a zombie: %s", i+1, z)
		}
		if left, _ := os.ReadDir(b.dir); len(left) != 2 { // the living browser's folder and its lock
			t.Fatalf("after %d kills there are %v", i+1, left)
		}
	}
	if got := count(t, "/proc/self/fd/*"); got > descriptors+10 {
		t.Errorf("%d descriptors, %d before", got, descriptors)
	}
	if len(killed) != kills {
		t.Errorf("%d browsers for %d kills", len(killed), kills)
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && killed[e.Name()] {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
	t.Logf("%d kills; %d descriptors and %d threads, before %d and %d; %d goroutines", kills,
		count(t, "/proc/self/fd/*"), count(t, "/proc/self/task/*"), descriptors, threads, runtime.NumGoroutine())
}

func count(t *testing.T, pattern string) int {
	t.Helper()
	all, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// zombies lists the dead children of this process that nobody has reaped.
func zombies() (list []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		stat := string(b)
		f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
		if f[0] == "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			list = append(list, fmt.Sprint(stat[:strings.LastIndexByte(stat, ')')+1], " of group ", f[2]))
		}
	}
	return list
}
