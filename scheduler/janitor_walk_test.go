package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
)

func TestJanitorDeletesWhatIsOver(t *testing.T) {
	h := newHouse(t)
	_, live := h.filed(1, time.Hour)
	h.filed(31, -time.Second)
	dropped, _ := h.filed(3, time.Hour)
	if _, err := h.store.DropResult(t.Context(), h.farm.account, dropped); err != nil {
		t.Fatal(err)
	}
	ended, result := h.filed(2, time.Hour)
	lost := h.put(artifact(ended, "6")) // of an attempt that was cut off after its upload
	spec := h.put(specOf(ended))
	orphan, refused := h.put(artifact(job.NewID(), "1")), h.put(specOf(job.NewID()))
	id := string(job.NewID())
	strange := []string{ // of others, or not of this shape
		h.put("r/acc_stranger/" + id + "/1.png"), h.put("s/acc_stranger/" + id + ".json"), h.put("r/acc_acme/" + strings.ToLower(id) + "/1.png"),
		h.put("r/acc_acme/readme/1.png"), h.put("r/readme"), h.put("s/acc_acme/" + id), h.put("s/readme.json"), h.put("b/acc_acme/" + id + "/1.png"),
	}
	h.open(alone())
	_, running := h.started()
	waits := h.record()
	h.publish(waits)
	decision(h.api, waits.Envelope.Id)
	needed := h.put(specOf(job.ID(waits.Envelope.Id)))

	// Neither old enough, as a farm has it, nor named.
	patient := h.janitor(h.files, h.bucket, func(c *JanitorConfig) { c.OrphanAge = 0; c.Plans = nil })
	if want := time.Minute + wallGrace + putGrace + time.Hour; patient.orphanAge() != want {
		t.Errorf("orphans are deleted when they are %s old, want %s", patient.orphanAge(), want)
	}
	if did := h.walk(patient); did.expired != 2 || did.orphan+did.specs != 0 {
		t.Errorf("%+v, want two expired objects and nothing young", did)
	}
	stay := append([]string{live, result, running, needed}, strange...)
	h.wantKeys(append([]string{lost, spec, orphan, refused}, stay...)...)

	j := h.janitor(h.files, h.bucket)
	if did := h.walk(j); did.expired != 0 || did.orphan != 2 || did.specs != 2 || did.looked != len(stay)+4 {
		t.Errorf("%+v, want two orphans and two specs", did)
	}
	h.wantKeys(stay...)
	counts := gathered(t, j.cfg.Metrics.(*prometheus.Registry))
	for name, want := range map[string]float64{
		"objects_deleted_total expired": 0, "objects_deleted_total orphan": 2, "objects_deleted_total spec": 2, "bytes_deleted_total": 20,
	} {
		if got := counts["tintype_janitor_"+name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if did := h.walk(j); did.orphan+did.specs+did.expired != 0 {
		t.Errorf("again: %+v", did)
	}
}

// What has ended and is not filed yet is named by no row: the leader says that
// it holds the job. So it does while the end becomes durable and is filed
// between the listing and the judgement.
func TestJanitorKeepsWhatIsNotFiled(t *testing.T) {
	h := newHouse(t)
	h.files.shut = make(chan struct{})
	h.open(alone())
	a, first := h.started()
	spec := h.put(specOf(job.ID(a.Job)))
	h.ends(a)
	j := h.janitor(h.files, h.bucket)
	if did := h.walk(j); did.looked != 2 || did.expired+did.orphan+did.specs != 0 {
		t.Errorf("ended and not filed: %+v", did)
	}
	close(h.files.shut)
	h.forgotten(a.Job)
	if did := h.walk(j); did.specs != 1 || did.expired+did.orphan != 0 {
		t.Errorf("filed and forgotten: %+v", did)
	}
	h.wantKeys(first)

	b, second := h.started()
	hasty := h.janitor(h.files, &listing{Bucket: h.bucket, then: func() { h.ends(b); h.forgotten(b.Job) }})
	if did := h.walk(hasty); did.expired+did.orphan+did.specs != 0 {
		t.Errorf("ended, filed and forgotten after the listing: %+v", did)
	}
	h.wantKeys(first, second)

	// The archive's no comes before the end is filed, and the leader forgets
	// the job right after.
	c, third := h.started()
	early := h.janitor(bent{h.store, func(r store.Retained, err error) (store.Retained, error) {
		if c != nil {
			h.ends(c)
			h.forgotten(c.Job)
			c = nil
		}
		return r, err
	}}, h.bucket, func(cfg *JanitorConfig) { cfg.PageSize = object.PageSize })
	if did := h.walk(early); did.expired+did.orphan+did.specs != 0 {
		t.Errorf("ended, filed and forgotten after the archive was asked: %+v", did)
	}
	h.wantKeys(first, second, third)
	if slices.Contains(h.keys(), spec) {
		t.Error("the spec is there")
	}
}

// listing is a bucket in which something happens after the first page of a
// list; it may fail to delete, too.
type listing struct {
	*object.Bucket
	then    func()
	fail    error // of a deletion
	took    bool  // the deletion that fails takes effect
	deleted int
}

func (l *listing) Page(ctx context.Context, prefix, after string, size int) ([]object.Info, error) {
	objects, err := l.Bucket.Page(ctx, prefix, after, size)
	if then := l.then; then != nil {
		l.then = nil
		then()
	}
	return objects, err
}

func (l *listing) Delete(ctx context.Context, keys ...string) error {
	l.deleted += len(keys)
	if l.fail != nil && !l.took {
		return l.fail
	}
	return errors.Join(l.Bucket.Delete(ctx, keys...), l.fail)
}

// bent is an archive of which single answers can be bent.
type bent struct {
	*store.Store
	retained func(store.Retained, error) (store.Retained, error)
}

func (b bent) Retained(ctx context.Context, ids []job.ID, accounts []string) (store.Retained, error) {
	return b.retained(b.Store.Retained(ctx, ids, accounts))
}

// Silence is no yes: whichever part does not answer, nothing is deleted.
func TestJanitorNeedsEveryAnswer(t *testing.T) {
	h := newHouse(t)
	_, over := h.filed(31, -time.Second)
	orphan := h.put(artifact(job.NewID(), "1"))
	h.open(alone())
	a, named := h.started()
	h.ends(a)
	h.forgotten(a.Job)
	refused := errors.New("connection refused")
	page := func(j *Janitor, l *leader) error {
		var did swept
		_, err := j.page(t.Context(), l, &did)
		if did.expired+did.orphan+did.specs != 0 {
			t.Errorf("%+v", did)
		}
		return err
	}

	down := h.janitor(bent{h.store, func(store.Retained, error) (store.Retained, error) { return store.Retained{}, refused }}, h.bucket)
	if err := page(down, h.leader.Load()); !errors.Is(err, refused) {
		t.Errorf("without the archive: %v", err)
	}
	stopped, err := store.Open(t.Context(), "postgres://tintype@/tintype?host="+t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stopped.Close()
	var did swept
	j := h.janitor(stopped, h.bucket)
	if err := errors.Join(j.rows(t.Context(), h.leader.Load(), &did), j.walk(t.Context(), h.leader.Load(), &did)); err == nil || did != (swept{}) {
		t.Errorf("on a database that is stopped: %+v, %v", did, err)
	}
	// Restored from a copy of before: it names less than it did.
	younger := h.janitor(bent{h.store, func(r store.Retained, err error) (store.Retained, error) {
		return store.Retained{At: r.At, Seq: 1, Accounts: r.Accounts}, err
	}}, h.bucket)
	if err := page(younger, h.leader.Load()); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("an archive that is older than it was: %v", err)
	}
	h.wantKeys(over, orphan, named)

	// A deletion that fails, and one that fails and took effect: the walk goes
	// on, and the next one meets what is still there.
	for _, took := range []bool{false, true} {
		b := &listing{Bucket: h.bucket, fail: refused, took: took}
		if did := h.walk(h.janitor(h.files, b)); b.deleted != 2 || did.expired+did.orphan != 0 {
			t.Errorf("%d tried, %+v counted", b.deleted, did)
		}
	}
	h.wantKeys(named)

	stays := h.put(artifact(job.NewID(), "1"))
	old := h.leader.Load()
	h.stop()
	if err := page(h.janitor(h.files, h.bucket), old); err == nil {
		t.Error("a leader whose reign is over was asked, and its answer taken")
	}
	h.wantKeys(named, stays)

	h.open(alone())
	if err := h.s3.Close(); err != nil {
		t.Fatal(err)
	}
	if err := page(h.janitor(h.files, h.bucket), h.leader.Load()); err == nil {
		t.Error("a walk through a bucket that is not there")
	}
}

// A janitor that is killed between two pages, or between a deletion and the
// note of it, leaves a walk that the next one goes on with.
func TestJanitorGoesOn(t *testing.T) {
	h := newHouse(t)
	var orphans []string
	for range 8 {
		orphans = append(orphans, h.put(artifact(job.NewID(), "1")))
	}
	h.open(alone())
	l := h.leader.Load()
	var did swept
	if more, err := h.janitor(h.files, h.bucket).page(t.Context(), l, &did); err != nil || !more || did.orphan != 3 {
		t.Fatalf("the first page: %+v, %v", did, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cut := h.janitor(cutNote{h.store, cancel}, h.bucket)
	if _, err := cut.page(ctx, l, &did); !errors.Is(err, context.Canceled) || did.orphan != 6 {
		t.Fatalf("cut off before its note: %+v, %v", did, err)
	}
	h.wantKeys(orphans[6:]...)
	early := h.put(artifact(idAt(time.Now().Add(-time.Hour)), "1")) // behind the walk: for the next one
	if rest := h.walk(h.janitor(h.files, h.bucket)); rest.orphan != 2 || rest.looked != 2 {
		t.Errorf("the rest: %+v", rest)
	}
	h.wantKeys(early)
	if next := h.walk(h.janitor(h.files, h.bucket)); next.orphan != 1 {
		t.Errorf("the next walk: %+v", next)
	}
}

// cutNote is cut off as it notes how far the walk has come.
type cutNote struct {
	*store.Store
	cut context.CancelFunc
}

func (c cutNote) Walked(ctx context.Context, to string) error {
	c.cut()
	return c.Store.Walked(ctx, to)
}

// unfinished is a bucket with uploads that were never completed.
type unfinished struct {
	*object.Bucket
	before []time.Time // what was dropped, each time
	err    error
}

func (u *unfinished) DropUploads(_ context.Context, before time.Time) (int, error) {
	u.before = append(u.before, before)
	return 2, u.err
}

// At the end of a walk, and once: not with each page. A bucket that cannot do it
// stops nothing.
func TestJanitorDropsUploads(t *testing.T) {
	h := newHouse(t)
	h.open(alone())
	for range 3 {
		h.put(artifact(job.NewID(), "1"))
	}
	for _, err := range []error{nil, errors.New("not implemented")} {
		u := &unfinished{Bucket: h.bucket, err: err}
		h.walk(h.janitor(h.files, u, func(c *JanitorConfig) { c.PageSize = 1 }))
		if len(u.before) != 1 || time.Since(u.before[0]).Round(time.Minute) != uploadAfter {
			t.Errorf("dropped those from before %v", u.before)
		}
	}
}
