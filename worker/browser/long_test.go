package browser

import (
	"bufio"
	"errors"
	"strings"
	"testing"
)

// TestLongMessages: what is too long is read to its end and not kept, and what
// comes behind it is whole.
func TestLongMessages(t *testing.T) {
	const id = "0123456789ABCDEF0123456789ABCDEF"
	const bound, tail = 100_000, `"},"sessionId":"` + id + `"}`
	fill := func(start string, size int) string {
		return start + strings.Repeat("x", size-len(start)-len(tail)) + tail
	}
	event, call := `{"method":"A.b","params":{"text":"`, `{"id":7,"result":{"data":"`
	for _, tt := range []struct {
		name, text string
		long       bool
	}{
		{"an event within the bound", fill(event, bound/2-1), false},
		{"an event over it", fill(event, bound/2), true},
		{"an event far over it", fill(event, 5*bound), true},
		{"an answer within the bound", fill(call, bound-1), false},
		{"an answer over it", fill(call, bound), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, buffer := range []int{16, 4096, 1 << 20} {
				br := bufio.NewReaderSize(strings.NewReader(tt.text+"\x00{}\x00"), max(buffer, len(eventStart)+5))
				msg, end, err := readMessage(br, bound, bound/2)
				switch {
				case err != nil:
					t.Fatal(err)
				case !tt.long && (end != nil || string(msg) != tt.text):
					t.Errorf("read %d bytes, and %q at the end", len(msg), end)
				case tt.long && (len(msg) != keptHead || !strings.HasPrefix(tt.text, string(msg)) || len(end) < keptEnd-1 || !strings.HasSuffix(tt.text, string(end))):
					t.Errorf("kept %d bytes, and %q of the end", len(msg), end)
				}
				if next, end, err := readMessage(br, bound, bound/2); string(next) != "{}" || end != nil || err != nil {
					t.Errorf("next came %.60q, %v", next, err)
				}
			}
		})
	}
}

func TestLongMessagesReachWhoWaits(t *testing.T) {
	f := newFar(t)
	const id = "0123456789ABCDEF0123456789ABCDEF"
	got := make(chan event, 4)
	f.on(id, func(e event) { got <- e })
	done := f.start(t.Context(), id, "A.b")
	f.read(t)
	f.deliverCut([]byte(`{"id":1,"result":{"data":"xx`), []byte(`xx"},"sessionId":"`+id+`"}`))
	if r := <-done; !errors.Is(r.err, ErrTooLong) {
		t.Errorf("the call ended with %v", r.err)
	}
	long := strings.Repeat("x", maxEvent)
	f.write(`{"method":"Runtime.consoleAPICalled","params":{"type":"error","args":[{"type":"string","value":"` + long + `"}]},"sessionId":"` + id + `"}`)
	if e := <-got; e.Method != "Runtime.consoleAPICalled" || string(e.Params) != `{"cut":true,"type":"error"}` || !e.cut {
		t.Errorf("heard %s %s", e.Method, e.Params)
	}
	f.write(`{"method":"Page.x","params":{"a":1},"sessionId":"` + id + `"}`)
	if e := <-got; e.Method != "Page.x" || string(e.Params) != `{"a":1}` || e.cut {
		t.Errorf("heard %s %s", e.Method, e.Params)
	}
	for head, want := range map[string]string{
		`{"requestId":"7","request":{"url":"h`:      `{"cut":true,"requestId":"7"}`,
		`{"a":1,"b":null,"c":true,"d":"` + "cut of": `{"a":1,"b":null,"c":true,"cut":true}`,
		`{}`: `{"cut":true}`, `{"a`: `{"cut":true}`, ``: `{"cut":true}`, `[1,2`: `{"cut":true}`,
	} {
		if p := cutShort([]byte(head)); string(p) != want {
			t.Errorf("of %s there is %s, want %s", head, p, want)
		}
	}
}
