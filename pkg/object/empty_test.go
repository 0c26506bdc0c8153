package object_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tintype/tintype/pkg/object"
)

// An empty object leaves its connection fit for the next request.
func TestPutEmpty(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns atomic.Int64
	accepting := make(chan struct{})
	go func() { // counts what passes to the server
		defer close(accepting)
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			out, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://"))
			if err != nil {
				in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					io.Copy(way[0], way[1]) //nolint:errcheck // either side may hang up
					in.Close()
					out.Close()
				}()
			}
		}
	}()
	defer func() { l.Close(); <-accepting }()
	b := open(t, object.Config{Endpoint: "http://" + l.Addr().String(), Bucket: "testputempty"})
	if err := b.Ensure(bounded(t)); err != nil {
		t.Fatal(err)
	}
	before := conns.Load()
	for i := range 20 {
		key := "k" + strconv.Itoa(i)
		if err := b.Put(bounded(t), key, bytes.NewReader(nil), 0, "text/plain"); err != nil {
			t.Fatal(err)
		}
		if info, err := b.Stat(bounded(t), key); err != nil || info.SizeBytes != 0 || info.ContentType != "text/plain" {
			t.Fatalf("%+v, %v", info, err)
		}
	}
	if n := conns.Load() - before; n > 3 {
		t.Errorf("%d more connections for 20 empty objects: each broke the one that it came on", n)
	}
}
