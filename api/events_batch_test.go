package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// wantBatch is the next event, of this type and about this batch.
func (w *watch) wantBatch(kind string, b *aBatch) toldEvent {
	w.t.Helper()
	got := w.next()
	if got.Type != kind || got.Data.Batch == nil || got.Data.Batch.Id != b.ID {
		w.t.Fatalf("event %+v, want %s of %s", got, kind, b.ID)
	}
	return got
}

// silent is that nothing has come so far.
func (w *watch) silent(when string) {
	w.t.Helper()
	synctest.Wait()
	select {
	case ev := <-w.events:
		w.t.Errorf("%s: %+v", when, ev)
	default:
	}
}

// A batch's stream begins with the batch as it is, tells what has changed at most
// once a second, and ends with it.
func TestBatchEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		b := f.batch(line(1, ""), line(2, ""), line(3, ""))
		w := f.watch("/v1/batches/" + b.ID + "/events")
		if got := w.wantBatch("batch.progress", b); got.Data.Batch.Status != "running" || got.Data.Batch.Counts.Queued != 3 || got.id == "" {
			t.Errorf("%+v", got.Data.Batch)
		}
		time.Sleep(10 * time.Second)
		w.silent("while nothing changes")
		at := time.Now()
		for range 5 { // within a second
			b.change(func(b *batch.Batch) { b.Ends.Succeeded = min(b.Ends.Succeeded+1, 2) })
			time.Sleep(10 * time.Millisecond)
		}
		if got := w.wantBatch("batch.progress", b); got.Data.Batch.Counts.Succeeded != 2 || time.Since(at) > progressEvery {
			t.Errorf("%+v after %s", got.Data.Batch, time.Since(at))
		}
		w.silent("after the progress of a second")
		f.store.setDown(true) // the archive is away for a while
		time.Sleep(5 * time.Second)
		f.store.setDown(false)
		w.silent("while the archive was away")
		b.change(func(b *batch.Batch) {
			b.State, b.Ends.Succeeded, b.FinishedAt = batch.Completed, 3, time.Now()
		})
		last := w.wantBatch("batch.completed", b)
		if v := last.Data.Batch; v.Status != "completed" || v.Progress != 1 || v.Counts.Succeeded != 3 {
			t.Errorf("%+v", v)
		}
		if rest := w.over(); len(rest) > 0 || !strings.HasSuffix(last.id, endMark) {
			t.Errorf("after %s: %v", last.id, rest)
		}
		path := "/v1/batches/" + b.ID + "/events"
		if w := f.watch(path, header{"Last-Event-ID": last.id}); w.status != http.StatusNoContent {
			t.Errorf("after the end: %d", w.status)
		}
		w = f.watch(path, header{"Last-Event-ID": "0"}) // a state has no history to be missed
		w.wantBatch("batch.completed", b)
		w.over()
		// What failed is tried again: it goes on for who has seen the end.
		b.change(func(b *batch.Batch) { b.State, b.Pass, b.FinishedAt = batch.Running, 2, time.Time{} })
		w = f.watch(path, header{"Last-Event-ID": last.id})
		if got := w.wantBatch("batch.progress", b); got.Data.Batch.Pass != 2 {
			t.Errorf("%+v", got.Data.Batch)
		}
		f.do("GET", "/v1/batches/batch_x/events", "").problem(t, 404, "not_found")
	})
}

// The events of its jobs come as well where they are asked for, and go on where
// they were.
func TestBatchLineEvents(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, ""), line(2, ""))
	var ids []string
	for i := range 2 {
		id := f.submit(`{"html":"x"}`).Id
		f.leader.change(id, func(j *pb.Job) { j.Batch, j.Line = b.ID, uint32(i+1) })
		ids = append(ids, id)
	}
	path := "/v1/batches/" + b.ID + "/events?batch_line_events=true"
	w := f.watch(path)
	w.wantBatch("batch.progress", b)
	f.accepts(ids[0])
	queued := w.want("job.queued", ids[0])
	w.goAway()
	w.over()
	f.accepts(ids[1])
	f.ends(ids[0])
	w = f.watch(path, header{"Last-Event-ID": queued.id})
	var got []string
	for range 3 { // the batch as it is comes when the ledger has been read, however far that was
		if ev := w.next(); ev.Type != "batch.progress" {
			got = append(got, ev.Type+" "+ev.Data.Job["id"].(string))
		}
	}
	if want := []string{"job.queued " + ids[1], "job.succeeded " + ids[0]}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	b.change(func(b *batch.Batch) { b.State, b.FinishedAt = batch.Canceled, time.Now() })
	if got := w.wantBatch("batch.completed", b); got.Data.Batch.Status != "canceled" {
		t.Errorf("%+v", got.Data.Batch)
	}
	w.over()
}

// An account's stream has its batches, those that begin and end between two
// looks and those that ended while it was broken.
func TestAccountBatchEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm(t)
		f.ledger.add()
		end := func(b *aBatch) {
			b.change(func(b *batch.Batch) { b.State, b.FinishedAt = batch.Completed, time.Now() })
		}
		end(f.batch(line(1, ""))) // before anybody looks
		running := f.batch(line(1, ""))
		time.Sleep(10 * time.Second)
		f.ledger.add()
		w, second := f.watch("/v1/events"), f.watch("/v1/events")
		w.want("stream.opened", "")
		w.wantBatch("batch.progress", running)
		quick := f.batch(line(1, ""))
		end(quick)
		w.wantBatch("batch.completed", quick)
		time.Sleep(2 * clocksApart)
		f.ledger.add(&pb.Event{Fact: &pb.Event_QuotaReached{QuotaReached: &pb.QuotaReached{
			Account: f.acct.ID, Period: 20000, Percent: 80, Used: 120 * 80, Limit: 120 * 100, ResetsUs: time.Now().UnixMicro(),
		}}})
		warned := w.want("quota.warning", "")
		if warned.Data.Usage["percent"] != 80.0 || warned.Data.Usage["used"] != 80.0 {
			t.Errorf("%+v", warned)
		}
		f.store.mu.Lock()
		before := f.store.looked
		f.store.mu.Unlock()
		time.Sleep(10*time.Second + time.Millisecond)
		f.store.mu.Lock()
		looked := f.store.looked - before
		f.store.mu.Unlock()
		if looked > 11 {
			t.Errorf("two streams looked %d times in ten seconds", looked)
		}
		w.goAway()
		w.over()
		second.goAway()
		second.over()
		time.Sleep(20 * time.Second)
		end(running)
		time.Sleep(time.Second)
		w = f.watch("/v1/events", header{"Last-Event-ID": warned.id})
		w.wantBatch("batch.completed", running)
		time.Sleep(2 * recently)
		w.silent("after all was told")
	})
}

func (m *memStore) RecentBatches(_ context.Context, accountID string, within time.Duration) ([]*batch.Batch, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	m.looked++
	var out []*batch.Batch
	for _, b := range m.batches {
		if b.Account == accountID && (!b.State.Ended() || time.Since(b.FinishedAt) < within) {
			out = append(out, &b.Batch)
		}
	}
	return out, nil
}
