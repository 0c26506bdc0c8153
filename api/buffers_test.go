package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// One account's downloads wait for its own share, and keep no other waiting.
func TestBuffersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuffers()
		var held []func()
		take := func(accountID string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			release, err := b.acquire(ctx, accountID, wholeArtifact)
			if err == nil {
				held = append(held, release)
			}
			return err
		}
		for range maxShare / wholeArtifact {
			if err := take("acc_a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := take("acc_a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("more than a share: %v", err)
		}
		for _, other := range []string{"acc_b", "acc_c", "acc_d"} {
			for range maxShare / wholeArtifact {
				if err := take(other); err != nil {
					t.Fatalf("%s waits for acc_a: %v", other, err)
				}
			}
		}
		if err := take("acc_e"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("more than all: %v", err)
		}
		for _, release := range held {
			release()
		}
		if len(b.shares) != 0 || !b.all.TryAcquire(maxBuffered) {
			t.Errorf("%d shares are left", len(b.shares))
		}
	})
}

// A client that reads a little every few seconds does not keep an artifact in
// memory for as long as it likes.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		const size = 8 << 20
		j := f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, bytes.Repeat([]byte("x"), size))
		l := addrListener{make(chan net.Conn, 1)}
		srv := &http.Server{Handler: f.server.Handler()}
		here, there := net.Pipe()
		ended := make(chan struct{})
		srv.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(ended)
			}
		}
		l.conns <- addrConn{there, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}}
		served := make(chan struct{})
		go func() { defer close(served); _ = srv.Serve(closing{l}) }()
		began := time.Now()
		if _, err := io.WriteString(here, "GET /v1/jobs/"+string(j.ID)+"/result HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+f.key+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		read, piece := 0, make([]byte, 64<<10)
		var err error
		for err == nil && read < size {
			time.Sleep(5 * time.Second)
			var n int
			n, err = io.ReadFull(here, piece)
			read += n
		}
		if took, most := time.Since(began), answerSlack+size/slowest*time.Second+10*time.Second; took > most {
			t.Errorf("%d bytes were sent in %v, want an end within %v", read, took, most)
		}
		here.Close()
		<-ended
		synctest.Wait()
		if len(f.server.buffers.shares) != 0 {
			t.Error("the buffer is still held")
		}
		close(l.conns)
		<-served
	})
}

// closing is a listener that ends when its channel is closed.
type closing struct{ addrListener }

func (l closing) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
