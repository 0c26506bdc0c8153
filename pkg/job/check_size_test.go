package job

import (
	"strings"
	"testing"
)

func TestParseClip(t *testing.T) {
	x, y, w, h, wrong := ParseClip("0,10.5,300,1e2")
	if x != 0 || y != 10.5 || w != 300 || h != 100 || wrong != "" {
		t.Errorf("%v %v %v %v %q", x, y, w, h, wrong)
	}
	for _, bad := range []string{"", "1,2,3", "1,2,3,4,5", "a,2,3,4", "-1,2,3,4", "0,0,0,5", "0,0,5,0", "0,0,1e9,5", "NaN,0,5,5", "0,0,Inf,5", "0, 0,5,5", "..,0,5,5"} {
		if _, _, _, _, wrong := ParseClip(bad); wrong == "" {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestSizeIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Spec)
		field  string
		words  string
	}{
		"clip and selector": {func(s *Spec) { s.Clip, s.Selector = "0,0,5,5", "p" }, "clip", "selector"},
		"clip of nothing":   {func(s *Spec) { s.Clip = "0,0,5,0" }, "clip", "no size"},
		"device":            {func(s *Spec) { s.Device = "iPhone 1O" }, "device", `did you mean "iPhone 1`},
		"no such device":    {func(s *Spec) { s.Device = "toaster" }, "device", "GET /v1/devices"},
	} {
		s := Defaults()
		s.HTML = "<p>"
		test.change(&s)
		errs := s.Normalize(60_000)
		if len(errs) != 1 || errs[0].Field != test.field || !strings.Contains(errs[0].Detail, test.words) {
			t.Errorf("%s: %v", name, errs)
		}
	}
	s := Defaults()
	s.HTML, s.Device = "<p>", "IPHONE 15"
	if errs := s.Normalize(60_000); len(errs) > 0 || s.Device != "iPhone 15" {
		t.Errorf("%v, %s", errs, s.Device)
	}
}

func TestWear(t *testing.T) {
	s := Defaults()
	s.Device, s.UserAgent, s.Width = "iPhone 15", "mine", 500
	no := false
	s.Touch = &no
	s.Wear(func(option string) bool { return option == "width" })
	if s.Width != 500 || s.Height != 659 || s.DeviceScaleFactor != 3 || !*s.Mobile || *s.Touch || s.UserAgent != "mine" {
		t.Errorf("%+v", s)
	}
	plain := Defaults()
	plain.Wear(func(string) bool { return false })
	if plain.Width != 1280 || plain.Mobile != nil {
		t.Errorf("%+v", plain)
	}
}
