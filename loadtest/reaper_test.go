package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What an orphan has used is still counted when it has ended.
func TestReaper(t *testing.T) {
	begin := filepath.Join(t.TempDir(), "begin")
	if err := syscall.Mkfifo(begin, 0o600); err != nil {
		t.Fatal(err)
	}
	// A shell starts another that will work, and is killed before; who started
	// it goes on until its input ends.
	cmd, err := reaped(exec.Command("/bin/sh", "-c", `sh -c 'sh -c "read x <\$0; i=0; while [ \$i -lt 1000000 ]; do i=\$((i+1)); done; echo worked" "$0" & kill -9 $$' "$0"; echo killed; cat`, begin))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), asProgram+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	said := bufio.NewScanner(out)
	want := func(line string) {
		t.Helper()
		if !said.Scan() || said.Text() != line {
			t.Fatalf("it said %q, want %q (%v)", said.Text(), line, said.Err())
		}
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	ofReaper := func() time.Duration {
		t.Helper()
		by, err := cpuOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return by[string(name[:len(name)-1])]
	}
	want("killed")
	before := ofReaper()
	if err := os.WriteFile(begin, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	want("worked")
	if !isReaper(cmd.Process.Pid) || isReaper(os.Getpid()) {
		t.Error("a reaper is not told from others")
	}
	// It is collected some time after its last word.
	for end := time.Now().Add(30 * time.Second); ofReaper()-before < 100*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the orphan's work is not counted: %s before, %s after", before, ofReaper())
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
