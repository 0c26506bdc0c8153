package browser

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/needtest"
)

// newTestTab is a tab of a browser that nobody speaks to.
func newTestTab() *Tab {
	b := &Browser{
		client: &client{pending: map[int]*pending{}, sessions: map[string]func(event){}, done: make(chan struct{})}, last: newTailWriter(),
		tabs: map[proto.TargetTargetID]*Tab{}, dead: map[proto.TargetTargetID]Crash{},
	}
	t := newTab(b, "C")
	t.target, t.session = "T", "S"
	b.addTab(t)
	return t
}

// TestCrashWithoutDetails: the page's session tells of the crash and the
// browser's never does.
func TestCrashWithoutDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTestTab()
		if c := tab.Crash(); c != nil {
			t.Errorf("a page that lives has crashed: %+v", c)
		}
		tab.deliver(event{Method: "Inspector.targetCrashed"})
		if c := tab.Crash(); c == nil || *c != (Crash{Status: "crashed"}) {
			t.Errorf("the crash is %+v", c)
		}
	})
}

func TestCrashTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTestTab()
		tab.deliver(event{Method: "Inspector.targetCrashed"})
		for range 2 {
			tab.browser.deliver(event{Method: "Target.targetCrashed", Params: []byte(`{"targetId":"T","status":"oom","errorCode":9}`)})
		}
		if c := tab.Crash(); c == nil || *c != (Crash{Status: "oom", Code: 9}) {
			t.Errorf("the crash is %+v", c)
		}
	})
}

// TestFollowEndsWithTheBrowser: a browser that is killed takes its tabs along,
// and nobody closes them.
func TestFollowEndsWithTheBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTestTab()
		tab.Follow(func(Kind) []proto.Request { return nil })
		tab.hear(event{Method: "Target.attachedToTarget", Params: []byte(`{"sessionId":"S","targetInfo":{"targetId":"F","type":"iframe"}}`)})
		if frames := tab.Frames(); len(frames) != 1 || frames[0].ID != "F" {
			t.Errorf("its frames are %+v", frames)
		}
		tab.hear(event{Method: "Target.detachedFromTarget", Params: []byte(`{"sessionId":"S"}`)})
		if frames := tab.Frames(); len(frames) != 0 {
			t.Errorf("its frames are %+v", frames)
		}
		close(tab.browser.client.done)
		synctest.Wait()
		select {
		case <-tab.follower.done:
		default:
			t.Error("it goes on to follow")
			tab.follower.stop()
		}
	})
}

// TestNextTabIsNotFollowed: the page of the next job is attached before this
// one's has gone, and does not lose its events to that.
func TestNextTabIsNotFollowed(t *testing.T) {
	tab := newTestTab()
	tab.Follow(func(Kind) []proto.Request { return nil })
	heard := 0
	tab.browser.client.on("next", func(event) { heard++ })
	tab.browser.deliver(event{Method: "Target.attachedToTarget", Params: []byte(`{"sessionId":"next","targetInfo":{"targetId":"N","type":"page"}}`)})
	tab.follower.stop()
	tab.browser.client.tell("next", event{Method: "Page.loadEventFired"})
	if heard != 1 {
		t.Errorf("the next page's session heard %d events", heard)
	}
}

// TestConsoleForgesNothing has a page write Chromium's own words for a full
// heap to its console, which Chromium writes to stderr, and the page of the
// next job crash for another reason.
func TestConsoleForgesNothing(t *testing.T) {
	needtest.Browser(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := Launch(ctx, Config{Dir: filepath.Join(os.TempDir(), "tintype-console-test")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
	})
	tab, err := b.NewTab(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	say := proto.RuntimeEvaluate{Expression: `console.error("x\nV8 javascript OOM (forged)\n")`}
	if _, err := say.Call(tab.Within(ctx, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	// What is written to stderr comes another way than the answer.
	<-b.last.beyond(0)
	next, err := b.NewTab(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := tab.Close(ctx); err != nil {
		t.Fatal(err)
	}
	next.Listen(func(string, string, json.RawMessage) {})
	next.Post(proto.PageCrash{})
	<-next.Crashed()
	if c := next.Crash(); c == nil || c.Full {
		t.Errorf("another page's text made it %+v", c)
	}
}
