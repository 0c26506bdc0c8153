package picture

import (
	"image"
	"image/color"
	"image/draw"
	"math"
	"strings"
)

// A Fit says what becomes of a picture that is made smaller or larger.
type Fit struct {
	Width, Height int    // pixels; zero of one: as the picture's shape says
	Mode          string // cover (also when empty), contain, fill, inside, outside
	Position      string // which part cover keeps, and where contain puts it; empty: the middle
	Background    color.NRGBA
}

// sizes are the size that a picture of w by h is scaled to, and that of the
// result.
func (f Fit) sizes(w, h int) (scaled, result image.Point) {
	byWidth, byHeight := float64(f.Width)/float64(w), float64(f.Height)/float64(h)
	by := func(k float64) image.Point {
		return image.Pt(max(1, int(math.Round(k*float64(w)))), max(1, int(math.Round(k*float64(h)))))
	}
	box := image.Pt(f.Width, f.Height)
	switch {
	case f.Height == 0:
		scaled = by(byWidth)
		scaled.X = f.Width
		return scaled, scaled
	case f.Width == 0:
		scaled = by(byHeight)
		scaled.Y = f.Height
		return scaled, scaled
	}
	switch f.Mode {
	case "fill":
		return box, box
	case "contain":
		return by(min(byWidth, byHeight)), box
	case "inside":
		scaled = by(min(byWidth, byHeight))
		return scaled, scaled
	case "outside":
		scaled = by(max(byWidth, byHeight))
		return scaled, scaled
	}
	scaled = by(max(byWidth, byHeight))
	return image.Pt(max(scaled.X, box.X), max(scaled.Y, box.Y)), box
}

// Result is the size that a picture of w by h comes to, and how many pixels of
// it there are on the way.
func (f Fit) Result(w, h int) (size image.Point, pixels int) {
	scaled, size := f.sizes(w, h)
	return size, max(scaled.X*scaled.Y, size.X*size.Y)
}

// A Small is a Writer that fits what it is given and writes that.
type Small struct {
	*scaler
	fit    Fit
	result image.Point
	file   func(w, h int) Writer
}

// NewSmall starts a picture of w by h pixels that is made to fit. file starts
// the file that it is written to in the end.
func NewSmall(w, h int, fit Fit, file func(w, h int) Writer) *Small {
	scaled, result := fit.sizes(w, h)
	return &Small{scaler: newScaler(image.Pt(w, h), scaled), fit: fit, result: result, file: file}
}

// Write implements Writer.
func (s *Small) Write(band *image.NRGBA) error { return s.write(band) }

// Close implements Writer.
func (s *Small) Close() ([]byte, error) {
	if err := s.end(); err != nil {
		return nil, err
	}
	m := s.placed()
	to := s.file(m.Rect.Dx(), m.Rect.Dy())
	if err := to.Write(m); err != nil {
		return nil, err
	}
	return to.Close()
}

// placed is the scaled picture, cut or padded to the result's size.
func (s *Small) placed() *image.NRGBA {
	from := s.to
	if from.Rect.Max == s.result {
		return from
	}
	m := image.NewNRGBA(image.Rectangle{Max: s.result})
	over := from.Rect.Max.Sub(s.result) // negative where it is padded
	var at image.Point
	switch position := strings.ToLower(s.fit.Position); {
	case (position == "entropy" || position == "attention") && over.X >= 0 && over.Y >= 0:
		at = busiest(from, s.result, position == "entropy")
	default:
		x, y := places(position)
		at = image.Pt(int(math.Round(x*float64(over.X))), int(math.Round(y*float64(over.Y))))
	}
	draw.Draw(m, m.Rect, image.NewUniform(s.fit.Background), image.Point{}, draw.Src)
	draw.Draw(m, from.Rect.Sub(at), from, image.Point{}, draw.Src)
	return m
}

// places reads a position: 0 is left or top, 1 right or bottom.
func places(position string) (x, y float64) {
	x, y = 0.5, 0.5
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(position, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("left", "west"):
		x = 0
	case has("right", "east"):
		x = 1
	}
	switch {
	case has("top", "north"):
		y = 0
	case has("bottom", "south"):
		y = 1
	}
	return x, y
}
