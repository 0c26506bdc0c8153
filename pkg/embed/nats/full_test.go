package nats

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/needtest"
)

// TestFullDisk fills the file system below the server: it says so once, since
// it gives no publish an answer from then on. Started again with room on the
// disk it has all that it acknowledged.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		needtest.Lacks(t, "needs a small file system of its own, and may not mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	open := func() (*Server, jetstream.JetStream, func()) {
		t.Helper()
		srv, err := New(Config{Dir: dir, MaxStore: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		nc, err := srv.Connect()
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		return srv, js, func() { nc.Close(); srv.Close() }
	}
	srv, js, stop := open()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 32 << 20, Discard: jetstream.DiscardNew}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if srv.Err() != nil {
		t.Errorf("with room on the disk: %v", srv.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with the test at the latest
		select {
		case <-srv.Broken():
		case <-t.Context().Done():
		}
		cancel()
	}()
	stored := uint64(0)
	for {
		ack, err := js.Publish(ctx, "s", make([]byte, 100<<10))
		if err != nil {
			break
		}
		stored = ack.Sequence
	}
	<-srv.Broken()
	if err := srv.Err(); stored == 0 || err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("after %d messages: %v", stored, err)
	}
	stop()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	_, js, stop = open()
	defer stop()
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.LastSeq < stored {
		t.Errorf("%d messages of %d are left, %v", info.State.LastSeq, stored, err)
	}
	if _, err := js.Publish(t.Context(), "s", make([]byte, 100<<10)); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
