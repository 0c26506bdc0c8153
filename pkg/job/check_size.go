package job

import (
	"math"
	"strconv"
	"strings"
)

// maxPlace bounds a place on a page, in CSS pixels from its top left corner.
const maxPlace = 1_000_000

// checkSize holds the options of size and of what is captured against each
// other.
func (s *Spec) checkSize() (errs []*FieldError) {
	bad := func(field, detail string) {
		errs = append(errs, &FieldError{Field: field, Detail: detail})
	}
	if s.Clip != "" {
		if _, _, _, _, wrong := ParseClip(s.Clip); wrong != "" {
			bad("clip", wrong)
		}
		if s.Selector != "" {
			bad("clip", "says what to capture, and so does selector; give one of the two")
		}
	}
	return errs
}

// ParseClip reads x,y,width,height in CSS pixels. wrong says in words what is
// wrong with them.
func ParseClip(clip string) (x, y, w, h float64, wrong string) {
	parts := strings.Split(clip, ",")
	var v [4]float64
	if len(parts) != len(v) {
		return 0, 0, 0, 0, "must be four numbers, x,y,width,height, such as 0,100,800,600"
	}
	for i, part := range parts {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil || math.IsNaN(n) || n < 0 || n > maxPlace {
			return 0, 0, 0, 0, "must be four numbers from 0 to 1000000, x,y,width,height, such as 0,100,800,600, not " + strconv.Quote(part)
		}
		v[i] = n
	}
	if v[2] == 0 || v[3] == 0 {
		return 0, 0, 0, 0, "has no size: its third and fourth numbers are width and height"
	}
	return v[0], v[1], v[2], v[3], ""
}
