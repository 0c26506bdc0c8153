package browser

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"
)

// proxyName is the only name the browser can resolve: its job's proxy. The
// flags map it to loopback and every other name to nothing, so that a context
// made without its proxy reaches nothing at all.
const proxyName = "tintype-egress"

// A Tab is one page in a browser context of its own: cookies, storage, cache,
// service workers and the renderer are its job's alone and end with Close.
type Tab struct {
	browser *Browser
	context proto.BrowserBrowserContextID
	target  proto.TargetTargetID
	session proto.TargetSessionID

	mu       sync.Mutex
	listen   func(session, method string, params json.RawMessage) // guarded by mu
	pause    func(params json.RawMessage)                         // guarded by mu; see Pause
	pausing  bool                                                 // guarded by mu; the browser holds requests
	follower follower                                             // of what belongs to the page
	fulls    int                                                  // heaps that were full before Listen; guarded by mu
	crash    *Crash                                               // guarded by mu
	crashed  chan struct{}                                        // closed when the renderer died
	known    chan struct{}                                        // closed when it is known how
	tell     sync.Once                                            // closes known
}

// A Crash says how a renderer ended.
type Crash struct {
	Status string // as Chromium has it: crashed, killed, oom, failed to launch
	Code   int    // exit code or signal
	Full   bool   // its JavaScript heap had reached its limit
}

// NewTab makes a fresh context whose every request goes to the proxy on
// proxyPort of loopback, and an empty page in it, with the domains enabled
// that a render needs. Runtime, Console, Log and DOM stay off: a page could
// flood them.
func (b *Browser) NewTab(ctx context.Context, proxyPort int) (*Tab, error) {
	root := b.root(ctx, 5*time.Second)
	made, err := proto.TargetCreateBrowserContext{
		DisposeOnDetach: true,
		ProxyServer:     fmt.Sprintf("http://%s:%d", proxyName, proxyPort),
		ProxyBypassList: "<-loopback>", // else loopback and link-local go past the proxy
	}.Call(root)
	if err != nil {
		return nil, fmt.Errorf("new browser context: %w", err)
	}
	t := newTab(b, made.BrowserContextID)
	if err := t.open(ctx, root); err != nil {
		return nil, errors.Join(err, t.Close(ctx))
	}
	return t, nil
}

func newTab(b *Browser, in proto.BrowserBrowserContextID) *Tab {
	t := &Tab{browser: b, context: in, crashed: make(chan struct{}), known: make(chan struct{})}
	t.follower.tab = t
	return t
}

func (t *Tab) open(ctx context.Context, root proto.Client) error {
	err := proto.BrowserSetDownloadBehavior{
		Behavior: proto.BrowserSetDownloadBehaviorBehaviorDeny, BrowserContextID: t.context, EventsEnabled: true,
	}.Call(root)
	if err != nil {
		return fmt.Errorf("deny downloads: %w", err)
	}
	target, err := proto.TargetCreateTarget{URL: "about:blank", BrowserContextID: t.context}.Call(root)
	if err != nil {
		return fmt.Errorf("new page: %w", err)
	}
	t.target = target.TargetID
	t.browser.addTab(t)
	attached, err := proto.TargetAttachToTarget{TargetID: t.target, Flatten: true}.Call(root)
	if err != nil {
		return fmt.Errorf("attach to the page: %w", err)
	}
	t.mu.Lock()
	t.session = attached.SessionID
	t.mu.Unlock()
	t.browser.client.on(string(t.session), t.hear)
	// The browser takes calls in order: the last answer stands for all.
	t.Post(proto.PageEnable{})
	t.Post(proto.PageSetLifecycleEventsEnabled{Enabled: true})
	t.Post(proto.InspectorEnable{})
	t.Post(follow)
	if err := quietNetwork.Call(t.Within(ctx, 5*time.Second)); err != nil {
		return fmt.Errorf("prepare the page: %w", err)
	}
	return nil
}

// quietNetwork turns the domain Network on, which is to keep no response for
// inspection.
var quietNetwork = proto.NetworkEnable{MaxTotalBufferSize: new(0), MaxResourceBufferSize: new(0)}

// Frame is the id of the page's main frame.
func (t *Tab) Frame() proto.PageFrameID { return proto.PageFrameID(t.target) }

// Session is the id that the tab's calls are made with.
func (t *Tab) Session() proto.TargetSessionID { return t.session }

// Listen sets who hears of the tab's events and of the browser's own, and
// begins what the tab is charged with: a full heap before that was another
// page's. session is empty unless the event is of a frame in a process of its
// own, of which the network alone is told. f runs on the goroutine that reads
// the browser's pipe: it must be quick and must not call the browser.
func (t *Tab) Listen(f func(session, method string, params json.RawMessage)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listen, t.fulls = f, t.browser.last.count()
}

// hear takes an event of the page's own session. What the browser tells all its
// tabs is none: the next job's page, which is made while this one ends, is
// another target that was attached, and not this page's to follow.
func (t *Tab) hear(e event) {
	t.follower.hear(e)
	t.deliver(e)
}

func (t *Tab) deliver(e event) {
	if e.Method == (proto.InspectorTargetCrashed{}).ProtoEvent() {
		t.die(Crash{Status: "crashed"}, false)
	}
	t.mu.Lock()
	f := t.listen
	t.mu.Unlock()
	if f != nil {
		f("", e.Method, e.Params)
	}
}

// die notes the renderer's end and fails the calls that wait for it. Chromium
// reports it twice, first to the page's session and then, with how it ended,
// to the browser's.
func (t *Tab) die(c Crash, how bool) {
	t.mu.Lock()
	first := t.crash == nil
	if first || how {
		t.crash = &c
	}
	session := t.session
	t.mu.Unlock()
	if first {
		close(t.crashed)
		if session != "" {
			t.browser.client.fail(string(session), ErrCrashed)
		}
	}
	if how {
		t.tell.Do(func() { close(t.known) }) // a reloaded page can crash again
	}
}

// Crashed is closed when the tab's renderer has died.
func (t *Tab) Crashed() <-chan struct{} { return t.crashed }

// Crash tells how the renderer died; nil while it lives. It waits a moment for
// the details, which come last.
func (t *Tab) Crash() *Crash {
	select {
	case <-t.crashed:
	default:
		return nil
	}
	patience, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	select {
	case <-t.known:
	case <-t.Gone():
	case <-patience.Done():
	}
	t.mu.Lock()
	c, fulls := *t.crash, t.fulls
	t.mu.Unlock()
	select {
	case <-t.browser.last.beyond(fulls):
		c.Full = true
	case <-patience.Done(): // what was written to stderr is read by another goroutine
	}
	return &c
}

// Post sends a call whose answer nobody waits for.
func (t *Tab) Post(call proto.Request) {
	t.browser.client.send(string(t.session), call.ProtoReq(), call, false)
}

// Do makes a call by way of c and wants no more of its answer than that there
// is one.
func (t *Tab) Do(c proto.Client, call proto.Request) error {
	within := c.(caller)
	_, err := within.Call(within.ctx, within.session, call.ProtoReq(), call)
	return err
}

// PostRoot sends a call to the browser whose answer nobody waits for.
func (t *Tab) PostRoot(call proto.Request) {
	t.browser.client.send("", call.ProtoReq(), call, false)
}

// Gone is closed when the whole browser has ended.
func (t *Tab) Gone() <-chan struct{} { return t.browser.client.done }

// Close disposes of the context and all that is in it. Chromium does so
// within milliseconds even when the page spins; an error means that the
// browser itself is not well.
func (t *Tab) Close(ctx context.Context) error {
	t.Listen(nil)
	t.mu.Lock()
	pausing := t.pausing
	t.mu.Unlock()
	t.follower.stop()
	err := proto.TargetDisposeBrowserContext{BrowserContextID: t.context}.Call(t.browser.root(ctx, 3*time.Second))
	if pausing { // not before the page is gone: what is held would be let go
		t.PostRoot(proto.FetchDisable{})
	}
	t.browser.client.on(string(t.session), nil)
	t.browser.dropTab(t)
	if err != nil {
		return fmt.Errorf("dispose of the browser context: %w", err)
	}
	return nil
}

// Root is the browser as the receiver of calls that each end after limit, for
// the few that speak of the tab's context and not of its page.
func (t *Tab) Root(ctx context.Context, limit time.Duration) proto.Client {
	return t.browser.root(ctx, limit)
}

// Context is the tab's browser context.
func (t *Tab) Context() proto.BrowserBrowserContextID { return t.context }

// Pause has the browser hold every request that a pattern matches until f's
// caller answers it through Root: those of the page, of its frames in other
// processes and of its workers, but no WebSocket. The browser must have no
// other tab. f gets the parameters of Fetch.requestPaused and runs on the
// goroutine that reads the browser's pipe: it must be quick and must not call
// the browser.
func (t *Tab) Pause(ctx context.Context, patterns []*proto.FetchRequestPattern, f func(params json.RawMessage)) error {
	t.mu.Lock()
	t.pause, t.pausing = f, true
	t.mu.Unlock()
	if err := (proto.FetchEnable{Patterns: patterns}).Call(t.Root(ctx, 2*time.Second)); err != nil {
		return fmt.Errorf("pause requests: %w", err)
	}
	return nil
}

// Within is the tab as the receiver of calls that each end after limit.
func (t *Tab) Within(ctx context.Context, limit time.Duration) proto.Client {
	return caller{ctx: ctx, limit: limit, client: t.browser.client, session: string(t.session), crashed: t.crashed}
}

// A caller makes calls with a deadline of their own. It implements
// proto.Client, proto.Sessionable and proto.Contextable.
type caller struct {
	ctx     context.Context
	limit   time.Duration
	client  *client
	session string
	crashed <-chan struct{} // nil for the browser itself
}

func (c caller) GetContext() context.Context         { return c.ctx }
func (c caller) GetSessionID() proto.TargetSessionID { return proto.TargetSessionID(c.session) }

// Call implements proto.Client.
func (c caller) Call(ctx context.Context, session, method string, params any) ([]byte, error) {
	select {
	case <-c.crashed:
		return nil, ErrCrashed
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.limit, ErrUnanswered)
	defer cancel()
	return c.client.call(ctx, session, method, params)
}

// Screenshot captures a picture. It is proto's call with a decoder of its
// own, since a picture is most of what ever passes the pipe.
func (t *Tab) Screenshot(ctx context.Context, limit time.Duration, shot proto.PageCaptureScreenshot) ([]byte, error) {
	c := t.Within(ctx, limit)
	raw, err := c.Call(ctx, string(t.session), shot.ProtoReq(), shot)
	if err != nil {
		return nil, err
	}
	if data, ok := bytes.CutPrefix(raw, []byte(`{"data":"`)); ok {
		if b, err := base64.StdEncoding.AppendDecode(nil, bytes.TrimSuffix(data, []byte(`"}`))); err == nil {
			return b, nil
		}
	}
	var res proto.PageCaptureScreenshotResult
	if err := json.Unmarshal(raw, &res); err != nil {
		return nil, fmt.Errorf("%s: %w", shot.ProtoReq(), err)
	}
	return res.Data, nil
}

// Unpause returns when f of Pause is called no more. What the browser goes on
// to hold is never let go.
func (t *Tab) Unpause() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pause = nil
}

// paused takes a request that the browser holds.
func (t *Tab) paused(params json.RawMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pause != nil {
		t.pause(params)
	}
}
