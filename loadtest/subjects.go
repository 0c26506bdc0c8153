package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tintype/tintype/loadtest/corpus"
)

// A maker starts a subject for a turn.
type maker struct {
	name  string
	start func(context.Context, *contest) (runner, error)
}

// ours are the subjects that need nothing from elsewhere.
func ours() []maker {
	return []maker{
		{"farm", func(ctx context.Context, t *contest) (runner, error) { return t.farm(ctx, true) }},
		{"bare", func(_ context.Context, t *contest) (runner, error) { return t.bare() }},
		{"bare-default-png", func(_ context.Context, t *contest) (runner, error) { return t.bare("--no-fast") }},
		{"farm-default-png", func(ctx context.Context, t *contest) (runner, error) { return t.farm(ctx, false) }},
		{"reuse", func(_ context.Context, t *contest) (runner, error) { return t.bare("--reuse") }},
	}
}

// subjectNames are those that --subjects takes.
func subjectNames() (names []string) {
	for _, m := range ours() {
		names = append(names, m.name)
	}
	for _, p := range peers() {
		names = append(names, p.name)
	}
	return names
}

// makers are the subjects that were asked for, in that order. skipped gets
// those that cannot be had here.
func (c *render) makers(ctx context.Context, skipped map[string]string) ([]maker, error) {
	var out []maker
	add := func(m maker) {
		if !slices.ContainsFunc(out, func(have maker) bool { return have.name == m.name }) {
			out = append(out, m)
		}
	}
	for _, name := range c.Subjects {
		found := false
		for _, m := range ours() {
			if name == m.name || name == "all" {
				add(m)
				found = true
			}
		}
		for _, p := range peers() {
			if name != p.name && name != "all" && name != "peers" {
				continue
			}
			found = true
			if why := c.install(ctx, p); why != nil {
				skipped[p.name] = why.Error()
				continue
			}
			add(maker{p.name, func(_ context.Context, t *contest) (runner, error) { return t.peer(p) }})
		}
		if !found {
			return nil, fmt.Errorf("--subjects: there is no %q: there are %s", name, strings.Join(subjectNames(), ", "))
		}
	}
	for _, v := range c.Variant {
		name, flags, ok := strings.Cut(v, "=")
		if !ok || name == "" || flags == "" {
			return nil, fmt.Errorf("--variant: want NAME=FLAG FLAG, not %q", v)
		}
		add(maker{name, func(_ context.Context, t *contest) (runner, error) {
			var args []string
			for _, f := range strings.Fields(flags) {
				args = append(args, "--flag="+f)
			}
			return t.bare(args...)
		}})
	}
	return out, nil
}

// farmRunner asks a farm of our own over HTTP.
type farmRunner struct {
	*child
	client *http.Client
	fast   bool // PNG encoded for speed
}

// farm starts a whole farm with browsers: everything below the process,
// stores included, is charged to it.
func (t *contest) farm(ctx context.Context, fast bool) (runner, error) {
	host := strings.TrimPrefix(t.site, "http://")
	c, err := startChild(ctx, childOf{
		seats: t.Seats, real: true, args: []string{"--egress-allow", host}, env: []string{"TINTYPE_CHROMIUM_BIN=" + t.Chromium},
		policy: "version: 1\nplans:\n- name: default\n  tier: 0\n  threads: seats\n",
	})
	if err != nil {
		return nil, err
	}
	return &farmRunner{c, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, fast}, nil
}

func (f *farmRunner) pid() int { return f.cmd.Process.Pid }

func (f *farmRunner) stop() error {
	f.client.CloseIdleConnections()
	return f.child.stop()
}

func (f *farmRunner) render(ctx context.Context, url, file string) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body := fmt.Appendf(nil, `{"url":%q,"width":%d,"height":%d}`, url, corpus.Width, corpus.Height)
	if !f.fast {
		body = append(body[:len(body)-1], `,"optimize_for_speed":false}`...)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+"/v1/screenshot", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+f.key)
	req.Header.Set("Content-Type", "application/json")
	return keepAnswer(f.client, req, file)
}

// keepAnswer writes the picture that a request is answered with.
func keepAnswer(c *http.Client, req *http.Request, file string) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, b)
	}
	return keep(b, file)
}

// hand is a subject in a process that takes orders on its standard input.
type hand struct {
	cmd   *exec.Cmd
	said  *bytes.Buffer // on stderr; read once it has ended
	in    io.WriteCloser
	ended chan struct{}
	port  int // that it told of; 0: none

	mu      sync.Mutex
	last    int                  // guarded by mu
	waiting map[int]chan receipt // guarded by mu
}

func (t *contest) bare(args ...string) (runner, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startHand(exec.Command(program, append([]string{"subject", "--browsers", fmt.Sprint(t.Seats), "--chromium", t.Chromium}, args...)...))
}

// startHand returns once the subject is ready.
func startHand(cmd *exec.Cmd) (*hand, error) {
	h := &hand{cmd: cmd, said: &bytes.Buffer{}, ended: make(chan struct{}), waiting: map[int]chan receipt{0: make(chan receipt, 1)}}
	cmd.Stderr = h.said
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C is ours; it ends with its input
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h.in = in
	ready := h.waiting[0]
	go h.read(out)
	select {
	case r := <-ready:
		h.port = r.Port
		return h, nil
	case <-h.ended:
		return nil, fmt.Errorf("it ended with %s: %s", cmd.ProcessState, h.words())
	case <-time.After(startWithin):
		return nil, errors.Join(fmt.Errorf("it was not ready within %s", startWithin), h.stop())
	}
}

func (h *hand) read(out io.Reader) {
	defer close(h.ended)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r receipt
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue // something else that it says
		}
		h.mu.Lock()
		c := h.waiting[r.ID]
		delete(h.waiting, r.ID)
		h.mu.Unlock()
		if c != nil {
			c <- r
		}
	}
	_ = h.cmd.Wait() // how it ended is in its state
}

func (h *hand) words() string {
	b := h.said.Bytes()
	return cmp.Or(strings.TrimSpace(string(b[max(0, len(b)-2000):])), "no words")
}

func (h *hand) pid() int { return h.cmd.Process.Pid }

func (h *hand) render(ctx context.Context, url, file string) error {
	done := make(chan receipt, 1)
	h.mu.Lock()
	h.last++
	o := order{ID: h.last, URL: url, File: file}
	h.waiting[o.ID] = done
	line, err := json.Marshal(o)
	if err == nil {
		_, err = h.in.Write(append(line, '\n'))
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case r := <-done:
		if r.Error != "" {
			return errors.New(r.Error)
		}
		return nil
	case <-h.ended:
		return fmt.Errorf("it ended with %s: %s", h.cmd.ProcessState, h.words())
	case <-time.After(answerWithin):
		return errors.New("no answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the subject by the end of its input, and then its whole group.
func (h *hand) stop() error {
	h.in.Close()
	select {
	case <-h.ended:
	case <-time.After(20 * time.Second):
	}
	syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it has gone, mostly
	<-h.ended
	return nil
}
