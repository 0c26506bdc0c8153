// Package browser runs one Chromium process: it starts it, confines it, talks
// to it and ends it.
//
// It promises:
//
//  1. The browser runs as an unprivileged user with its sandbox on, in a
//     process group of its own, with an environment and a folder of its own,
//     and is spoken to over a pipe. It is in a network namespace with nothing
//     in it but the listeners of its jobs' proxies, unless the configuration
//     accepts the browser's own flags in its place; it can gain no privilege,
//     and the kernel bounds the memory, files and tasks of its processes.
//  2. When the process that started it dies, however it dies, so does the
//     browser with all of its children.
//  3. Every call has a deadline, and ends at once when the browser ends or the
//     page's renderer crashes.
//  4. After Kill no process of the browser runs and no file of it is left.
//
// It leaves to its callers what to render (package capture) and when a browser
// has served its time (package worker).
package browser

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"
	"golang.org/x/sys/unix"
)

// A Browser is one running browser process with its children.
type Browser struct {
	pid     int // and process group
	client  *client
	folder  *folder
	exited  chan struct{} // closed when the browser's process was reaped
	last    *tailWriter   // the end of what it wrote to stderr
	version string
	started time.Time
	zygotes []int // processes that all renderers are forked from

	isolation Isolation
	made      int // listeners that were made for it
	group     cgroup
	ungrouped error // why group does not hold it

	mu        sync.Mutex
	listeners []net.Listener                // of the proxies to come; guarded by mu
	tabs      map[proto.TargetTargetID]*Tab // guarded by mu
	// dead holds crashes of targets that no tab is known for: a renderer that
	// fails to start is reported before its tab has its number. Guarded by mu.
	dead map[proto.TargetTargetID]Crash

	kill sync.Once
	end  error // of Kill; set once
}

// Check reports in words what keeps browsers from being started with cfg,
// and removes the folders that killed workers left.
func Check(cfg Config) error {
	cfg, _, err := cfg.resolve()
	if err != nil {
		return err
	}
	if err := openParent(cfg.Dir); err != nil {
		return err
	}
	return sweep(cfg.Dir)
}

// Launch starts a browser and waits until it answers. The caller must Kill it.
func Launch(ctx context.Context, cfg Config) (*Browser, error) {
	cfg, id, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	if err := openParent(cfg.Dir); err != nil {
		return nil, err
	}
	name := strings.ToLower(rand.Text()[:16])
	f, err := newFolder(cfg.Dir, name, id)
	if err != nil {
		return nil, err
	}
	b := &Browser{folder: f, tabs: map[proto.TargetTargetID]*Tab{}, dead: map[proto.TargetTargetID]Crash{}, exited: make(chan struct{}), last: newTailWriter(), started: time.Now()}
	if err := b.start(ctx, cfg, id); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	// The kernel takes some milliseconds to move the first process, in which the
	// browser starts.
	b.group = groups().make(name, cfg.Memory)
	moved := make(chan error, 1)
	go func() { moved <- b.group.add(b.pid) }()
	err = b.greet(ctx)
	if b.ungrouped = <-moved; b.ungrouped == nil {
		b.ungrouped = b.group.gather(b.pid)
	}
	if err != nil {
		err = fmt.Errorf("%w (its last words: %s)", err, b.last)
		return nil, errors.Join(err, b.Kill())
	}
	return b, nil
}

// pipeSize is the most that the kernel gives anybody by default, in bytes.
const pipeSize = 1 << 20

// start makes the pipes and the process.
func (b *Browser) start(ctx context.Context, cfg Config, id identity) error {
	var down, up [2]int // to the browser and from it; [0] is read, [1] is written
	if err := unix.Pipe2(down[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	if err := unix.Pipe2(up[:], unix.O_CLOEXEC); err != nil {
		unix.Close(down[0])
		unix.Close(down[1])
		return fmt.Errorf("pipe: %w", err)
	}
	// A picture is some hundred kilobytes: through a pipe of the usual 64 it
	// takes a dozen turns of both processes. Where this is not allowed, so be it.
	unix.FcntlInt(uintptr(up[0]), unix.F_SETPIPE_SZ, pipeSize) //nolint:errcheck // the smaller one serves too
	// Our ends wait in Go's poller; the browser's ends must stay blocking,
	// and each end has flags of its own.
	unix.SetNonblock(down[1], true)
	unix.SetNonblock(up[0], true)
	out, in := os.NewFile(uintptr(down[1]), "to browser"), os.NewFile(uintptr(up[0]), "from browser")
	theirIn, theirOut := os.NewFile(uintptr(down[0]), "browser reads"), os.NewFile(uintptr(up[1]), "browser writes")
	defer theirIn.Close()
	defer theirOut.Close()

	flags := args(b.folder.path)
	if cfg.adapt != nil {
		flags = cfg.adapt(flags)
	}
	err := b.confine(ctx, cfg, command{
		argv: append([]string{cfg.Bin}, flags...), id: id,
		files:     []*os.File{theirIn, theirOut}, // descriptors 3 and 4, as the flag wants them
		listeners: cfg.Listeners,
	})
	if err != nil {
		in.Close()
		out.Close()
		return err
	}
	b.client = newClient(in, out)
	b.client.on("", b.deliver)
	return nil
}

// greet waits for the first answer.
func (b *Browser) greet(ctx context.Context) error {
	v, err := proto.BrowserGetVersion{}.Call(b.root(ctx, 20*time.Second))
	if err != nil {
		return fmt.Errorf("the browser did not start: %w", err)
	}
	b.version = v.Product
	if err := (proto.TargetSetDiscoverTargets{Discover: true}).Call(b.root(ctx, 5*time.Second)); err != nil {
		return fmt.Errorf("watch the browser's targets: %w", err)
	}
	b.zygotes = ofKind(b.pid, "zygote")
	return nil
}

// Whole reports whether all the processes stand that the browser cannot do
// without and whose end it does not notice: it stays up without its zygotes,
// but no renderer of it lives or starts.
func (b *Browser) Whole() bool {
	for _, pid := range b.zygotes {
		if state, group, ok := readStat(pid); !ok || group != b.pid || state == 'Z' || state == 'X' {
			return false
		}
	}
	return true
}

// Version is the product and version as the browser names them.
func (b *Browser) Version() string { return b.version }

// Age is the time since the launch.
func (b *Browser) Age() time.Duration { return time.Since(b.started) }

// PID is the browser's process and process group.
func (b *Browser) PID() int { return b.pid }

// Memory sums the private memory of all its processes, in bytes.
func (b *Browser) Memory() int64 { return memory(b.processes()) }

// processes lists those of the browser. Its control group knows them; without
// one every process of the machine is looked at, which is for each render and
// several times during a long one.
func (b *Browser) processes() []int {
	if b.ungrouped == nil {
		if pids := b.group.processes(); len(pids) > 0 {
			return pids
		}
	}
	return members(b.pid)
}

// Ungrouped is why the browser is not held by a control group where there are
// such for browsers; its processes have their limits all the same.
func (b *Browser) Ungrouped() error { return b.ungrouped }

// OutOfMemory reports whether the kernel has killed a process of the browser
// because all of them together were over their limit.
func (b *Browser) OutOfMemory() bool { return b.group.oomKills() > 0 }

// Gone is closed when the browser's pipe has closed: it ended, or was killed.
func (b *Browser) Gone() <-chan struct{} { return b.client.done }

// Terminate sends the whole process group its end without waiting for it; the
// browser's owner still calls Kill.
func (b *Browser) Terminate() { signalGroup(b.pid, b.exited) }

// Kill ends the whole process group, waits until it is gone, and removes the
// browser's folder. Later calls return what the first one did.
func (b *Browser) Kill() error {
	b.kill.Do(func() {
		// The second finds what has left the process group.
		err := errors.Join(killGroup(b.pid, b.exited), b.group.remove())
		b.client.close()
		b.closeListeners()
		b.end = errors.Join(err, b.folder.remove())
	})
	return b.end
}

func (b *Browser) root(ctx context.Context, limit time.Duration) proto.Client {
	return caller{ctx: ctx, limit: limit, client: b.client}
}

func (b *Browser) addTab(t *Tab) {
	b.mu.Lock()
	b.tabs[t.target] = t
	crash, died := b.dead[t.target]
	delete(b.dead, t.target)
	b.mu.Unlock()
	if died {
		t.die(crash, true)
	}
}

func (b *Browser) dropTab(t *Tab) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.tabs, t.target)
}

// deliver hands the browser's own events to the tabs.
func (b *Browser) deliver(e event) {
	var crash proto.TargetTargetCrashed
	isCrash := e.Method == crash.ProtoEvent() && json.Unmarshal(e.Params, &crash) == nil
	how := Crash{Status: crash.Status, Code: crash.ErrorCode}
	b.mu.Lock()
	tabs := slices.Collect(maps.Values(b.tabs))
	crashed := b.tabs[crash.TargetID]
	if isCrash && crashed == nil && len(b.dead) < 100 {
		b.dead[crash.TargetID] = how
	}
	b.mu.Unlock()
	if isCrash {
		if crashed != nil {
			crashed.die(how, true)
			return
		}
		// A frame of a page, perhaps: its page lives.
	}
	for _, t := range tabs {
		if e.Method == (proto.FetchRequestPaused{}).ProtoEvent() {
			if !e.cut { // it stays held: what it asks for is not known
				t.paused(e.Params)
			}
			continue
		}
		t.deliver(e)
	}
}
