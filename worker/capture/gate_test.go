package capture

import (
	"encoding/json"
	"testing"
)

// TestHeldIsBounded: what a page asks for waits in bounds, by number and by
// size, and waits no more when the render is over.
func TestHeldIsBounded(t *testing.T) {
	for _, c := range []struct{ size, most int }{{1 << 20, maxHeldBytes >> 20}, {2, maxHeld}} {
		g := &gate{queue: make(chan json.RawMessage, maxHeld)}
		for range maxHeld + 10 {
			g.hold(make(json.RawMessage, c.size))
		}
		if n := len(g.queue); n != c.most || g.waiting.Load() != int64(n*c.size) {
			t.Errorf("%d requests of %d bytes wait, %d bytes in all; want %d", n, c.size, g.waiting.Load(), c.most)
		}
		g.over.Store(true) // an answer would need the tab that is not there
		close(g.queue)
		g.serve()
		if g.waiting.Load() != 0 {
			t.Errorf("%d bytes are left", g.waiting.Load())
		}
	}
	g := &gate{queue: make(chan json.RawMessage, 1)}
	g.hold(json.RawMessage(`{"requestId":"1","request":{"url":"http://example.com/"}}`))
	g.over.Store(true)
	close(g.queue)
	g.serve() // answers nothing: there is no tab
}
