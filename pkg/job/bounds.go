package job

import (
	"fmt"
	"math"

	"github.com/tintype/tintype/pkg/option"
)

const (
	// MaxSide is the longest side in device pixels that Chromium captures
	// right; past it, textures repeat or stay blank. MaxArea is the largest
	// picture of a viewport in device pixels; each costs some 15 bytes in the
	// browser's processes while it is captured.
	MaxSide = 16384
	MaxArea = 100_000_000

	// MaxThumb is the largest thumbnail, in pixels: it stands in memory whole.
	MaxThumb = 25_000_000
)

// Bounds are the largest picture of the format in device pixels: area, and
// longest side. A PNG is written as it is captured, a JPEG keeps 1.5 bytes a
// pixel, a WebP is made by the browser alone; the sides of the two have 16 and 14
// bits in their files.
func (f Format) Bounds() (area, side int) {
	switch f {
	case JPEG:
		return 150_000_000, 1<<16 - 1
	case WebP:
		return MaxArea, 1<<14 - 1
	}
	return 300_000_000, 1_000_000
}

// DevicePixels is a length in whole device pixels, rounded as the browser rounds
// its viewport.
func (s *Spec) DevicePixels(css float64) int { return WholePixels(css * s.DeviceScaleFactor) }

// WholePixels is the next whole number of pixels; what is above one by a
// computer's rounding alone is that one.
func WholePixels(n float64) int { return max(1, int(math.Ceil(n-1e-6))) }

// checkBounds finds what can come out of no page: a viewport that is not
// captured right, and a picture that the format does not take, as far as its size
// is known without the page.
func (s *Spec) checkBounds() *FieldError {
	for name, v := range map[string]float64{"width": float64(s.Width), "height": float64(s.Height), "device_scale_factor": s.DeviceScaleFactor} {
		if o := option.Find(name); o != nil && !(v >= o.Min && v <= o.Max) {
			return nil // which is told already
		}
	}
	if !s.Format.Picture() {
		return nil
	}
	bad := func(field, format string, args ...any) *FieldError {
		return &FieldError{Field: field, Others: true, Detail: fmt.Sprintf(format, args...)}
	}
	w, h := s.DevicePixels(float64(s.Width)), s.DevicePixels(float64(s.Height))
	if max(w, h) > MaxSide || w*h > MaxArea {
		return bad("device_scale_factor", "makes a viewport of %d by %d device pixels of width and height; at most %d a side and %d million in all are captured right: lower it (retina is 2), or width or height",
			w, h, MaxSide, MaxArea/1_000_000)
	}
	field, known := "device_scale_factor", s.Selector == "" && !s.FullPage
	if s.Clip != "" {
		_, _, cw, ch, wrong := ParseClip(s.Clip)
		if wrong != "" || s.Mobile != nil && *s.Mobile { // a phone may show a page smaller than it is
			return nil
		}
		field, known = "clip", true
		w, h = max(1, int(math.Round(cw*s.DeviceScaleFactor))), max(1, int(math.Round(ch*s.DeviceScaleFactor)))
	}
	captured := s.Format
	if s.ThumbWidth > 0 || s.ThumbHeight > 0 {
		captured = PNG // which is made smaller
	}
	if area, side := captured.Bounds(); known && (w*h > area || max(w, h) > side) {
		return bad(field, "makes a picture of %d by %d device pixels; a %s has at most %d a side and %d million in all: ask for less of the page or a lower device_scale_factor%s",
			w, h, captured, side, area/1_000_000, elsewhere(captured))
	}
	return s.checkThumb(w, h, known)
}

// elsewhere is the way out to a format that takes larger pictures.
func elsewhere(f Format) string {
	if f == PNG {
		return ""
	}
	return ", or for format png"
}

// checkThumb finds a thumbnail that is too large whatever it is made of, which
// is w by h pixels if that is known.
func (s *Spec) checkThumb(w, h int, known bool) *FieldError {
	tw, th, field := s.ThumbWidth, s.ThumbHeight, "thumb_width"
	switch {
	case tw > 0 && th > 0:
		if s.ImgFit == "inside" || s.ImgFit == "outside" {
			return nil // they keep the picture's shape
		}
	case !known:
		return nil
	case tw > 0:
		th = tw * h / w
	case th > 0:
		tw, field = th*w/h, "thumb_height"
	}
	if _, side := s.Format.Bounds(); tw*th > MaxThumb || max(tw, th) > side {
		return &FieldError{Field: field, Others: true, Detail: fmt.Sprintf("makes a thumbnail of %d by %d pixels; one has at most %d a side and %d million in all: lower thumb_width or thumb_height",
			tw, th, side, MaxThumb/1_000_000)}
	}
	return nil
}
