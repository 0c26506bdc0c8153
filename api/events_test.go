package api

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// A job's stream begins with the job as it is, tells each change with the job as
// GET shows it, and ends with it.
func TestJobEvents(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"<p>secret</p>","custom_id":"mine","delay_ms":7}`).Id
	f.accepts(id)
	w := f.watch("/v1/jobs/" + id + "/events")
	if w.status != 200 || w.header.Get("Content-Type") != "text/event-stream" || w.header.Get("Cache-Control") != "no-store" || w.header.Get("X-Request-Id") == "" {
		t.Fatalf("%d %v", w.status, w.header)
	}
	first := w.want("job.queued", id)
	job := first.Data.Job
	options := job["options"].(map[string]any)
	if job["status"] != "queued" || job["waiting_for"] != "worker" || job["custom_id"] != "mine" || options["delay_ms"] != 7.0 || options["html"] != nil {
		t.Errorf("the first event: %v", job)
	}
	f.starts(id)
	running := w.want("job.running", id)
	if j := running.Data.Job; j["status"] != "running" || j["attempts"] != 1.0 || j["started_at"] == nil || j["finished_at"] != nil || j["result"] != nil {
		t.Errorf("while it runs: %v", j)
	}
	f.releases(id)
	if j := w.want("job.queued", id).Data.Job; j["waiting_for"] != "retry" || j["attempts"] != 1.0 {
		t.Errorf("after a lost attempt: %v", j)
	}
	f.starts(id)
	w.want("job.running", id)
	f.ends(id)
	last := w.want("job.succeeded", id)
	if rest := w.over(); len(rest) > 0 || !strings.HasSuffix(last.id, "-end") {
		t.Errorf("after the end, whose id is %s: %v", last.id, rest)
	}
	var got map[string]any
	f.do("GET", "/v1/jobs/"+id, "").json(t, &got)
	delete(got["options"].(map[string]any), "html")
	if diff := cmp.Diff(got, last.Data.Job); diff != "" {
		t.Errorf("the last event differs from GET (-GET +event):\n%s", diff)
	}
	if at := got["finished_at"].(string); last.Timestamp.Format("2006-01-02T15:04:05.000Z") != at {
		t.Errorf("timestamp %s of an end at %s", last.Timestamp, at)
	}
	// Whoever has seen the end is told not to come back, whoever has not is told
	// the end.
	if w := f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": last.id}); w.status != http.StatusNoContent || len(w.over()) > 0 {
		t.Errorf("after the end: %d %s", w.status, w.raw)
	}
	w = f.watch("/v1/jobs/" + id + "/events")
	w.want("job.succeeded", id)
	w.over()
}

// A stream that was broken goes on where it was, on any replica, also when all
// is over by then.
func TestEventsResume(t *testing.T) {
	f := newFarm(t)
	id, other := f.submit(`{"html":"x"}`).Id, f.submit(`{"html":"y"}`).Id
	f.accepts(id)
	f.accepts(other)
	w := f.watch("/v1/jobs/" + id + "/events")
	queued := w.want("job.queued", id)
	w.goAway()
	w.over()
	f.starts(other)
	f.starts(id)
	f.releases(id)
	f.starts(id)
	w = f.watch("/v1/jobs/" + id + "/events?last_event_id=" + queued.id)
	first := w.want("job.running", id)
	if j := first.Data.Job; j["attempts"] != 1.0 || j["status"] != "running" {
		t.Errorf("as it was when its first attempt began: %v", j)
	}
	w.want("job.queued", id)
	if j := w.want("job.running", id).Data.Job; j["attempts"] != 2.0 {
		t.Errorf("as it is: %v", j)
	}
	f.ends(other)
	f.ends(id)
	w.want("job.succeeded", id)
	w.over()

	// The header goes before the query, which EventSource repeats as it was.
	w = f.watch("/v1/jobs/"+id+"/events?last_event_id="+queued.id, header{"Last-Event-ID": first.id})
	w.want("job.queued", id)
	w.want("job.running", id)
	last := w.want("job.succeeded", id)
	w.over()
	// An id of another stream that is behind the end.
	w = f.watch("/v1/jobs/" + id + "/events?last_event_id=" + strings.TrimSuffix(last.id, "-end"))
	w.want("job.succeeded", id)
	w.over()

	account := f.watch("/v1/events?last_event_id=" + queued.id)
	for _, want := range []string{"running " + other, "running " + id, "queued " + id, "running " + id, "succeeded " + other, "succeeded " + id} {
		kind, of, _ := strings.Cut(want, " ")
		account.want("job."+kind, of)
	}
}

// What the ledger does not hold any more cannot be told: the stream says so and
// goes on with what is now. So does one whose id is of another ledger.
func TestEventsThatAreGone(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	f.accepts(id)
	w := f.watch("/v1/jobs/" + id + "/events")
	queued := w.want("job.queued", id)
	w.goAway()
	w.over()
	f.starts(id)
	for range 3 {
		f.ledger.add()
	}
	f.ledger.purge(3)
	for _, mark := range []string{queued.id, "0", "99999999", "18446744073709551615"} {
		for _, path := range []string{"/v1/jobs/" + id + "/events", "/v1/events"} {
			w := f.watch(path, header{"Last-Event-ID": mark})
			if got := w.want("reset", ""); got.Data.Reason != "too_old" {
				t.Errorf("%s from %s: %+v", path, mark, got)
			}
			if path == "/v1/events" {
				w.want("stream.opened", "")
				continue
			}
			w.want("job.running", id)
		}
	}
	// However far behind or ahead the mark is, what happens from now on is told.
	for range 2 * replayNear {
		f.ledger.add()
	}
	f.ledger.purge(replayNear)
	var open []*watch
	for _, mark := range []string{queued.id, "99999999"} {
		one, all := f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": mark}), f.watch("/v1/events", header{"Last-Event-ID": mark})
		for _, w := range []*watch{one, all} {
			if got := w.want("reset", ""); got.id != "" && got.id != mark {
				t.Errorf("a reset has the id %s", got.id)
			}
		}
		one.want("job.running", id)
		all.want("stream.opened", "")
		open = append(open, one, all)
	}
	f.ends(id)
	for _, w := range open {
		w.want("job.succeeded", id)
	}
	f.ledger.purge(2 * replayNear)
	w = f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": queued.id})
	w.want("reset", "")
	w.want("job.succeeded", id)
	w.over()

	for _, bad := range []string{"x", "-1", "1-", "1-end-end", "18446744073709551616", " 1"} {
		a := f.do("GET", "/v1/events", "", header{"Last-Event-ID": bad})
		if p := a.problem(t, 400, "invalid_input"); (*p.Errors)[0].Pointer != "Last-Event-ID" {
			t.Errorf("%q: %s", bad, a.Body)
		}
	}
	f.do("GET", "/v1/events?last_event_id=x", "").problem(t, 400, "invalid_input")
	f.do("GET", "/v1/events?batch_line_events=maybe", "").problem(t, 400, "invalid_input")
	f.do("GET", "/v1/jobs/job_x/events", "").problem(t, 404, "not_found")
}

// Who cannot read what it has missed because others do is told so, and those who
// never get there with it do not keep everybody else from it.
func TestEventsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		id := f.submit(`{"html":"x"}`).Id
		f.accepts(id)
		if !f.server.replays.TryAcquire(replaysAtOnce) {
			t.Fatal("somebody reads already")
		}
		began := time.Now()
		p := f.do("GET", "/v1/events?last_event_id=65536", "").problem(t, 503, "unavailable")
		if took := time.Since(began); took < replayWithin || took > replayWithin+time.Second || !strings.Contains(p.Detail, "come back") {
			t.Errorf("after %s: %+v", took, p)
		}
		f.server.replays.Release(replaysAtOnce)
		f.ledger.hold(1) // who waits for it does not get there
		f.do("GET", "/v1/events?last_event_id=65536", "").problem(t, 503, "unavailable")
		if !f.server.replays.TryAcquire(replaysAtOnce) {
			t.Error("a turn has no end")
		}
		f.server.replays.Release(replaysAtOnce)
	})
}

// An account's stream has its own jobs alone, and lines of batches where it asks
// for them.
func TestAccountEvents(t *testing.T) {
	f := newFarm(t)
	own, line := f.submit(`{"html":"x"}`).Id, f.submit(`{"html":"y"}`).Id
	f.leader.change(line, func(j *pb.Job) { j.Batch, j.Line = "batch_1", 7 })
	mine := f.key
	var foreign string
	_, f.key = f.store.newAccount("other")
	foreign = f.submit(`{"html":"z"}`).Id
	f.key = mine
	plain, all := f.watch("/v1/events"), f.watch("/v1/events?batch_line_events=true")
	if got := plain.want("stream.opened", ""); got.Data.Jobs["waiting"] != 2 || got.id == "" {
		t.Errorf("%+v", got)
	}
	all.want("stream.opened", "")
	for _, id := range []string{foreign, line, own} {
		f.accepts(id)
		f.starts(id)
		f.ends(id)
	}
	for _, id := range []string{line, own} {
		for _, kind := range []string{"job.queued", "job.running", "job.succeeded"} {
			all.want(kind, id)
			if id == own {
				plain.want(kind, id)
			}
		}
	}
	f.ledger.mu.Lock()
	reads := f.ledger.reads
	f.ledger.mu.Unlock()
	if reads != 1 {
		t.Errorf("the ledger was read %d times for two streams", reads)
	}
}

// A hit of the cache has no queue to be in.
func TestCachedJobHasOneEvent(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	w := f.watch("/v1/events")
	w.want("stream.opened", "")
	f.succeed(id, []byte("png"))
	f.ledger.add(
		&pb.Event{Fact: &pb.Event_Accepted{Accepted: &pb.Accepted{Envelope: &pb.Envelope{Id: id, Account: f.acct.ID}, Place: pb.Place_PLACE_CACHED}}},
		&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Job: f.leaders(id)}}},
	)
	w.want("job.succeeded", id)
}

// A stream never shows an older state than an earlier answer did, however far the
// reading of the ledger is behind (I13).
func TestEventsAreNeverOlderThanAnswers(t *testing.T) {
	f := newFarm(t)
	first := f.submit(`{"html":"x"}`).Id
	keep := f.watch("/v1/events") // so that the ledger is read already
	keep.want("stream.opened", "")
	f.ledger.hold(4)
	f.accepts(first)
	f.starts(first)
	f.releases(first)
	f.starts(first)
	if j := f.do("GET", "/v1/jobs/"+first, "").job(t, 200); j.Status != "running" || j.Attempts != 2 {
		t.Fatalf("%+v", j)
	}
	one, all := f.watch("/v1/jobs/"+first+"/events"), f.watch("/v1/events")
	if j := one.want("job.running", first).Data.Job; j["attempts"] != 2.0 {
		t.Errorf("the first event: %v", j)
	}
	opened := all.want("stream.opened", "")
	// A replica that is further has sent this one's client what is still to come
	// here.
	ahead := f.watch("/v1/events", header{"Last-Event-ID": opened.id})
	f.ledger.hold(0)
	f.ends(first)
	one.want("job.succeeded", first)
	one.over()
	all.want("job.succeeded", first)
	ahead.want("job.succeeded", first)
	for _, kind := range []string{"job.queued", "job.running", "job.queued", "job.running", "job.succeeded"} {
		keep.want(kind, first) // which was open before, and is told all of it
	}
}

// A stream outlives its leader, and what came meanwhile is told once there is one.
func TestEventsAcrossLeaders(t *testing.T) {
	f := newFarm(t)
	id := f.submit(`{"html":"x"}`).Id
	w := f.watch("/v1/events")
	w.want("stream.opened", "")
	f.leader.hangUp()
	f.lost()
	f.accepts(id)
	f.starts(id)
	f.leader.listen()
	w.want("job.queued", id)
	w.want("job.running", id)
	f.ends(id)
	w.want("job.succeeded", id)
}

// A ledger that cannot be read is no 500, and one that is lost in the middle ends
// streams in words; who comes back misses nothing.
func TestEventsWithoutALedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		id := f.submit(`{"html":"x"}`).Id
		f.accepts(id)
		f.ledger.setAway(errDown)
		for _, path := range []string{"/v1/jobs/" + id + "/events", "/v1/events", "/v1/events?last_event_id=65536"} {
			if p := f.do("GET", path, "").problem(t, 503, "unavailable"); !strings.Contains(p.Detail, "events") {
				t.Errorf("%s: %+v", path, p)
			}
		}
		f.ledger.setAway(nil)
		w := f.watch("/v1/jobs/" + id + "/events")
		queued := w.want("job.queued", id)
		f.ledger.setAway(errDown)
		if got := w.want("reset", ""); got.Data.Reason != "gap" || got.id != queued.id {
			t.Errorf("%+v after %s", got, queued.id)
		}
		w.over()
		f.starts(id)
		f.ledger.setAway(nil)
		f.watch("/v1/jobs/"+id+"/events", header{"Last-Event-ID": queued.id}).want("job.running", id)
	})
}
