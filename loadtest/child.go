package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startWithin = 2 * time.Minute
	stopWithin  = time.Minute
)

// child is a farm of our own: this program again, as `up --null` or with real
// browsers, in a folder that ends with it.
type child struct {
	dir   string
	url   string
	key   string // of its first account
	admin string // token
	cmd   *exec.Cmd
	ended chan struct{} // closed once cmd is collected
}

// childOf is how a farm of our own is set up.
type childOf struct {
	seats  int
	real   bool          // the seats are browsers
	slow   time.Duration // what a render takes
	upload bool          // artifacts are stored
	policy string        // text of its file; empty: the built-in one
	pprof  string        // HOST:PORT; empty: none
	args   []string      // of tintype up, beside ours
	env    []string      // further variables
}

// startChild returns once the farm takes jobs.
func startChild(ctx context.Context, of childOf) (_ *child, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tintype-load-")
	if err != nil {
		return nil, err
	}
	c := &child{dir: dir, ended: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres runs as another user and has to pass
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	null := "--null=noupload"
	if of.upload {
		null = "--null"
	}
	args := []string{
		"up", null, "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0",
		"--seats", strconv.Itoa(of.seats), "--log-level", "warn", "--slow", of.slow.String(),
	}
	if of.pprof != "" {
		args = append(args, "--pprof", of.pprof)
	}
	if of.real {
		args = []string{"tier", "up", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--seats", strconv.Itoa(of.seats), "--log-level", "warn"}
	}
	args = append(args, of.args...)
	if of.policy != "" {
		file := filepath.Join(dir, "policy.yaml")
		if err := os.WriteFile(file, []byte(of.policy), 0o644); err != nil {
			return nil, err
		}
		args = append(args, "--policy", file)
	}
	cmd := exec.Command(program, args...)
	// What the caller's environment sets for a farm is not meant for this one.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "TINTYPE_") })
	cmd.Env = append(cmd.Env, of.env...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours; it is stopped by its pid
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.cmd = cmd
	banner := make(chan string, 1)
	go func() {
		defer close(c.ended)
		var text strings.Builder
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&text, lines.Text())
			if strings.Contains(lines.Text(), "Ctrl-C stops") {
				banner <- text.String()
			}
		}
		_ = cmd.Wait() // how it ended is in its state
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(startWithin):
		return nil, fmt.Errorf("the farm was not ready within %s:\n%s", startWithin, c.log())
	case <-c.ended:
		return nil, fmt.Errorf("the farm ended with %s:\n%s", cmd.ProcessState, c.log())
	case text := <-banner:
		c.url = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(text)
	}
	key, err := os.ReadFile(filepath.Join(dir, "data", "first.key"))
	if err != nil {
		return nil, err
	}
	admin, err := os.ReadFile(filepath.Join(dir, "data", "admin.token"))
	c.key, c.admin = strings.TrimSpace(string(key)), strings.TrimSpace(string(admin))
	return c, err
}

// account makes one on a plan and returns its key.
func (c *child) account(ctx context.Context, name, plan string) (key string, err error) {
	host, err := hostOf(c.url)
	if err != nil {
		return "", err
	}
	admin := &conn{host: host, key: c.admin}
	defer admin.close()
	resp, body, err := admin.do(ctx, answerWithin, http.MethodPost, "/admin/v1/accounts", fmt.Appendf(nil, `{"name": %q, "plan": %q}`, name, plan))
	if err != nil {
		return "", err
	}
	var made struct{ Key string }
	if err := json.Unmarshal(body, &made); err != nil || made.Key == "" {
		return "", fmt.Errorf("an account on plan %s: %s %s", plan, resp.Status, body)
	}
	return made.Key, nil
}

// log is what the farm has said.
func (c *child) log() string {
	b, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

// stop ends the farm and takes its folder away.
func (c *child) stop() error {
	var err error
	if c.cmd != nil {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-c.ended:
		case <-time.After(stopWithin):
			err = errors.Join(fmt.Errorf("the farm did not stop within %s and was killed", stopWithin), c.cmd.Process.Kill())
			<-c.ended
		}
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
