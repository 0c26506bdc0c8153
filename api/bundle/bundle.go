// Package bundle writes a ZIP while it is sent.
//
// It promises that
//  1. nothing is held back: an entry goes out as it is written, and what its
//     header says of size and checksum is true;
//  2. memory does not grow with the number of entries: the directory, which a
//     ZIP has at its end, waits in a file once it is larger than a few
//     megabytes;
//  3. neither the number of entries nor sizes are bounded (ZIP64, PKWARE's
//     APPNOTE 6.3.10), and what fits needs none of that.
//
// A ZIP whose end is missing is not whole: whoever breaks off closes nothing.
// It leaves to others: which names are safe, and the content. The standard
// library's writer keeps some 300 bytes of each entry in memory.
package bundle

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"time"
	"unicode/utf8"
)

const (
	// spoolAt is the size from which the directory goes into a file.
	spoolAt = 4 << 20

	max16, max32 = 1<<16 - 1, 1<<32 - 1

	plainVersion, zip64Version = 20, 45
	madeBy                     = 3<<8 | zip64Version // Unix
	methodStored               = 0
	methodDeflated             = 8
	flagDescriptor, flagUTF8   = 1 << 3, 1 << 11
	mode                       = 0o100644 << 16
)

// Writer writes one ZIP. An error leaves it unusable.
type Writer struct {
	out     *counter
	dir     spool
	entries uint64
	open    *stored // entry that is being written
}

// New begins a ZIP. Close it, or Discard it.
func New(w io.Writer) *Writer { return &Writer{out: &counter{w: w}} }

type counter struct {
	w io.Writer
	n uint64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += uint64(n)
	return n, err
}

// entry is what the directory says.
type entry struct {
	name            string
	method, flags   uint16
	modified        time.Time
	crc             uint32
	packed, size    uint64
	offset          uint64
	headerNeeds64   bool
	descriptorAfter bool
}

// Stored begins an entry that is stored as it is: exactly size bytes, with that
// checksum (IEEE CRC-32), are to be written to what it returns.
func (w *Writer) Stored(name string, size int64, crc uint32, modified time.Time) (io.Writer, error) {
	e := entry{name: name, method: methodStored, modified: modified, crc: crc, packed: uint64(size), size: uint64(size)}
	if err := w.begin(&e); err != nil {
		return nil, err
	}
	w.open = &stored{w: w, left: size, crc: crc32.NewIEEE(), entry: e}
	return w.open, nil
}

type stored struct {
	w     *Writer
	left  int64
	crc   hash.Hash32
	entry entry
}

func (s *stored) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		return 0, fmt.Errorf("zip: %s is longer than was said", s.entry.name)
	}
	n, err := s.w.out.Write(p)
	s.left -= int64(n)
	s.crc.Write(p[:n])
	return n, err
}

// Packed adds an entry that is compressed, of any size: fill writes it.
func (w *Writer) Packed(name string, modified time.Time, fill func(io.Writer) error) error {
	e := entry{name: name, method: methodDeflated, modified: modified, descriptorAfter: true}
	if err := w.begin(&e); err != nil {
		return err
	}
	start := w.out.n
	body := &packing{crc: crc32.NewIEEE()}
	var err error
	if body.to, err = flate.NewWriter(w.out, flate.DefaultCompression); err != nil {
		return err
	}
	if err := errors.Join(fill(body), body.to.Close()); err != nil {
		return err
	}
	e.crc, e.packed, e.size = body.crc.Sum32(), w.out.n-start, body.n
	after := le{}
	after.u32(0x08074b50)
	after.u32(e.crc)
	if e.packed >= max32 || e.size >= max32 {
		after.u64(e.packed)
		after.u64(e.size)
	} else {
		after.u32(uint32(e.packed))
		after.u32(uint32(e.size))
	}
	if _, err := w.out.Write(after.Bytes()); err != nil {
		return err
	}
	return w.list(&e)
}

type packing struct {
	to  *flate.Writer
	crc hash.Hash32
	n   uint64
}

func (p *packing) Write(b []byte) (int, error) {
	n, err := p.to.Write(b)
	p.crc.Write(b[:n])
	p.n += uint64(n)
	return n, err
}

// begin writes the local header of an entry.
func (w *Writer) begin(e *entry) error {
	if err := w.finish(); err != nil {
		return err
	}
	if len(e.name) == 0 || len(e.name) > max16 || !utf8.ValidString(e.name) {
		return fmt.Errorf("zip: %q cannot be a name", e.name)
	}
	e.offset, e.flags = w.out.n, flagUTF8
	if e.descriptorAfter {
		e.flags |= flagDescriptor
	}
	e.headerNeeds64 = e.size >= max32
	var h le
	h.u32(0x04034b50)
	h.u16(version(e.headerNeeds64))
	h.u16(e.flags)
	h.u16(e.method)
	h.dos(e.modified)
	h.u32(e.crc)
	if e.headerNeeds64 {
		h.u32(max32)
		h.u32(max32)
	} else {
		h.u32(uint32(e.packed))
		h.u32(uint32(e.size))
	}
	h.u16(uint16(len(e.name)))
	var extra le
	if e.headerNeeds64 {
		extra.u16(1)
		extra.u16(16)
		extra.u64(e.size)
		extra.u64(e.packed)
	}
	h.u16(uint16(extra.Len()))
	h.WriteString(e.name)
	h.Write(extra.Bytes())
	_, err := w.out.Write(h.Bytes())
	return err
}

// finish ends the entry that was being written.
func (w *Writer) finish() error {
	s := w.open
	if s == nil {
		return nil
	}
	w.open = nil
	switch {
	case s.left > 0:
		return fmt.Errorf("zip: %s is %d bytes shorter than was said", s.entry.name, s.left)
	case s.crc.Sum32() != s.entry.crc:
		return fmt.Errorf("zip: %s has another checksum than was said", s.entry.name)
	}
	return w.list(&s.entry)
}

// list adds an entry to the directory.
func (w *Writer) list(e *entry) error {
	var extra le
	small := func(v uint64) uint32 {
		if v < max32 {
			return uint32(v)
		}
		extra.u64(v)
		return max32
	}
	size, packed, offset := small(e.size), small(e.packed), small(e.offset) // in the order that the extra field has
	var d le
	d.u32(0x02014b50)
	d.u16(madeBy)
	d.u16(version(extra.Len() > 0))
	d.u16(e.flags)
	d.u16(e.method)
	d.dos(e.modified)
	d.u32(e.crc)
	d.u32(packed)
	d.u32(size)
	d.u16(uint16(len(e.name)))
	if extra.Len() > 0 {
		d.u16(uint16(extra.Len() + 4))
	} else {
		d.u16(0)
	}
	d.u16(0) // comment
	d.u16(0) // disk
	d.u16(0) // internal attributes
	d.u32(mode)
	d.u32(offset)
	d.WriteString(e.name)
	if extra.Len() > 0 {
		d.u16(1)
		d.u16(uint16(extra.Len()))
		d.Write(extra.Bytes())
	}
	w.entries++
	return w.dir.add(d.Bytes())
}

// Close writes the directory.
func (w *Writer) Close() error {
	defer w.Discard()
	if err := w.finish(); err != nil {
		return err
	}
	start := w.out.n
	if err := w.dir.copyTo(w.out); err != nil {
		return err
	}
	size := w.out.n - start
	var end le
	if w.entries >= max16 || size >= max32 || start >= max32 {
		at := w.out.n
		end.u32(0x06064b50)
		end.u64(44) // what follows of this record
		end.u16(madeBy)
		end.u16(zip64Version)
		end.u32(0)
		end.u32(0)
		end.u64(w.entries)
		end.u64(w.entries)
		end.u64(size)
		end.u64(start)
		end.u32(0x07064b50)
		end.u32(0)
		end.u64(at)
		end.u32(1)
	}
	end.u32(0x06054b50)
	end.u16(0)
	end.u16(0)
	end.u16(uint16(min(w.entries, max16)))
	end.u16(uint16(min(w.entries, max16)))
	end.u32(uint32(min(size, max32)))
	end.u32(uint32(min(start, max32)))
	end.u16(0)
	_, err := w.out.Write(end.Bytes())
	return err
}

// Discard lets go of the directory. It may be called again, and after Close.
func (w *Writer) Discard() { w.dir.drop() }

func version(needs64 bool) uint16 {
	if needs64 {
		return zip64Version
	}
	return plainVersion
}

// le gathers little-endian numbers.
type le struct{ bytes.Buffer }

func (b *le) u16(v uint16) { b.Write(binary.LittleEndian.AppendUint16(nil, v)) }
func (b *le) u32(v uint32) { b.Write(binary.LittleEndian.AppendUint32(nil, v)) }
func (b *le) u64(v uint64) { b.Write(binary.LittleEndian.AppendUint64(nil, v)) }

// dos is a time as MS-DOS had it: two seconds exact, from 1980 on. It is UTC
// here.
func (b *le) dos(t time.Time) {
	t = t.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	b.u16(uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2))
	b.u16(uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()))
}

// spool is bytes that wait: in memory, and in a file once they are many.
type spool struct {
	memory bytes.Buffer
	file   *os.File
}

func (s *spool) add(p []byte) error {
	s.memory.Write(p)
	if s.memory.Len() < spoolAt {
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "tintype-zip-*")
		if err != nil {
			return fmt.Errorf("zip: %w", err)
		}
		s.file = f
		_ = os.Remove(f.Name()) // it lives for as long as it is open
	}
	_, err := s.memory.WriteTo(s.file)
	s.memory.Reset()
	return err
}

func (s *spool) copyTo(w io.Writer) error {
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(w, bufio.NewReaderSize(s.file, 256<<10)); err != nil {
			return err
		}
	}
	_, err := w.Write(s.memory.Bytes())
	return err
}

func (s *spool) drop() {
	if s.file != nil {
		_ = s.file.Close() // and with that it is gone
	}
	s.file, s.memory = nil, bytes.Buffer{}
}
