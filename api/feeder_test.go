package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// feedingFarm is a farm whose feeder finds batches. Every job that is accepted
// ends at once as ends says; "" leaves it as it is.
func feedingFarm(t *testing.T, ends func(rec *pb.Record) job.State, change ...func(*Config, *Deps)) *farm {
	f := newFarm(t, change...)
	f.leader.mu.Lock()
	f.leader.publish = func(_ context.Context, rec *pb.Record) (uint64, error) {
		seq := f.leader.store(rec)
		if state := ends(rec); state != "" {
			f.fileAs(rec.Envelope.Id, state)
		}
		return seq, nil
	}
	f.leader.mu.Unlock()
	f.store.mu.Lock()
	f.store.feeds = true
	f.store.mu.Unlock()
	return f
}

// fileAs ends a job that the leader has accepted, and moves it into the archive.
func (f *farm) fileAs(id string, state job.State) {
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	p := f.leader.jobs[id]
	if p == nil {
		return
	}
	delete(f.leader.jobs, id)
	j := wire.FromJob(p)
	j.State, j.FinishedAt, j.ExpiresAt = state, time.Now(), time.Now().Add(time.Hour)
	f.store.put(j)
}

func succeedAll(*pb.Record) job.State { return job.Succeeded }
func leaveAll(*pb.Record) job.State   { return "" }

// until waits until a batch is as it should be.
func (f *farm) until(id string, is func(b *batch.Batch) bool) *batch.Batch {
	f.t.Helper()
	for {
		f.store.mu.Lock()
		row := f.store.batchRow(id)
		b := row.Batch
		b.Ends = f.store.endsOf(&b)
		f.store.mu.Unlock()
		if is(&b) {
			return &b
		}
		select {
		case <-f.t.Context().Done():
			f.t.Fatalf("the batch is %+v", b)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func state(want batch.State) func(*batch.Batch) bool {
	return func(b *batch.Batch) bool { return b.State == want }
}

// isHeld reports whether a feeder has the batch.
func (f *farm) isHeld(id string, want bool) func(*batch.Batch) bool {
	return func(*batch.Batch) bool {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		return f.store.batchRow(id).feeder != "" == want
	}
}

// changeBatch does to a batch what its account does, or time.
func (f *farm) changeBatch(id string, to func(b *memBatch)) {
	f.store.mu.Lock()
	to(f.store.batchRow(id))
	f.store.mu.Unlock()
	f.server.feeder.changed(id)
}

// published is how often each line of a pass was published.
func (f *farm) published(id string, pass uint32) map[int]int {
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	out := map[int]int{}
	for _, r := range f.leader.records {
		if e := r.Envelope; e.Batch == id && e.Pass == pass {
			out[int(e.Line)]++
		}
	}
	return out
}

func urls(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "https://example.com/%d\n", i+1)
	}
	return b.String()
}

var textPlain = header{"Content-Type": "text/plain"}

func TestBatchIsFed(t *testing.T) {
	f := feedingFarm(t, func(rec *pb.Record) job.State {
		if rec.Envelope.Line%7 == 0 {
			return job.Failed
		}
		return job.Succeeded
	})
	const lines = 3000
	v := f.upload("/v1/batches?on_error=skip&defaults=%7B%22metadata%22:%7B%22a%22:%22b%22%7D%7D", urls(lines)+"nonsense\n", textPlain)
	b := f.until(v.Id, state(batch.Completed))
	if got, want := b.Counts(0), (batch.Counts{Total: lines + 1, Succeeded: lines - lines/7, Failed: lines/7 + 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if b.Fed != lines || b.StartedAt.IsZero() || b.KeptUntil.IsZero() {
		t.Errorf("%+v", b)
	}
	published := f.published(v.Id, 1)
	if len(published) != lines || slices.Max(slices.Collect(maps.Values(published))) != 1 {
		t.Errorf("%d lines were published, one of them %d times", len(published), slices.Max(slices.Collect(maps.Values(published))))
	}
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	for _, r := range f.leader.records {
		e := r.Envelope
		if want := batch.JobID(v.Id, b.CreatedAt, int(e.Line), 1); e.Id != string(want) || e.Account != f.acct.ID || e.Key != b.Key || e.Address != b.Address || b.Key == "" {
			t.Fatalf("line %d: %v, want it to be %s of %+v", e.Line, e, want, b)
		}
		if r.Body.Metadata["a"] != "b" || r.Body.Webhook != nil || !strings.Contains(string(r.Body.Spec), fmt.Sprintf("example.com/%d", e.Line)) {
			t.Fatalf("line %d: %v", e.Line, r.Body)
		}
	}
}

// No line fails for a limit: the feeder waits for as long as it is told, and a
// refusal makes nobody a striker.
func TestFeederWaits(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	refusals := []*fault.Error{
		{Kind: fault.RateLimited, Code: "rate_limit_exceeded", Policy: account.LimitRate, RetryAfter: time.Second},
		{Kind: fault.ThreadsFull, Code: "backlog_full", RetryAfter: time.Second},
		{Kind: fault.QueueFull, Code: "queue_full", RetryAfter: time.Second},
		{Kind: fault.Unavailable, RetryAfter: time.Second},
	}
	var mu sync.Mutex
	var refusedAt []time.Time
	f.leader.mu.Lock()
	f.leader.decide = func(rec *pb.Record) *pb.Decision {
		mu.Lock()
		defer mu.Unlock()
		if n := len(refusedAt); n < len(refusals) {
			refusedAt = append(refusedAt, time.Now())
			return refuseAll(wire.Fault(refusals[n]))(rec)
		}
		return acceptAll(rec)
	}
	f.leader.mu.Unlock()
	v := f.upload("/v1/batches", urls(5), textPlain)
	b := f.until(v.Id, state(batch.Completed))
	if got, want := b.Counts(0), (batch.Counts{Total: 5, Succeeded: 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for i := 1; i < len(refusedAt); i++ {
		if wait := refusedAt[i].Sub(refusedAt[i-1]); wait < time.Second {
			t.Errorf("after refusal %d it waited %s", i, wait)
		}
	}
	if published := f.published(v.Id, 1); published[1] != len(refusals)+1 {
		t.Errorf("published %v", published)
	}
	if f.server.metrics.batchLines == nil || len(f.leader.strikes) > 0 {
		t.Error("it struck")
	}
	// Whoever else comes is not taken to be throttled.
	if a := f.do("POST", "/v1/jobs", `{"url":"https://example.com/"}`); a.Code != http.StatusAccepted && a.Code != http.StatusOK {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

// What no waiting helps against fails the line, and that alone.
func TestLineIsRefusedForGood(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	f.leader.mu.Lock()
	f.leader.decide = func(rec *pb.Record) *pb.Decision {
		if rec.Envelope.Line == 2 {
			return refuseAll(wire.Fault(fault.New(fault.TooLarge, "the record is too large")))(rec)
		}
		return acceptAll(rec)
	}
	f.leader.mu.Unlock()
	v := f.upload("/v1/batches", urls(4), textPlain)
	b := f.until(v.Id, state(batch.Completed))
	if got, want := b.Counts(0), (batch.Counts{Total: 4, Succeeded: 3, Failed: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := f.store.refusals[v.Id]; len(got) != 1 || got[0] != (batch.Refusal{Line: 2, Pass: 1, Code: "too_large", Detail: "the record is too large"}) {
		t.Errorf("%+v", got)
	}
}

// A quota that is used up pauses a batch until it begins anew.
func TestQuotaPausesABatch(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	full := &fault.Error{Kind: fault.QuotaExceeded, Code: "quota_exceeded", RetryAfter: time.Hour}
	var mu sync.Mutex
	left := 3
	f.leader.mu.Lock()
	f.leader.decide = func(rec *pb.Record) *pb.Decision {
		mu.Lock()
		defer mu.Unlock()
		if left == 0 {
			return refuseAll(wire.Fault(full))(rec)
		}
		left--
		return acceptAll(rec)
	}
	f.leader.mu.Unlock()
	v := f.upload("/v1/batches", urls(10), textPlain)
	b := f.until(v.Id, state(batch.Paused))
	if until := time.Until(b.ResumeAt); b.PausedReason != batch.PausedQuota || until < 59*time.Minute || until > time.Hour {
		t.Errorf("paused for %s until %s", b.PausedReason, b.ResumeAt)
	}
	f.until(v.Id, f.isHeld(v.Id, false)) // nobody is busy with it meanwhile
	if b = f.until(v.Id, func(b *batch.Batch) bool { return b.Ends.Succeeded == 3 }); b.State != batch.Paused {
		t.Errorf("%+v", b)
	}
	mu.Lock()
	left = 10
	mu.Unlock()
	f.changeBatch(v.Id, func(b *memBatch) { b.ResumeAt = time.Now() })
	b = f.until(v.Id, state(batch.Completed))
	if got, want := b.Counts(0), (batch.Counts{Total: 10, Succeeded: 10}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Nothing is fed for an account, or with a key, that may submit nothing.
func TestSuspendedAccountsBatchWaits(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	v := f.upload("/v1/batches", urls(2), textPlain)
	f.until(v.Id, state(batch.Completed))
	suspended := f.acct
	suspended.Suspended = true
	f.store.mu.Lock()
	f.store.feeds = false
	f.store.mu.Unlock()
	v = f.upload("/v1/batches", urls(2), textPlain)
	f.store.setAccount(suspended)
	f.server.keys.dropAccount(f.acct.ID)
	f.store.mu.Lock()
	f.store.feeds = true
	f.store.mu.Unlock()
	f.server.feeder.changed(v.Id)
	b := f.until(v.Id, state(batch.Paused))
	if b.PausedReason != batch.PausedSuspended || b.ResumeAt.IsZero() || len(f.published(v.Id, 1)) > 0 {
		t.Errorf("%+v, %v", b, f.published(v.Id, 1))
	}
	f.store.setAccount(f.acct)
	f.server.keys.dropAccount(f.acct.ID)
	f.changeBatch(v.Id, func(b *memBatch) { b.ResumeAt = time.Now() })
	f.until(v.Id, state(batch.Completed))
}

// So it is when that is found out while lines are being fed: of a key that was
// revoked the leader knows nothing.
func TestRevokedKeysBatchStops(t *testing.T) {
	f := feedingFarm(t, leaveAll)
	v := f.upload("/v1/batches", urls(1000), textPlain)
	f.until(v.Id, func(b *batch.Batch) bool { return len(f.published(v.Id, 1)) >= windowLeast })
	f.store.mu.Lock()
	for id, k := range f.store.keys {
		k.RevokedAt = time.Now()
		f.store.keys[id] = k
	}
	f.store.mu.Unlock()
	f.server.keys.dropAccount(f.acct.ID)
	b := f.until(v.Id, state(batch.Paused))
	if b.PausedReason != batch.PausedSuspended || len(f.published(v.Id, 1)) != windowLeast {
		t.Errorf("%+v", b)
	}
}

// Batches whose account has as many in judgement as it may have wait for their
// turn, and keep nobody else waiting.
func TestJudgingIsBounded(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	release, err := f.server.feeder.rooms.acquire(t.Context(), f.acct.ID, maxShare)
	if err != nil {
		t.Fatal(err)
	}
	v := f.upload("/v1/batches", urls(2), textPlain)
	f.until(v.Id, f.isHeld(v.Id, true))
	until := func() (at time.Time) {
		f.store.mu.Lock()
		defer f.store.mu.Unlock()
		return f.store.batchRow(v.Id).feedUntil
	}
	claimed := until()
	f.server.feeder.changed(v.Id)
	b := f.until(v.Id, func(*batch.Batch) bool { return until().After(claimed.Add(renewEvery)) }) // it is kept meanwhile
	if b.State != batch.Validating {
		t.Errorf("%s without room for it", b.State)
	}
	release()
	f.until(v.Id, state(batch.Completed))
	large, packed := &batch.Batch{InputBytes: 1 << 30}, &batch.Batch{InputBytes: 1 << 20, Gzip: true}
	if small := roomFor(&batch.Batch{InputBytes: 100}); small > maxShare/10 || roomFor(large) != judgingMost || roomFor(packed) != judgingMost {
		t.Errorf("%d, %d, %d", small, roomFor(large), roomFor(packed))
	}
}

// Of lines behind what a dead feeder has saved, leader and archive are asked
// before they are published; a clean hand-over asks nothing.
func TestFeederAsksAfterADeath(t *testing.T) {
	for _, dead := range []bool{true, false} {
		f := feedingFarm(t, succeedAll)
		f.store.mu.Lock()
		f.store.feeds = false
		f.store.mu.Unlock()
		of := f.batch(line(1, ""), line(2, ""), line(3, ""), line(4, ""), line(5, ""))
		offset := int64(0)
		for i, text := range strings.SplitAfter(string(f.bucket.objects[of.Lines]), "\n") {
			if i < 2 {
				offset += int64(len(text))
			}
		}
		of.end(1, 1, job.Succeeded, nil)
		of.end(2, 1, job.Succeeded, nil)
		if dead {
			of.end(4, 1, job.Succeeded, nil)
			id := batch.JobID(of.ID, of.CreatedAt, 3, 1)
			f.leader.mu.Lock()
			f.leader.jobs[string(id)] = &pb.Job{Id: string(id), Account: f.acct.ID, State: "queued", Batch: of.ID, Line: 3, Pass: 1}
			f.leader.mu.Unlock()
		}
		_, key, _ := f.store.keyOf(f.acct.ID)
		f.changeBatch(of.ID, func(b *memBatch) {
			b.Fed, b.FedOffset, b.PassTotal, b.StartedAt, b.Key, b.ExpiresAt = 2, offset, 5, time.Now(), key, time.Now().Add(time.Hour)
			if dead {
				b.feeder = "a dead one"
			}
		})
		f.store.mu.Lock()
		f.store.feeds = true
		f.store.mu.Unlock()
		f.server.feeder.changed(of.ID)
		f.until(of.ID, func(b *batch.Batch) bool { return b.Fed == 5 })
		want := map[int]int{3: 1, 4: 1, 5: 1}
		if dead {
			want = map[int]int{5: 1}
		}
		if got := f.published(of.ID, 1); !maps.Equal(got, want) {
			t.Errorf("dead %t: published %v, want %v", dead, got, want)
		}
		if dead {
			f.fileAs(string(batch.JobID(of.ID, of.CreatedAt, 3, 1)), job.Succeeded)
		} else if len(f.leader.looked) > 0 {
			t.Errorf("it asked for %v", <-f.leader.looked)
		}
		b := f.until(of.ID, state(batch.Completed))
		if got, want := b.Counts(0), (batch.Counts{Total: 5, Succeeded: 5}); got != want {
			t.Errorf("dead %t: %+v, want %+v", dead, got, want)
		}
	}
}

// Jobs under way are bounded; a cancel ends them and leaves the rest out.
func TestCanceledBatch(t *testing.T) {
	f := feedingFarm(t, leaveAll)
	v := f.upload("/v1/batches", urls(1000), textPlain)
	f.until(v.Id, func(b *batch.Batch) bool { return len(f.published(v.Id, 1)) >= windowLeast })
	f.changeBatch(v.Id, func(b *memBatch) { b.State = batch.Canceling })
	go func() { // the projector
		for range windowLeast {
			c := <-f.leader.canceled
			for f.leaderState(c.Id) != "canceled" {
				<-time.After(time.Millisecond)
			}
			f.fileAs(c.Id, job.Canceled)
		}
	}()
	b := f.until(v.Id, state(batch.Canceled))
	if got, want := b.Counts(0), (batch.Counts{Total: 1000, Canceled: 1000}); got != want || b.LeftOut != 1000-windowLeast {
		t.Errorf("%+v, want %+v; %d left out", got, want, b.LeftOut)
	}
	if got := len(f.published(v.Id, 1)); got != windowLeast {
		t.Errorf("%d were published", got)
	}
}

func (f *farm) leaderState(id string) string {
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	return f.leader.jobs[id].GetState()
}

// A pause lets nothing more be published, and a replica that goes down gives
// the batch back knowing all of it.
func TestPausedBatchIsGivenBack(t *testing.T) {
	f := feedingFarm(t, leaveAll)
	v := f.upload("/v1/batches", urls(1000), textPlain)
	f.until(v.Id, func(b *batch.Batch) bool { return len(f.published(v.Id, 1)) >= windowLeast })
	f.changeBatch(v.Id, func(b *memBatch) { b.State, b.PausedReason = batch.Paused, batch.PausedByOwner })
	b := f.until(v.Id, f.isHeld(v.Id, false))
	if b.Fed != windowLeast || b.State != batch.Paused {
		t.Errorf("%+v", b)
	}
	f.leader.mu.Lock()
	ids := slices.Collect(maps.Keys(f.leader.jobs))
	f.leader.mu.Unlock()
	for _, id := range ids {
		f.fileAs(id, job.Succeeded)
	}
	f.changeBatch(v.Id, func(b *memBatch) { b.State, b.PausedReason = batch.Running, "" })
	f.until(v.Id, func(b *batch.Batch) bool { return len(f.published(v.Id, 1)) == 2*windowLeast })
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	if b = f.until(v.Id, f.isHeld(v.Id, false)); b.Fed != 2*windowLeast {
		t.Errorf("after the end of the replica: %+v", b)
	}
	if got := f.published(v.Id, 1); len(got) != 2*windowLeast || slices.Max(slices.Collect(maps.Values(got))) != 1 {
		t.Errorf("%d were published", len(got))
	}
}

// Who has lost a batch publishes nothing more, even before it is told.
func TestLeaseOverPublishesNothing(t *testing.T) {
	f := feedingFarm(t, succeedAll)
	of := &feeding{feeder: f.server.feeder, server: f.server, batch: &batch.Batch{ID: batch.NewID(), Account: f.acct.ID, Pass: 1}, uploader: uploader{account: f.acct}}
	l := line(1, "")
	if r := of.put(t.Context(), &l, false); r.err != errLost { //nolint:errorlint // it comes as it is
		t.Errorf("%v", r.err)
	}
	of.hold.renew(time.Now())
	if r := of.put(t.Context(), &l, false); r.err != nil || r.known {
		t.Errorf("%v", r.err)
	}
	if r := of.put(t.Context(), &l, true); r.err != nil || !r.known {
		t.Errorf("again: %+v", r)
	}
	of.hold.renew(time.Now().Add(-holdFor))
	if r := of.put(t.Context(), &l, true); r.err != errLost { //nolint:errorlint // as above
		t.Errorf("%v", r.err)
	}
	if n := len(f.leader.records); n != 1 {
		t.Errorf("%d records", n)
	}
}

// What failed is tried again as a job of its own.
func TestFailedLinesAreTriedAgain(t *testing.T) {
	f := feedingFarm(t, func(rec *pb.Record) job.State {
		if rec.Envelope.Pass == 1 && rec.Envelope.Line%2 == 0 {
			return job.Failed
		}
		return job.Succeeded
	})
	v := f.upload("/v1/batches?on_error=skip", "https://example.com/1\nnonsense\n"+urls(4), textPlain)
	f.until(v.Id, state(batch.Completed))
	f.changeBatch(v.Id, func(b *memBatch) {
		b.State, b.Pass, b.PassObject, b.PassTotal, b.Fed, b.FedOffset = batch.Running, 2, "", 2, 0, 0
		b.FinishedAt, b.ExpiresAt = time.Time{}, time.Now().Add(time.Hour)
	})
	b := f.until(v.Id, func(b *batch.Batch) bool { return b.State == batch.Completed && b.Pass == 2 })
	if prefix := "b/" + b.Account + "/" + b.ID + "/pass-2-"; !strings.HasPrefix(b.PassObject, prefix) || b.PassObject == prefix+".jsonl" {
		t.Errorf("the lines of the pass are in %s, which another feeder may take for its own", b.PassObject)
	}
	if got, want := b.Counts(0), (batch.Counts{Total: 6, Succeeded: 5, Failed: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := f.published(v.Id, 2); !maps.Equal(got, map[int]int{4: 1, 6: 1}) {
		t.Errorf("tried again: %v", got)
	}
}

// Where calls cost something, each line is one, however often it is tried.
func TestLinesAreCharged(t *testing.T) {
	policy := account.DefaultPolicy()
	policy.Plans[0].Quota = account.Quota{Unit: account.UnitRequest, Limit: 100, Period: account.MonthUTC}
	f := feedingFarm(t, succeedAll, func(c *Config, _ *Deps) { c.Policy = policy })
	v := f.upload("/v1/batches", urls(3), textPlain)
	f.until(v.Id, state(batch.Completed))
	f.leader.mu.Lock()
	defer f.leader.mu.Unlock()
	got := map[string]int64{}
	for _, q := range f.leader.counts {
		if q.Event != "" {
			got[q.Event] += q.Units
		}
	}
	if len(got) != 3 {
		t.Errorf("charged %v", got)
	}
	for _, r := range f.leader.records {
		if got["call_"+r.Envelope.Id] != account.UnitsPerCall {
			t.Errorf("line %d: %v", r.Envelope.Line, got)
		}
	}
}
