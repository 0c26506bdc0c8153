package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/fault"
)

// deadlines are what a connection was told.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

// slow gives pieces, each after a while.
type slow struct {
	after time.Duration
	piece int
}

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.after)
	return min(len(p), s.piece), nil
}

// A client may send for hours, as long as each piece comes in time; while the
// bucket takes its time nobody's runs.
func TestUploadsArePatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("POST", "/v1/batches", nil)
		p := &patient{to: http.NewResponseController(w), body: slow{10 * time.Second, uploadPiece / 4}, request: r}
		buf := make([]byte, uploadPiece)
		read := func(wantLeft time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := p.Read(buf); err != nil {
				t.Fatal(err)
			}
			if left := w.read.Sub(began); left != wantLeft {
				t.Errorf("had %s to send more, want %s", left, wantLeft)
			}
			if !w.write.After(w.read) {
				t.Error("no time left to be told that it was too slow")
			}
			time.Sleep(time.Hour) // the bucket
		}
		read(30 * time.Second)
		read(20 * time.Second)
		read(10 * time.Second)
		read(0)
		p.body = slow{time.Second, uploadPiece}
		read(30 * time.Second) // a piece was whole
		read(30 * time.Second)
	})
}

// What keeps an upload from arriving is told as what it is.
func TestBrokenUploads(t *testing.T) {
	f := newFarm(t)
	line := "https://example.com/\n"
	body, form := formOf(part{"file", "a.txt", "", strings.Repeat(line, 10_000)})
	for name, c := range map[string]struct {
		body   io.Reader
		header header
		code   string
	}{
		"cut off":        {io.MultiReader(strings.NewReader(line), iotest.ErrReader(io.ErrUnexpectedEOF)), header{"Content-Type": "text/plain"}, "invalid_input"},
		"at once":        {iotest.ErrReader(io.ErrUnexpectedEOF), header{"Content-Type": "text/plain"}, "invalid_input"},
		"cut off late":   {io.MultiReader(strings.NewReader(strings.Repeat(line, 10_000)), iotest.ErrReader(errors.New("reset"))), header{"Content-Type": "text/plain"}, "invalid_input"},
		"a form cut off": {strings.NewReader(body[:len(body)/2]), form, "invalid_input"},
		"a form reset":   {io.MultiReader(strings.NewReader(body[:len(body)/2]), iotest.ErrReader(errors.New("reset"))), form, "invalid_input"},
	} {
		r, w := f.request("POST", "/v1/batches")
		r.Body, r.ContentLength = io.NopCloser(c.body), -1
		for k, v := range c.header {
			r.Header.Set(k, v)
		}
		f.server.Handler().ServeHTTP(w, r)
		if p := (answered{w}).problem(t, http.StatusBadRequest, c.code); strings.Contains(p.Detail, "reset") || strings.Contains(p.Detail, "EOF") {
			t.Errorf("%s: %q", name, p.Detail)
		}
	}
	if keys := f.bucket.keys(); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
}

// A body of more than a gigabyte is refused by its length, and one that does
// not say it as soon as it has been.
func TestTooLargeUploads(t *testing.T) {
	f := newFarm(t)
	r, w := f.request("POST", "/v1/batches")
	r.Body, r.ContentLength = io.NopCloser(iotest.ErrReader(errors.New("was read"))), 1<<30+1
	r.Header.Set("Content-Type", "text/plain")
	f.server.Handler().ServeHTTP(w, r)
	(answered{w}).problem(t, http.StatusRequestEntityTooLarge, "too_large")

	a, err := arriveFrom(strings.NewReader("xx"))
	if err != nil {
		t.Fatal(err)
	}
	a.size = 1<<30 - 1
	if _, err := io.Copy(io.Discard, a); !fault.Is(err, fault.TooLarge) {
		t.Errorf("%v", err)
	}
}

// Through a real server: the connection's own deadline does not end an upload
// that is longer than that, and curl's way to ask first is answered.
func TestUploadOverHTTP(t *testing.T) {
	f := newFarm(t)
	srv := httptest.NewUnstartedServer(f.server.Handler())
	srv.Config.ReadHeaderTimeout, srv.Config.ReadTimeout, srv.Config.WriteTimeout = time.Minute, 50*time.Millisecond, 50*time.Millisecond
	srv.Start()
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", f.key)
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		fmt.Fprint(c, "15\r\nhttps://example.com/\n\r\n")
		<-time.After(60 * time.Millisecond) // longer than the connection has
	}
	fmt.Fprint(c, "0\r\n\r\n")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted || err != nil {
		t.Errorf("%d %s, %v", resp.StatusCode, text, err)
	}
}
