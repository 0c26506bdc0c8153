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

		"viewport's area":      {func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor = 10_000, 10_000, 4 }, "device_scale_factor", "40000 by 40000 device pixels"},
		"viewport's side":      {func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor = 10, 8193, 2 }, "device_scale_factor", "at most 16384 a side"},
		"viewport as webp":     {func(s *Spec) { s.Width, s.DeviceScaleFactor, s.Format = 8192, 2, WebP }, "device_scale_factor", "or for format png"},
		"clip":                 {func(s *Spec) { s.Clip = "0,0,20000,20000" }, "clip", "a png has at most 1000000 a side and 300 million"},
		"clip as jpeg":         {func(s *Spec) { s.Clip, s.Format = "0,0,10,65536", JPEG }, "clip", "at most 65535 a side"},
		"thumbnail's area":     {func(s *Spec) { s.ThumbWidth, s.ThumbHeight, s.FullPage = 5001, 5000, true }, "thumb_width", "25 million"},
		"thumbnail's height":   {func(s *Spec) { s.ThumbWidth = 10_000 }, "thumb_width", "10000 by 8000 pixels"},
		"thumbnail's width":    {func(s *Spec) { s.ThumbHeight, s.Clip = 2000, "0,0,1000,100" }, "thumb_height", "20000 by 2000 pixels"},
		"a value out of range": {func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor = 20_000, 10_000, 4 }, "width", "must be 1 to 10000"},
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

func TestLargestSizesPass(t *testing.T) {
	phone := true
	for name, change := range map[string]func(*Spec){
		"viewport's area":            func(s *Spec) { s.Width, s.Height = 10_000, 10_000 },
		"viewport's side":            func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor = 10, 8192, 2 },
		"side of a computer's third": func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor = 10, 4096, 4.0000000001-1e-10 },
		"no picture":                 func(s *Spec) { s.Width, s.Height, s.DeviceScaleFactor, s.Format = 10_000, 10_000, 4, PDF },
		"part of it as webp":         func(s *Spec) { s.Width, s.DeviceScaleFactor, s.Format, s.Selector = 8192, 2, WebP, "p" },
		"small as webp":              func(s *Spec) { s.Width, s.DeviceScaleFactor, s.Format, s.ThumbWidth = 8192, 2, WebP, 100 },
		"clip":                       func(s *Spec) { s.Clip = "0,0,1000,300000" },
		"clip of a phone":            func(s *Spec) { s.Clip, s.Mobile = "0,0,20000,20000", &phone },
		"thumbnail":                  func(s *Spec) { s.ThumbWidth, s.ThumbHeight = 5000, 5000 },
		"thumbnail within":           func(s *Spec) { s.ThumbWidth, s.ThumbHeight, s.ImgFit = 10_000, 10_000, "inside" },
		"thumbnail of any height":    func(s *Spec) { s.ThumbWidth, s.FullPage = 10_000, true },
	} {
		s := Defaults()
		s.HTML = "<p>"
		change(&s)
		if errs := s.Normalize(60_000); len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
		}
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
