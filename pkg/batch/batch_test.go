package batch

import (
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

func TestJobID(t *testing.T) {
	id, created := NewID(), time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC)
	seen := map[job.ID]bool{}
	var last job.ID
	for _, line := range []int{1, 2, 4095, 4096, 4097, 1 << 20, MaxNumber} {
		got := JobID(id, created, line, 1)
		if parsed, err := job.ParseID(string(got)); err != nil || parsed != got {
			t.Errorf("line %d: %s: %v", line, got, err)
		}
		if !got.Time().Equal(created) {
			t.Errorf("line %d: filed under %s", line, got.Time())
		}
		if got <= last {
			t.Errorf("line %d: %s does not sort after %s", line, got, last)
		}
		if got != JobID(id, created, line, 1) {
			t.Errorf("line %d: another id the second time", line)
		}
		for _, other := range []job.ID{got, JobID(id, created, line, 2), JobID(NewID(), created, line, 1)} {
			if seen[other] {
				t.Errorf("line %d: %s twice", line, other)
			}
			seen[other] = true
		}
		last = got
	}
}

func TestCountsAddUp(t *testing.T) {
	b := Batch{State: Canceled, Total: 100, Invalid: 3, Refused: 2, LeftOut: 40, Ends: Ends{Succeeded: 20, Failed: 5, Canceled: 10, Expired: 1}}
	want := Counts{Total: 100, Queued: 12, Running: 7, Succeeded: 20, Failed: 10, Canceled: 50, Expired: 1}
	if got := b.Counts(7); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	b.State = Expired
	if got := b.Counts(1000); got.Queued != 0 || got.Running != 19 || got.Expired != 41 {
		t.Errorf("%+v", got)
	}
}
