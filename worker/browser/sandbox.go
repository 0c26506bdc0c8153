package browser

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrSandbox is a browser whose renderers are not confined. It is not worth a
// second try: the host does not allow it.
var ErrSandbox = errors.New("the browser's sandbox is not effective")

// CheckSandbox looks at what the kernel says about the browser's processes.
// None has a capability or a way to new ones. Each renderer has a seccomp
// filter, and user and process namespaces other than the browser's. There must
// be one at least, so the caller opens a tab first. What is meant to be in a
// network namespace of its own sees no interface there but loopback, and
// nobody listens on that but the jobs' proxies.
func (b *Browser) CheckSandbox() error {
	if err := b.checkIsolation(); err != nil {
		return fmt.Errorf("%w: %w", ErrSandbox, err)
	}
	renderers := ofKind(b.pid, "renderer")
	if len(renderers) == 0 {
		return fmt.Errorf("%w: found no renderer process to look at", ErrSandbox)
	}
	for _, pid := range renderers {
		if err := confined(pid, b.pid); err != nil {
			return fmt.Errorf("%w: %w: pages of strangers are not rendered without it; "+
				"allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, an AppArmor profile, or a container seccomp profile that permits clone with new namespaces)", ErrSandbox, err)
		}
	}
	return nil
}

func confined(pid, browser int) error {
	if got, ok := statusField(pid, "Seccomp:"); !ok || got != "2" {
		return fmt.Errorf("a renderer has Seccomp: %q instead of 2", got)
	}
	// A process in a nested pid namespace has more than one number.
	if got, ok := statusField(pid, "NSpid:"); !ok || len(strings.Fields(got)) < 2 {
		return errors.New("a renderer shares our process namespace")
	}
	// A worker that is not root may not read the link of another namespace;
	// that it may not is the answer.
	for _, other := range []int{os.Getpid(), browser} {
		own, err := os.Readlink(namespace(other, "user"))
		if err != nil && other == os.Getpid() {
			return fmt.Errorf("our own user namespace: %w", err)
		}
		if theirs, terr := os.Readlink(namespace(pid, "user")); err == nil && terr == nil && theirs == own {
			return errors.New("a renderer shares our user namespace or the browser's")
		}
	}
	return nil
}

func namespace(pid int, kind string) string { return "/proc/" + strconv.Itoa(pid) + "/ns/" + kind }

// checkIsolation looks at every process of the browser: its network and GPU
// processes have no sandbox, so what holds them is what holds the browser.
func (b *Browser) checkIsolation() error {
	pids := members(b.pid)
	if !slices.Contains(pids, b.pid) {
		return ErrGone
	}
	for _, key := range []string{"CapPrm:", "CapEff:", "CapAmb:"} {
		if got, ok := statusField(b.pid, key); !ok || strings.Trim(got, "0") != "" {
			return fmt.Errorf("the browser has %s %q instead of none", key, got)
		}
	}
	for _, pid := range pids {
		if got, ok := statusField(pid, "NoNewPrivs:"); ok && got != "1" { // else it ended
			return fmt.Errorf("a process of the browser has NoNewPrivs: %s instead of 1", got)
		}
		if b.isolation != ByKernel {
			continue
		}
		if names, err := interfaces(pid); err == nil && !slices.Equal(names, []string{"lo"}) {
			return fmt.Errorf("a process of the browser has the network interfaces %v instead of loopback alone", names)
		} else if err != nil && pid == b.pid {
			return err
		}
	}
	if b.isolation != ByKernel {
		return nil
	}
	n, err := sockets(b.pid)
	if err != nil {
		return err
	}
	if n > b.made { // those of jobs that are over are closed
		return fmt.Errorf("%d sockets listen in the browser's network namespace, and only %d are of its proxies", n, b.made)
	}
	return nil
}

// interfaces lists the network interfaces that a process sees.
func interfaces(pid int) (names []string, err error) {
	dev, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(dev)) {
		if name, _, ok := strings.Cut(line, ":"); ok { // the two lines of the head have none
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names, nil
}

// sockets counts the TCP sockets that listen where a process is.
func sockets(pid int) (n int, err error) {
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/" + table)
		if err != nil && table == "tcp" {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" { // TCP_LISTEN
				n++
			}
		}
	}
	return n, nil
}
