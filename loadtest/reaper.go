package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper runs a command and collects every orphan below it. A tool that kills
// its browsers leaves their children to whoever takes them in, and what they
// used would be counted with init; here it stays below the reaper.
type reaper struct {
	UID  int      `default:"-1" help:"User of the command; -1: as we are."`
	GID  int      `default:"-1" help:"Its group."`
	Argv []string `arg:"" passthrough:"" help:"The command."`
}

// Run ends with the command, and with its code.
func (c *reaper) Run() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("take orphans in: %w", err)
	}
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if c.UID >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)}}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case pid == cmd.Process.Pid && status.Exited():
			os.Exit(status.ExitStatus())
		case pid == cmd.Process.Pid && status.Signaled():
			return fmt.Errorf("it ended by %s", status.Signal())
		}
	}
}

// reaped is cmd, below a reaper of its own.
func reaped(cmd *exec.Cmd) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"reaper"}
	if a := cmd.SysProcAttr; a != nil && a.Credential != nil {
		args = append(args, "--uid="+strconv.Itoa(int(a.Credential.Uid)), "--gid="+strconv.Itoa(int(a.Credential.Gid)))
	}
	out := exec.Command(program, append(append(args, cmd.Path), cmd.Args[1:]...)...)
	out.Env, out.Dir = cmd.Env, cmd.Dir
	return out, nil
}

// isReaper tells a reaper from what it is there for.
func isReaper(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	args := bytes.Split(text, []byte{0})
	return err == nil && len(args) > 1 && string(args[1]) == "reaper"
}
