package browser

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"
)

// A frame of another site may live in a process of its own, and so may a worker:
// Chromium has them as targets of their own, which know nothing of what was told
// to the page, and whose network the page knows nothing of. Every such frame is
// told to tell of its network before its first script runs; what Follow is given
// is told to frames and workers alike. A page without any pays for none.

// A Kind is what a target that belongs to a page is.
type Kind string

const (
	FrameTarget   Kind = "iframe"
	WorkerTarget  Kind = "worker"
	ServiceTarget Kind = "service_worker"
)

// A follower tells the targets that belong to a tab what they must know. Its
// zero value has nobody to tell.
type follower struct {
	tab *Tab

	mu       sync.Mutex
	tells    []func(Kind) []proto.Request // guarded by mu
	sessions map[string]attached          // those that live, by session; guarded by mu
	queue    chan attached                // nil until there is one; guarded by mu
	done     chan struct{}                // closed when run has returned; as queue
	over     bool                         // guarded by mu
}

// An attached is a target that belongs to the tab.
type attached struct {
	session string
	target  string
	kind    Kind
}

// maxFollowed bounds the targets of one tab that live at a time: those beyond it
// never run.
const maxFollowed = 500

// Follow has every frame, dedicated and service worker of the tab that is a
// target of its own told what tell returns for it, before it runs. It must be
// called before the page is opened; a second call adds to what is told. Close
// ends it. Shared workers belong to no page and hear nothing.
func (t *Tab) Follow(tell func(Kind) []proto.Request) {
	t.follower.mu.Lock()
	defer t.follower.mu.Unlock()
	t.follower.tells = append(t.follower.tells, tell)
}

// follow makes a target stop until it was told. Workers are among them since
// Chromium would hold those that a filter leaves out, too, and never let them go.
var follow = proto.TargetSetAutoAttach{AutoAttach: true, WaitForDebuggerOnStart: true, Flatten: true}

// A Frame is a frame of the page in a process of its own.
type Frame struct {
	ID      proto.PageFrameID
	session string
}

// Frames are those that live.
func (t *Tab) Frames() (list []Frame) {
	f := &t.follower
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.sessions {
		if a.kind == FrameTarget {
			list = append(list, Frame{ID: proto.PageFrameID(a.target), session: a.session})
		}
	}
	return list
}

// WithinFrame is the frame as the receiver of calls that each end after limit.
func (t *Tab) WithinFrame(ctx context.Context, f Frame, limit time.Duration) proto.Client {
	return caller{ctx: ctx, limit: limit, client: t.browser.client, session: f.session, crashed: t.crashed}
}

// hear takes the events of the page's session and of those below it. It runs
// on the reader of the pipe, which must not write.
func (f *follower) hear(e event) {
	switch e.Method {
	case (proto.TargetDetachedFromTarget{}).ProtoEvent():
		var from struct {
			Session string `json:"sessionId"`
		}
		if json.Unmarshal(e.Params, &from) == nil {
			f.mu.Lock()
			delete(f.sessions, from.Session)
			f.mu.Unlock()
			f.tab.browser.client.on(from.Session, nil)
			f.tab.browser.client.fail(from.Session, ErrCrashed) // its browser gives no answer any more
		}
		return
	case (proto.TargetAttachedToTarget{}).ProtoEvent():
	default:
		return
	}
	var to struct {
		Session string `json:"sessionId"`
		Target  struct {
			ID   string `json:"targetId"`
			Type string `json:"type"`
		} `json:"targetInfo"`
	}
	if json.Unmarshal(e.Params, &to) != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || len(f.sessions) >= maxFollowed {
		return
	}
	if f.queue == nil {
		f.queue, f.done, f.sessions = make(chan attached, maxFollowed), make(chan struct{}), map[string]attached{}
		go f.run(f.queue, f.done)
	}
	a := attached{session: to.Session, target: to.Target.ID, kind: Kind(to.Target.Type)}
	select {
	case f.queue <- a:
	default: // more than any page has come and gone at once
		return
	}
	f.sessions[to.Session] = a
	f.tab.browser.client.on(to.Session, func(e event) { f.pass(to.Session, e) })
}

// pass takes the events of a target that belongs to the tab: of its network, and
// of the end of those below it, the tab's listener hears as well.
func (f *follower) pass(session string, e event) {
	f.hear(e)
	if !strings.HasPrefix(e.Method, "Network.") && e.Method != (proto.TargetDetachedFromTarget{}).ProtoEvent() {
		return
	}
	f.tab.mu.Lock()
	listen := f.tab.listen
	f.tab.mu.Unlock()
	if listen != nil {
		listen(session, e.Method, e.Params)
	}
}

// run tells each target in turn, until stop or the end of the browser, whose
// tabs nobody closes one by one.
func (f *follower) run(queue chan attached, done chan struct{}) {
	defer close(done)
	for {
		select {
		case a, more := <-queue:
			if !more {
				return
			}
			f.inform(a)
		case <-f.tab.Gone():
			return
		}
	}
}

// inform tells one target what all have to say to it, and lets it run.
func (f *follower) inform(a attached) {
	f.mu.Lock()
	tells, over := slices.Clone(f.tells), f.over
	f.mu.Unlock()
	if over { // a browser that reads no more would be waited for once for each
		return
	}
	var calls []proto.Request
	if a.kind == FrameTarget {
		calls = append(calls, quietNetwork)
	}
	for _, tell := range tells {
		calls = append(calls, tell(a.kind)...)
	}
	for _, call := range append(calls, follow, proto.RuntimeRunIfWaitingForDebugger{}) {
		f.tab.browser.client.send(a.session, call.ProtoReq(), call, false)
	}
}

// stop ends the telling. A second call is as good as none.
func (f *follower) stop() {
	f.mu.Lock()
	begun, ended := f.queue != nil, f.over
	f.over = true
	if begun && !ended {
		close(f.queue)
	}
	sessions := slices.Collect(maps.Keys(f.sessions))
	f.mu.Unlock()
	for _, s := range sessions {
		f.tab.browser.client.on(s, nil)
	}
	if begun {
		<-f.done
	}
}
