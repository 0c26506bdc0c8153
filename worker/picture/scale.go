package picture

import (
	"image"
	"math"
)

// A scaler makes a picture of another size out of rows as they come, with the
// Catmull-Rom kernel: first each row to its new width, then into the few new
// rows that it is part of. Only those, and the new picture, are in memory.
type scaler struct {
	rows
	to       *image.NRGBA
	across   []taps // by new column
	down     []taps // by new row
	from     []float32
	row      []float32
	sums     map[int][]float32 // by new row, those that are not complete
	finished int
}

// taps are the pixels, from first on, that one new pixel is made of.
type taps struct {
	first   int
	weights []float32
}

func newScaler(from, to image.Point) *scaler {
	return &scaler{
		rows: rows{width: from.X, height: from.Y}, to: image.NewNRGBA(image.Rectangle{Max: to}),
		across: kernel(from.X, to.X), down: kernel(from.Y, to.Y),
		from: make([]float32, 4*from.X), row: make([]float32, 4*to.X), sums: map[int][]float32{},
	}
}

// kernel are the weights by which n pixels become m.
func kernel(n, m int) []taps {
	ratio := float64(n) / float64(m)
	wide := max(ratio, 1)
	list := make([]taps, m)
	for i := range list {
		center := (float64(i)+0.5)*ratio - 0.5
		first, last := max(0, int(math.Ceil(center-2*wide))), min(n-1, int(math.Floor(center+2*wide)))
		t := taps{first: first, weights: make([]float32, last-first+1)}
		sum := 0.0
		for j := range t.weights {
			w := catmullRom(math.Abs(float64(first+j)-center) / wide)
			t.weights[j] = float32(w)
			sum += w
		}
		for j := range t.weights {
			t.weights[j] /= float32(sum)
		}
		list[i] = t
	}
	return list
}

func catmullRom(t float64) float64 {
	switch {
	case t < 1:
		return (1.5*t-2.5)*t*t + 1
	case t < 2:
		return ((-0.5*t+2.5)*t-4)*t + 2
	}
	return 0
}

// write takes the next rows.
func (s *scaler) write(band *image.NRGBA) error {
	top := s.done
	if err := s.take(band); err != nil {
		return err
	}
	for y := range band.Rect.Dy() {
		s.narrow(band.Pix[y*band.Stride:][:4*s.width])
		s.add(top + y)
	}
	return nil
}

// narrow makes row of a row that came in, with alpha multiplied in: what is not
// seen has no colour.
func (s *scaler) narrow(pix []byte) {
	for i := 0; i < len(pix); i += 4 {
		alpha := float32(pix[i+3])
		k := alpha / 255
		s.from[i], s.from[i+1], s.from[i+2], s.from[i+3] = k*float32(pix[i]), k*float32(pix[i+1]), k*float32(pix[i+2]), alpha
	}
	for x, t := range s.across {
		var r, g, b, a float32
		from := s.from[4*t.first:]
		for _, w := range t.weights {
			r += w * from[0]
			g += w * from[1]
			b += w * from[2]
			a += w * from[3]
			from = from[4:]
		}
		to := s.row[4*x:][:4]
		to[0], to[1], to[2], to[3] = r, g, b, a
	}
}

// add puts row, which is row y of what comes in, into the new rows.
func (s *scaler) add(y int) {
	for i := s.finished; i < len(s.down) && s.down[i].first <= y; i++ {
		t := s.down[i]
		if y-t.first >= len(t.weights) {
			continue
		}
		sum := s.sums[i]
		if sum == nil {
			sum = make([]float32, len(s.row))
			s.sums[i] = sum
		}
		w := t.weights[y-t.first]
		for j, v := range s.row {
			sum[j] += w * v
		}
	}
	for s.finished < len(s.down) {
		t := s.down[s.finished]
		if t.first+len(t.weights)-1 > y {
			return
		}
		s.finish(s.finished)
		s.finished++
	}
}

// finish writes a new row that is complete.
func (s *scaler) finish(y int) {
	to := s.to.Pix[y*s.to.Stride:][:len(s.row)]
	sum := s.sums[y]
	delete(s.sums, y)
	for i := 0; i < len(sum); i += 4 {
		alpha := min(max(sum[i+3], 0), 255)
		if alpha < 0.5 {
			continue
		}
		for c := range 3 {
			to[i+c] = byte(min(max(sum[i+c]*255/alpha, 0), 255) + 0.5)
		}
		to[i+3] = byte(alpha + 0.5)
	}
}
