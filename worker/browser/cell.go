package browser

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Isolation is what keeps a browser off every network but its proxies.
type Isolation string

const (
	// ByKernel is a network namespace that has nothing but a loopback of its
	// own, on which nobody but the jobs' proxies listens: whatever a page makes
	// the browser do, there is nothing else to be reached.
	ByKernel Isolation = "kernel"
	// ByFlags is Chromium's word alone: its command line and the settings of
	// each browser context send it to the proxy.
	ByFlags Isolation = "flags"
)

// ErrIsolation is a host that gives a browser no network namespace.
var ErrIsolation = errors.New("the browser cannot be kept off the network by the kernel")

var (
	errNoListener = errors.New("the browser has no proxy listeners left: it served its time")
	// errDenied is the kernel's refusal of one way into a namespace; another may
	// be open.
	errDenied = errors.New("no network namespace")
)

// A way starts the browser's command in one kind of isolation, and returns
// what it may talk to. It may fail with errDenied.
type way func(ctx context.Context, b *Browser, c command) ([]net.Listener, error)

// A command is what becomes the browser.
type command struct {
	argv      []string
	id        identity
	files     []*os.File // descriptors from 3 on
	listeners int
}

// confine starts the browser in the best isolation that is to be had.
//
// The owner of a machine makes the namespace on the thread that forks, which
// takes a millisecond. Without CAP_SYS_ADMIN, be it a plain user or root in a
// container, only a child in a user namespace of its own can make one; that
// child is this program started anew.
func (b *Browser) confine(ctx context.Context, cfg Config, c command) error {
	// What this process inherited itself is not passed on.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	var denials []error
	for _, w := range cfg.ways {
		ls, err := w(ctx, b, c)
		if err == nil {
			b.isolation, b.listeners, b.made = ByKernel, ls, len(ls)
			return nil
		}
		if !errors.Is(err, errDenied) {
			return err
		}
		denials = append(denials, err)
	}
	if !cfg.FlagsOnly {
		return fmt.Errorf("%w: %w: allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 and user.max_user_namespaces, "+
			"an AppArmor profile, or a container seccomp profile that permits clone and unshare with new namespaces); or say --i-accept-flag-only-isolation "+
			"(TINTYPE_I_ACCEPT_FLAG_ONLY_ISOLATION=true), which leaves the browser on this machine's network, held back by its own flags alone", ErrIsolation, errors.Join(denials...))
	}
	b.isolation = ByFlags
	return b.spawn(c.exec(false), func() error { return nil })
}

// exec is the command with its limits, as the browser's user.
func (c command) exec(counted bool) *exec.Cmd {
	argv := limited(c.argv, counted)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = c.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.id.credential()}
	return cmd
}

// inUserNamespace gives the command a user namespace that knows the browser's
// user and nobody else: no root to become, and limits of its own.
func (c command) inUserNamespace(cmd *exec.Cmd) {
	a := cmd.SysProcAttr
	a.Cloneflags |= syscall.CLONE_NEWUSER
	a.UidMappings = []syscall.SysProcIDMap{{ContainerID: c.id.uid, HostID: c.id.uid, Size: 1}}
	a.GidMappings = []syscall.SysProcIDMap{{ContainerID: c.id.gid, HostID: c.id.gid, Size: 1}}
	a.GidMappingsEnableSetgroups = c.id.change // root lets go of its groups in there
}

// spawn starts cmd from a thread of its own, prepared by prepare, which stays
// for as long as the browser lives and ends with it: the death signal follows
// the thread that forked, not the process, and a namespace it entered is never
// left.
func (b *Browser) spawn(cmd *exec.Cmd, prepare func() error) error {
	cmd.Dir = b.folder.path
	cmd.Env = append(cmd.Env, environment(b.folder.path)...)
	cmd.Stderr = b.last
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	onOwnThread(func() {
		// Nothing that comes of this thread gains privileges by an exec.
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = prepare()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			cmd.Wait()
			close(b.exited)
		}
	})
	if err := <-started; err != nil {
		return fmt.Errorf("start the browser: %w", denial(err))
	}
	b.pid = cmd.Process.Pid
	return nil
}

// denial tells what the kernel says where it gives no namespaces.
func denial(err error) error {
	for _, e := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EUSERS, syscall.EINVAL, syscall.ENOSYS} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", errDenied, err)
		}
	}
	return err
}

// onOwnThread runs f on a thread that ends with it. It is never the process's
// first thread, which cannot end and stands for the process in /proc.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // locked: the thread ends
		}
		locked := make(chan struct{})
		go func() { // on another thread, since the first is taken
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// onThread makes the namespace on the thread that forks the browser.
func onThread(_ context.Context, b *Browser, c command) ([]net.Listener, error) {
	if !c.id.change {
		return nil, fmt.Errorf("%w: not root", errDenied)
	}
	var ls []net.Listener
	cmd := c.exec(true)
	c.inUserNamespace(cmd)
	err := b.spawn(cmd, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := interfaceUp("lo"); err != nil {
			return err
		}
		for range c.listeners {
			l, err := net.Listen("tcp4", "127.0.0.1:0") // belongs to the thread's namespace
			if err != nil {
				return err
			}
			ls = append(ls, l)
		}
		return nil
	})
	if err != nil {
		closeAll(ls)
		return nil, err
	}
	return ls, nil
}

// interfaceUp brings up an interface of the thread's namespace.
func interfaceUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring interface %s up: %w", name, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring interface %s up: %w", name, err)
	}
	return nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// Isolation tells what keeps the browser off the network.
func (b *Browser) Isolation() Isolation { return b.isolation }

// Listen gives the listener of one job's proxy, where the browser and nobody
// else can reach it. A browser is started with the number of them that it will
// need; then it must go.
func (b *Browser) Listen() (net.Listener, error) {
	if b.isolation == ByFlags {
		return net.Listen("tcp4", "127.0.0.1:0")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.listeners) == 0 {
		return nil, errNoListener
	}
	l := b.listeners[0]
	b.listeners = b.listeners[1:]
	return l, nil
}

// closeListeners closes what no job has used.
func (b *Browser) closeListeners() {
	b.mu.Lock()
	defer b.mu.Unlock()
	closeAll(b.listeners)
	b.listeners = nil
}
