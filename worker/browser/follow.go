package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"
)

// A frame of another site lives in a process of its own, and so may a worker:
// Chromium has them as targets of their own, which know nothing of what was
// told to the page. Follow tells it to each of them before its first script
// runs. Nobody pays for it who does not ask.

// A Kind is what a target that belongs to a page is.
type Kind string

const (
	FrameTarget   Kind = "iframe"
	WorkerTarget  Kind = "worker"
	ServiceTarget Kind = "service_worker"
)

// A follower tells the targets that belong to a tab what they must know.
type follower struct {
	tab   *Tab
	queue chan attached
	done  chan struct{} // closed when run has returned

	mu       sync.Mutex
	tells    []func(Kind) []proto.Request // guarded by mu
	sessions map[string]bool              // guarded by mu
	over     bool                         // guarded by mu
}

type attached struct {
	session string
	kind    Kind
}

// maxFollowed bounds the targets of one tab that are told: those beyond it
// never run.
const maxFollowed = 500

// Follow has every frame, dedicated and service worker of the tab that is a
// target of its own told what tell returns for it, before it runs. It must be
// called before the page is opened; a second call adds to what is told. Close
// ends it. Shared workers belong to no page and hear nothing.
func (t *Tab) Follow(ctx context.Context, tell func(Kind) []proto.Request) error {
	t.mu.Lock()
	f := t.follower
	begin := f == nil
	if begin {
		f = &follower{tab: t, queue: make(chan attached, maxFollowed), done: make(chan struct{}), sessions: map[string]bool{}}
		t.follower = f
	}
	t.mu.Unlock()
	f.mu.Lock()
	f.tells = append(f.tells, tell)
	f.mu.Unlock()
	if !begin {
		return nil
	}
	go f.run()
	if err := follow.Call(t.Within(ctx, 2*time.Second)); err != nil {
		return fmt.Errorf("follow the page's frames: %w", err)
	}
	return nil
}

// follow makes a target stop until it was told.
var follow = proto.TargetSetAutoAttach{AutoAttach: true, WaitForDebuggerOnStart: true, Flatten: true}

// hear takes the events of the page's session and of those below it. It runs
// on the reader of the pipe, which must not write.
func (f *follower) hear(e event) {
	if e.Method != (proto.TargetAttachedToTarget{}).ProtoEvent() {
		return
	}
	var to struct {
		Session string `json:"sessionId"`
		Target  struct {
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
	f.sessions[to.Session] = true
	f.tab.browser.client.on(to.Session, f.hear)
	f.queue <- attached{session: to.Session, kind: Kind(to.Target.Type)} // has room for all
}

// run tells each target in turn, until stop or the end of the browser, whose
// tabs nobody closes one by one.
func (f *follower) run() {
	defer close(f.done)
	for {
		select {
		case a, more := <-f.queue:
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
	if !f.over {
		f.over = true
		close(f.queue)
		for s := range f.sessions {
			f.tab.browser.client.on(s, nil)
		}
	}
	f.mu.Unlock()
	<-f.done
}
