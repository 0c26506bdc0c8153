package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// gathered is what a registry tells, by name and the value of its label.
func gathered(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("names: %v %v", problems, err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			switch {
			case m.Gauge != nil:
				out[key] = m.Gauge.GetValue()
			case m.Counter != nil:
				out[key] = m.Counter.GetValue()
			case m.Histogram != nil:
				out[key] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		first, second := prometheus.NewRegistry(), prometheus.NewRegistry()
		s, _ := b.start("a", Config{Alone: true, Queue: Queue{Length: 3}, Metrics: first})
		w, _ := b.worker(s, "b1")
		b.start("b", Config{Queue: Queue{Length: 3}, Metrics: second})
		for range 5 {
			b.submit()
		}
		time.Sleep(2 * time.Second)
		w.send(&pb.WorkUp{Credit: 1})
		assigned(w)
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		w.send(done(a))
		committed(w, a.Token)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		got := gathered(t, first)
		for name, want := range map[string]float64{
			"tintype_leader": 1, "tintype_leader_epoch": 1, "tintype_seats": 2, "tintype_workers": 1,
			"tintype_queue_limit": 3, "tintype_queue_waiting 0": 1, "tintype_queue_running 0": 1, "tintype_queue_parked 0": 2,
			"tintype_queue_retrying 0": 0, "tintype_queue_counted 0": 0, "tintype_queue_oldest_age_seconds 0": 4,
			"tintype_jobs_unfinished": 4, "tintype_jobs_running": 1, "tintype_dispatches_total 0": 2,
			"tintype_jobs_decided_total accepted": 5, "tintype_jobs_finished_total succeeded": 1,
		} {
			if v, there := got[name]; !there || v != want {
				t.Errorf("%s is %g (%t), want %g", name, v, there, want)
			}
		}
		if other := gathered(t, second); other["tintype_leader"] != 0 || len(other) > 10 {
			t.Errorf("a standby says %v", other)
		}
	})
}

// How far behind the archive is, in time: as old as the oldest frame that it
// does not have, however many there are since.
func TestBehind(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var s backlog
	want := func(when string, projected uint64, want time.Duration) {
		t.Helper()
		if got := s.behind(projected, now); got != want {
			t.Errorf("%s: %s behind, want %s", when, got, want)
		}
	}
	for seq := uint64(100); seq <= 1000; seq += 100 {
		s.look(seq, seq-100, now)
		now = now.Add(time.Second)
	}
	want("just behind", 900, time.Second)
	want("up to date", 1000, 0)
	now = now.Add(time.Hour)
	want("an hour later", 1000, 0)
	for range 3600 {
		s.look(1001, 1000, now)
		now = now.Add(time.Second)
	}
	want("a frame that is an hour old", 1000, time.Hour)
	if s.look(1002, 1001, now); len(s.marks) != 1 {
		t.Errorf("%d marks", len(s.marks))
	}
	ledger := stream.State{First: 501, Last: 1000, Bytes: 50_000}
	for seq, want := range map[uint64]float64{1000: 0, 1001: 0, 900: 10_000, 500: 50_000} {
		if got := bytesBehind(ledger, seq); got != want {
			t.Errorf("behind frame %d: %g bytes, want %g", seq, got, want)
		}
	}
}
