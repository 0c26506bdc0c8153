package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// far is the browser's end of a client.
type far struct {
	*client
	in  *bufio.Reader
	out *os.File
}

func newFar(t *testing.T) *far {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	downR, downW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	upR, upW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f := &far{client: newClient(upR, downW), in: bufio.NewReader(downR), out: upW}
	t.Cleanup(func() {
		f.client.close()
		downR.Close()
		upW.Close()
		goleak.VerifyNone(t, ignore)
	})
	return f
}

type message struct {
	ID     int
	Method string
	Params json.RawMessage
	Sess   string `json:"sessionId"`
}

func (f *far) read(t *testing.T) (m message) {
	t.Helper()
	raw, err := f.in.ReadBytes(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw[:len(raw)-1], &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (f *far) write(s string) { f.out.WriteString(s + "\x00") }

type result struct {
	raw []byte
	err error
}

func (f *far) start(ctx context.Context, session, method string) chan result {
	done := make(chan result, 1)
	go func() {
		raw, err := f.call(ctx, session, method, map[string]int{"a": 1})
		done <- result{raw, err}
	}()
	return done
}

func TestCallsAndAnswersOutOfOrder(t *testing.T) {
	f := newFar(t)
	one := f.start(t.Context(), "S", "A.one")
	m1 := f.read(t)
	two := f.start(t.Context(), "", "A.two")
	m2 := f.read(t)
	if m1.Method != "A.one" || m1.Sess != "S" || string(m1.Params) != `{"a":1}` || m2.Sess != "" {
		t.Errorf("%+v %+v", m1, m2)
	}
	f.write(`{"id":99,"result":{}}`) // nobody's
	f.write(`{"id":2,"error":{"code":-32000,"message":"no"}}`)
	f.write(`{"id":1,"result":{"x":true},"sessionId":"S"}`)
	if r := <-one; string(r.raw) != `{"x":true}` || r.err != nil {
		t.Errorf("one: %s %v", r.raw, r.err)
	}
	r := <-two
	if pe, ok := errors.AsType[*ProtocolError](r.err); !ok || pe.Message != "no" || pe.Code != -32000 || pe.Method != "A.two" {
		t.Errorf("two: %v", r.err)
	}
}

func TestCallsEnd(t *testing.T) {
	t.Run("by their deadline", func(t *testing.T) {
		f := newFar(t)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, ErrUnanswered)
		defer cancel()
		if r := <-f.start(ctx, "", "A.b"); !errors.Is(r.err, ErrUnanswered) {
			t.Error(r.err)
		}
		if len(f.pending) != 0 {
			t.Error("the call is still pending")
		}
	})
	t.Run("with the pipe", func(t *testing.T) {
		f := newFar(t)
		done := f.start(t.Context(), "", "A.b")
		f.read(t)
		f.out.Close()
		if r := <-done; !errors.Is(r.err, ErrGone) {
			t.Error(r.err)
		}
		<-f.done
		if _, err := f.call(t.Context(), "", "A.c", nil); !errors.Is(err, ErrGone) {
			t.Errorf("a later call: %v", err)
		}
	})
	t.Run("with their session", func(t *testing.T) {
		f := newFar(t)
		mine, other := f.start(t.Context(), "S", "A.b"), f.start(t.Context(), "T", "A.b")
		a, b := f.read(t), f.read(t)
		f.fail("S", ErrCrashed)
		if r := <-mine; !errors.Is(r.err, ErrCrashed) {
			t.Error(r.err)
		}
		id := b.ID
		if a.Sess == "T" {
			id = a.ID
		}
		f.write(`{"id":` + string(rune('0'+id)) + `,"result":{}}`)
		if r := <-other; r.err != nil {
			t.Error(r.err)
		}
	})
	t.Run("on garbage", func(t *testing.T) {
		f := newFar(t)
		done := f.start(t.Context(), "", "A.b")
		f.read(t)
		f.write(`{"id":`)
		if r := <-done; !errors.Is(r.err, ErrGone) {
			t.Error(r.err)
		}
	})
}

func TestEventsGoToTheirSession(t *testing.T) {
	f := newFar(t)
	got := make(chan string, 4)
	f.on("S", func(e event) { got <- "S " + e.Method + " " + string(e.Params) })
	f.on("", func(e event) { got <- "root " + e.Method })
	f.write(`{"method":"P.x","params":{"a":1},"sessionId":"S"}`)
	f.write(`{"method":"P.unheard","params":{},"sessionId":"T"}`)
	f.write(`{"method":"T.y","params":{}}`)
	if a, b := <-got, <-got; a != `S P.x {"a":1}` || b != "root T.y" {
		t.Errorf("%s; %s", a, b)
	}
}

// TestPins: rod is unreleased since 2024 and breaks with later versions of
// what it stands on.
func TestPins(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range []string{"go-rod/rod v0.116.2", "ysmood/fetchup v0.2.3", "ysmood/goob v0.4.0", "ysmood/got v0.40.0", "ysmood/gson v0.7.3", "ysmood/leakless v0.9.0"} {
		if !strings.Contains(string(mod), "github.com/"+pin) {
			t.Errorf("go.mod does not pin %s", pin)
		}
	}
}

// FuzzQuickAnswer holds the short cut against encoding/json.
func FuzzQuickAnswer(f *testing.F) {
	session := strings.Repeat("A1", 16)
	long := strings.Repeat("x", 5000)
	f.Add([]byte(`{"id":7,"result":{"data":"` + long + `"},"sessionId":"` + session + `"}`))
	f.Add([]byte(`{"id":7,"result":{"data":"` + long + `"}}`))
	f.Add([]byte(`{"id":7,"result":{"data":"` + long + `","in":{},"sessionId":"` + session + `"}}`))
	f.Add([]byte(`{"id":7,"result":{"data":"` + long + `\"},\"sessionId\":\"` + session + `"},"sessionId":"` + session + `"}`))
	f.Add([]byte(`{"id":7,"error":{"code":1,"message":"` + long + `,\"result\":{"},"sessionId":"` + session + `"}`))
	f.Fuzz(func(t *testing.T, msg []byte) {
		id, a, ok := quickAnswer(msg)
		var m struct {
			ID     int
			Result json.RawMessage
		}
		if !ok || json.Unmarshal(msg, &m) != nil {
			return // the browser writes valid JSON
		}
		if m.ID != id || !bytes.Equal(m.Result, a.result) {
			t.Errorf("%d %.60q, want %d %.60q", id, a.result, m.ID, m.Result)
		}
	})
}

// TestQuickEvent: what is cut out is what the parser finds, and what is not
// certain is left to it.
func TestQuickEvent(t *testing.T) {
	const id = "0123456789ABCDEF0123456789ABCDEF"
	for msg, quick := range map[string]bool{
		`{"method":"Page.loadEventFired","params":{"timestamp":1.5},"sessionId":"` + id + `"}`:          true,
		`{"method":"Page.frameResized","params":{},"sessionId":"` + id + `"}`:                           true,
		`{"method":"A.b","params":{"text":"},\"sessionId\":\"` + id + `\"}"},"sessionId":"` + id + `"}`: true,
		`{"method":"Target.detachedFromTarget","params":{"a":{},"sessionId":"` + id + `"}}`:             false,
		`{"method":"A.b","params":{"text":"},\"sessionId\":\"` + id + `\"}"}}`:                          false,
		`{"method":"A.b","params":{"text":"x"},"sessionId":"short"}`:                                    false,
		`{"method":"A.b","sessionId":"` + id + `"}`:                                                     false,
		`{"id":3,"result":{},"sessionId":"` + id + `"}`:                                                 false,
		`{"sessionId":"` + id + `","method":"A.b","params":{}}`:                                         false,
	} {
		session, got, ok := quickEvent([]byte(msg))
		if ok != quick {
			t.Errorf("%s: quick is %t", msg, ok)
		}
		if !ok {
			continue
		}
		var want struct {
			Session string `json:"sessionId"`
			event
		}
		if err := json.Unmarshal([]byte(msg), &want); err != nil {
			t.Fatal(err)
		}
		if session != want.Session || got.Method != want.Method || string(got.Params) != string(want.Params) {
			t.Errorf("%s: %q of %q, %s", msg, got.Method, session, got.Params)
		}
	}
}
