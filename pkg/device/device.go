// Package device is the list of devices whose view of a page can be had by
// name: viewport, scale, touch, user agent. The list is Playwright's (see
// NOTICE); sh pkg/device/vendor.sh writes it anew.
package device

import (
	_ "embed"
	"encoding/json"
	"slices"
	"strings"
	"sync"

	"github.com/tintype/tintype/pkg/typo"
)

// A Device is how one shows pages.
type Device struct {
	Name              string  `json:"name"`
	UserAgent         string  `json:"user_agent"`
	Width             int     `json:"width"` // of the viewport, in CSS pixels, beside the browser's own bars
	Height            int     `json:"height"`
	ScreenWidth       int     `json:"screen_width"` // zero: not known
	ScreenHeight      int     `json:"screen_height"`
	DeviceScaleFactor float64 `json:"device_scale_factor"`
	Mobile            bool    `json:"mobile"`
	Touch             bool    `json:"touch"`
}

//go:embed devices.json
var file []byte

// devices are all, in the order of the file.
var devices = sync.OnceValue(func() (list []Device) {
	if err := json.Unmarshal(file, &list); err != nil {
		panic("device: devices.json: " + err.Error())
	}
	for i, d := range list {
		list[i].DeviceScaleFactor = min(d.DeviceScaleFactor, maxScale)
		if strings.HasSuffix(d.Name, landscape) && d.ScreenWidth < d.ScreenHeight { // the file has screens upright
			list[i].ScreenWidth, list[i].ScreenHeight = d.ScreenHeight, d.ScreenWidth
		}
	}
	return list
})

// maxScale is the largest device_scale_factor that is offered; one device has
// more.
const maxScale = 4

// landscape ends the name of a device on its side.
const landscape = " landscape"

// All lists every device.
func All() []Device { return slices.Clone(devices()) }

// Find is the device of that name, in either case of letters; nil if there is
// none.
func Find(name string) *Device {
	list := devices()
	i := slices.IndexFunc(list, func(d Device) bool { return strings.EqualFold(d.Name, name) })
	if i < 0 {
		return nil
	}
	d := list[i]
	return &d
}

// Nearest is the name that was probably meant by one that is not there; empty
// if none is near.
func Nearest(name string) string {
	byLower := map[string]string{}
	var lower []string
	for _, d := range devices() {
		l := strings.ToLower(d.Name)
		byLower[l] = d.Name
		lower = append(lower, l)
	}
	return byLower[typo.Nearest(strings.ToLower(name), lower)]
}

// Sideways is the device on its side.
func (d Device) Sideways() Device {
	if strings.HasSuffix(d.Name, landscape) {
		return d
	}
	if side := Find(d.Name + landscape); side != nil {
		return *side
	}
	d.Width, d.Height = d.Height, d.Width
	d.ScreenWidth, d.ScreenHeight = d.ScreenHeight, d.ScreenWidth
	return d
}
