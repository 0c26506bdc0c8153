package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/farm"
	"github.com/tintype/tintype/pkg/telemetry"
)

// tier is one of tintype's own modes in this program, so that a farm of
// several processes needs no second binary.
type tier struct {
	Args []string `arg:"" help:"backends, migrate, scheduler, api or up, and the flags of that mode."`
}

// Run runs the tier until ctx ends.
func (c *tier) Run(ctx context.Context) error {
	cfg, err := config.Parse(c.Args, os.Stdout)
	if err != nil {
		return err
	}
	log, err := telemetry.Logger(os.Stderr, cfg.LogLevel)
	if err != nil {
		return err
	}
	p := &farm.Process{Log: log, Version: "null", Metrics: telemetry.Registry("null"), Out: os.Stdout}
	switch cfg.Command {
	case "backends":
		err = p.Backends(ctx, cfg.Stores)
	case "migrate":
		err = p.Migrate(ctx, cfg.Migrate)
	case "scheduler":
		err = p.Scheduler(ctx, cfg.Scheduler)
	case "api":
		err = p.API(ctx, cfg.API)
	case "up": // with browsers
		err = p.Up(ctx, cfg.Up)
	default:
		err = fmt.Errorf("%s is not for here", cfg.Command)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// cluster is a farm of our own whose tiers are processes: stores, schedulers,
// an API replica and a null worker, in a folder that ends with it.
type cluster struct {
	dir, logs  string
	env        []string // leads to the stores
	schedulers map[string]*process
	others     []*process // in order of their start
	host       string     // of the API
	key        string
	leading    string    // address of the scheduler that leads, by the last line read
	lines      chan line // of the tiers' logs
	reading    sync.WaitGroup
}

// process is a child.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed once cmd is collected
}

// line is what a tier logged.
type line struct {
	from *process
	at   time.Time
	Msg  string `json:"msg"`
}

// startCluster returns once the farm takes jobs. Its lines must be read. The
// logs are kept in the folder logs if that is not empty.
func startCluster(ctx context.Context, logs string, schedulers, seats int) (_ *cluster, err error) {
	dir, err := os.MkdirTemp("", "tintype-load-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, logs: cmp.Or(logs, dir), schedulers: map[string]*process{}, lines: make(chan line, 1024)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.stop())
		}
	}()
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres runs as another user and has to pass
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("the farm was not ready within %s", startWithin))
	defer cancel()
	if err := c.startStores(ctx); err != nil {
		return nil, err
	}
	addresses, err := freePorts(schedulers + 1)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses[1:] {
		if err := c.startScheduler(address); err != nil {
			return nil, err
		}
	}
	c.host = addresses[0]
	api, err := c.start("api", "tier", "api", "--listen", c.host)
	if err != nil {
		return nil, err
	}
	worker, err := c.start("worker", "worker", "--null=noupload", "--scheduler", strings.Join(addresses[1:], ","),
		"--worker-token-file", filepath.Join(dir, "data", "worker.token"), "--seats", fmt.Sprint(seats), "--name", "null")
	if err != nil {
		return nil, err
	}
	c.others = append(c.others, api, worker)
	c.key, err = c.account(ctx)
	return c, err
}

func (c *cluster) startStores(ctx context.Context) error {
	stores, err := c.start("backends", "tier", "backends", "--data", filepath.Join(c.dir, "data"),
		"--nats-listen", "127.0.0.1:0", "--postgres-listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.others = append(c.others, stores)
	if err := c.until(ctx, stores, func() error {
		text, err := os.ReadFile(filepath.Join(c.dir, "data", "backends.env"))
		c.env = strings.Fields(string(text))
		return err
	}); err != nil {
		return err
	}
	migrate, err := c.start("migrate", "tier", "migrate")
	if err != nil {
		return err
	}
	select {
	case <-migrate.ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !migrate.cmd.ProcessState.Success() {
		return fmt.Errorf("migrate ended with %s:\n%s", migrate.cmd.ProcessState, c.log("migrate"))
	}
	return nil
}

func (c *cluster) startScheduler(address string) error {
	p, err := c.start("scheduler-"+address, "tier", "scheduler", "--cluster-listen", address)
	if err == nil {
		c.schedulers[address] = p
	}
	return err
}

// account makes the account that the load is of, once the farm is ready.
func (c *cluster) account(ctx context.Context) (key string, err error) {
	token, err := os.ReadFile(filepath.Join(c.dir, "data", "admin.token"))
	if err != nil {
		return "", err
	}
	admin := &conn{host: c.host, key: strings.TrimSpace(string(token))}
	defer admin.close()
	api := c.others[len(c.others)-2]
	err = c.until(ctx, api, func() error {
		resp, _, err := admin.do(ctx, answerWithin, "GET", "/readyz", nil)
		if err == nil && resp.StatusCode != 200 {
			err = errors.New(resp.Status)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	resp, text, err := admin.do(ctx, answerWithin, "POST", "/admin/v1/accounts", []byte(`{"name":"load"}`))
	if err != nil {
		return "", err
	}
	var made struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal(text, &made); err != nil || made.Key == "" {
		return "", fmt.Errorf("making an account: %s %s", resp.Status, text)
	}
	return made.Key, nil
}

// until tries until it works, or p has ended.
func (c *cluster) until(ctx context.Context, p *process, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w\n%s", context.Cause(ctx), err, c.log(p.name))
		case <-p.ended:
			return fmt.Errorf("%s ended with %s:\n%s", p.name, p.cmd.ProcessState, c.log(p.name))
		case <-tick.C:
		}
	}
}

// start runs this program again. Its log is read line by line, and kept.
func (c *cluster) start(name string, args ...string) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	kept, err := os.OpenFile(c.logPath(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(program, args...), ended: make(chan struct{})}
	// What the caller's environment sets for a farm is not meant for this one.
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "TINTYPE_") })
	p.cmd.Env = append(p.cmd.Env, c.env...)
	if name == "worker" { // it has none of the stores' secrets, and needs none
		p.cmd.Env = slices.DeleteFunc(p.cmd.Env, func(e string) bool { return strings.HasPrefix(e, "TINTYPE_") })
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is ours; it is stopped by its pid
	log, err := p.cmd.StderrPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, kept.Close())
	}
	c.reading.Go(func() {
		defer close(p.ended)
		c.read(p, io.TeeReader(log, kept))
		_ = p.cmd.Wait() // how it ended is in its state
		_ = kept.Close() // for people to read; nothing depends on it
	})
	return p, nil
}

func (c *cluster) read(p *process, log io.Reader) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		l := line{from: p, at: time.Now()}
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.Msg == "" {
			continue // a panic's text, say
		}
		select {
		case c.lines <- l:
		default: // nobody reads at the moment, and the log is kept
		}
	}
}

func (c *cluster) logPath(name string) string { return filepath.Join(c.logs, name+".log") }

// log is the end of what a process has said.
func (c *cluster) log(name string) string {
	b, err := os.ReadFile(c.logPath(name))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}

// stop ends the farm, the stores last, and takes its folder away.
func (c *cluster) stop() error {
	var all []*process
	for _, p := range c.schedulers {
		all = append(all, p)
	}
	slices.Reverse(c.others)
	if n := len(c.others); n > 0 { // the API and the worker first, the stores last
		all = append(append(c.others[:n-1:n-1], all...), c.others[n-1])
	}
	var err error
	for _, p := range all {
		err = errors.Join(err, p.stop())
	}
	c.reading.Wait()
	return errors.Join(err, os.RemoveAll(c.dir))
}

// stop ends a process as a service manager does.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopWithin):
		err := errors.Join(fmt.Errorf("%s did not stop within %s and was killed", p.name, stopWithin), p.cmd.Process.Kill())
		<-p.ended
		return err
	}
}
