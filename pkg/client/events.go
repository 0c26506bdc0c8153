package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxEvent bounds one event; the server's are far below.
const maxEvent = 1 << 20

// A LiveEvent is one event of a stream.
type LiveEvent struct {
	ID   string          // where to go on behind it; empty: as the one before
	Type string          // such as job.succeeded, batch.progress or reset
	Data json.RawMessage // {type, timestamp, data}, as a webhook has it
}

// JobEvents, BatchEvents and Events follow a job, a batch and the whole
// account. after is the ID of the last event that was seen; empty begins with
// the present state. A connection that ends, or brings no heartbeat for a minute,
// is opened again behind the last event, as long as the server is not gone for
// another one. The streams of a job and of a batch end with its end; that of an
// account ends with ctx.
//
// A "reset" says that events may be missing: look at the present state anew.
func (c *Client) JobEvents(ctx context.Context, id, after string) iter.Seq2[*LiveEvent, error] {
	return c.events(ctx, "/v1/jobs/"+url.PathEscape(id)+"/events", after, func(t string) bool {
		switch t {
		case "job.succeeded", "job.failed", "job.canceled", "job.expired":
			return true
		}
		return false
	})
}

// BatchEvents is described at JobEvents.
func (c *Client) BatchEvents(ctx context.Context, id, after string) iter.Seq2[*LiveEvent, error] {
	return c.events(ctx, "/v1/batches/"+url.PathEscape(id)+"/events", after, func(t string) bool { return t == "batch.completed" })
}

// Events is described at JobEvents.
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[*LiveEvent, error] {
	return c.events(ctx, "/v1/events", after, func(string) bool { return false })
}

func (c *Client) events(ctx context.Context, path, after string, last func(string) bool) iter.Seq2[*LiveEvent, error] {
	return func(yield func(*LiveEvent, error) bool) {
		s := &eventStream{last: after, pause: pauseFor, seen: time.Now()}
		for {
			err := c.stream(ctx, path, s, func(e *LiveEvent) bool { return yield(e, nil) && !last(e.Type) })
			if errors.Is(err, errEnough) {
				return
			}
			if ctx.Err() != nil {
				yield(nil, context.Cause(ctx))
				return
			}
			pause := s.pause
			if err != nil {
				wait, passing := Passes(err)
				if !passing || time.Since(s.seen) > absentFor {
					yield(nil, err)
					return
				}
				pause = max(pause, wait)
			}
			select {
			case <-ctx.Done():
				yield(nil, context.Cause(ctx))
				return
			case <-time.After(pause):
			}
		}
	}
}

// errEnough ends a stream whose reader has what it wanted.
var errEnough = errors.New("enough")

// stream reads one connection to its end.
func (c *Client) stream(ctx context.Context, path string, s *eventStream, each func(*LiveEvent) bool) error {
	resp, err := heed(ctx, func(ctx context.Context) (*http.Response, error) {
		req, err := c.request(ctx, http.MethodGet, path, nil, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "text/event-stream")
		if s.last != "" {
			req.Header.Set("Last-Event-ID", s.last)
		}
		return c.raw.Client.Do(req)
	})
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent: // there is nothing behind the last event
		return errEnough
	default:
		return problem(resp)
	}
	err = s.read(resp.Body, each)
	s.seen = time.Now()
	if err != nil && !errors.Is(err, errEnough) {
		return unreachable(ctx, err)
	}
	return err
}

// An eventStream reads text/event-stream (WHATWG HTML, 9.2).
type eventStream struct {
	last  string        // id of the last event
	pause time.Duration // before the next connection
	seen  time.Time     // the server was there
}

func (s *eventStream) read(body io.Reader, each func(*LiveEvent) bool) error {
	in := bufio.NewScanner(body)
	in.Buffer(make([]byte, 16<<10), maxEvent)
	in.Split(eventLines())
	var e LiveEvent
	var data []byte
	first := true
	for in.Scan() {
		line := in.Bytes()
		if first {
			line, first = bytes.TrimPrefix(line, []byte("\ufeff")), false
		}
		if len(line) == 0 {
			if data != nil {
				e.ID, e.Data = s.last, bytes.TrimSuffix(data, []byte("\n"))
				if e.Type == "" {
					e.Type = "message"
				}
				if !each(&e) {
					return errEnough
				}
			}
			e, data = LiveEvent{}, nil
			continue
		}
		name, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.Type = value
		case "data":
			data = append(append(data, value...), '\n')
		case "id":
			if !strings.Contains(value, "\x00") {
				s.last = value
			}
		case "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				s.pause = min(time.Duration(ms)*time.Millisecond, mostPause)
			}
		}
	}
	return in.Err() // an event without its blank line is not one
}

// eventLines splits at \n, \r\n and \r. A \r ends its line at once, so that an
// event is not kept until the next; the \n that may follow is skipped.
func eventLines() bufio.SplitFunc {
	skip := false
	return func(data []byte, atEOF bool) (int, []byte, error) {
		from := 0
		if skip && len(data) > 0 {
			if data[0] == '\n' {
				from = 1
			}
			skip = false
		}
		i := bytes.IndexAny(data[from:], "\r\n")
		switch {
		case i >= 0:
			skip = data[from+i] == '\r'
			return from + i + 1, data[from : from+i : from+i], nil
		case atEOF:
			return len(data), nil, nil
		}
		return from, nil, nil
	}
}
