package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// part is one process of a farm under test. It is started again whenever it
// ends, as a service manager does, unless it is being held down.
type part struct {
	kind, name string
	args, env  []string
	log        string // file; appended to
	address    string // of a scheduler
	forks      *forks

	mu    sync.Mutex
	cmd   *exec.Cmd     // nil: not running
	ended chan struct{} // of cmd; closed once it is collected
	down  bool          // is not to be started again
	since []time.Time   // of its starts
	line  chan string   // the first line that begins with "ready", of each start
}

// forks starts processes from one thread that lives as long as they: the
// kernel kills a child with Pdeathsig when the thread that forked it ends.
type forks struct {
	ask  chan func()
	quit chan struct{}
}

func newForks() *forks {
	f := &forks{ask: make(chan func()), quit: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		for {
			select {
			case fn := <-f.ask:
				fn()
			case <-f.quit:
				return
			}
		}
	}()
	return f
}

// close ends the thread, and whatever it started.
func (f *forks) close() { close(f.quit) }

func (f *forks) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	select {
	case f.ask <- func() { done <- cmd.Start() }:
		return <-done
	case <-f.quit:
		return errors.New("the run is over")
	}
}

// start runs the process, and again whenever it ends, until hold or ctx.
func (p *part) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = false
	if p.cmd != nil {
		return nil
	}
	return p.fork()
}

// fork starts it once. mu is held.
func (p *part) fork() error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, p.args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "TINTYPE_") }), p.env...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.forks.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.since = cmd, ended, append(p.since, time.Now())
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.HasPrefix(lines.Text(), "ready") {
				select {
				case p.line <- lines.Text():
				default:
				}
			}
		}
		_ = cmd.Wait() // how it ended does not matter: it is started again
		p.mu.Lock()
		p.cmd = nil
		close(ended)
		p.mu.Unlock()
		time.Sleep(200 * time.Millisecond) // no faster than a service manager would
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd == nil && !p.down {
			_ = p.fork() // the run notices that it is not there
		}
	}()
	return nil
}

// kill ends the process with SIGKILL and returns when that was, once it is
// gone. It is started again after rest; never, if rest is negative.
func (p *part) kill(rest time.Duration) (at time.Time, ok bool) {
	p.mu.Lock()
	if p.cmd == nil {
		p.down = rest < 0
		p.mu.Unlock()
		return time.Time{}, false
	}
	p.down = rest != 0
	cmd, ended := p.cmd, p.ended
	at = time.Now()
	err := cmd.Process.Kill()
	p.mu.Unlock()
	<-ended
	if rest > 0 {
		time.AfterFunc(rest, func() { _ = p.start() }) // as in fork
	}
	return at, err == nil
}

// started is when it was started, each time.
func (p *part) started() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.since)
}

func (p *part) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil
}

// signal stops or continues the process.
func (p *part) signal(sig syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	return p.cmd.Process.Signal(sig) == nil
}

// stop ends it gently and for good.
func (p *part) stop(within time.Duration) error {
	p.mu.Lock()
	p.down = true
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGCONT) // it may be stopped
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
		return nil
	case <-time.After(within):
		_, _ = p.kill(-1)
		return fmt.Errorf("%s did not stop within %s and was killed", p.name, within)
	}
}

// ready waits for the line that a store prints once it serves.
func (p *part) ready(ctx context.Context) (string, error) {
	select {
	case line := <-p.line:
		return line, nil
	case <-time.After(startWithin):
		return "", fmt.Errorf("%s was not ready within %s:\n%s", p.name, startWithin, p.said())
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// said is the end of its log.
func (p *part) said() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4<<10):])
}

// broke is a panic or a data race in its log; "" when there is none.
func (p *part) broke() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return "" // it never started
	}
	for _, word := range []string{"\npanic: ", "\nfatal error: ", "WARNING: DATA RACE"} {
		if at := strings.Index(string(b), word); at >= 0 {
			return fmt.Sprintf("the log of %s says %s", p.name, b[at:min(len(b), at+2<<10)])
		}
	}
	return ""
}

// newPart describes a process in the run's folder.
func newPart(f *forks, dir, kind, name string, env []string, args ...string) *part {
	return &part{
		kind: kind, name: name, args: args, env: env, log: filepath.Join(dir, name+".log"), forks: f,
		line: make(chan string, 1), down: true,
	}
}

// stopAll ends the parts: the tiers first, the stores when they are gone.
func stopAll(parts []*part) error {
	var mu sync.Mutex
	var errs []error
	for _, stores := range []bool{false, true} {
		var wg sync.WaitGroup
		for _, p := range parts {
			if slices.Contains([]string{"nats", "postgres", "s3"}, p.kind) != stores {
				continue
			}
			wg.Go(func() {
				err := p.stop(20 * time.Second)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
		wg.Wait()
	}
	return errors.Join(errs...)
}
