package object_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/object"
)

// Around the sizes where a stream becomes a part, and a part two.
func TestPutStream(t *testing.T) {
	b := bucket(t)
	const part = 8 << 20
	for _, size := range []int64{0, 1, 64 << 10, 64<<10 + 1, part - 1, part, part + 1, 2*part + 17} {
		key := "s/" + string(rune('a'+size%26)) + "/" + t.Name() + "-" + sizeName(size)
		want := sha256.New()
		source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(size)}), size), want)
		n, err := b.PutStream(bounded(t), key, source, "text/plain")
		if err != nil || n != size {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		body, info, err := b.Open(bounded(t), key, 0)
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		if _, err := io.Copy(got, body); err != nil {
			t.Fatal(err)
		}
		if err := body.Close(); err != nil {
			t.Fatal(err)
		}
		if info.SizeBytes != size || info.ContentType != "text/plain" || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%d bytes came back as %+v, or others", size, info)
		}
		again := io.LimitReader(rand.NewChaCha8([32]byte{}), size)
		if _, err := b.PutStream(bounded(t), key, again, "text/plain"); !errors.Is(err, object.ErrExists) {
			t.Errorf("%d bytes were overwritten: %v", size, err)
		}
	}
}

func sizeName(n int64) string {
	return string([]byte{byte('a' + n>>20&15), byte('a' + n>>4&15), byte('a' + n&15)})
}

// What breaks off leaves nothing, and its error is the reader's own.
func TestPutStreamOfBrokenReader(t *testing.T) {
	b := bucket(t)
	broken := errors.New("the client went away")
	for _, size := range []int64{0, 100, 1 << 20, 9 << 20} {
		source := io.MultiReader(io.LimitReader(rand.NewChaCha8([32]byte{}), size), failing{broken})
		if _, err := b.PutStream(bounded(t), "k", source, ""); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", size, err)
		}
		if _, err := b.Stat(bounded(t), "k"); !errors.Is(err, object.ErrNotFound) {
			t.Errorf("after %d bytes: %v", size, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestOpenFromByte(t *testing.T) {
	b := bucket(t)
	if _, err := b.PutStream(bounded(t), "k", bytes.NewReader([]byte("0123456789")), ""); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int64]string{0: "0123456789", 1: "123456789", 9: "9", 10: ""} {
		body, info, err := b.Open(bounded(t), "k", offset)
		if err != nil {
			t.Fatalf("from %d: %v", offset, err)
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != want || info.SizeBytes != int64(len(want)) {
			t.Errorf("from %d: %q, %+v, %v", offset, got, info, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := b.Open(bounded(t), "none", 3); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
}

// What a process leaves behind that is killed while it uploads.
func TestDropUploads(t *testing.T) {
	b := bucket(t)
	stuck, arrived := make(chan struct{}), make(chan struct{})
	ctx, kill := context.WithCancel(bounded(t))
	done := make(chan error, 1)
	go func() {
		source := io.MultiReader(io.LimitReader(rand.NewChaCha8([32]byte{}), 8<<20+1), waiting{arrived, stuck})
		_, err := b.PutStream(ctx, "b/acc/input", source, "")
		done <- err
	}()
	<-arrived // the first part is there
	if n, err := b.DropUploads(bounded(t), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("of one that was just begun: %d, %v", n, err)
	}
	if n, err := b.DropUploads(bounded(t), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := b.DropUploads(bounded(t), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	close(stuck)
	if err := <-done; err == nil {
		t.Error("an upload without its first part was stored")
	}
	kill()
}

// waiting is a reader that tells when it is asked, and ends when it may.
type waiting struct{ asked, end chan struct{} }

func (w waiting) Read([]byte) (int, error) {
	close(w.asked)
	<-w.end
	return 0, io.EOF
}
