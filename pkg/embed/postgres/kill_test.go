package postgres

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// parentDir names, in the environment, the folder of a process that these tests
// start to kill it: this test binary again, as the parent of a Postgres.
const parentDir = "POSTGRES_TEST_PARENT_DIR"

// beParent is that process. It says the number of the server's process once a
// row is committed, and then waits for its end.
func beParent(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := New(Config{Dir: dir, SocketDir: dir + ".sock"})
	if err == nil {
		err = s.Start(ctx)
	}
	if err == nil {
		err = fillKept(ctx, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.child.cmd.Process.Pid)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1 // it was to be killed
}

// startParent runs beParent and returns it with the number of its server.
func startParent(t *testing.T, dir string) (*exec.Cmd, int) {
	t.Helper()
	parent := exec.CommandContext(bounded(t), os.Args[0])
	parent.Env = append(os.Environ(), parentDir+"="+dir)
	parent.Stderr = os.Stderr
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent said nothing: %v", err)
	}
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("the parent said %q", line)
	}
	return parent, pid
}

// killed waits for the end of a process that was killed.
func killed(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the parent ended with %v", err)
	}
}

func TestParentIsKilled(t *testing.T) {
	needPostgres(t)
	dir := openDir(t)
	parent, pid := startParent(t, dir)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed(t, parent)

	// The orphan is on its way out; the start waits for it.
	var log logBuffer
	s := start(t, Config{Dir: dir, Log: log.logger()})
	if got := query[int](t, s, read); got != 42 {
		t.Errorf("read %d", got)
	}
	if said := log.String(); strings.Contains(said, "not properly shut down") {
		t.Errorf("the orphan did not shut down cleanly:\n%s", said)
	}
	if got := lookAt(pid, dir); got == server {
		t.Errorf("the orphan %d still runs", pid)
	}
}

func TestBothAreKilled(t *testing.T) {
	needPostgres(t)
	dir := openDir(t)
	parent, pid := startParent(t, dir)
	// Frozen, the parent cannot collect its child: that stays a zombie until
	// the parent is gone and somebody else collects it.
	for _, step := range []struct {
		pid int
		sig syscall.Signal
	}{{parent.Process.Pid, syscall.SIGSTOP}, {pid, syscall.SIGKILL}, {parent.Process.Pid, syscall.SIGKILL}} {
		if err := syscall.Kill(step.pid, step.sig); err != nil {
			t.Fatal(err)
		}
	}
	killed(t, parent)

	var log logBuffer
	s := start(t, Config{Dir: dir, Log: log.logger()})
	if got := query[int](t, s, read); got != 42 {
		t.Errorf("read %d", got)
	}
	if said := log.String(); !strings.Contains(said, "not properly shut down") {
		t.Errorf("there was nothing to recover, so this test tests nothing:\n%s", said)
	}
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
