package browser

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-rod/rod/lib/proto"
	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/needtest"
)

// TestFindHierarchy reads what kernels say in different houses.
func TestFindHierarchy(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folder := func(name string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	two := folder("two/system.slice/tintype.service")
	if err := unix.Setxattr(two, "user.delegate", []byte("1"), 0); err != nil && os.Getuid() == 0 {
		t.Fatalf("mark a folder as handed over: %v", err)
	}
	write("two/system.slice/tintype.service/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	write("two/system.slice/tintype.service/cgroup.procs", "17\n18\n")
	write("two/system.slice/tintype.service/cgroup.subtree_control", "")
	write("two/system.slice/tintype.service/tintype/cgroup.procs", "")
	memory, pids := folder("one/memory/inside"), folder("one/pids")
	mounts := "30 1 0:26 / " + dir + "/two rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n" +
		"31 1 0:27 /box " + dir + "/one/memory rw - cgroup cgroup rw,memory\n" +
		"32 1 0:28 / " + dir + "/one/pids rw - cgroup cgroup rw,pids\n" +
		"33 1 0:29 / /nonexistent rw - cgroup cgroup rw,cpu,cpuacct\n"

	write("v2/cgroup", "0::/system.slice/tintype.service\n")
	write("v2/mountinfo", mounts)
	if h := findHierarchy(filepath.Join(dir, "v2")); h.version != 2 || h.parents[""] != two {
		t.Errorf("version 2: %+v", h)
	}
	for file, want := range map[string]string{"tintype/cgroup.procs": "18", "cgroup.subtree_control": "+cpu +memory +pids"} {
		if got, _ := os.ReadFile(filepath.Join(two, file)); !strings.HasSuffix(string(got), want) {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}

	write("v1/cgroup", "9:name=systemd:/x\n8:pids:/\n4:memory:/box/inside\n2:cpu,cpuacct:/\n0::/elsewhere\n")
	write("v1/mountinfo", mounts)
	h := findHierarchy(filepath.Join(dir, "v1"))
	if h.version != 1 || len(h.parents) != 2 || h.parents["memory"] != memory || h.parents["pids"] != pids {
		t.Errorf("version 1: %+v", h)
	}
	if got := h.String(); got != "version 1: memory, pids" {
		t.Errorf("in words: %s", got)
	}

	folder("two/user.slice") // of somebody else
	os.Lchown(filepath.Join(dir, "two/user.slice"), 12345, 12345)
	write("login/cgroup", "0::/user.slice\n")
	write("login/mountinfo", mounts)
	if h := findHierarchy(filepath.Join(dir, "login")); h.version != 0 && os.Getuid() == 0 {
		t.Errorf("a group that was not handed over: %+v", h)
	}
	if h := findHierarchy(filepath.Join(dir, "nowhere")); h.version != 0 || h.String() != "none" {
		t.Errorf("without any: %+v", h)
	}
}

func needGroups(t *testing.T) {
	t.Helper()
	if h := groups(); h.version == 0 || len(h.parents) < len(controllers) && h.version == 1 {
		t.Skipf("needs control groups that this process may make: there are %s", h)
	}
}

// TestGroupHoldsTheBrowser: all of its processes are in, and nothing is left of
// the group after them.
func TestGroupHoldsTheBrowser(t *testing.T) {
	needtest.Browser(t)
	needGroups(t)
	b := launch(t, Config{Dir: openDir(t), Memory: 1 << 30})
	if err := b.Ungrouped(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.NewTab(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for c, dir := range b.group.dirs {
		in := procsIn(dir)
		for _, pid := range members(b.pid) {
			if !slices.Contains(in, pid) {
				t.Errorf("%s does not hold process %d", c, pid)
			}
		}
	}
	group := b.group
	before, known, after := members(b.pid), b.processes(), members(b.pid)
	for _, pid := range before {
		if slices.Contains(after, pid) && !slices.Contains(known, pid) { // it was there all the while
			t.Errorf("process %d is not counted", pid)
		}
	}
	if m := b.Memory(); m < 10<<20 || m > 1<<30 {
		t.Errorf("the browser has %d bytes of memory", m)
	}
	b.group, b.ungrouped = cgroup{}, errors.New("no group")
	if m := b.Memory(); m < 10<<20 || m > 1<<30 {
		t.Errorf("without its group the browser has %d bytes of memory", m)
	}
	b.group, b.ungrouped = group, nil
	if b.OutOfMemory() {
		t.Error("out of memory")
	}
	if err := b.Kill(); err != nil {
		t.Error(err)
	}
	for _, dir := range b.group.dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("left behind: %s", dir)
		}
	}
}

// TestGroupHolds: the kernel ends what takes too much, and remove what has left
// its process group.
func TestGroupHolds(t *testing.T) {
	needGroups(t)
	g := groups().make("test-"+strconv.Itoa(os.Getpid()), 32<<20)
	defer g.remove()
	run := func(script string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("sh", "-c", "read go; "+script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := g.add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		in.Write([]byte("go\n"))
		in.Close()
		return cmd
	}
	if err := run("head -c 100m /dev/zero | tail -c 90m | wc -c").Wait(); g.oomKills() == 0 {
		t.Errorf("100 MB in a group of 32: %v", err)
	}
	away := run("exec setsid sleep 1000")
	if err := g.remove(); err != nil {
		t.Error(err)
	}
	if err := away.Wait(); err == nil || away.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("what had left its group ended with %v", err)
	}
}

// TestGroupHoldsAPage: a page whose browser comes to the limit of its group is
// ended by the kernel, and nobody else was there to do it.
func TestGroupHoldsAPage(t *testing.T) {
	needtest.Browser(t)
	needGroups(t)
	b := launch(t, Config{Dir: openDir(t), Memory: 400 << 20})
	if err := b.Ungrouped(); err != nil {
		t.Fatal(err)
	}
	tab, err := b.NewTab(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if b.OutOfMemory() {
		t.Fatal("out of memory before the page took any")
	}
	tab.Post(proto.RuntimeEvaluate{Expression: "all = []; for (let i = 0; i < 40; i++) all.push(new Uint8Array(20 << 20).fill(1))"})
	select {
	case <-tab.Crashed():
		if c := tab.Crash(); c.Full {
			t.Errorf("the heap is not what was full: %+v", c)
		}
	case <-b.Gone():
	case <-time.After(time.Minute):
		t.Fatal("800 MB fit into a group of 400")
	}
	if !b.OutOfMemory() {
		t.Error("it was not the kernel")
	}
}
