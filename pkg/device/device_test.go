package device_test

import (
	"testing"

	"github.com/tintype/tintype/pkg/device"
)

func TestDevices(t *testing.T) {
	all := device.All()
	if len(all) != 207 {
		t.Errorf("%d devices", len(all))
	}
	names := map[string]bool{}
	for _, d := range all {
		if d.Name == "" || d.UserAgent == "" || names[d.Name] {
			t.Errorf("%+v", d)
		}
		names[d.Name] = true
		// Within what the options of the same names take.
		if min(d.Width, d.Height) < 1 || max(d.Width, d.Height) > 10_000 || d.DeviceScaleFactor < 0.5 || d.DeviceScaleFactor > 4 || len(d.Name) > 64 || len(d.UserAgent) > 1024 {
			t.Errorf("%+v", d)
		}
		if s := d.Sideways(); s.Width < s.Height && d.Mobile && d.Width < d.Height {
			t.Errorf("%s on its side is %+v", d.Name, s)
		}
	}
}

func TestFind(t *testing.T) {
	d := device.Find("iphone 15")
	if d == nil || d.Name != "iPhone 15" || d.Width != 393 || d.Height != 659 || d.ScreenHeight != 852 || d.DeviceScaleFactor != 3 || !d.Mobile || !d.Touch {
		t.Fatalf("%+v", d)
	}
	side := d.Sideways()
	if side.Name != "iPhone 15 landscape" || side.Width != 734 || side.ScreenWidth != 852 || side.Sideways() != side {
		t.Errorf("%+v", side)
	}
	desk := device.Find("Desktop Chrome")
	if side := desk.Sideways(); side.Width != 720 || side.Height != 1280 || side.ScreenWidth != 1080 {
		t.Errorf("%+v", side)
	}
	if d := device.Find("iPhone 1"); d != nil {
		t.Errorf("%+v", d)
	}
	if got := device.Nearest("Iphone15"); got != "iPhone 15" {
		t.Errorf("nearest %q", got)
	}
	if got := device.Nearest("toaster"); got != "" {
		t.Errorf("nearest %q", got)
	}
}
