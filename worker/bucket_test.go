package worker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestPut(t *testing.T) {
	taken := answer(http.StatusPreconditionFailed)
	tests := []struct {
		name   string
		tricks []trick
		want   error // nil: stored
		puts   int
	}{
		{"at once", nil, nil, 1},
		{"503, then stored", []trick{answer(503), answer(503)}, nil, 3},
		{"500 that took effect", []trick{answerAndTake(500)}, nil, 2},
		{"conflict of two PUTs", []trick{answer(409)}, nil, 2},
		{"too many requests", []trick{answer(429)}, nil, 2},
		{"connection lost", []trick{hangUp}, nil, 2},
		{"answer lost after it took effect", []trick{takeAndHangUp}, nil, 2},
		{"stalled", []trick{stall}, nil, 2},
		{"stalled after it took effect", []trick{takeAndStall}, nil, 2},
		{"taken by another", []trick{taken}, errTaken, 1},
		{"taken by another, seen after a refusal that was clear", []trick{answer(429), taken}, errTaken, 2},
		{"signature refused", []trick{answer(403)}, answered(403), 1},
		{"redirected", []trick{answer(307)}, answered(307), 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t, tt.tricks...)
			b := bucket{newHTTP(1)}
			defer b.http.CloseIdleConnections()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			header := map[string]string{"If-None-Match": "*", "content-type": "image/png", "Host": strings.TrimPrefix(s.URL, "http://")}
			err := b.put(ctx, s.URL+"/r/a?X-Amz-Signature=secret", header, []byte("picture"))
			if !errors.Is(err, tt.want) {
				t.Errorf("put: %v, want %v", err, tt.want)
			}
			if s.puts() != tt.puts {
				t.Errorf("%d PUTs, want %d", s.puts(), tt.puts)
			}
			if tt.want == nil && s.object("/r/a") != "picture" {
				t.Errorf("stored %q", s.object("/r/a"))
			}
			if h := s.headers[0]; h.Get("If-None-Match") != "*" || h.Get("Content-Type") != "image/png" {
				t.Errorf("sent header %v", h)
			}
		})
	}
}

// A dial that fails sends nothing, so a 412 after it is somebody else's object.
func TestPutNeverSent(t *testing.T) {
	s := newStore(t, answer(http.StatusPreconditionFailed))
	client := newHTTP(1)
	defer client.CloseIdleConnections()
	transport := client.Transport.(*http.Transport)
	dial, dials := transport.DialContext, 0
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials++; dials == 1 {
			return nil, errBroken
		}
		return dial(ctx, network, address)
	}
	err := bucket{client}.put(t.Context(), s.URL+"/r/a", nil, []byte("picture"))
	if !errors.Is(err, errTaken) || dials != 2 {
		t.Errorf("put: %v after %d dials, want %v after 2", err, dials, errTaken)
	}
}

// The budget ends the tries, and the error names it, the last answer, and not
// the URL.
func TestPutBudget(t *testing.T) {
	down := make([]trick, 1000)
	for i := range down {
		down[i] = hangUp
	}
	s := newStore(t, down...)
	b := bucket{newHTTP(1)}
	defer b.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errWall)
	defer cancel()
	err := b.put(ctx, s.URL+"/r/a?X-Amz-Signature=secret", nil, []byte("picture"))
	if !errors.Is(err, errWall) {
		t.Errorf("put: %v, want the wall budget", err)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the error holds the signature: %v", err)
	}
}

func TestFetch(t *testing.T) {
	tests := []struct {
		name   string
		tricks []trick
		limit  int64
		want   error
	}{
		{"at once", nil, 4, nil},
		{"503, then there", []trick{answer(503)}, 4, nil},
		{"connection lost", []trick{hangUp}, 4, nil},
		{"too large", nil, 3, answered(http.StatusRequestEntityTooLarge)},
		{"gone", []trick{answer(404)}, 4, answered(404)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, tt.tricks...)
			s.objects["/s/a"] = []byte("spec")
			b := bucket{newHTTP(1)}
			defer b.http.CloseIdleConnections()
			body, err := b.fetch(t.Context(), s.URL+"/s/a", tt.limit)
			if !errors.Is(err, tt.want) || err == nil && string(body) != "spec" {
				t.Errorf("fetch: %q, %v; want %v", body, err, tt.want)
			}
		})
	}
}
