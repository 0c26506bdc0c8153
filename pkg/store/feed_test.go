package store_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

// feeding is a store with a batch in it.
type feeding struct {
	*store.Store
	t    *testing.T
	conn *pgx.Conn
	id   string
	at   store.Projection
}

const lease = time.Minute

func newFeeding(t *testing.T) *feeding {
	t.Helper()
	url := storetest.URL(t)
	f := &feeding{Store: storetest.Connect(t, url), t: t, id: batch.NewID()}
	var err error
	if f.conn, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.conn.Close(t.Context()) })
	b := &batch.Batch{
		ID: f.id, Account: "acc_acme", Key: "key", Format: batch.JSONL, OnError: batch.Skip, Input: "b/acc_acme/x/input",
		Webhook: &job.Webhook{URL: "https://example.com/hook"},
	}
	if err := f.InsertBatch(t.Context(), b, time.Hour, nil, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *feeding) claim(by string) *store.Claim {
	f.t.Helper()
	c, err := f.ClaimBatch(f.t.Context(), by, lease)
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

func (f *feeding) must(h store.Held, err error) store.Held {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return h
}

// set changes the row as time does.
func (f *feeding) set(what string) {
	f.t.Helper()
	if _, err := f.conn.Exec(f.t.Context(), "UPDATE batches SET "+what); err != nil {
		f.t.Fatal(err)
	}
}

func (f *feeding) is() *batch.Batch {
	f.t.Helper()
	b, err := f.Batch(f.t.Context(), "acc_acme", f.id)
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

// validated has the batch validated: so many lines, of which some are wrong.
func (f *feeding) validated(by string, total, invalid int64) *store.Claim {
	f.t.Helper()
	c := f.claim(by)
	if c == nil {
		f.t.Fatal("nothing to validate")
	}
	c.Lines, c.Total, c.Invalid, c.PassObject, c.PassTotal = "lines", total, invalid, "lines", total-invalid
	if h := f.must(f.BatchValidated(f.t.Context(), by, c.Batch)); h.State != batch.Running {
		f.t.Fatalf("validated, and %s", h.State)
	}
	return c
}

// ends files the ends of lines of a pass.
func (f *feeding) ends(b *batch.Batch, pass int, states ...job.State) {
	f.t.Helper()
	var list []store.Ended
	for i, state := range states {
		e := succeeded(batch.JobID(b.ID, b.CreatedAt, i+1, pass), time.Now().UTC())
		e.Job.Account, e.Job.Batch, e.Job.Line, e.Job.Pass, e.Job.State = b.Account, b.ID, i+1, pass, state
		if state != job.Succeeded {
			e.Job.Result, e.Job.Billable, e.Units = nil, nil, 0
		}
		if state == job.Failed {
			e.Job.Failure = job.Fail(job.PageCrashed, job.StageCapture, "it crashed")
		}
		list = append(list, e)
	}
	next := store.Projection{Seq: f.at.Seq + 1}
	if _, err := f.Project(f.t.Context(), f.at, next, store.Filing{Ends: list}); err != nil {
		f.t.Fatal(err)
	}
	f.at = next
}

func (f *feeding) end(by string) (*batch.Batch, error) {
	return f.EndBatch(f.t.Context(), by, f.id, time.Hour, func(b *batch.Batch) (json.RawMessage, error) {
		return json.Marshal(map[string]any{"batch": map[string]any{"id": b.ID, "status": b.State}})
	})
}

// told is what is to be told of batches.
func (f *feeding) told() []webhook.Delivery {
	f.t.Helper()
	list, err := f.Deliveries(f.t.Context(), "acc_acme", webhook.Filter{Type: webhook.BatchCompleted}, webhook.Place{}, 10)
	if err != nil {
		f.t.Fatal(err)
	}
	return list
}

// One at a time works on a batch, for as long as it says so; whoever takes it
// over knows how it was left, and who has lost it changes nothing.
func TestClaimBatch(t *testing.T) {
	f := newFeeding(t)
	c := f.claim("a")
	if c == nil || c.ID != f.id || c.Unsure || c.Dead || c.State != batch.Validating {
		t.Fatalf("claimed %+v", c)
	}
	if again := f.claim("b"); again != nil {
		t.Fatalf("claimed twice: %+v", again)
	}
	f.set("feed_until = now()")
	if c = f.claim("b"); c == nil || !c.Unsure || !c.Dead {
		t.Fatalf("of a dead one: %+v", c)
	}
	lines := *c.Batch
	lines.Lines, lines.PassObject = "of a", "of a"
	if _, err := f.BatchValidated(t.Context(), "a", &lines); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("who lost it keeps lines: %v", err)
	}
	if _, err := f.SaveFed(t.Context(), "a", &lines, true, lease); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("who lost it saves: %v", err)
	}
	if _, err := f.RefuseLine(t.Context(), "a", &lines, 1, "code", "detail"); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("who lost it refuses: %v", err)
	}
	if err := f.YieldBatch(t.Context(), "a", f.id, false); err != nil {
		t.Fatal(err)
	}
	if b := f.is(); b.Lines != "" || b.Refused != 0 || !b.StartedAt.IsZero() {
		t.Errorf("it changed something: %+v", b)
	}
	if again := f.claim("a"); again != nil {
		t.Fatalf("it gave away what it had lost: %+v", again)
	}
	for unknown := range 2 {
		if err := f.YieldBatch(t.Context(), "b", f.id, unknown == 1); err != nil {
			t.Fatal(err)
		}
		if c = f.claim("b"); c == nil || c.Unsure != (unknown == 1) || c.Dead {
			t.Fatalf("given back, unknown %d: %+v", unknown, c)
		}
	}
	// Of several the one that was let go first.
	other := &batch.Batch{ID: batch.NewID(), Account: "acc_acme", Key: "key", Format: batch.Text, OnError: batch.Skip, Input: "x"}
	if err := f.InsertBatch(t.Context(), other, time.Hour, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.YieldBatch(t.Context(), "b", f.id, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{other.ID, f.id} {
		if c := f.claim("b"); c == nil || c.ID != want {
			t.Errorf("claimed %+v, want %s", c, want)
		}
	}
}

// A batch ends when every line has: wrong ones and refused ones at once, the
// others with their jobs. Its end and what is told of it are one.
func TestBatchEnds(t *testing.T) {
	f := newFeeding(t)
	c := f.validated("a", 6, 1)
	ctx := t.Context()
	if _, err := f.end("a"); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("ended before a line was fed: %v", err)
	}
	for range 2 { // the answer to the first was not heard
		if n, err := f.RefuseLine(ctx, "a", c.Batch, 6, "too_large", "it is too large"); err != nil || n != 1 {
			t.Errorf("%d refused, %v", n, err)
		}
	}
	if got, err := f.Refused(ctx, c.Batch, []int{4, 5, 6}); err != nil || !slices.Equal(got, []int{6}) {
		t.Errorf("refused %v, %v", got, err)
	}
	c.Fed, c.FedOffset = 5, 500
	if h := f.must(f.SaveFed(ctx, "a", c.Batch, true, lease)); h.State != batch.Running || h.Expired {
		t.Errorf("%+v", h)
	}
	f.ends(c.Batch, 1, job.Succeeded, job.Succeeded, job.Failed)
	if got, err := f.EndedLines(ctx, c.Batch, []int{1, 3, 4}); err != nil || !slices.Equal(got, []int{1, 3}) {
		t.Errorf("ended %v, %v", got, err)
	}
	f.must(f.Finalize(ctx, "a", c.Batch))
	if _, err := f.end("a"); !errors.Is(err, store.ErrNotHeld) || len(f.told()) != 0 {
		t.Errorf("ended before the last end was filed: %v, %v", err, f.told())
	}
	f.ends(c.Batch, 1, job.Succeeded, job.Succeeded, job.Failed, job.Expired)
	b, err := f.end("a")
	if err != nil || b.State != batch.Completed || b.FinishedAt.IsZero() || b.KeptUntil.Sub(b.FinishedAt) != time.Hour {
		t.Fatalf("%+v, %v", b, err)
	}
	want := batch.Counts{Total: 6, Succeeded: 2, Failed: 3, Expired: 1}
	if got := b.Counts(0); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	told := f.told()
	if len(told) != 1 || told[0].Subject != f.id || told[0].URL != "https://example.com/hook" || !told[0].Happened.Equal(b.FinishedAt) {
		t.Errorf("told %+v", told)
	}
	if _, err := f.end("a"); !errors.Is(err, store.ErrNotHeld) || len(f.told()) != 1 {
		t.Errorf("ended twice: %v", err)
	}
	if c := f.claim("a"); c != nil {
		t.Errorf("work on what has ended: %+v", c)
	}

	// What failed, and only that, is tried again, and its end is told again.
	if got, err := f.FailedLines(ctx, b, 1, 0, 10); err != nil || !slices.Equal(got, []int{3, 6}) {
		t.Errorf("failed %v, %v", got, err)
	}
	if got, err := f.FailedLines(ctx, b, 1, 3, 10); err != nil || !slices.Equal(got, []int{6}) {
		t.Errorf("failed behind 3 %v, %v", got, err)
	}
	b, changed, err := f.RetryBatch(ctx, "acc_acme", f.id, time.Hour)
	if err != nil || !changed || b.State != batch.Running || b.Pass != 2 || b.PassTotal != 2 || b.PassObject != "" || b.Fed != 0 || !b.FinishedAt.IsZero() {
		t.Fatalf("%+v, %t, %v", b, changed, err)
	}
	if got, want := b.Counts(0), (batch.Counts{Total: 6, Queued: 2, Succeeded: 2, Failed: 1, Expired: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if _, changed, err := f.RetryBatch(ctx, "acc_acme", f.id, time.Hour); err != nil || changed {
		t.Errorf("tried again twice: %t, %v", changed, err)
	}
	c = f.claim("a")
	c.PassObject = "pass-2"
	f.must(f.PassMade(ctx, "a", c.Batch))
	c.Fed = 2
	f.must(f.SaveFed(ctx, "a", c.Batch, true, lease))
	f.ends(b, 2, job.Canceled, job.Succeeded)
	b, err = f.end("a")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.Counts(0), (batch.Counts{Total: 6, Succeeded: 3, Failed: 1, Canceled: 1, Expired: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if told := f.told(); len(told) != 2 || told[0].ID == told[1].ID {
		t.Errorf("told %+v", told)
	}
	if _, changed, err := f.RetryBatch(ctx, "acc_acme", f.id, time.Hour); err != nil || changed {
		t.Errorf("tried again with nothing that failed: %t, %v", changed, err)
	}
}

// What is deleted, or kept no longer, is not tried again: its objects may be
// gone already.
func TestWhatIsDeletedIsNotTriedAgain(t *testing.T) {
	f := newFeeding(t)
	c := f.validated("a", 1, 0)
	c.Fed = 1
	f.must(f.SaveFed(t.Context(), "a", c.Batch, true, lease))
	f.ends(c.Batch, 1, job.Failed)
	if _, err := f.end("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.DropBatch(t.Context(), "acc_acme", f.id); err != nil {
		t.Fatal(err)
	}
	if b, changed, err := f.RetryBatch(t.Context(), "acc_acme", f.id, time.Hour); !fault.Is(err, fault.NotFound) || changed {
		t.Errorf("%+v, %t, %v", b, changed, err)
	}
	if err := f.DeleteBatch(t.Context(), f.id); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := f.conn.QueryRow(t.Context(), "SELECT count(*) FROM batches").Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d rows are left, %v", rows, err)
	}
}

// Of what is canceled, or has expired, the lines that are not fed are left out.
func TestBatchIsCutShort(t *testing.T) {
	for _, how := range []batch.State{batch.Canceled, batch.Expired} {
		f := newFeeding(t)
		c := f.validated("a", 5, 0)
		c.Fed = 2
		f.must(f.SaveFed(t.Context(), "a", c.Batch, true, lease))
		if how == batch.Canceled {
			if b, changed, err := f.CancelBatch(t.Context(), "acc_acme", f.id); err != nil || !changed || b.State != batch.Canceling {
				t.Fatalf("%+v, %t, %v", b, changed, err)
			}
			if _, changed, err := f.CancelBatch(t.Context(), "acc_acme", f.id); err != nil || changed {
				t.Errorf("canceled twice: %t, %v", changed, err)
			}
		} else {
			if _, err := f.LetExpire(t.Context(), "a", c.Batch); !errors.Is(err, store.ErrNotHeld) {
				t.Errorf("expired before its time: %v", err)
			}
			f.set("expires_at = now()")
			f.must(f.LetExpire(t.Context(), "a", c.Batch))
		}
		if h := f.must(f.SaveFed(t.Context(), "a", c.Batch, false, lease)); h.State != batch.Canceling {
			t.Errorf("the feeder is told %s", h.State)
		}
		f.must(f.LeaveOut(t.Context(), "a", c.Batch, 3)) // one more than was saved
		f.ends(c.Batch, 1, job.Succeeded, job.Canceled)
		if _, err := f.end("a"); !errors.Is(err, store.ErrNotHeld) {
			t.Errorf("ended with a job left: %v", err)
		}
		f.ends(c.Batch, 1, job.Succeeded, job.Canceled, job.Canceled)
		b, err := f.end("a")
		if err != nil || b.State != how || b.PausedReason != "" {
			t.Fatalf("%+v, %v", b, err)
		}
		want := batch.Counts{Total: 5, Succeeded: 1, Canceled: 4}
		if how == batch.Expired {
			want.Canceled, want.Expired = 2, 2
		}
		if got := b.Counts(0); got != want {
			t.Errorf("%s: %+v, want %+v", how, got, want)
		}
		if len(f.told()) != 1 {
			t.Errorf("%s: told %v", how, f.told())
		}
	}
}

// A batch that no job comes of ends without any.
func TestBatchFails(t *testing.T) {
	f := newFeeding(t)
	c := f.claim("a")
	c.Lines, c.Total, c.Invalid, c.LeftOut, c.PassTotal, c.Failure = "lines", 3, 1, 2, 2, "one line is wrong"
	f.must(f.BatchValidated(t.Context(), "a", c.Batch))
	b, err := f.end("a")
	if err != nil || b.State != batch.Failed || b.Failure != "one line is wrong" {
		t.Fatalf("%+v, %v", b, err)
	}
	if got, want := b.Counts(0), (batch.Counts{Total: 3, Failed: 1, Canceled: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A pause by the owner holds until the owner ends it; any other until its time.
func TestBatchIsPaused(t *testing.T) {
	f := newFeeding(t)
	c := f.validated("a", 5, 0)
	ctx := t.Context()
	if err := f.YieldBatch(ctx, "a", f.id, false); err != nil {
		t.Fatal(err)
	}
	want := func(when string, state batch.State, reason string, due bool) {
		t.Helper()
		if b := f.is(); b.State != state || b.PausedReason != reason || b.ResumeAt.IsZero() != (reason != batch.PausedQuota) {
			t.Errorf("%s: %s %q until %s", when, b.State, b.PausedReason, b.ResumeAt)
		}
		if c = f.claim("a"); (c != nil) != due {
			t.Fatalf("%s: claimed %+v", when, c)
		}
	}
	want("running", batch.Running, "", true)
	f.must(f.HoldUp(ctx, "a", c.Batch, batch.PausedQuota, time.Now().Add(time.Hour)))
	if err := f.YieldBatch(ctx, "a", f.id, false); err != nil {
		t.Fatal(err)
	}
	want("held up", batch.Paused, batch.PausedQuota, false)
	f.set("resume_at = now()")
	want("its time is there", batch.Paused, batch.PausedQuota, true)
	f.must(f.GoOn(ctx, "a", c.Batch))
	if _, changed, err := f.PauseBatch(ctx, "acc_acme", f.id); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if _, err := f.HoldUp(ctx, "a", c.Batch, batch.PausedQuota, time.Now()); !errors.Is(err, store.ErrNotHeld) {
		t.Errorf("the owner's pause was overruled: %v", err)
	}
	if err := f.YieldBatch(ctx, "a", f.id, false); err != nil {
		t.Fatal(err)
	}
	want("paused by its owner", batch.Paused, batch.PausedByOwner, false)
	f.set("expires_at = now()")
	want("its time is over", batch.Paused, batch.PausedByOwner, true)
	if b, changed, err := f.ResumeBatch(ctx, "acc_acme", f.id); err != nil || !changed || b.State != batch.Running {
		t.Errorf("%+v, %t, %v", b, changed, err)
	}
	if _, changed, err := f.ResumeBatch(ctx, "acc_acme", f.id); err != nil || changed {
		t.Errorf("resumed twice: %t, %v", changed, err)
	}
	if list, err := f.Batches(ctx, "acc_acme", batch.Running, "", 10); err != nil || len(list) != 1 || list[0].ID != f.id {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := f.Batches(ctx, "acc_acme", "", f.id, 10); err != nil || len(list) != 0 {
		t.Errorf("before itself: %v, %v", list, err)
	}
	if _, _, err := f.PauseBatch(ctx, "acc_zeta", f.id); err == nil {
		t.Error("another account paused it")
	}
}

func TestBatchPace(t *testing.T) {
	f := newFeeding(t)
	c := f.validated("a", 5, 0)
	began := time.Now().Add(-time.Minute)
	f.ends(c.Batch, 1, job.Succeeded, job.Failed)
	if n, since, err := f.BatchPace(t.Context(), c.Batch, began); err != nil || n != 2 || !since.Equal(began) {
		t.Errorf("%d since %s, %v", n, since, err)
	}
	if n, _, err := f.BatchPace(t.Context(), c.Batch, time.Now().Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}
