package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pollEvery is how often things are looked at that cannot be waited for: a
// process of somebody else, a file that another process writes.
const pollEvery = 10 * time.Millisecond

// makeCluster runs initdb unless there is a cluster. It works in a folder beside
// the final one, so that a kill in the middle leaves no half cluster.
func (s *Server) makeCluster(ctx context.Context) error {
	have, err := clusterVersion(s.cfg.Dir)
	if err != nil {
		return err
	}
	if have != "" {
		return s.owner.take(s.cfg.Dir)
	}
	unfinished := s.cfg.Dir + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	if err := s.owner.take(unfinished); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.bin.initdb(),
		"-D", unfinished, "-U", role, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions")
	cmd.Dir = unfinished
	cmd.Env = environment()
	cmd.SysProcAttr = s.owner.attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, s.cfg.Dir); err != nil {
		return fmt.Errorf("put the new cluster in place: %w", err)
	}
	return syncDir(filepath.Dir(s.cfg.Dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// environment is all that the server gets to see: a PGDATA or PGPORT of the
// person who started us means another Postgres.
func environment() []string {
	return []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PATH=/usr/local/bin:/usr/bin:/bin"}
}

// awaitPredecessor returns when no earlier server is left that the cluster's pid
// file speaks of. Three cases hold up a start for a moment: the server of a
// parent that was killed is still shutting down; it is dead, but nobody has
// collected it yet (a zombie counts as alive for Postgres); or, after a reboot,
// its number belongs to somebody else, and then the file is removed.
func (s *Server) awaitPredecessor(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	file := filepath.Join(s.cfg.Dir, "postmaster.pid")
	for {
		pid, err := readPid(file)
		if err != nil || pid == 0 {
			return err
		}
		switch lookAt(pid, s.cfg.Dir) {
		case gone, hidden:
			return nil // Postgres knows these by itself
		case stranger:
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove a stale pid file: %w", err)
			}
			return nil
		case zombie, server:
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("an earlier server, process %d, still holds %s: %w", pid, s.cfg.Dir, context.Cause(ctx))
		}
	}
}

// readPid is the process that a pid file names, 0 if there is no file or no
// number in it.
func readPid(file string) (int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the pid file: %w", err)
	}
	pid, err := strconv.Atoi(string(trimLine(data)))
	if err != nil || pid <= 0 {
		return 0, nil
	}
	return pid, nil
}

// standing is what a process is to a cluster whose pid file names it.
type standing int

const (
	gone     standing = iota // there is no such process
	zombie                   // dead and not collected
	server                   // a server of this cluster
	stranger                 // something else, or a server of another cluster
	hidden                   // a process of another user
)

// lookAt tells what the process is to the cluster in dir. A server works in the
// folder of its cluster.
func lookAt(pid int, dir string) standing {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return gone
	}
	// The state follows the name, which stands in brackets and may hold some.
	rest := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
	if bytes.HasPrefix(rest, []byte("Z")) || bytes.HasPrefix(rest, []byte("X")) {
		return zombie
	}
	cwd, err := os.Stat(filepath.Join(proc, "cwd"))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hidden
	case err != nil:
		return zombie // it died between the two looks
	}
	cluster, err := os.Stat(dir)
	if err == nil && os.SameFile(cwd, cluster) {
		return server
	}
	return stranger
}

// ready tells whether the server with this pid has reported in its pid file that
// it takes connections. That is what pg_ctl waits for.
func ready(dir string, pid int) bool {
	data, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(data), "\n")
	const statusLine = 7 // LOCK_FILE_LINE_PM_STATUS, counted from 0
	return len(lines) > statusLine && strings.TrimSpace(lines[0]) == strconv.Itoa(pid) &&
		strings.TrimSpace(lines[statusLine]) == "ready"
}

// trimLine is the first line of data, without spaces around it.
func trimLine(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return bytes.TrimSpace(line)
}
