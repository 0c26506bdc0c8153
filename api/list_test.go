package api

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestList(t *testing.T) {
	f := newFarm(t)
	began := time.Now().Add(-time.Hour)
	var ids []string
	for i := range 5 {
		state := job.Succeeded
		if i == 2 {
			state = job.Failed
		}
		ids = append(ids, string(f.filed(idAt(began.Add(time.Duration(i)*time.Second)), state, []byte("x")).ID))
	}
	var got []string
	target := "/v1/jobs?limit=2"
	for range 3 {
		var list JobList
		a := f.do("GET", target, "")
		a.json(t, &list)
		for _, j := range list.Data {
			got = append(got, j.Id)
		}
		if list.HasMore != (list.NextCursor != nil) {
			t.Fatalf("%s", a.Body)
		}
		if list.NextCursor != nil {
			target = "/v1/jobs?limit=2&after=" + *list.NextCursor
		}
	}
	for i := range ids {
		if got[i] != ids[4-i] {
			t.Fatalf("got %q, want the reverse of %q", got, ids)
		}
	}
	var list JobList
	f.do("GET", "/v1/jobs?status=failed", "").json(t, &list)
	if len(list.Data) != 1 || list.Data[0].Id != ids[2] {
		t.Errorf("failed: %+v", list.Data)
	}
	for _, bad := range []string{"limit=0", "limit=201", "limit=x", "limit=1&limit=2", "status=done", "after=x", "offset=1", "Limit=1", "%zz", "after=%ff"} {
		f.do("GET", "/v1/jobs?"+bad, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	f.store.setDown(true)
	f.do("GET", "/v1/jobs", "").problem(t, 503, "unavailable")
}

// listed walks through a list page by page.
func (f *farm) listed(query string) (ids []string) {
	f.t.Helper()
	for after := ""; ; {
		var list JobList
		a := f.do("GET", "/v1/jobs?limit=3"+query+after, "")
		if a.Code != http.StatusOK {
			f.t.Fatalf("%d %s", a.Code, a.Body)
		}
		a.json(f.t, &list)
		for _, j := range list.Data {
			ids = append(ids, j.Id)
		}
		if !list.HasMore {
			return ids
		}
		after = "&after=" + *list.NextCursor
	}
}

// Jobs of the leader and of the archive make one list: in order, each once,
// and none is missed on its way from the one to the other.
func TestListOfUnfinished(t *testing.T) {
	f := newFarm(t)
	var all, queued []string
	for i := range 9 {
		id := f.submit(`{"html":"x"}`).Id
		all = append(all, id)
		switch i % 4 {
		case 0:
			queued = append(queued, id)
		case 1: // in both, as a job is that was filed a moment ago
			f.succeed(id, []byte("x"))
			f.filed(job.ID(id), job.Succeeded, []byte("x"))
		case 2: // ended, and not filed yet
			f.succeed(id, []byte("x"))
		case 3: // long ago
			f.leader.forget(id)
			f.filed(job.ID(id), job.Succeeded, []byte("x"))
		}
	}
	slices.Reverse(all)
	slices.Reverse(queued)
	if got := f.listed(""); !slices.Equal(got, all) {
		t.Errorf("got %q, want %q", got, all)
	}
	if got := f.listed("&status=queued"); !slices.Equal(got, queued) {
		t.Errorf("queued: %q, want %q", got, queued)
	}
	if got := f.listed("&status=succeeded"); len(got) != len(all)-len(queued) {
		t.Errorf("succeeded: %q", got)
	}
	if got := f.listed("&status=running"); len(got) != 0 {
		t.Errorf("running: %q", got)
	}
	f.leader.change(queued[0], func(j *pb.Job) { j.State, j.WaitingFor = "running", "" })
	if got := f.listed("&status=running"); !slices.Equal(got, queued[:1]) {
		t.Errorf("running: %q, want %q", got, queued[:1])
	}

	// What waits is the leader's to say; the rest needs the archive too.
	f.store.setDown(true)
	if got := f.listed("&status=queued"); !slices.Equal(got, queued[1:]) {
		t.Errorf("queued, without the archive: %q, want %q", got, queued[1:])
	}
	f.do("GET", "/v1/jobs", "").problem(t, 503, "unavailable")
	f.store.setDown(false)

	f.acct, f.key = f.store.newAccount("another")
	if got := f.listed(""); len(got) != 0 {
		t.Errorf("another account sees %q", got)
	}
}

// Without a leader a list would have gaps, so there is none.
func TestListNeedsTheLeader(t *testing.T) {
	f := newLonelyFarm(t)
	f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, []byte("x"))
	f.do("GET", "/v1/jobs", "").problem(t, 503, "unavailable")
}

// A large page is looked up whole.
func TestListOfMany(t *testing.T) {
	f := newFarm(t)
	for range 150 {
		f.submit(`{"html":"x"}`)
	}
	var list JobList
	f.do("GET", "/v1/jobs?limit=200", "").json(t, &list)
	if len(list.Data) != 150 || list.HasMore || list.Data[0].Status != "queued" {
		t.Errorf("%d jobs, more %v", len(list.Data), list.HasMore)
	}
}

func TestListJobsOfABatch(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "a"), line(2, "b"), line(3, "c"))
	for i := range 3 {
		b.end(i+1, 1, job.Succeeded, []byte("png"))
	}
	f.filed(job.NewID(), job.Succeeded, []byte("png"))
	f.submit(`{"html":"x"}`)
	path := "/v1/jobs?batch_id=" + b.ID
	var page JobList
	f.do("GET", path+"&limit=2", "").json(t, &page)
	if len(page.Data) != 2 || !page.HasMore || *page.Data[0].CustomId != "c" || *page.Data[0].BatchId != b.ID {
		t.Fatalf("%+v", page)
	}
	next := *page.NextCursor
	page = JobList{}
	f.do("GET", path+"&limit=2&after="+next, "").json(t, &page)
	if len(page.Data) != 1 || page.HasMore || *page.Data[0].CustomId != "a" {
		t.Errorf("%+v", page)
	}
	f.do("GET", "/v1/jobs?batch_id="+batch.NewID(), "").problem(t, 404, "not_found")
	f.do("GET", "/v1/jobs?batch_id=x", "").problem(t, 404, "not_found")
	_, other := f.store.newAccount("other")
	f.do("GET", path, "", header{"Authorization": "Bearer " + other}).problem(t, 404, "not_found")
}
