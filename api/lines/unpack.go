package lines

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
)

// Bounds of an input, against files that unpack to more than anybody sends.
const (
	// MaxBytes is how large one may be, unpacked.
	MaxBytes = 1 << 30
	// MaxRatio is how many bytes one packed byte may become. Lines that say nearly
	// the same reach some 40.
	MaxRatio = 100
	// ratioFrom is how much may come before that counts.
	ratioFrom = 1 << 20
)

var gzipMagic = []byte{0x1f, 0x8b}

// Gzipped reports whether an input that begins so is packed: no text begins like
// gzip does.
func Gzipped(start []byte) bool { return bytes.HasPrefix(start, gzipMagic) }

// Unpack reads an input that may be packed, within its bounds.
func Unpack(r io.Reader) (io.Reader, error) {
	source := &counted{Reader: r}
	u := &unpacked{source: source, most: MaxBytes}
	buf := bufio.NewReaderSize(source, 64<<10)
	start, err := buf.Peek(len(gzipMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	u.plain = buf
	if !Gzipped(start) {
		return u, nil
	}
	u.packed = true
	if u.plain, err = gzip.NewReader(buf); err != nil {
		return nil, u.broken(err)
	}
	return u, nil
}

// counted counts what it reads, and remembers its own error: that of a broken
// file is another one.
type counted struct {
	io.Reader
	bytes int64
	err   error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// unpacked is an input within its bounds.
type unpacked struct {
	plain  io.Reader
	source *counted
	packed bool
	bytes  int64
	most   int64
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.plain.Read(p)
	u.bytes += int64(n)
	switch {
	case u.bytes > u.most:
		return 0, refuse(0, CodeTooLarge, "the input is larger than %d bytes%s; split it", u.most, u.when())
	case u.packed && u.bytes > ratioFrom && u.bytes > MaxRatio*u.source.bytes:
		return 0, refuse(0, CodeTooLarge, "the input unpacks to more than %d times its size; send it plain", MaxRatio)
	case err != nil && !errors.Is(err, io.EOF):
		return n, u.broken(err)
	}
	return n, err
}

func (u *unpacked) when() string {
	if u.packed {
		return " when it is unpacked"
	}
	return ""
}

// broken tells a file that is none from a reader that failed.
func (u *unpacked) broken(err error) error {
	if u.source.err != nil {
		return u.source.err
	}
	if !u.packed {
		return err
	}
	return refuse(0, CodeInvalid, "the input is not a whole gzip file; pack it again, or send it plain")
}
