package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/worker/browser"
)

// pipe is a browser of the bare driver and the protocol over its two pipes,
// with nothing on top: no deadlines but the caller's context, no events but the
// ones that are waited for.
type pipe struct {
	cmd  *exec.Cmd
	dir  string
	in   *bufio.Reader
	out  *os.File
	done chan struct{} // closed with the pipe

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply              // guarded by mu
	events  map[string]func(string, []byte) // by session; guarded by mu
}

type reply struct {
	result []byte
	err    error
}

// unprivileged is the credential for browsers of a root process; nil for others.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// openPipe starts a browser.
func openPipe(bin string, flags []string) (_ *pipe, err error) {
	dir, err := os.MkdirTemp("", "tintype-bare-")
	if err != nil {
		return nil, err
	}
	p := &pipe{dir: dir, done: make(chan struct{}), waiting: map[int]chan reply{}, events: map[string]func(string, []byte){}}
	p.cmd = exec.Command(bin, slices.Concat(browser.Unproxied(dir), flags)...)
	p.cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "LANG=C.UTF-8"}
	cred, err := unprivileged()
	if err != nil {
		return nil, err
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: cred}
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			return nil, err
		}
	}
	theirIn, out, err := halfBlocking(false)
	if err != nil {
		return nil, err
	}
	theirOut, in, err := halfBlocking(true)
	if err != nil {
		return nil, err
	}
	p.cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	theirIn.Close()
	theirOut.Close()
	p.in, p.out = bufio.NewReaderSize(in, 1<<20), out
	go p.read()
	return p, nil
}

// halfBlocking makes a pipe: the browser's end blocks, as it wants it, and ours
// waits in Go's poller.
func halfBlocking(weRead bool) (theirs, ours *os.File, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	read, write := fd[0], fd[1]
	if weRead {
		read, write = write, read
	}
	if err := unix.SetNonblock(write, true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(read), "theirs"), os.NewFile(uintptr(write), "ours"), nil
}

func (p *pipe) close() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have gone already
	p.cmd.Wait()                                      //nolint:errcheck // it was killed
	<-p.done
	os.RemoveAll(p.dir)
}

func (p *pipe) read() {
	defer close(p.done)
	for {
		msg, err := p.in.ReadBytes(0)
		if err != nil {
			p.mu.Lock()
			for id, c := range p.waiting {
				c <- reply{err: err}
				delete(p.waiting, id)
			}
			p.mu.Unlock()
			return
		}
		p.deliver(msg[:len(msg)-1])
	}
}

func (p *pipe) deliver(msg []byte) {
	if id, data, ok := pictureIn(msg); ok {
		p.answer(id, reply{result: data})
		return
	}
	var m struct {
		ID      int             `json:"id"`
		Result  json.RawMessage `json:"result"`
		Error   *struct{ Message string }
		Session string          `json:"sessionId"`
		Method  string          `json:"method"`
		Params  json.RawMessage `json:"params"`
	}
	if json.Unmarshal(msg, &m) != nil {
		return
	}
	if m.ID == 0 {
		p.mu.Lock()
		f := p.events[m.Session]
		p.mu.Unlock()
		if f != nil {
			f(m.Method, m.Params)
		}
		return
	}
	r := reply{result: m.Result}
	if m.Error != nil {
		r.err = errors.New(m.Error.Message)
	}
	p.answer(m.ID, r)
}

func (p *pipe) answer(id int, r reply) {
	p.mu.Lock()
	c := p.waiting[id]
	delete(p.waiting, id)
	p.mu.Unlock()
	if c != nil {
		c <- r
	}
}

// pictureIn cuts a picture out of its message without parsing megabytes of
// JSON, as the farm's client does too: {"id":N,"result":{"data":"…"},"sessionId":"…"}.
func pictureIn(msg []byte) (id int, base64 []byte, ok bool) {
	if len(msg) < 4<<10 {
		return 0, nil, false
	}
	rest, ok := bytes.CutPrefix(msg, []byte(`{"id":`))
	if !ok {
		return 0, nil, false
	}
	digits, rest, ok := bytes.Cut(rest, []byte(`,"result":{"data":"`))
	if !ok || len(digits) > 10 {
		return 0, nil, false
	}
	id, err := strconv.Atoi(string(digits))
	data, _, closed := bytes.Cut(rest, []byte{'"'})
	return id, data, closed && err == nil
}

// call makes one call and returns its result.
func (p *pipe) call(ctx context.Context, session, method string, params any) ([]byte, error) {
	c, err := p.send(session, method, params, true)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-c:
		if r.err != nil {
			return nil, fmt.Errorf("%s: %w", method, r.err)
		}
		return r.result, nil
	case <-p.done:
		return nil, fmt.Errorf("%s: the browser is gone", method)
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (p *pipe) send(session, method string, params any, wait bool) (chan reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	c := make(chan reply, 1)
	if wait {
		p.waiting[p.last] = c
	}
	msg, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
		Session string `json:"sessionId,omitempty"`
	}{p.last, method, params, session})
	if err != nil {
		return nil, err
	}
	p.out.SetWriteDeadline(time.Now().Add(10 * time.Second)) //nolint:errcheck // a pipe has deadlines
	_, err = p.out.Write(append(msg, 0))
	return c, err
}

// into makes one call and reads its result.
func into[T any](ctx context.Context, p *pipe, session, method string, params any) (out T, err error) {
	b, err := p.call(ctx, session, method, params)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	return out, err
}

func (p *pipe) on(session string, f func(method string, params []byte)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f == nil {
		delete(p.events, session)
		return
	}
	p.events[session] = f
}
