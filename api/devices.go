package api

import (
	"net/http"

	"github.com/tintype/tintype/pkg/device"
)

// listDevices is GET /v1/devices.
func (s *Server) listDevices(w http.ResponseWriter, _ *http.Request, _ *call) error {
	out := DeviceList{Data: []DeviceView{}}
	for _, d := range device.All() {
		out.Data = append(out.Data, DeviceView{
			Name: d.Name, UserAgent: d.UserAgent, Width: d.Width, Height: d.Height,
			ScreenWidth: orNull(d.ScreenWidth), ScreenHeight: orNull(d.ScreenHeight),
			DeviceScaleFactor: d.DeviceScaleFactor, Mobile: d.Mobile, Touch: d.Touch,
		})
	}
	return writeJSON(w, http.StatusOK, out)
}
