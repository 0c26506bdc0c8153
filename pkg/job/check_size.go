package job

import (
	"math"
	"strconv"
	"strings"

	"github.com/tintype/tintype/pkg/device"
)

// maxPlace bounds a place on a page, in CSS pixels from its top left corner.
const maxPlace = 1_000_000

// checkSize holds the options of size and of what is captured against each
// other.
func (s *Spec) checkSize() (errs []*FieldError) {
	bad := func(field, detail string) {
		errs = append(errs, &FieldError{Field: field, Detail: detail})
	}
	if s.Device != "" {
		switch d, near := device.Find(s.Device), device.Nearest(s.Device); {
		case d != nil:
			s.Device = d.Name
		case near != "":
			bad("device", "is none that is known; did you mean "+strconv.Quote(near)+"? GET /v1/devices lists them")
		default:
			bad("device", "is none that is known; GET /v1/devices lists them")
		}
	}
	if s.Clip != "" {
		if _, _, _, _, wrong := ParseClip(s.Clip); wrong != "" {
			bad("clip", wrong)
		}
		if s.Selector != "" {
			bad("clip", "says what to capture, and so does selector; give one of the two")
		}
	}
	if err := s.checkBounds(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// Wear gives the spec what the device says, but for the options that the request
// says itself; retina: true is put over it by the caller. A device that is not
// known changes nothing; Normalize refuses it.
func (s *Spec) Wear(said func(option string) bool) {
	d := device.Find(s.Device)
	if d == nil {
		return
	}
	if s.Landscape {
		*d = d.Sideways()
	}
	if !said("width") {
		s.Width = d.Width
	}
	if !said("height") {
		s.Height = d.Height
	}
	if !said("device_scale_factor") {
		s.DeviceScaleFactor = d.DeviceScaleFactor
	}
	if s.Mobile == nil {
		s.Mobile = &d.Mobile
	}
	if s.Touch == nil {
		s.Touch = &d.Touch
	}
	if s.UserAgent == "" {
		s.UserAgent = d.UserAgent
	}
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
