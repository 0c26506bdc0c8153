package api

import (
	"testing"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
)

func TestDeleteBatch(t *testing.T) {
	f := newFarm(t)
	var lines []batch.Line
	for i := range deleteAtOnce + 10 {
		lines = append(lines, line(i+1, ""))
	}
	b, other := f.batch(lines...), f.batch(line(1, ""))
	f.bucket.set(b.Input, []byte("the input"))
	var last *job.Job
	for _, l := range lines {
		last = b.end(l.Number, 1, job.Succeeded, []byte("png"))
	}
	kept := other.end(1, 1, job.Succeeded, []byte("png"))
	path := "/v1/batches/" + b.ID
	f.do("DELETE", path, "").problem(t, 409, "conflict")
	b.change(func(b *batch.Batch) { b.State = batch.Completed })
	_, stranger := f.store.newAccount("other")
	f.do("DELETE", path, "", header{"Authorization": "Bearer " + stranger}).problem(t, 404, "not_found")
	f.do("DELETE", "/v1/batches/batch_x", "").problem(t, 404, "not_found")
	f.store.setDown(true)
	f.do("DELETE", path, "").problem(t, 503, "unavailable")
	f.store.setDown(false)
	if len(b.results("")) != len(lines) {
		t.Error("it was deleted before its time")
	}

	if a := f.do("DELETE", path, ""); a.Code != 204 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	f.do("DELETE", path, "").problem(t, 404, "not_found")
	f.do("GET", path+"/results", "").problem(t, 404, "not_found")
	f.do("GET", "/v1/jobs/"+string(last.ID)+"/result", "").problem(t, 410, "gone")
	if j := f.do("GET", "/v1/jobs/"+string(last.ID), "").job(t, 200); j.BatchId == nil || *j.BatchId != b.ID {
		t.Errorf("its job: %+v", j)
	}
	want := []string{other.Lines, kept.Result.Object}
	if keys := f.bucket.keys(); len(keys) != 2 || keys[0] != want[0] || keys[1] != want[1] {
		t.Errorf("the bucket holds %d objects, want %q", len(keys), want)
	}
	f.do("GET", "/v1/jobs/"+string(kept.ID)+"/result", "").bytes(t, "png")
}

// What a request cannot delete is left to the janitor: the batch is gone.
func TestDeleteBatchWithoutTheStore(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, ""))
	j := b.end(1, 1, job.Succeeded, []byte("png"))
	b.change(func(b *batch.Batch) { b.State = batch.Canceled })
	f.bucket.setDown(true)
	if a := f.do("DELETE", "/v1/batches/"+b.ID, ""); a.Code != 204 {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	f.bucket.setDown(false)
	f.do("GET", "/v1/batches/"+b.ID+"/results", "").problem(t, 404, "not_found")
	f.do("GET", "/v1/jobs/"+string(j.ID)+"/result", "").problem(t, 410, "gone")
}
