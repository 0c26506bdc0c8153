package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	batches "github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
)

// batchOf is a batch of the house that runs, made so many days ago, with its
// objects.
func (h *house) batchOf(days int) *batches.Batch {
	h.t.Helper()
	id := "batch_" + string(idAt(time.Now().AddDate(0, 0, -days)))[4:]
	b := &batches.Batch{ID: id, Account: h.farm.account, Key: "key", Format: batches.Text, OnError: batches.Skip, Input: h.put("b/acc_acme/" + id + "/input")}
	if err := h.store.InsertBatch(h.t.Context(), b, time.Hour, nil, nil); err != nil {
		h.t.Fatal(err)
	}
	lines := h.put("b/acc_acme/" + id + "/lines.jsonl")
	h.exec(fmt.Sprintf(`UPDATE batches SET state = 'running', lines = '%s', pass_object = '%[1]s',
		created_at = date_trunc('milliseconds', now() - interval '%d days') WHERE id = '%s'`, lines, days, id))
	h.exec(fmt.Sprintf(`INSERT INTO batch_refusals (batch, line, pass, code, detail) VALUES ('%s', 9, 1, 'forbidden', 'no')`, id))
	b, err := h.store.Batch(h.t.Context(), b.Account, b.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// completed ends a batch that is kept for so long.
func (h *house) completed(b *batches.Batch, kept time.Duration) {
	h.t.Helper()
	h.exec(fmt.Sprintf(`UPDATE batches SET state = 'completed', kept_until = now() + interval '%d seconds' WHERE id = '%s'`, int(kept.Seconds()), b.ID))
}

// lineOf is a line of it that succeeded, and whose retention ends in left.
func (h *house) lineOf(b *batches.Batch, line, pass int, left time.Duration) (id job.ID, key string) {
	h.t.Helper()
	id = batches.JobID(b.ID, b.CreatedAt, line, pass)
	key = h.put(artifact(id, "7"))
	end := store.Ended{Job: &job.Job{
		ID: id, Account: b.Account, State: job.Succeeded, CreatedAt: b.CreatedAt, FinishedAt: b.CreatedAt, ExpiresAt: time.Now().Add(left),
		Batch: b.ID, Line: line, Pass: pass, Attempts: 1, Options: []byte("{}"), Result: &job.Result{Object: key, ContentType: "image/png"},
	}}
	p, err := h.store.Projection(h.t.Context())
	if err == nil {
		_, err = h.store.Project(h.t.Context(), p, p, store.Filing{Ends: []store.Ended{end}})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return id, key
}

func (h *house) delivery(id, state, ended string) {
	h.t.Helper()
	h.exec(fmt.Sprintf(`INSERT INTO deliveries (id, account, url, lane, type, subject, state, happened, ended_at)
		VALUES ('%s', 'acc_acme', 'https://example.com/', 'lane', 'job.succeeded', 'job_1', '%s', now(), %s)`, id, state, ended))
	h.exec(fmt.Sprintf(`INSERT INTO delivery_attempts (delivery, attempt, at, took_ms) VALUES ('%s', 1, now(), 5)`, id))
}

func (h *house) file(expires string) (id, key string) {
	h.t.Helper()
	id = "file_" + string(job.NewID())[4:]
	key = h.put("f/acc_acme/" + id)
	h.exec(fmt.Sprintf(`INSERT INTO files (id, account, object, size_bytes, sha256, expires_at)
		VALUES ('%s', 'acc_acme', '%s', 5, '', now() + interval '%s')`, id, key, expires))
	return id, key
}

func (h *house) past(j *Janitor) swept {
	h.t.Helper()
	var did swept
	if err := j.past(h.t.Context(), &did); err != nil {
		h.t.Fatal(err)
	}
	return did
}

func TestJanitorEndsBatches(t *testing.T) {
	h := newHouse(t)
	running, kept, over, deleted := h.batchOf(0), h.batchOf(2), h.batchOf(3), h.batchOf(4)
	_, first := h.lineOf(running, 1, 1, time.Hour)
	_, second := h.lineOf(over, 1, 1, time.Hour)
	var gone []job.ID
	for i := range 15 { // some of them tried again
		id, _ := h.lineOf(deleted, 1+i/2, 1+i%2, time.Hour)
		gone = append(gone, id)
	}
	h.completed(kept, time.Hour)
	h.completed(over, -time.Second)
	h.completed(deleted, time.Hour)
	if _, err := h.store.DropBatch(t.Context(), "acc_acme", deleted.ID); err != nil {
		t.Fatal(err)
	}
	_, live := h.file("1 hour")
	_, named := h.file("-1 second")
	h.exec(fmt.Sprintf(`UPDATE batches SET input = '%s' WHERE id = '%s'`, named, kept.ID))
	_, past := h.file("-1 second")
	h.delivery("msg_pending", "pending", "NULL")
	h.delivery("msg_young", "delivered", "now() - interval '29 days'")
	h.delivery("msg_old", "failed", "now() - interval '31 days'")
	id := batches.NewID()
	strange := []string{
		h.put("b/acc_stranger/" + id + "/input"), h.put("f/acc_stranger/file_" + id[6:]), h.put("b/acc_acme/readme/input"),
		h.put("b/acc_acme/" + batches.NewID()), h.put("f/acc_acme/readme"), h.put("f/readme"), h.put("b/acc_acme/" + string(job.NewID()) + "/1.png"),
	}
	tried := h.put("b/acc_acme/" + running.ID + "/lines-of-a-validation-that-was-cut-off.jsonl")
	orphans := []string{h.put("b/acc_acme/" + id + "/input"), h.put("f/acc_acme/file_" + id[6:])}
	h.open(alone())

	patient := h.janitor(h.files, h.bucket, func(c *JanitorConfig) { c.OrphanAge = 0; c.Plans = nil })
	if did := h.walk(patient); did.uploads != 0 {
		t.Errorf("%+v: nothing of it is old enough", did)
	}
	j := h.janitor(h.files, h.bucket)
	if did := h.past(j); did.batches != 2 || did.files != 2 || did.deliveries != 1 {
		t.Errorf("%+v", did)
	}
	stay := append([]string{running.Input, running.Lines, kept.Input, kept.Lines, first, second, live, named}, strange...)
	h.wantKeys(append(append([]string{tried, past}, orphans...), stay...)...)
	if did := h.walk(j); did.uploads != 5 { // the input of kept is now the file
		t.Errorf("%+v", did)
	}
	stay = slices.DeleteFunc(stay, func(key string) bool { return key == kept.Input })
	h.wantKeys(stay...)
	for _, b := range []*batches.Batch{over, deleted} {
		h.exec(fmt.Sprintf(`INSERT INTO batch_refusals (batch, line, pass, code, detail) VALUES ('%s', 9, 1, 'x', 'it was deleted before')`, b.ID))
	}
	for _, id := range gone {
		if j, err := h.store.Job(t.Context(), id); err != nil || !j.Result.Gone {
			t.Errorf("%s: %+v, %v", id, j, err)
		}
	}
	if j, err := h.store.Job(t.Context(), batches.JobID(over.ID, over.CreatedAt, 1, 1)); err != nil || j.Result.Gone {
		t.Errorf("a line of a batch whose retention ended: %+v, %v", j, err)
	}
	h.delivery("msg_old", "failed", "now()") // nor is its attempt there any more
	if did := h.past(j); did.batches+did.files+did.deliveries != 0 {
		t.Errorf("again: %+v", did)
	}
	counts := gathered(t, j.cfg.Metrics.(*prometheus.Registry))
	if got := counts["tintype_janitor_objects_deleted_total upload"]; got != 5 {
		t.Errorf("%v uploads are counted", got)
	}
}

// A batch whose objects cannot be deleted stays, for the next sweep; so does one
// of which that is not known.
func TestJanitorEndsBatchesLater(t *testing.T) {
	h := newHouse(t)
	b := h.batchOf(1)
	h.lineOf(b, 1, 1, time.Hour)
	h.completed(b, time.Hour)
	if _, err := h.store.DropBatch(t.Context(), "acc_acme", b.ID); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("connection refused")
	for _, took := range []bool{false, true} {
		var did swept
		if err := h.janitor(h.files, &listing{Bucket: h.bucket, fail: refused, took: took}).past(t.Context(), &did); !errors.Is(err, refused) || did.batches != 0 {
			t.Errorf("%+v, %v", did, err)
		}
	}
	if did := h.past(h.janitor(h.files, h.bucket)); did.batches != 1 {
		t.Errorf("%+v", did)
	}
	h.wantKeys()
}

// The results of a batch are made of rows: they stay for as long as it does,
// also where their own retention has ended, and their day with them.
func TestJanitorKeepsRowsOfBatches(t *testing.T) {
	h := newHouse(t)
	b := h.batchOf(40)
	id, _ := h.lineOf(b, 1, 1, -72*time.Hour)
	h.completed(b, time.Hour)
	h.open(alone())
	j := h.janitor(h.files, h.bucket)
	rows := func() (did swept) {
		t.Helper()
		if err := j.rows(t.Context(), h.leader.Load(), &did); err != nil {
			t.Fatal(err)
		}
		return did
	}
	if did := rows(); did.days+did.rows != 0 {
		t.Errorf("%+v", did)
	}
	if _, err := h.store.Job(t.Context(), id); err != nil {
		t.Error(err)
	}
	h.completed(b, -time.Second)
	if did := h.past(j); did.batches != 1 {
		t.Errorf("%+v", did)
	}
	if did := rows(); did.days != 1 {
		t.Errorf("%+v", did)
	}
}
