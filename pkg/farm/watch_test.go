package farm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/telemetry"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// A mode's listener tells whether it lives and whether it is ready, as the API
// tells it.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop, cancel := context.WithCancel(t.Context())
		w := &watch{metrics: telemetry.Registry("test"), stop: stop}
		h := w.handler()
		ask := func(path string) (int, string) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
			return rec.Code, rec.Body.String()
		}
		wants := func(when string, code int, want api.Ready) {
			t.Helper()
			time.Sleep(checkFresh + time.Millisecond) // of the bubble
			got, body := ask("/readyz")
			var v api.Ready
			if err := json.Unmarshal([]byte(body), &v); err != nil || got != code {
				t.Errorf("%s: %d %s, %v; want %d", when, got, body, err, code)
			}
			if diff := cmp.Diff(want, v); diff != "" {
				t.Errorf("%s: %s", when, diff)
			}
		}
		wants("before the start", 503, api.Ready{Status: "unready", Degraded: []string{}, Checks: map[string]string{"start": "failing"}})

		var nats, s3 error
		asked := 0
		w.ready(
			api.Check{Name: "nats", Needed: true, Ask: func(ctx context.Context) error {
				if asked++; nats != nil {
					<-ctx.Done() // a part that hangs is one that fails
				}
				return nats
			}},
			api.Check{Name: "s3", Ask: func(context.Context) error { return s3 }},
		)
		wants("started", 200, api.Ready{Status: "ready", Degraded: []string{}, Checks: map[string]string{"nats": "ok", "s3": "ok"}})
		if ask("/readyz"); asked != 1 {
			t.Errorf("asked %d times within %s", asked, checkFresh)
		}
		s3 = errors.New("down")
		wants("degraded", 200, api.Ready{Status: "ready", Degraded: []string{"s3"}, Checks: map[string]string{"nats": "ok", "s3": "failing"}})
		nats, s3 = errors.New("down"), nil
		wants("unready", 503, api.Ready{Status: "unready", Degraded: []string{}, Checks: map[string]string{"nats": "failing", "s3": "ok"}})
		nats = nil
		wants("again", 200, api.Ready{Status: "ready", Degraded: []string{}, Checks: map[string]string{"nats": "ok", "s3": "ok"}})
		cancel()
		if code, body := ask("/readyz"); code != 503 {
			t.Errorf("stopping: %d %s", code, body)
		}

		if code, body := ask("/healthz"); code != 200 || !strings.Contains(body, `"ok"`) {
			t.Errorf("healthz: %d %s", code, body)
		}
		if code, body := ask("/metrics"); code != 200 || !strings.Contains(body, "tintype_build_info") {
			t.Errorf("metrics: %d %.200s", code, body)
		}
		if code, _ := ask("/admin/v1/accounts"); code != 404 {
			t.Errorf("more than it should have: %d", code)
		}
	})
}

// A worker whose browsers are on its machine's network, since somebody has
// accepted that, is ready and says so.
func TestReadyTellsOfIsolation(t *testing.T) {
	for _, held := range []bool{true, false} {
		t.Run(map[bool]string{true: "by the kernel", false: "by flags"}[held], func(t *testing.T) {
			var why error
			want := api.Ready{Status: "ready", Degraded: []string{}, Checks: map[string]string{"isolation": "ok"}}
			if !held {
				why = errors.New("browsers run on this machine's network")
				want.Degraded, want.Checks["isolation"] = []string{"isolation"}, "failing"
			}
			w, err := worker.New(worker.Config{Name: "w", Schedulers: []string{"unix:///x"}}, []worker.Renderer{seatOn{why}})
			if err != nil {
				t.Fatal(err)
			}
			watched := &watch{metrics: telemetry.Registry("test"), stop: t.Context()}
			watched.ready(isolation(w))
			rec := httptest.NewRecorder()
			watched.handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
			var got api.Ready
			if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil || rec.Code != 200 {
				t.Errorf("%d %s, %v", rec.Code, rec.Body, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if why != nil && strings.Contains(rec.Body.String(), why.Error()) {
				t.Errorf("it tells everybody why: %s", rec.Body)
			}
		})
	}
}

// seatOn is a seat whose browser is held by the kernel or is not.
type seatOn struct{ why error }

func (s seatOn) Isolated() error             { return s.why }
func (seatOn) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (seatOn) Ready() <-chan struct{}        { return nil }
func (seatOn) Render(context.Context, job.ID, *job.Spec) capture.Outcome {
	panic("nobody asks it for a picture")
}
