package browser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/needtest"
)

// The tests look for the browser where it is looked for.
func TestBrowserOfTheTests(t *testing.T) {
	if needtest.Chromium != DefaultBin {
		t.Errorf("tests need %s, browsers are %s", needtest.Chromium, DefaultBin)
	}
}

// openDir is a folder that an unprivileged browser can reach.
func openDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tintype-browser-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "browsers")
}

// denied is a way that the kernel does not give.
func denied(context.Context, *Browser, command) ([]net.Listener, error) {
	return nil, fmt.Errorf("%w: said the test", errDenied)
}

func launch(t testing.TB, cfg Config) *Browser {
	t.Helper()
	b, err := Launch(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// wantLimits looks at what the kernel holds every process of the browser to.
func wantLimits(t *testing.T, b *Browser, counted bool) {
	t.Helper()
	for _, pid := range members(b.pid) {
		limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			continue // it ended
		}
		want := []string{"Max core file size|0|0", "Max data size|1610612736|1610612736", "Max file size|536870912|536870912", "Max open files|1024|1024"}
		if counted {
			want = append(want, "Max processes|2048|2048")
		}
		for _, w := range want {
			w := strings.Split(w, "|")
			if !slices.ContainsFunc(strings.Split(string(limits), "\n"), func(line string) bool {
				rest, ok := strings.CutPrefix(line, w[0])
				f := strings.Fields(rest)
				return ok && len(f) > 1 && f[0] == w[1] && f[1] == w[2]
			}) {
				t.Errorf("process %d lacks %v:\n%s", pid, w, limits)
			}
		}
	}
}

// TestCell looks from outside at a browser in a namespace of its own, by each
// way into one that this user has.
func TestCell(t *testing.T) {
	needtest.Browser(t)
	ways := map[string]way{"helper": byHelper}
	if os.Getuid() == 0 {
		ways["thread"] = onThread
	}
	for name, w := range ways {
		t.Run(name, func(t *testing.T) {
			b := launch(t, Config{Dir: openDir(t), Listeners: 3, ways: []way{w}})
			if b.Isolation() != ByKernel {
				t.Errorf("isolated by %s", b.Isolation())
			}
			l, err := b.Listen()
			if err != nil {
				t.Fatal(err)
			}
			tab, err := b.NewTab(t.Context(), l.Addr().(*net.TCPAddr).Port)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.CheckSandbox(); err != nil {
				t.Error(err)
			}
			wantLimits(t, b, true)
			if names, err := interfaces(b.pid); err != nil || !slices.Equal(names, []string{"lo"}) {
				t.Errorf("interfaces %v, %v", names, err)
			}
			if n, err := sockets(b.pid); err != nil || n != 3 {
				t.Errorf("%d sockets listen, %v", n, err)
			}
			wantArrival(t, tab, l)
			for range 2 {
				more, err := b.Listen()
				if err != nil {
					t.Fatal(err)
				}
				more.Close()
			}
			if _, err := b.Listen(); !errors.Is(err, errNoListener) {
				t.Errorf("a fourth listener of three: %v", err)
			}
		})
	}
}

// wantArrival wants a page's request at l, which only the browser reaches.
func wantArrival(t *testing.T, tab *Tab, l net.Listener) {
	t.Helper()
	tab.Post(navigation{URL: "http://tintype.example/"})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1<<10)
	n, err := c.Read(buf)
	if line, _, _ := strings.Cut(string(buf[:n]), "\r\n"); err != nil || line != "GET http://tintype.example/ HTTP/1.1" {
		t.Errorf("the proxy was asked %q, %v", line, err)
	}
}

type navigation struct {
	URL string `json:"url"`
}

func (navigation) ProtoReq() string { return "Page.navigate" }

// anew runs the named test in a process of its own, as attr makes it.
func anew(t *testing.T, name string, attr *syscall.SysProcAttr, env ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.v", "-test.timeout=5m", "-test.parallel=4")
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Errorf("as another process: %v", err)
	}
}

// TestCellOfPlainUser runs TestCell as a user without any privilege.
func TestCellOfPlainUser(t *testing.T) {
	needtest.Browser(t)
	if os.Getuid() != 0 {
		t.Skip("this process is a plain user's, and TestCell has run in it")
	}
	anew(t, "TestCell", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}, "HOME=/nonexistent")
}

// TestRefusesWithoutNamespace runs where the kernel gives no more namespaces.
func TestRefusesWithoutNamespace(t *testing.T) {
	needtest.Browser(t)
	const inside = "TINTYPE_TEST_NO_NAMESPACES"
	if os.Getenv(inside) == "" {
		anew(t, "TestRefusesWithoutNamespace", &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER, // the limit below is this namespace's alone
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
		}, inside+"=1")
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	_, err := Launch(t.Context(), Config{Dir: openDir(t)})
	if !errors.Is(err, ErrIsolation) || !strings.Contains(err.Error(), "user.max_user_namespaces") || !strings.Contains(err.Error(), "--i-accept-flag-only-isolation") {
		t.Errorf("ended with %v", err)
	}
}

// TestFlagsOnly: what an operator accepts in words is a browser with its
// sandbox and its limits, on the machine's network.
func TestFlagsOnly(t *testing.T) {
	needtest.Browser(t)
	cfg := Config{Dir: openDir(t), ways: []way{denied}}
	if _, err := Launch(t.Context(), cfg); !errors.Is(err, ErrIsolation) {
		t.Fatalf("not accepted, and ended with %v", err)
	}
	cfg.FlagsOnly = true
	b := launch(t, cfg)
	if b.Isolation() != ByFlags {
		t.Errorf("isolated by %s", b.Isolation())
	}
	l, err := b.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tab, err := b.NewTab(t.Context(), l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.CheckSandbox(); err != nil {
		t.Error(err)
	}
	wantLimits(t, b, false)
	wantArrival(t, tab, l)
}

// A helper that cannot do its work says why.
func TestHelperSaysWhy(t *testing.T) {
	for _, args := range [][]string{{"no number", "/bin/true"}, {"1", "/nonexistent/browser"}} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "control")
		conn, err := net.FileConn(ours)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = append([]string{helperName}, args...)
		cmd.ExtraFiles = []*os.File{nil, nil, theirs}
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 54321, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		ls, err := receive(conn.(*net.UnixConn))
		closeAll(ls)
		if err == nil || !strings.Contains(err.Error(), "no number") && !strings.Contains(err.Error(), "exec /nonexistent/browser") {
			t.Errorf("%v: it said %v", args, err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%v: it ended well", args)
		}
		conn.Close()
		ours.Close()
	}
}

// TestHelperEnvironment: what the helper is told is not for what it becomes.
func TestHelperEnvironment(t *testing.T) {
	cfg, id, err := Config{Dir: openDir(t), Bin: "/bin/sh", ways: []way{byHelper}}.resolve()
	if err != nil {
		t.Fatal(err)
	}
	if err := openParent(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	f, err := newFolder(cfg.Dir, "env", id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.remove()
	b := &Browser{folder: f, last: newTailWriter(), exited: make(chan struct{})}
	c := command{argv: []string{"/bin/sh", "-c", "env >&2"}, id: id, listeners: 1, files: []*os.File{os.Stdin, os.Stdin}}
	if err := b.confine(t.Context(), cfg, c); err != nil {
		t.Fatal(err)
	}
	defer b.closeListeners()
	<-b.exited
	if said := b.last.String(); !strings.Contains(said, "HOME="+f.path) || strings.Contains(said, helperEnv) {
		t.Errorf("its environment is %s", said)
	}
}

// BenchmarkCell is what a namespace costs: the time from nothing to a program
// that ran in one and has ended.
func BenchmarkCell(b *testing.B) {
	for _, c := range []struct {
		name string
		way  way
	}{{"none", denied}, {"thread", onThread}, {"helper", byHelper}} {
		b.Run(c.name, func(b *testing.B) {
			cfg, id, err := Config{Dir: openDir(b), FlagsOnly: true, Listeners: 100, ways: []way{c.way}}.resolve()
			if err != nil {
				b.Fatal(err)
			}
			if err := openParent(cfg.Dir); err != nil {
				b.Fatal(err)
			}
			f, err := newFolder(cfg.Dir, "bench", id)
			if err != nil {
				b.Fatal(err)
			}
			defer f.remove()
			for b.Loop() {
				one := &Browser{folder: f, last: newTailWriter(), exited: make(chan struct{})}
				if err := one.confine(b.Context(), cfg, command{argv: []string{"/bin/true"}, id: id, listeners: cfg.Listeners, files: []*os.File{os.Stdin, os.Stdin}}); err != nil {
					b.Fatal(err)
				}
				<-one.exited
				one.closeListeners()
			}
		})
	}
}

// BenchmarkLaunch is the time from nothing to a browser that answers, and to
// its end.
func BenchmarkLaunch(b *testing.B) {
	needtest.Browser(b)
	for _, c := range []struct {
		name string
		way  way
	}{{"flags", denied}, {"thread", onThread}, {"helper", byHelper}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := Config{Dir: openDir(b), FlagsOnly: true, Listeners: 100, ways: []way{c.way}}
			for b.Loop() {
				launched, err := Launch(b.Context(), cfg)
				if err != nil {
					b.Fatal(err)
				}
				if err := launched.Kill(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
