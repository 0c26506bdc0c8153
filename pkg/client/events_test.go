package client

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// The examples are those of the standard (WHATWG HTML, 9.2.6), and what a
// server may send beside.
func TestEventStream(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"lines of data":       {"data: YHOO\ndata: +2\ndata: 10\n\n", "message||YHOO\n+2\n10;"},
		"comments and ids":    {": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n", "message|1|first event;message||second event;message|| third event;"},
		"nothing to tell":     {"data\n\ndata\ndata\n\ndata:", "message||;message||\n;"},
		"space":               {"data:test\n\ndata: test\n\n", "message||test;message||test;"},
		"types":               {"event: job.running\ndata: {}\n\nid: 7\nevent: other\n\ndata: x\n\n", "job.running||{};message|7|x;"},
		"ends of lines":       {"data: a\r\ndata: b\rdata: c\n\r\ndata: d\r\r", "message||a\nb\nc;message||d;"},
		"byte order mark":     {"\ufeffdata: a\n\n", "message||a;"},
		"cut off":             {"data: a\n\ndata: b\n", "message||a;"},
		"an id with a NUL":    {"id: 1\nid: 2\x00\ndata: a\n\n", "message|1|a;"},
		"a field nobody has":  {"dat: x\ndata: a\n\n", "message||a;"},
		"heartbeats in event": {"data: a\n:\n: beat\ndata: b\n\n", "message||a\nb;"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, in := range []func() (string, error){
				func() (string, error) {
					var s eventStream
					var got strings.Builder
					err := s.read(strings.NewReader(test.body), print(&got))
					return got.String(), err
				},
				func() (string, error) {
					var s eventStream
					var got strings.Builder
					err := s.read(iotest.OneByteReader(strings.NewReader(test.body)), print(&got))
					return got.String(), err
				},
			} {
				if got, err := in(); err != nil || got != test.want {
					t.Errorf("read %q, %v; want %q", got, err, test.want)
				}
			}
		})
	}
}

func print(to *strings.Builder) func(*LiveEvent) bool {
	return func(e *LiveEvent) bool {
		fmt.Fprintf(to, "%s|%s|%s;", e.Type, e.ID, e.Data)
		return true
	}
}

// An event is there with its blank line, and not with the next event.
func TestEventIsNotKeptBack(t *testing.T) {
	gone := errors.New("it was read on")
	in := iotest.ErrReader(gone)
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n"} {
		var s eventStream
		err := s.read(&twoReaders{strings.NewReader("data: a" + end), in}, func(*LiveEvent) bool { return false })
		if !errors.Is(err, errEnough) {
			t.Errorf("%q: %v", end, err)
		}
	}
}

// twoReaders reads the second only when it is asked to once more.
type twoReaders struct {
	a, b interface{ Read([]byte) (int, error) }
}

func (r *twoReaders) Read(p []byte) (int, error) {
	if n, err := r.a.Read(p); n > 0 || err == nil {
		return n, nil
	}
	return r.b.Read(p)
}

// A stream goes on behind the last event, over connections and refusals.
func TestEventsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		began := time.Now()
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, fmt.Sprintf("%s %s %s", time.Since(began), r.URL.Path, r.Header.Get("Last-Event-ID")))
			switch len(asked) {
			case 1:
				fmt.Fprint(w, "retry: 3000\n\nid: 5\nevent: batch.progress\ndata: 1\n\n")
			case 2:
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(503)
			case 3:
				fmt.Fprint(w, ": nothing yet\n\n")
			default:
				fmt.Fprint(w, "id: 9\nevent: reset\ndata: 2\n\nid: 10\nevent: batch.completed\ndata: 3\n\nevent: late\ndata: 4\n\n")
			}
		})
		var got []string
		for e, err := range c.BatchEvents(t.Context(), "batch_1", "4") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.ID+" "+e.Type)
		}
		const at = " /v1/batches/batch_1/events "
		if want := "0s" + at + "4, 3s" + at + "5, 10s" + at + "5, 13s" + at + "5"; strings.Join(asked, ", ") != want {
			t.Errorf("asked %q, want %q", asked, want)
		}
		if want := "5 batch.progress, 9 reset, 10 batch.completed"; strings.Join(got, ", ") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestEventsGiveUp(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		after  time.Duration
	}{"away": {503, absentFor}, "refused": {403, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tc.status) })
				began, errs := time.Now(), 0
				for e, err := range c.JobEvents(t.Context(), "job_1", "") {
					if p, ok := errors.AsType[*Problem](err); e != nil || !ok || p.Status != tc.status {
						t.Errorf("%v, %v", e, err)
					}
					errs++
				}
				if took := time.Since(began); errs != 1 || took < tc.after || took > tc.after+time.Second {
					t.Errorf("gave up after %s, with %d errors", took, errs)
				}
			})
		})
	}
}

// A stream that was quiet for long is not one whose server was away.
func TestQuietEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		c := against(t, func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls == 1 {
				w.WriteHeader(503)
				return
			}
			fmt.Fprint(w, "event: job.failed\ndata: 1\n\n")
		})
		then := c.http.Transport
		c.http.Transport = roundTripOf(func(r *http.Request) (*http.Response, error) {
			c.http.Transport = then
			return silence{text: strings.Repeat(": beat\n\n", 120), every: 15 * time.Second, ends: true}.RoundTrip(r)
		})
		for e, err := range c.JobEvents(t.Context(), "job_1", "") {
			if err != nil || e.Type != "job.failed" {
				t.Errorf("%v, %v", e, err)
			}
		}
	})
}

// Behind the last event of a job there is nothing.
func TestEventsAfterTheEnd(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for e, err := range c.JobEvents(t.Context(), "job_1", "7-end") {
		t.Errorf("%v, %v", e, err)
	}
}

// Who stops reading has stopped.
func TestEventsStop(t *testing.T) {
	calls := 0
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		fmt.Fprint(w, "event: job.running\ndata: 1\n\nevent: job.running\ndata: 2\n\n")
	})
	for e := range c.Events(t.Context(), "") {
		if string(e.Data) != "1" {
			t.Errorf("read on: %s", e.Data)
		}
		break
	}
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}
