package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The helper is this program under another name. The kernel lets a process
// without privileges make a network namespace only together with a user
// namespace, and lets only a process of a single thread enter one, which a Go
// program is never: so a child is born in both. It has the one capability to
// bring the loopback up, opens the listeners of the jobs' proxies and sends
// them back, gives the capability up, and becomes the browser.
const (
	helperName    = "tintype-cell"
	helperControl = 5 // the descriptor it answers on, after the browser's two
	helperLimit   = 20 * time.Second
	helperEnv     = "GOGC=off" // all that it does is start: what packages make then is not worth collecting
	maxRights     = 200        // descriptors in one message; the kernel takes 253
)

// A helper never gets to main: what a test binary or another program that
// links this package would do there is not for it.
func init() {
	if len(os.Args) > 2 && os.Args[0] == helperName {
		ctl := os.NewFile(helperControl, "control")
		err := help(os.Args[1], os.Args[2:])
		ctl.WriteString(err.Error()) // an exec that succeeds closes it without a word
		os.Exit(1)
	}
}

// help is the helper's life. It returns if it could not become argv.
func help(listeners string, argv []string) error {
	n, err := strconv.Atoi(listeners)
	if err != nil {
		return err
	}
	unix.CloseOnExec(helperControl)
	if err := interfaceUp("lo"); err != nil {
		return err
	}
	var fds []int
	for range n {
		fd, err := listenRaw()
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		fds = append(fds, fd)
	}
	for len(fds) > 0 {
		some := fds[:min(len(fds), maxRights)]
		if err := unix.Sendmsg(helperControl, []byte{0}, unix.UnixRights(some...), nil, 0); err != nil {
			return fmt.Errorf("pass listeners: %w", err)
		}
		fds = fds[len(some):]
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return v == helperEnv })
	return fmt.Errorf("exec %s: %w", argv[0], syscall.Exec(argv[0], argv, env))
}

func listenRaw() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	return fd, unix.Listen(fd, 4096)
}

// dropCapabilities leaves the thread, and what it becomes, none at all.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// byHelper starts the browser by way of the helper.
func byHelper(ctx context.Context, b *Browser, c command) ([]net.Listener, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "control")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer conn.Close()

	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{helperName, strconv.Itoa(c.listeners)}, limited(c.argv, true)...)
	cmd.Env = []string{helperEnv}
	cmd.ExtraFiles = append(c.files[:len(c.files):len(c.files)], theirs)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: c.id.credential(), Cloneflags: syscall.CLONE_NEWNET, AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}
	c.inUserNamespace(cmd)
	err = b.spawn(cmd, func() error { return nil })
	theirs.Close()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, helperLimit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })()
	ls, err := receive(conn.(*net.UnixConn))
	if err == nil && len(ls) < c.listeners {
		err = errors.New("it ended before it had made its listeners")
	}
	if err != nil {
		closeAll(ls)
		killGroup(b.pid, b.exited)
		b.exited = make(chan struct{}) // of the next try
		return nil, fmt.Errorf("the browser's helper: %w", err)
	}
	return ls, nil
}

// receive reads listeners until the helper has become the browser, or says why
// it has not.
func receive(conn *net.UnixConn) (ls []net.Listener, err error) {
	buf, oob := make([]byte, 4<<10), make([]byte, unix.CmsgSpace(4*maxRights))
	for {
		n, rights, _, _, err := conn.ReadMsgUnix(buf, oob)
		got, rerr := listenersIn(oob[:rights])
		ls = append(ls, got...)
		switch {
		case errors.Is(err, io.EOF):
			return ls, rerr
		case err != nil || rerr != nil:
			return ls, errors.Join(err, rerr)
		case buf[0] != 0:
			return ls, fmt.Errorf("%w: %s", errDenied, buf[:n])
		}
	}
}

// listenersIn takes the listeners out of a message's control part.
func listenersIn(oob []byte) (ls []net.Listener, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return ls, err
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "listener")
			l, ferr := net.FileListener(f) // has a descriptor of its own
			f.Close()
			if ferr != nil {
				err = errors.Join(err, ferr)
				continue
			}
			ls = append(ls, l)
		}
		if err != nil {
			return ls, err
		}
	}
	return ls, nil
}
