package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// against is a client of a handler, over a pipe, so that it works in a bubble
// of synctest.
func against(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	c, err := New("http://tintype.test", "tt_live_x")
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport = roundTrip(h)
	return c
}

type roundTrip http.HandlerFunc

func (h roundTrip) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h(w, r)
	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}
	return w.Result(), nil
}

type roundTripOf func(*http.Request) (*http.Response, error)

func (f roundTripOf) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNewRefuses(t *testing.T) {
	for _, server := range []string{"", "ftp://x", "http://", "http://u:p@x", "http://x?q=1", "http://x/#f", "http://%zz"} {
		if _, err := New(server, ""); err == nil {
			t.Errorf("%q is a server", server)
		}
	}
	for _, key := range []string{"two words", "line\n", "ключ"} {
		if _, err := New("localhost:8080", key); err == nil {
			t.Errorf("%q is a key", key)
		}
	}
}

func TestRequest(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/v1/jobs/job_1" || r.URL.RawQuery != "wait=7" || r.Header.Get("Authorization") != "Bearer tt_live_x" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		fmt.Fprint(w, `{"id":"job_1","status":"running"}`)
	})
	if j, err := c.Get(t.Context(), "job_1", 7*time.Second); err != nil || j.Status != "running" {
		t.Errorf("%+v %v", j, err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c, err := New(addr, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Submit(t.Context(), JobRequest{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
	if _, err := c.Result(t.Context(), "job_1"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Submit(ctx, JobRequest{}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

func TestNoAnswerInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := against(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		if _, err := c.Submit(t.Context(), JobRequest{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%v", err)
		}
	})
}

func TestProblems(t *testing.T) {
	var body string
	c := against(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(503)
		fmt.Fprint(w, body)
	})
	get := func() *Problem {
		t.Helper()
		_, err := c.Get(t.Context(), "job_1", 0)
		p, ok := errors.AsType[*Problem](err)
		if !ok || p.Status != 503 || p.RetryAfter != 7*time.Second {
			t.Fatalf("%v", err)
		}
		return p
	}
	body = `{"status":503,"code":"queue_full","detail":"the queue is full","request_id":"req_1","errors":[{"pointer":"/a","detail":"x"},{"pointer":"/b","detail":"y"}]}`
	if p := get(); p.Code != "queue_full" || p.RequestID != "req_1" || p.Error() != "the queue is full\n  a: x\n  b: y (queue_full)" {
		t.Errorf("%q", p.Error())
	}
	body = "<html>a proxy's page"
	if p := get(); p.Code != "" || !strings.Contains(p.Error(), "503 Service Unavailable") {
		t.Errorf("%q", p.Error())
	}
}

func TestAnswerIsNotOurs(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	if _, err := c.Get(t.Context(), "job_1", 0); err == nil || errors.Is(err, ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// Wait goes on while the server is away for less than a minute.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		c := against(t, func(w http.ResponseWriter, r *http.Request) {
			switch calls.Add(1) {
			case 1:
				fmt.Fprint(w, `{"status":"queued"}`)
			case 2, 3:
				w.Header().Set("Retry-After", "3")
				w.WriteHeader(503)
			case 4:
				fmt.Fprint(w, `{"status":"running"}`)
			default:
				fmt.Fprint(w, `{"status":"failed"}`)
			}
		})
		began := time.Now()
		var seen []string
		j, err := c.Wait(t.Context(), "job_1", func(j *Job) { seen = append(seen, string(j.Status)) })
		if err != nil || !j.Ended() || strings.Join(seen, " ") != "queued running failed" {
			t.Errorf("%+v %v %q", j, err, seen)
		}
		if took := time.Since(began); took != 6*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestWaitGivesUp(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		after  time.Duration
	}{"away": {503, absentFor}, "refused": {401, 0}, "unknown": {404, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tc.status) })
				began := time.Now()
				_, err := c.Wait(t.Context(), "job_1", nil)
				if p, ok := errors.AsType[*Problem](err); !ok || p.Status != tc.status {
					t.Errorf("%v", err)
				}
				if took := time.Since(began); took < tc.after || took > tc.after+time.Second {
					t.Errorf("gave up after %s", took)
				}
			})
		})
	}
}

// The context ends at the very moment at which a pause does, and whichever of the
// two is noticed first, its end is what is told: it takes chance a few turns.
func TestWaitEndsWithItsContext(t *testing.T) {
	for range 20 {
		synctest.Test(t, waitEndsWithItsContext)
	}
}

func waitEndsWithItsContext(t *testing.T) {
	c := against(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := c.Wait(ctx, "job_1", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
