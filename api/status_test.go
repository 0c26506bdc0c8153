package api

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// idAt is an id that was made at the moment t.
func idAt(t time.Time) job.ID {
	u := uuid.New()
	ms := t.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (40 - 8*i))
	}
	u[6] = 0x70 | u[6]&0x0f
	return job.FromUUID(u)
}

func TestPoll(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x","custom_id":"c"}`).Id
	f.leader.change(id, func(j *pb.Job) { j.Position = 4 })
	if j := f.do("GET", "/v1/jobs/"+id, "").job(t, 200); j.Status != "queued" || *j.Position != 4 {
		t.Errorf("%+v", j)
	}
	if j := f.do("GET", "/v1/jobs/"+strings.ToLower(id[4:]), ""); j.Code != 404 {
		t.Errorf("an id without its prefix: %d", j.Code)
	}
	if j := f.do("GET", "/v1/jobs/job_"+strings.ToLower(id[4:]), "").job(t, 200); j.Id != id {
		t.Errorf("id in lower case became %q", j.Id)
	}
	f.leader.change(id, func(j *pb.Job) {
		j.State, j.WaitingFor, j.Position, j.StartedUs = "running", "", 0, time.Now().UnixMicro()
	})
	if j := f.do("GET", "/v1/jobs/"+id, "").job(t, 200); j.Status != "running" || j.WaitingFor != nil || j.StartedAt == nil {
		t.Errorf("%+v", j)
	}
	f.fail(id, job.NameNotResolved, job.StageNavigate, "example.invalid does not exist")
	a := f.do("GET", "/v1/jobs/"+id, "")
	if j := a.job(t, 200); j.Status != "failed" || j.Error.Code != "name_not_resolved" || !j.Error.Retryable || j.Error.Stage != "navigate" || *j.Billable {
		t.Errorf("%s", a.Body)
	}
	// Forgotten by the leader, it is in the archive.
	f.leader.forget(id)
	f.filed(job.ID(id), job.Failed, nil)
	f.do("GET", "/v1/jobs/"+id, "").job(t, 200)
}

// A 404 takes two noes and an id that cannot be on its way any more.
func TestUnknown(t *testing.T) {
	f := newFarm(t)
	old, young := "/v1/jobs/"+string(idAt(time.Now().Add(-20*time.Second))), "/v1/jobs/"+string(idAt(time.Now()))
	f.do("GET", old, "").problem(t, 404, "not_found")
	a := f.do("GET", young, "")
	a.problem(t, 503, "unavailable")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.do("GET", "/v1/jobs/"+string(idAt(time.Now().Add(24*time.Hour))), "").problem(t, 404, "not_found")
	f.do("GET", "/v1/jobs/job_x", "").problem(t, 404, "not_found")
	f.do("DELETE", old, "").problem(t, 404, "not_found")
	f.do("GET", old+"/result", "").problem(t, 404, "not_found")
	f.do("DELETE", old+"/result", "").problem(t, 404, "not_found")

	f.store.setDown(true)
	f.do("GET", old, "").problem(t, 503, "unavailable")
	f.store.setDown(false)

	lonely := newLonelyFarm(t)
	lonely.do("GET", old, "").problem(t, 503, "unavailable")
	lonely.do("DELETE", old, "").problem(t, 503, "unavailable")
	filed := lonely.filed(idAt(time.Now().Add(-time.Hour)), job.Canceled, nil)
	lonely.do("GET", "/v1/jobs/"+string(filed.ID), "").job(t, 200)
	lonely.do("DELETE", "/v1/jobs/"+string(filed.ID), "").job(t, 200)
}

func TestAnotherAccountsJob(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	filed := f.filed(idAt(time.Now().Add(-time.Hour)), job.Succeeded, []byte("png"))
	_, f.key = f.store.newAccount("other")
	for _, id := range []string{id, string(filed.ID)} {
		f.do("GET", "/v1/jobs/"+id, "").problem(t, 404, "not_found")
		f.do("GET", "/v1/jobs/"+id+"?wait=60", "").problem(t, 404, "not_found")
		f.do("DELETE", "/v1/jobs/"+id, "").problem(t, 404, "not_found")
		f.do("GET", "/v1/jobs/"+id+"/result", "").problem(t, 404, "not_found")
		f.do("DELETE", "/v1/jobs/"+id+"/result", "").problem(t, 404, "not_found")
	}
	var list JobList
	f.do("GET", "/v1/jobs", "").json(t, &list)
	if len(list.Data) != 0 {
		t.Error("another account's jobs are listed")
	}
	if len(f.leader.canceled) != 2 {
		t.Errorf("%d cancels", len(f.leader.canceled))
	}
}

func TestLongPoll(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	done := make(chan answered)
	go func() { done <- f.do("GET", "/v1/jobs/"+id, "", header{"Prefer": "wait=30"}) }()
	for q := range f.leader.looked {
		if q.WaitMs > 29_000 {
			break
		}
	}
	f.succeed(id, []byte("png"))
	a := <-done
	if j := a.job(t, 200); j.Status != "succeeded" || a.Header().Get("Preference-Applied") != "wait=30" {
		t.Errorf("%s", a.Body)
	}
}

func TestLongPollIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		id := f.submit(`{"html":"x"}`).Id
		began := time.Now()
		if j := f.do("GET", "/v1/jobs/"+id+"?wait=7s", "").job(t, 200); j.Status != "queued" {
			t.Errorf("%+v", j)
		}
		if took := time.Since(began); took < 7*time.Second || took > 8*time.Second {
			t.Errorf("waited %s", took)
		}
	})
}

// A client that goes away is forgotten at the leader too.
func TestLongPollForget(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan answered)
	go func() { done <- f.doContext(ctx, "GET", "/v1/jobs/"+id+"?wait=30", "") }()
	var call uint64
	for q := range f.leader.looked {
		if q.WaitMs > 0 {
			call = q.Call
			break
		}
	}
	cancel()
	(<-done).problem(t, statusClientGone, "canceled")
	if n := <-f.leader.forgot; n != call {
		t.Errorf("forgot %d, want %d", n, call)
	}
}

// A long poll survives a change of leaders.
func TestLongPollAcrossLeaders(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	done := make(chan answered)
	go func() { done <- f.do("GET", "/v1/jobs/"+id+"?wait=30", "") }()
	wait := func() *pb.Lookup {
		for q := range f.leader.looked {
			if q.WaitMs > 0 {
				return q
			}
		}
		return nil
	}
	first := wait()
	f.leader.hangUp()
	f.leader.listen()
	if second := wait(); second.Id != id || second.WaitMs > first.WaitMs {
		t.Errorf("asked again %v", second)
	}
	f.succeed(id, []byte("png"))
	if j := (<-done).job(t, 200); j.Status != "succeeded" {
		t.Errorf("%+v", j)
	}
}

func TestCancel(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	for range 2 {
		if j := f.do("DELETE", "/v1/jobs/"+id, "").job(t, 200); j.Status != "canceled" {
			t.Errorf("%+v", j)
		}
	}
	f.leader.forget(id)
	f.filed(job.ID(id), job.Canceled, nil)
	f.do("DELETE", "/v1/jobs/"+id, "").job(t, 200)

	id = f.submit(`{"html":"x"}`).Id
	f.succeed(id, []byte("png"))
	f.do("DELETE", "/v1/jobs/"+id, "").problem(t, 409, "already_finished")
	f.leader.forget(id)
	f.filed(job.ID(id), job.Succeeded, []byte("png"))
	f.do("DELETE", "/v1/jobs/"+id, "").problem(t, 409, "already_finished")
}
