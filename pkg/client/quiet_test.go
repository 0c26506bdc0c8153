package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// silence is a server that answers with some lines, at a pace, and then hangs.
type silence struct {
	text  string
	every time.Duration
	ends  bool // it does not hang, but ends
}

func (s silence) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.text == "" {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	out, in := io.Pipe()
	go func() {
		for b := range strings.SplitAfterSeq(s.text, "\n") {
			time.Sleep(s.every)
			fmt.Fprint(in, b)
		}
		if s.ends {
			in.Close()
			return
		}
		<-r.Context().Done()
		in.CloseWithError(r.Context().Err())
	}()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: out, Request: r}, nil
}

// A server that hangs in the middle of an answer is one that is not there, and
// one that is slow is not.
func TestServersThatHang(t *testing.T) {
	const rows = "{\"line\":1}\n{\"line\":2}\n{\"line\":3}\n"
	for name, read := range map[string]func(context.Context, *Client) (int, error){
		"lines": func(ctx context.Context, c *Client) (n int, err error) {
			for _, err = range c.BatchEnds(ctx, "batch_1", "") {
				if err == nil {
					n++
					time.Sleep(2 * quietFor) // its reader may take its time
				}
			}
			return n, err
		},
		"artifact": func(ctx context.Context, c *Client) (int, error) {
			body, err := c.Result(ctx, "job_1")
			if err != nil {
				return 0, err
			}
			defer body.Close()
			b, err := io.ReadAll(body)
			return strings.Count(string(b), "\n"), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			for text, want := range map[string]int{"": 0, rows: 3} {
				synctest.Test(t, func(t *testing.T) {
					c := against(t, nil)
					c.http.Transport = silence{text: text, every: quietFor - time.Second}
					if n, err := read(t.Context(), c); n != want || !errors.Is(err, ErrUnreachable) || strings.Count(err.Error(), "not reachable") != 1 {
						t.Errorf("read %d of %d, %v", n, want, err)
					}
				})
			}
		})
	}
}

// A stream without heartbeats is opened again, and given up when that does not
// help.
func TestEventsOfAServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := against(t, nil)
		c.http.Transport = silence{text: ": beat\n\nevent: job.running\ndata: 1\n\n: beat\n", every: 15 * time.Second}
		seen := 0
		for e, err := range c.JobEvents(t.Context(), "job_1", "") {
			if err != nil || e.Type != "job.running" {
				t.Fatalf("%v, %v", e, err)
			}
			if seen++; seen == 2 {
				break // of the second connection: the first one had no end
			}
		}
		c.http.Transport = silence{}
		began := time.Now()
		for e, err := range c.JobEvents(t.Context(), "job_1", "") {
			if e != nil || !errors.Is(err, ErrUnreachable) {
				t.Errorf("%v, %v", e, err)
			}
		}
		if took := time.Since(began); took < absentFor || took > 3*absentFor {
			t.Errorf("gave up after %s", took)
		}
	})
}
