package api

import (
	"net/http"
	"testing"
)

func TestDevices(t *testing.T) {
	f := newFarm(t)
	var list DeviceList
	f.do("GET", "/v1/devices", "").json(t, &list)
	if len(list.Data) != 207 || list.Data[0].Name == "" || list.Data[0].ScreenWidth != nil {
		t.Errorf("%d devices, the first %+v", len(list.Data), list.Data[0])
	}
	f.do("GET", "/v1/devices", "", header{"Authorization": ""}).problem(t, http.StatusUnauthorized, "missing_key")
}

// What the request says itself goes before what its device says.
func TestDeviceOfAJob(t *testing.T) {
	f := newFarm(t)
	for _, test := range []struct {
		options       string
		width, height int
		scale         float64
		mobile        bool
	}{
		{`"device":"iphone 15"`, 393, 659, 3, true},
		{`"device":"iPhone 15","landscape":true`, 734, 343, 3, true},
		{`"device":"iPhone 15","width":500,"mobile":false`, 500, 659, 3, false},
		{`"device":"iPhone 15","retina":true`, 393, 659, 2, true},
		{`"device":"iPhone 15","retina":false`, 393, 659, 3, true},
		{`"device":"iPhone 15","device_scale_factor":1`, 393, 659, 1, true},
		{`"device":"Desktop Chrome"`, 1280, 720, 1, false},
	} {
		j := f.submit(`{"html":"<p>",` + test.options + `}`)
		o := j.Options
		if o.Width != test.width || o.Height != test.height || o.DeviceScaleFactor != test.scale || deref(o.Mobile) != test.mobile {
			t.Errorf("%s: %d by %d at %v, mobile %v", test.options, o.Width, o.Height, o.DeviceScaleFactor, deref(o.Mobile))
		}
	}
	for _, bad := range []string{`"device":"iPhone 1O"`, `"device":"toaster"`, `"landscape":true`} {
		f.do("POST", "/v1/jobs", `{"html":"<p>",`+bad+`}`).problem(t, http.StatusBadRequest, "invalid_input")
	}
}
