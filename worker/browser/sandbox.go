package browser

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ErrSandbox is a browser whose renderers are not confined. It is not worth a
// second try: the host does not allow it.
var ErrSandbox = errors.New("the browser's sandbox is not effective")

// CheckSandbox looks at what the kernel says about the browser's renderers:
// each must have a seccomp filter, no way to new privileges, and user and
// process namespaces other than ours. There must be one at least, so the
// caller opens a tab first.
func (b *Browser) CheckSandbox() error {
	renderers := ofKind(b.pid, "renderer")
	if len(renderers) == 0 {
		return fmt.Errorf("%w: found no renderer process to look at", ErrSandbox)
	}
	for _, pid := range renderers {
		if err := confined(pid); err != nil {
			return fmt.Errorf("%w: %w: pages of strangers are not rendered without it; "+
				"allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, an AppArmor profile, or a container seccomp profile that permits clone with new namespaces)", ErrSandbox, err)
		}
	}
	return nil
}

func confined(pid int) error {
	for _, want := range []struct{ key, value string }{{"Seccomp:", "2"}, {"NoNewPrivs:", "1"}} {
		if got, ok := statusField(pid, want.key); !ok || got != want.value {
			return fmt.Errorf("a renderer has %s %q instead of %s", want.key, got, want.value)
		}
	}
	// A process in a nested pid namespace has more than one number.
	if got, ok := statusField(pid, "NSpid:"); !ok || len(strings.Fields(got)) < 2 {
		return errors.New("a renderer shares our process namespace")
	}
	// A worker that is not root may not read the link of another namespace;
	// that it may not is the answer.
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return fmt.Errorf("our own user namespace: %w", err)
	}
	if theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/user"); err == nil && theirs == own {
		return errors.New("a renderer shares our user namespace")
	}
	return nil
}
