package browser

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A hierarchy is where this process may make control groups for its browsers:
// one folder of version 2, or one for each controller of version 1.
type hierarchy struct {
	version int               // 2 or 1; 0 without any
	parents map[string]string // folder in which groups are made, by controller; "" for version 2
}

// controllers are those that hold a browser as a whole.
var controllers = []string{"cpu", "memory", "pids"}

// groups is this process's; found once, because finding it may divide it.
var groups = sync.OnceValue(func() hierarchy { return findHierarchy("/proc/self") })

// ControlGroups tells, for people, which control groups hold browsers here.
func ControlGroups() string { return groups().String() }

// findHierarchy looks for groups that this process may divide, from what the
// kernel says of it (cgroups(7)): version 2 where its own group was handed over
// to it, else version 1 where it may write. proc is /proc/self.
func findHierarchy(proc string) hierarchy {
	own, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil {
		return hierarchy{}
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	if err != nil {
		return hierarchy{}
	}
	one := hierarchy{version: 1, parents: map[string]string{}}
	for line := range strings.Lines(string(own)) {
		// ID:CONTROLLERS:PATH; version 2 has neither number nor controllers.
		part := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(part) != 3 {
			continue
		}
		names := strings.Split(part[1], ",")
		dir := mounted(string(mounts), names, part[2])
		if dir == "" {
			continue
		}
		if part[0] == "0" && handedOver(dir) && divide(dir) == nil {
			return hierarchy{version: 2, parents: map[string]string{"": dir}}
		}
		for _, c := range controllers {
			if slices.Contains(names, c) && unix.Access(dir, unix.W_OK) == nil {
				one.parents[c] = dir
			}
		}
	}
	if len(one.parents) == 0 {
		return hierarchy{}
	}
	return one
}

// mounted is the folder of the group path of a hierarchy: of the one with these
// controllers, or of version 2 for none; empty if it is not mounted here.
func mounted(mounts string, names []string, path string) string {
	for line := range strings.Lines(mounts) {
		// …  ROOT MOUNTPOINT OPTIONS … - TYPE SOURCE SUPEROPTIONS
		fields, super, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, s := strings.Fields(fields), strings.Fields(super)
		if !ok || len(f) < 5 || len(s) < 3 {
			continue
		}
		switch {
		case names[0] == "" && s[0] != "cgroup2":
			continue
		case names[0] != "" && (s[0] != "cgroup" || !slices.Contains(strings.Split(s[2], ","), names[0])):
			continue
		}
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(f[3], "/")); ok {
			return filepath.Join(f[4], rest)
		}
	}
	return ""
}

// handedOver reports whether a group of version 2 is this process's to divide:
// systemd marks it so (Delegate=), or it belongs to the user, or it is the root
// of a container's own namespace. In any other the processes of strangers, such
// as a login shell, would have to be moved.
func handedOver(dir string) bool {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || unix.Access(dir, unix.W_OK) != nil {
		return false
	}
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	if st.Uid != 0 {
		return int(st.Uid) == os.Getuid()
	}
	// The root of the machine has no type; that of a namespace has one.
	_, err := os.Stat(filepath.Join(dir, "cgroup.type"))
	namespace, nerr := os.ReadFile("/proc/self/cgroup")
	return err == nil && nerr == nil && strings.Contains(string(namespace), "0::/\n")
}

// divide makes the group one that only has groups in it, as version 2 wants it
// before it gives them controllers: what runs in it moves one down.
func divide(dir string) error {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			return errors.New("no controller " + c)
		}
	}
	leaf := filepath.Join(dir, "tintype")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(procs)) {
		// It may have ended.
		if err := put(leaf, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return put(dir, "cgroup.subtree_control", "+"+strings.Join(controllers, " +"))
}

func put(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// String tells what there is, for people.
func (h hierarchy) String() string {
	switch h.version {
	case 2:
		return "version 2"
	case 1:
		var names []string
		for _, c := range controllers {
			if h.parents[c] != "" {
				names = append(names, c)
			}
		}
		return "version 1: " + strings.Join(names, ", ")
	}
	return "none"
}

// A cgroup is the control group of one browser. The zero value is none.
type cgroup struct{ dirs map[string]string } // by controller; "" for version 2

// make makes the group of a browser. A setting that the kernel does not take is
// left out: the limits of the processes are there in any case.
func (h hierarchy) make(name string, memory int64) cgroup {
	g := h.of(name)
	maps.DeleteFunc(g.dirs, func(_, dir string) bool { return os.Mkdir(dir, 0o755) != nil })
	if dir := g.dirs[""]; dir != "" {
		put(dir, "cpu.weight", "50") // half of what the worker itself has
		put(dir, "pids.max", strconv.Itoa(tasks))
		put(dir, "memory.oom.group", "1")
		if memory > 0 {
			put(dir, "memory.max", strconv.FormatInt(memory, 10))
			put(dir, "memory.swap.max", "0")
		}
	}
	if dir := g.dirs["cpu"]; dir != "" {
		put(dir, "cpu.shares", "512")
	}
	if dir := g.dirs["pids"]; dir != "" {
		put(dir, "pids.max", strconv.Itoa(tasks))
	}
	if dir := g.dirs["memory"]; dir != "" && memory > 0 {
		put(dir, "memory.limit_in_bytes", strconv.FormatInt(memory, 10))
	}
	return g
}

// of is the group that has been made for a browser of that name.
func (h hierarchy) of(name string) cgroup {
	g := cgroup{dirs: map[string]string{}}
	for c, parent := range h.parents {
		g.dirs[c] = filepath.Join(parent, folderPrefix+name)
	}
	return g
}

// add moves processes into the group; what they start is in it, too.
func (g cgroup) add(pids ...int) error {
	var errs []error
	for _, dir := range g.dirs {
		for _, pid := range pids {
			if err := put(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// gather moves in all of a browser's processes. Those that start while it does
// have a parent that is in already, or are found by another look.
func (g cgroup) gather(pgid int) error {
	for range 5 {
		var out []int
		for _, pid := range members(pgid) {
			for _, dir := range g.dirs {
				if !slices.Contains(procsIn(dir), pid) {
					out = append(out, pid)
					break
				}
			}
		}
		if len(out) == 0 {
			return nil
		}
		if err := g.add(out...); err != nil {
			return fmt.Errorf("the browser's control group: %w", err)
		}
	}
	return errors.New("the browser's control group: its processes multiply")
}

// processes lists those in the group; none without a group.
func (g cgroup) processes() []int {
	for _, dir := range g.dirs {
		return procsIn(dir) // the same in each
	}
	return nil
}

func procsIn(dir string) (pids []int) {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// oomKills is how many of its processes the kernel has killed because the group
// was out of memory.
func (g cgroup) oomKills() (n int) {
	for c, file := range map[string]string{"": "memory.events", "memory": "memory.oom_control"} {
		if g.dirs[c] == "" {
			continue
		}
		b, _ := os.ReadFile(filepath.Join(g.dirs[c], file))
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ = strconv.Atoi(strings.TrimSpace(v))
			}
		}
	}
	return n
}

// remove kills what is left in the group, in whichever process group it is, and
// removes it.
func (g cgroup) remove() error {
	var errs []error
	for _, dir := range g.dirs {
		errs = append(errs, removeGroup(dir))
	}
	return errors.Join(errs...)
}

func removeGroup(dir string) error {
	const patience = 5 * time.Second
	end := time.Now().Add(patience)
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("remove the browser's control group: %w", err)
		}
		for _, pid := range procsIn(dir) {
			unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(wait)
	}
}
