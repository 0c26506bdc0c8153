package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

var (
	// ErrGone is the end of every call when the browser's pipe has closed.
	ErrGone = errors.New("the browser is gone")
	// ErrCrashed is the end of every call to a tab whose renderer died. The
	// browser itself gives such calls no answer.
	ErrCrashed = errors.New("the page's process crashed")
	// ErrUnanswered is a call that outlived its own deadline.
	ErrUnanswered = errors.New("the browser did not answer in time")
	// ErrTooLong is an answer of more than maxAnswer bytes, which is a page's
	// doing: nothing but what is in pages is as long.
	ErrTooLong = errors.New("the browser's answer is too long")
)

// A ProtocolError is the browser's refusal of one call.
type ProtocolError struct {
	Method  string
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("%s: %s (%d)", e.Method, e.Message, e.Code)
}

// A client speaks the DevTools protocol over the two pipes of
// --remote-debugging-pipe: JSON messages, each ended by a NUL.
type client struct {
	in, out *os.File
	wmu     sync.Mutex // one message at a time on out

	mu       sync.Mutex
	last     int                    // guarded by mu
	pending  map[int]*pending       // guarded by mu
	sessions map[string]func(event) // guarded by mu; "" is the browser itself
	err      error                  // guarded by mu; why it ended
	done     chan struct{}          // closed with the pipe
}

type pending struct {
	session string
	answer  chan answer // buffered: the reader never waits
}

type answer struct {
	result []byte
	err    error
}

// An event is what the browser reports by itself.
type event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	cut    bool            // it was too long; see cutShort
}

func newClient(in, out *os.File) *client {
	c := &client{in: in, out: out, pending: map[int]*pending{}, sessions: map[string]func(event){}, done: make(chan struct{})}
	go c.read(in)
	return c
}

// close ends the connection and waits for the reader.
func (c *client) close() {
	c.in.Close()
	c.out.Close()
	<-c.done
}

// on sets who gets the events of a session; nil drops them. The function runs
// on the goroutine that reads the pipe: it must be quick and must not call.
func (c *client) on(session string, f func(event)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f == nil {
		delete(c.sessions, session)
		return
	}
	c.sessions[session] = f
}

// call sends one call and waits for its answer, ctx, the session's crash or
// the end of the browser, whichever is first.
func (c *client) call(ctx context.Context, session, method string, params any) ([]byte, error) {
	id, p, err := c.send(session, method, params, true)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-p.answer:
		if pe, ok := errors.AsType[*ProtocolError](a.err); ok {
			pe.Method = method
		}
		return a.result, a.err
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", method, context.Cause(ctx))
	}
}

func (c *client) send(session, method string, params any, wait bool) (int, *pending, error) {
	p := &pending{session: session, answer: make(chan answer, 1)}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return 0, nil, c.err
	}
	c.last++
	id := c.last
	if wait {
		c.pending[id] = p
	}
	c.mu.Unlock()
	msg, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params,omitempty"`
		Session string `json:"sessionId,omitempty"`
	}{id, method, params, session})
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", method, err)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	// A browser that does not read for this long is as good as gone.
	c.out.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.out.Write(append(msg, 0)); err != nil {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return 0, nil, fmt.Errorf("%w: %s: %w", ErrGone, method, err)
	}
	return id, p, nil
}

// fail ends the calls of one session, as when its renderer died.
func (c *client) fail(session string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, p := range c.pending {
		if p.session == session {
			p.answer <- answer{err: err}
			delete(c.pending, id)
		}
	}
}

// read delivers messages until the pipe ends; then every pending call fails.
func (c *client) read(in io.Reader) {
	br := bufio.NewReaderSize(in, pipeSize)
	var err error
	for err == nil {
		var msg, end []byte
		if msg, end, err = readMessage(br, maxAnswer, maxEvent); err != nil {
			break
		}
		if end != nil {
			c.deliverCut(msg, end)
			continue
		}
		err = c.deliver(msg)
	}
	c.mu.Lock()
	c.err = fmt.Errorf("%w: %w", ErrGone, err)
	for id, p := range c.pending {
		p.answer <- answer{err: c.err}
		delete(c.pending, id)
	}
	c.mu.Unlock()
	close(c.done)
}

func (c *client) deliver(msg []byte) error {
	if session, e, ok := quickEvent(msg); ok {
		c.tell(session, e)
		return nil
	}
	id, a, ok := quickAnswer(msg)
	if !ok {
		var m struct {
			ID      int             `json:"id"`
			Result  json.RawMessage `json:"result"`
			Error   *ProtocolError  `json:"error"`
			Session string          `json:"sessionId"`
			event
		}
		if err := json.Unmarshal(msg, &m); err != nil {
			return fmt.Errorf("malformed message: %w", err)
		}
		if m.ID == 0 {
			c.tell(m.Session, m.event)
			return nil
		}
		id, a.result = m.ID, m.Result
		if m.Error != nil {
			a.err = m.Error
		}
	}
	c.answer(id, a)
	return nil
}

// answer hands an answer to who waits for it.
func (c *client) answer(id int, a answer) {
	c.mu.Lock()
	p := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if p != nil {
		p.answer <- a
	}
}

// tell hands an event to who listens to its session.
func (c *client) tell(session string, e event) {
	c.mu.Lock()
	f := c.sessions[session]
	c.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// quickEvent cuts the parameters out of an event of a session without parsing
// them: most of what comes is events that nobody looks at, and the others are
// parsed by who does. What does not look exactly like
// {"method":"X","params":{…},"sessionId":"…"} is left to the real parser. No
// text of a page ends like that, since a quote in a text has a backslash.
func quickEvent(msg []byte) (session string, e event, ok bool) {
	rest, ok := bytes.CutPrefix(msg, []byte(eventStart))
	if !ok {
		return "", e, false
	}
	name, rest, ok := bytes.Cut(rest, []byte(`","params":{`))
	if !ok || bytes.ContainsAny(name, `"\\`) {
		return "", e, false
	}
	const tail = `},"sessionId":"`
	end := len(rest) - len(tail) - 32 - len(`"}`)
	if end < 0 || !bytes.HasPrefix(rest[end:], []byte(tail)) || !bytes.HasSuffix(rest, []byte(`"}`)) {
		return "", e, false
	}
	id := rest[end+len(tail) : len(rest)-len(`"}`)]
	if bytes.ContainsAny(id, `"\\`) {
		return "", e, false
	}
	start := len(msg) - len(rest) - 1 // the brace that opens the parameters
	return string(id), event{Method: string(name), Params: msg[start : len(msg)-len(rest)+end+1]}, true
}

// quickAnswer cuts the result out of a large successful answer without
// parsing it: a picture is megabytes of base64, and encoding/json would walk
// through it three times. What does not look exactly like
// {"id":N,"result":{…},"sessionId":"…"} is left to the real parser.
func quickAnswer(msg []byte) (int, answer, bool) {
	if len(msg) < 4<<10 {
		return 0, answer{}, false
	}
	rest, ok := bytes.CutPrefix(msg, []byte(answerStart))
	if !ok {
		return 0, answer{}, false
	}
	digits, rest, ok := bytes.Cut(rest, []byte(`,"result":{`))
	if !ok || len(digits) > 10 {
		return 0, answer{}, false
	}
	id, err := strconv.Atoi(string(digits))
	if err != nil {
		return 0, answer{}, false
	}
	const tail = `},"sessionId":"`
	end := bytes.LastIndex(rest, []byte(tail))
	if end < 0 {
		return 0, answer{}, false
	}
	session, ok := bytes.CutSuffix(rest[end+len(tail):], []byte(`"}`))
	if !ok || len(session) != 32 {
		return 0, answer{}, false
	}
	start := len(msg) - len(rest) - 1 // the brace that opens the result
	return id, answer{result: msg[start : len(msg)-len(rest)+end+1]}, true
}
