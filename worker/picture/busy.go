package picture

import (
	"image"
	"math"
)

// shades is how many shades of grey are told apart.
const shades = 64

// busiest is where the part of m of the given size begins that has the most
// detail: by the entropy of its shades, or by its colours and edges. Of parts
// that are alike it is the one nearest to the middle. m is larger than the part
// along one side at most, as cover makes it.
func busiest(m *image.NRGBA, size image.Point, entropy bool) image.Point {
	over := m.Rect.Max.Sub(size)
	upright := over.Y >= over.X // the part moves down, and lines are rows
	lines, length, span := m.Rect.Dx(), m.Rect.Dy(), size.X
	if upright {
		lines, length, span = m.Rect.Dy(), m.Rect.Dx(), size.Y
	}
	pixel := func(line, i int) (luma, colour int) {
		x, y := line, i
		if upright {
			x, y = i, line
		}
		p := m.Pix[y*m.Stride+4*x:][:4]
		r, g, b, a := int(p[0]), int(p[1]), int(p[2]), int(p[3])
		return (299*r + 587*g + 114*b) * a / 255_000, (max(r, g, b) - min(r, g, b)) * a / 255
	}
	// What each line has, so that a part is known by its first and last.
	counts := make([][shades]int, lines+1)
	energy := make([]int, lines+1)
	for line := range lines {
		counts[line+1] = counts[line]
		sum, prior := 0, -1
		for i := range length {
			luma, colour := pixel(line, i)
			counts[line+1][min(luma*shades/256, shades-1)]++
			if prior >= 0 {
				sum += max(luma-prior, prior-luma)
			}
			sum += colour / 4
			prior = luma
		}
		energy[line+1] = energy[line] + sum
	}
	best, at := -1.0, 0
	for i := range lines - span + 2 {
		first := (lines-span)/2 + (i+1)/2*(1-i%2*2) // from the middle outwards
		if first < 0 || first > lines-span {
			continue
		}
		score := float64(energy[first+span] - energy[first])
		if entropy {
			score = 0
			for s := range shades {
				if n := counts[first+span][s] - counts[first][s]; n > 0 {
					p := float64(n) / float64(span*length)
					score -= p * math.Log2(p)
				}
			}
		}
		if score > best*(1+1e-9) {
			best, at = score, first
		}
	}
	if upright {
		return image.Pt(max(0, over.X)/2, at)
	}
	return image.Pt(at, max(0, over.Y)/2)
}
