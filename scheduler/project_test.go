package scheduler

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Rows that the database refuses: each keeps its bill, loses its text, is
// counted, and stops nothing.
func TestPoisonRow(t *testing.T) {
	f := newFarm(t)
	n := f.start("a", alone())
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, hello("b1"))
	text, kind, sound := f.record(), f.record(), f.record()
	text.Body.CustomId = "a\x00b"
	kind.Envelope.ContentType = "image/\x00png"
	for _, rec := range []*pb.Record{text, kind, sound} {
		f.publish(rec)
		decision(api, rec.Envelope.Id)
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		up := done(a)
		up.Done[0].Evidence = []byte(`{"title":"the page"}`)
		w.send(up)
		committed(w, a.Token)
	}
	for _, rec := range []*pb.Record{text, kind, sound} {
		j := f.archived(n.Scheduler, rec.Envelope.Id)
		bare := j.Evidence == nil && j.CustomID == ""
		if j.State != job.Succeeded || j.Result == nil || !*j.Billable || bare != (rec != sound) {
			t.Errorf("archived %+v", j)
		}
	}
	now := time.Now().UTC()
	events, sum, month, err := f.store.Audit(t.Context(), f.account, time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
	if err != nil || events != 3 || sum != 360 || month != 360 {
		t.Errorf("billed %d events, %d units, month %d, %v", events, sum, month, err)
	}
	families, err := n.cfg.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "tintype_projection_stripped_total" && family.GetMetric()[0].GetCounter().GetValue() != 2 {
			t.Errorf("%v rows are counted as stripped, want 2", family.GetMetric()[0].GetCounter().GetValue())
		}
	}
}
