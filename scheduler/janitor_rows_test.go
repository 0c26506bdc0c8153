package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestJanitorDropsDays(t *testing.T) {
	h := newHouse(t)
	over, overKey := h.filed(40, -72*time.Hour)
	mixed, _ := h.filed(35, -72*time.Hour)
	beside := idAt(mixed.Time().Truncate(24 * time.Hour))
	p, err := h.store.Projection(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	end := store.Ended{Job: &job.Job{
		ID: beside, Account: "acc_acme", State: job.Canceled, CreatedAt: beside.Time(), FinishedAt: beside.Time(), ExpiresAt: time.Now().Add(time.Hour), Options: []byte("{}"),
	}}
	if _, err := h.store.Project(t.Context(), p, p, store.Filing{Ends: []store.Ended{end}}); err != nil {
		t.Fatal(err)
	}
	h.open(alone())
	// Of the day that is over, a job still waits.
	late := h.record()
	late.Envelope.Id = string(idAt(over.Time().Truncate(24 * time.Hour)))
	h.publish(late)
	decision(h.api, late.Envelope.Id)

	j := h.janitor(h.files, h.bucket)
	var did swept
	if err := j.rows(t.Context(), h.leader.Load(), &did); err != nil || did.days != 0 || did.rows != 2 {
		t.Fatalf("%+v, %v; want the two rows that are over, and no day", did, err)
	}
	h.worker.send(&pb.WorkUp{Credit: 1})
	a := assigned(h.worker)
	h.ends(a)
	h.forgotten(late.Envelope.Id)
	did = swept{}
	if err := j.rows(t.Context(), h.leader.Load(), &did); err != nil || did.days+did.rows != 0 {
		t.Fatalf("%+v, %v; want the day kept for the job that ended now", did, err)
	}
	if _, err := h.store.Job(t.Context(), beside); err != nil {
		t.Error(err)
	}
	// The object of a row that is gone is an orphan.
	if did := h.walk(j); did.orphan != 2 {
		t.Errorf("%+v", did)
	}
	if slices.Contains(h.keys(), overKey) {
		t.Error("the object of a deleted row stays")
	}
	days, err := h.store.Days(t.Context())
	today := time.Now().UTC().Truncate(24 * time.Hour)
	if err != nil || !slices.Contains(days, today.AddDate(0, 0, daysAhead)) {
		t.Errorf("days %v, %v; want those to come among them", days, err)
	}
}

func TestJanitorDropsADay(t *testing.T) {
	h := newHouse(t)
	over, _ := h.filed(40, -time.Second)
	live, _ := h.filed(10, time.Hour)
	h.open(alone())
	j := h.janitor(h.files, h.bucket)
	var did swept
	if err := j.rows(t.Context(), h.leader.Load(), &did); err != nil || did.days != 1 || did.rows != 0 {
		t.Fatalf("%+v, %v; want one day dropped", did, err)
	}
	if _, err := h.store.Job(t.Context(), over); err == nil {
		t.Error("a row of a dropped day is there")
	}
	if _, err := h.store.Job(t.Context(), live); err != nil {
		t.Error(err)
	}
	if events, _, _, err := h.store.Audit(t.Context(), "acc_acme", time.Date(over.Time().Year(), over.Time().Month(), 1, 0, 0, 0, 0, time.UTC)); err != nil || events == 0 {
		t.Errorf("%d charges, %v: bills are kept", events, err)
	}
}
