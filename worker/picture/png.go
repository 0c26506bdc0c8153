package picture

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
)

// A PNG is a Writer of PNG files (ISO/IEC 15948) of 8 bits a channel.
type PNG struct {
	rows
	file  file
	alpha bool
	best  bool // try every filter, and compress well
	out   *bufio.Writer
	pack  *zlib.Writer

	prior []byte    // the row before, without its filter
	row   []byte    // this row
	tries [3][]byte // filter type and filtered bytes
}

const (
	filterSub   = 1
	filterUp    = 2
	filterPaeth = 4
)

// NewPNG starts a file of at most limit bytes. alpha keeps transparency; best
// compresses slowly and well.
func NewPNG(width, height int, alpha, best bool, limit int) *PNG {
	p := &PNG{rows: rows{width: width, height: height}, file: file{limit: limit}, alpha: alpha, best: best}
	p.file.body.WriteString("\x89PNG\r\n\x1a\n")
	head := make([]byte, 13)
	binary.BigEndian.PutUint32(head, uint32(width))
	binary.BigEndian.PutUint32(head[4:], uint32(height))
	head[8], head[9] = 8, 2
	if alpha {
		head[9] = 6
	}
	p.chunk("IHDR", head)
	level := zlib.BestSpeed
	if best {
		level = zlib.DefaultCompression
	}
	p.out = bufio.NewWriterSize(chunks{p}, 64<<10)
	p.pack, _ = zlib.NewWriterLevel(p.out, level) // it knows both levels
	n := p.channels() * width
	p.prior, p.row = make([]byte, n), make([]byte, n)
	for i, filter := range []byte{filterSub, filterUp, filterPaeth} {
		p.tries[i] = make([]byte, 1+n)
		p.tries[i][0] = filter
	}
	return p
}

func (p *PNG) channels() int {
	if p.alpha {
		return 4
	}
	return 3
}

// chunks is the image's data, cut into chunks.
type chunks struct{ *PNG }

func (c chunks) Write(data []byte) (int, error) { return len(data), c.chunk("IDAT", data) }

func (p *PNG) chunk(kind string, data []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	head = append(head, kind...)
	sum := crc32.Update(crc32.ChecksumIEEE(head[4:]), crc32.IEEETable, data)
	for _, part := range [][]byte{head, data, binary.BigEndian.AppendUint32(nil, sum)} {
		if _, err := p.file.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Write implements Writer.
func (p *PNG) Write(band *image.NRGBA) error {
	if err := p.take(band); err != nil {
		return err
	}
	for y := range band.Rect.Dy() {
		from := band.Pix[y*band.Stride:][:4*p.width]
		if p.alpha {
			copy(p.row, from)
		} else {
			to := p.row
			for i := 0; i < len(from); i += 4 {
				to[0], to[1], to[2] = from[i], from[i+1], from[i+2]
				to = to[3:]
			}
		}
		if _, err := p.pack.Write(p.filtered()); err != nil {
			return err
		}
		p.prior, p.row = p.row, p.prior
	}
	return nil
}

// filtered is the row behind the filter under which it is smallest, by the sum
// of its bytes as signed numbers (12.8 of the standard). Quick tries two: pages
// are mostly even, and then nothing is left of a row that is like the one above.
func (p *PNG) filtered() []byte {
	n := p.channels()
	best, least := p.tries[1], -1
	for _, try := range p.tries {
		to := try[1:]
		switch try[0] {
		case filterUp:
			for i, v := range p.row {
				to[i] = v - p.prior[i]
			}
		case filterSub:
			copy(to[:n], p.row[:n])
			for i := n; i < len(to); i++ {
				to[i] = p.row[i] - p.row[i-n]
			}
		case filterPaeth:
			if !p.best {
				continue
			}
			for i := range to {
				var left, corner uint8
				if i >= n {
					left, corner = p.row[i-n], p.prior[i-n]
				}
				to[i] = p.row[i] - paeth(left, p.prior[i], corner)
			}
		}
		sum := 0
		for _, v := range to {
			sum += min(int(v), 256-int(v))
		}
		if least < 0 || sum < least {
			best, least = try, sum
		}
	}
	return best
}

func paeth(left, up, corner uint8) uint8 {
	a, b, c := int(left), int(up), int(corner)
	pa, pb, pc := b-c, a-c, a+b-2*c
	pa, pb, pc = max(pa, -pa), max(pb, -pb), max(pc, -pc)
	switch {
	case pa <= pb && pa <= pc:
		return left
	case pb <= pc:
		return up
	}
	return corner
}

// Close implements Writer.
func (p *PNG) Close() ([]byte, error) {
	if err := p.end(); err != nil {
		return nil, err
	}
	for _, f := range []func() error{p.pack.Close, p.out.Flush, func() error { return p.chunk("IEND", nil) }} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	return p.file.body.Bytes(), nil
}
