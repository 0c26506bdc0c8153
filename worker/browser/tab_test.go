package browser

import (
	"testing"
	"testing/synctest"

	"github.com/go-rod/rod/lib/proto"
)

// newTestTab is a tab of a browser that nobody speaks to.
func newTestTab() *Tab {
	b := &Browser{
		client: &client{pending: map[int]*pending{}, done: make(chan struct{})}, last: newTailWriter(),
		tabs: map[proto.TargetTargetID]*Tab{}, dead: map[proto.TargetTargetID]Crash{},
	}
	t := &Tab{browser: b, target: "T", session: "S", crashed: make(chan struct{}), known: make(chan struct{})}
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
