package worker

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/worker/capture"
)

// One job from credit to commit, and everything that is said about it.
func TestOneJob(t *testing.T) {
	registry := prometheus.NewRegistry()
	f, k, r, s := held(t, 7, func(c *Config) { c.Metrics = registry })
	if r.spec.HTML != "<p>hello" || r.spec.Format != job.PNG {
		t.Errorf("spec %+v", r.spec)
	}
	r.succeed("picture")
	done := k.done(t, 7)
	sum := sha256.Sum256([]byte("picture"))
	want := &pb.Done{
		Token: 7, Job: string(r.id),
		Result:   &pb.Result{ContentType: "image/png", Width: 640, Height: 480, SizeBytes: 7, Sha256: sum[:]},
		Timings:  &pb.Timings{NavigateMs: 3, WaitMs: 4, CaptureMs: 5},
		Evidence: done.Evidence,
	}
	ignore := protocmp.IgnoreFields(&pb.Timings{}, "upload_ms", "total_ms")
	if diff := cmp.Diff(want, done, protocmp.Transform(), ignore); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if done.Timings.TotalMs < done.Timings.UploadMs {
		t.Errorf("timings %v", done.Timings)
	}
	var seen job.Evidence
	if err := json.Unmarshal(done.Evidence, &seen); err != nil || seen.Title != "apage" {
		t.Errorf("evidence %s is not cleaned: %v", done.Evidence, err)
	}
	if s.object("/r/a") != "picture" {
		t.Errorf("stored %q", s.object("/r/a"))
	}
	k.credit(t, 1) // before the commit: the next render overlaps with it
	k.send(&pb.WorkDown{Committed: []uint64{7}})
	if !f.worker.leases.until(t.Context(), (*leases).empty) {
		t.Error("still held after the commit")
	}
	if got := metric(t, registry, "tintype_worker_attempts_total", "succeeded"); got != 1 {
		t.Errorf("%v attempts succeeded, want 1", got)
	}
	if got := metric(t, registry, "tintype_worker_seats", "free"); got != 1 {
		t.Errorf("%v seats free, want 1", got)
	}
}

// metric is the value of the counter or gauge whose only label is value.
func metric(t *testing.T, g prometheus.Gatherer, name, value string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && m.GetLabel()[0].GetValue() == value {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s{%s}", name, value)
	return 0
}

func TestPageFailureIsReported(t *testing.T) {
	_, k, r, s := held(t, 7, nil)
	r.finish <- func() capture.Outcome {
		return capture.Outcome{
			Failure:  job.Fail(job.TLSError, job.StageNavigate, "the certificate is not valid"),
			Evidence: &job.Evidence{FinalURL: "https://example.com/"},
		}
	}
	failed := k.failed(t, 7)
	want := &pb.Failure{Code: "tls_error", Stage: "navigate", Detail: "the certificate is not valid"}
	if diff := cmp.Diff(want, failed.Failure, protocmp.Transform()); diff != "" {
		t.Errorf("failure (-want +got):\n%s", diff)
	}
	if !strings.Contains(string(failed.Evidence), "example.com") || s.puts() != 0 {
		t.Errorf("evidence %s, %d PUTs", failed.Evidence, s.puts())
	}
	k.credit(t, 1)
}

// A panic, or a seat that returns neither, costs one attempt: the seat and the
// worker go on.
func TestBrokenRenders(t *testing.T) {
	var log bytes.Buffer
	f, k, r, s := held(t, 7, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	r.finish <- func() capture.Outcome { panic("out of ideas") }
	if code := k.failed(t, 7).Failure.Code; code != "internal" {
		t.Errorf("code %s, want internal", code)
	}
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(8, s.URL+"/r/b")}})
	r = within(t, f.renders, "the next render")
	r.finish <- func() capture.Outcome { return capture.Outcome{} }
	if code := k.failed(t, 8).Failure.Code; code != "internal" {
		t.Errorf("code %s, want internal", code)
	}
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(9, s.URL+"/r/c")}})
	within(t, f.renders, "the next render").succeed("picture")
	k.done(t, 9)
	f.cancel()
	if err := f.ended(t); err != nil {
		t.Errorf("run: %v", err)
	}
	if !strings.Contains(log.String(), "out of ideas") || !strings.Contains(log.String(), "execute_test.go") {
		t.Errorf("the log has no stack of the panic:\n%s", &log)
	}
}

// A store that refuses makes the farm's own failure, without its words.
func TestStorageFailure(t *testing.T) {
	f, s := start(t, 1, nil), newStore(t, answer(http.StatusForbidden))
	k, _ := f.accept(t)
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(7, s.URL+"/r/a?X-Amz-Signature=secret")}})
	within(t, f.renders, "a render").succeed("picture")
	failed := k.failed(t, 7)
	if failed.Failure.Code != "storage_failed" || failed.Failure.Stage != "upload" {
		t.Errorf("failure %v", failed.Failure)
	}
	if strings.Contains(failed.Failure.Detail, "127.0.0.1") || strings.Contains(failed.Failure.Detail, "secret") {
		t.Errorf("the detail tells too much: %s", failed.Failure.Detail)
	}
	if !strings.Contains(string(failed.Evidence), "200") {
		t.Errorf("evidence %s is lost", failed.Evidence)
	}
	k.credit(t, 1)
}

// The wall budget ends the render early enough to store what there is, and then
// the upload.
func TestWallBudget(t *testing.T) {
	f := start(t, 2, nil)
	s := newStore(t, stall)
	k, _ := f.accept(t)
	k.credit(t, 2)
	slow, stalled := assignment(7, s.URL+"/r/a"), assignment(8, s.URL+"/r/b")
	slow.WallMs, stalled.WallMs = 2_000, 2_000
	k.send(&pb.WorkDown{Assign: []*pb.Assign{slow}})
	late := within(t, f.renders, "a render")
	k.send(&pb.WorkDown{Assign: []*pb.Assign{stalled}})
	within(t, f.renders, "a render").succeed("picture")
	if cause := late.aborted(t); !errors.Is(cause, errRender) {
		t.Errorf("cause %v, want %v", cause, errRender)
	}
	codes := map[uint64]string{}
	for len(codes) < 2 {
		for _, failed := range k.until(t, "failed", func(up *pb.WorkUp) bool { return len(up.Failed) > 0 }).Failed {
			codes[failed.Token] = failed.Failure.Code
		}
	}
	if codes[7] != "wall_timeout" || codes[8] != "storage_failed" {
		t.Errorf("codes %v, want wall_timeout and storage_failed", codes)
	}
}

// A spec too large for the stream is fetched; what can't be read is the farm's
// own failure and no render.
func TestFetchedSpec(t *testing.T) {
	f, s := start(t, 1, nil), newStore(t)
	spec := job.Defaults()
	spec.HTML = strings.Repeat("x", 1<<20)
	s.objects["/s/good"], s.objects["/s/bad"] = spec.Marshal(), []byte("no json")
	k, _ := f.accept(t)
	k.credit(t, 1)
	for i, tt := range []struct{ path, want string }{
		{"/s/good", ""}, {"/s/bad", "internal"}, {"/s/gone", "storage_failed"}, {"/s/good", ""},
	} {
		token := uint64(i + 1)
		a := assignment(token, s.URL+"/r/"+string(rune('a'+i)))
		a.Spec, a.SpecUrl = nil, s.URL+tt.path
		k.send(&pb.WorkDown{Assign: []*pb.Assign{a}})
		if tt.want == "" {
			r := within(t, f.renders, "a render")
			if r.spec.HTML != spec.HTML {
				t.Errorf("%s: the html differs", tt.path)
			}
			r.succeed("picture")
			k.done(t, token)
		} else if failed := k.failed(t, token).Failure; failed.Code != tt.want || failed.Stage != "queue" {
			t.Errorf("%s: failure %v, want %s", tt.path, failed, tt.want)
		}
		k.send(&pb.WorkDown{Committed: []uint64{token}})
		k.credit(t, 1)
	}
}

// An upload is aborted with its lease, and is no report.
func TestRevokeInTheUpload(t *testing.T) {
	f := start(t, 1, nil)
	stalled := make(chan struct{})
	s := newStore(t, func(w http.ResponseWriter, r *http.Request, take func()) bool {
		close(stalled)
		return stall(w, r, take)
	})
	k, _ := f.accept(t)
	k.credit(t, 1)
	k.send(&pb.WorkDown{Assign: []*pb.Assign{assignment(7, s.URL+"/r/a")}})
	within(t, f.renders, "a render").succeed("picture")
	within(t, stalled, "an upload")
	k.send(&pb.WorkDown{Revoke: []uint64{7}})
	up := k.until(t, "credit", func(up *pb.WorkUp) bool {
		if len(up.Done)+len(up.Failed) > 0 {
			t.Errorf("reported %v", up)
		}
		return up.Credit > 0
	})
	if up.Credit != 1 {
		t.Errorf("credit %d, want 1", up.Credit)
	}
}
