package postgres

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// predecessorWithin is how long a start waits for what an earlier server left
// behind. A zombie was seen to stay for two seconds.
const predecessorWithin = 15 * time.Second

// child is one run of the server.
type child struct {
	cmd  *exec.Cmd
	log  *logWriter
	done chan struct{} // closed when the process has ended and been collected
	err  error         // of Wait; set before done is closed
}

// launch starts the server and returns when it takes connections. It starts it
// again while the remains of an earlier one are in the way.
func (s *Server) launch(ctx context.Context) (*child, error) {
	patience, cancel := context.WithTimeoutCause(ctx, predecessorWithin,
		fmt.Errorf("waited %s for it to end", predecessorWithin))
	defer cancel()
	tick := time.NewTicker(10 * pollEvery)
	defer tick.Stop()
	for {
		if err := s.awaitPredecessor(patience); err != nil {
			return nil, err
		}
		// Not earlier: the predecessor held the port, too.
		if err := s.choosePort(); err != nil {
			return nil, err
		}
		c, err := s.spawn()
		if err != nil {
			return nil, err
		}
		err = c.await(ctx, s.cfg.Dir)
		if err == nil {
			return c, nil
		}
		if !c.log.predecessorInTheWay() {
			return nil, err
		}
		select {
		case <-tick.C:
		case <-patience.Done():
			return nil, err
		}
	}
}

// spawn starts the process.
func (s *Server) spawn() (*child, error) {
	c := &child{log: &logWriter{log: s.cfg.Log}, done: make(chan struct{})}
	listening, err := s.listening()
	if err != nil {
		return nil, err
	}
	c.cmd = exec.Command(s.bin.postgres(), append([]string{
		"-D", s.cfg.Dir, "-k", s.socketDir,
		"-c", "port=" + s.port,
		"-c", "unix_socket_permissions=0700",
		"-c", "shared_buffers=32MB",
		"-c", "max_connections=60",
		"-c", "log_timezone=UTC", "-c", "timezone=UTC",
		// slog has the time, and lines start with their severity then.
		"-c", "log_line_prefix=",
		// What a statement was about belongs to accounts, not into a log.
		"-c", "log_error_verbosity=terse", "-c", "log_min_error_statement=panic",
	}, listening...)...)
	c.cmd.Dir = s.cfg.Dir
	c.cmd.Env = environment()
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	// A stray process of the server could hold its output open after it.
	c.cmd.WaitDelay = stopWithin
	c.cmd.SysProcAttr = s.owner.attributes()
	// Ctrl-C in a terminal goes to the foreground group; it is the parent who
	// stops the database, last of all.
	c.cmd.SysProcAttr.Setpgid = true
	// SIGINT is Postgres' fast shutdown.
	c.cmd.SysProcAttr.Pdeathsig = syscall.SIGINT

	started := make(chan error)
	go func() {
		// Pdeathsig means the death of the thread that forked, not of the
		// process. So one thread forks, and stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = c.cmd.Wait()
		c.log.flush()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", s.bin.postgres(), err)
	}
	return c, nil
}

// await returns when the server takes connections. If it ends before, or ctx
// does, the error says what the server said, and nothing runs any more.
func (c *child) await(ctx context.Context, dir string) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return fmt.Errorf("the server did not start: %w", c.failure())
		case <-ctx.Done():
			late := fmt.Errorf("the server was not ready in time: %w", context.Cause(ctx))
			if last := c.log.last(); last != "" {
				late = fmt.Errorf("%w: it last said: %s", late, last)
			}
			return errors.Join(late, c.stop(ctx))
		case <-tick.C:
			if ready(dir, c.cmd.Process.Pid) {
				return nil
			}
		}
	}
}

// stop asks for a fast shutdown; when ctx is over, for an immediate one; and
// kills the whole group at last.
func (c *child) stop(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	steps := []struct {
		name string
		send func() error
		wait func() (<-chan struct{}, context.CancelFunc)
	}{
		{
			"fast shutdown", func() error { return c.cmd.Process.Signal(syscall.SIGINT) },
			func() (<-chan struct{}, context.CancelFunc) { return ctx.Done(), func() {} },
		},
		{"immediate shutdown", func() error { return c.cmd.Process.Signal(syscall.SIGQUIT) }, soon},
		{"kill", func() error { return syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) }, soon},
	}
	var tried []string
	for _, step := range steps {
		// The process may have ended just now, which the wait shows.
		_ = step.send()
		tried = append(tried, step.name)
		over, cancel := step.wait()
		select {
		case <-c.done:
			cancel()
			if len(tried) > 1 {
				return fmt.Errorf("the server did not stop in time and needed: %s", strings.Join(tried[1:], ", "))
			}
			return nil
		case <-over:
			cancel()
		}
	}
	return fmt.Errorf("the server, process %d, does not end after: %s", c.cmd.Process.Pid, strings.Join(tried, ", "))
}

func soon() (<-chan struct{}, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	return ctx.Done(), cancel
}

// failure is how the process ended and what it said last. Only after done.
func (c *child) failure() error {
	err := c.err
	if err == nil {
		err = errors.New("it ended without an error")
	}
	if last := c.log.last(); last != "" {
		return fmt.Errorf("%w: %s", err, last)
	}
	return err
}
