package scheduler

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/embed/s3"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// house is a farm with a real bucket that a janitor looks after. Tests call
// its two rounds by hand.
type house struct {
	*farm
	*node
	api    *peer[pb.FrontUp, pb.FrontDown]
	worker *peer[pb.WorkUp, pb.WorkDown]
	bucket *object.Bucket
	s3     *s3.Server
	files  *files // the archive, as schedulers see it
}

// files is an archive that can be kept from taking ends in.
type files struct {
	*store.Store
	shut chan struct{} // closed: what ends is filed
}

func (f *files) Project(ctx context.Context, from, to store.Projection, ends []store.Ended) (int, error) {
	select {
	case <-f.shut:
		return f.Store.Project(ctx, from, to, ends)
	default:
		return 0, errors.New("connection refused")
	}
}

func newHouse(t *testing.T) *house {
	t.Helper()
	f := newFarm(t)
	h := &house{farm: f, files: &files{f.store, make(chan struct{})}}
	close(h.files.shut)
	srv, err := s3.New(s3.Config{Dir: t.TempDir(), AccessKey: "access", SecretKey: "a-long-secret"})
	if err == nil {
		err = srv.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	h.s3 = srv
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	h.bucket, err = object.New(object.Config{Endpoint: srv.Endpoint(), Bucket: "tintype", AccessKey: "access", SecretKey: "a-long-secret"})
	if err == nil {
		err = h.bucket.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.bucket.Close)
	return h
}

// open starts a scheduler that leads.
func (h *house) open(cfg Config) {
	h.t.Helper()
	h.archive = h.files
	h.node = h.start("a", cfg)
	h.api = h.front(h.t, &pb.FrontHello{Api: "api"})
	h.worker = h.node.worker(h.t, hello("b1"))
}

// janitor looks at three objects at a time and waits for no age.
func (h *house) janitor(archive Shelves, bucket Objects, change ...func(*JanitorConfig)) *Janitor {
	h.t.Helper()
	cfg := JanitorConfig{
		PageSize: 3, OrphanAge: time.Nanosecond, WalkEvery: time.Nanosecond, RowsEvery: time.Nanosecond,
		Plans: []account.Plan{{Retention: 24 * time.Hour}}, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	}
	for _, c := range change {
		c(&cfg)
	}
	j, err := NewJanitor(cfg, archive, bucket)
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// walk goes through the whole bucket once.
func (h *house) walk(j *Janitor) swept {
	h.t.Helper()
	var did swept
	for !did.walked {
		if _, err := j.page(h.t.Context(), h.leader.Load(), &did); err != nil {
			h.t.Fatal(err)
		}
	}
	return did
}

func (h *house) put(key string) string {
	h.t.Helper()
	if err := h.bucket.Put(h.t.Context(), key, strings.NewReader("bytes"), 5, "image/png"); err != nil {
		h.t.Fatal(err)
	}
	return key
}

func (h *house) keys() []string {
	h.t.Helper()
	var keys []string
	for o, err := range h.bucket.List(h.t.Context(), "") {
		if err != nil {
			h.t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

func (h *house) wantKeys(want ...string) {
	h.t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, h.keys()); diff != "" {
		h.t.Errorf("the bucket (-want +got):\n%s", diff)
	}
}

// idAt is an id that was made then.
func idAt(then time.Time) job.ID {
	u := uuid.Must(uuid.NewV7())
	binary.BigEndian.PutUint64(u[:], uint64(then.UnixMilli())<<16|uint64(binary.BigEndian.Uint16(u[6:])))
	return job.FromUUID(u)
}

func artifact(id job.ID, token string) string {
	return "r/acc_acme/" + string(id) + "/" + token + ".png"
}

func specOf(id job.ID) string { return "s/acc_acme/" + string(id) + ".json" }

// filed is a job that ended so many days ago, in the archive, with its object;
// its retention ends in left. It is called before a scheduler is there.
func (h *house) filed(days int, left time.Duration) (id job.ID, key string) {
	h.t.Helper()
	at := time.Now().UTC().AddDate(0, 0, -days)
	id = idAt(at)
	key = h.put(artifact(id, "7"))
	yes := true
	end := store.Ended{Units: 120, Period: time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC), Job: &job.Job{
		ID: id, Account: h.farm.account, State: job.Succeeded, CreatedAt: at, FinishedAt: at, ExpiresAt: time.Now().Add(left),
		Attempts: 1, Billable: &yes, Options: []byte("{}"), Result: &job.Result{Object: key, ContentType: "image/png"},
	}}
	p, err := h.store.Projection(h.t.Context())
	if err == nil {
		_, err = h.store.Project(h.t.Context(), p, p, []store.Ended{end})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return id, key
}

// started is a job that a worker holds, with the object that it has put.
func (h *house) started() (a *pb.Assign, key string) {
	h.t.Helper()
	rec := h.record()
	h.publish(rec)
	decision(h.api, rec.Envelope.Id)
	h.worker.send(&pb.WorkUp{Credit: 1})
	a = assigned(h.worker)
	return a, h.put(strings.TrimPrefix(a.PutUrl, "http://bucket.test/"))
}

// ends reports the end of a started job, durably.
func (h *house) ends(a *pb.Assign) {
	h.t.Helper()
	h.worker.send(done(a))
	committed(h.worker, a.Token)
}

// forgotten makes the leader forget what is in the archive, as it does some
// time later.
func (h *house) forgotten(id string) {
	h.t.Helper()
	h.archived(h.Scheduler, id)
	l := h.leader.Load()
	for held := true; held; {
		l.enter()
		l.board.timeUS += 2 * keepKnown.Microseconds()
		l.board.forget(h.projected.Load())
		held = l.board.entries[id] != nil
		l.leave()
	}
}

func TestJanitorDeletesWhatIsOver(t *testing.T) {
	h := newHouse(t)
	_, live := h.filed(1, time.Hour)
	h.filed(31, -time.Second)
	dropped, _ := h.filed(3, time.Hour)
	if _, err := h.store.DropResult(t.Context(), dropped); err != nil {
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
	if want := time.Minute + wallGrace + putGrace + time.Hour; patient.cfg.OrphanAge != want {
		t.Errorf("orphans are deleted when they are %s old, want %s", patient.cfg.OrphanAge, want)
	}
	if did := h.walk(patient); did.expired != 2 || did.orphan+did.specs != 0 {
		t.Errorf("%+v, want two expired objects and nothing young", did)
	}
	stay := append([]string{live, result, running, needed}, strange...)
	h.wantKeys(append([]string{lost, spec, orphan, refused}, stay...)...)

	j := h.janitor(h.files, h.bucket)
	if did := h.walk(j); did.expired != 0 || did.orphan != 2 || did.specs != 2 || did.looked != len(stay)+4-1 {
		t.Errorf("%+v, want two orphans and two specs", did)
	}
	h.wantKeys(stay...)
	counts := gathered(t, j)
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
	// Restored from a copy of before: it names less than it did.
	younger := h.janitor(bent{h.store, func(r store.Retained, err error) (store.Retained, error) {
		return store.Retained{At: r.At, Seq: r.Seq - 1, Accounts: r.Accounts}, err
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
	if _, err := h.store.Project(t.Context(), p, p, []store.Ended{end}); err != nil {
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

// The leader runs its janitor by itself, with no other call.
func TestLeaderKeepsHouse(t *testing.T) {
	h := newHouse(t)
	_, live := h.filed(1, time.Hour)
	h.filed(31, -time.Second)
	h.put(artifact(job.NewID(), "1"))
	walks := make(chan struct{}, 1000)
	j := h.janitor(walked{h.store, walks}, h.bucket, func(c *JanitorConfig) { c.Every = time.Millisecond })
	h.open(Config{Alone: true, Janitor: j})
	for range 2 {
		select {
		case <-walks:
		case <-time.After(20 * time.Second):
			t.Fatal("no walk came to its end")
		}
	}
	h.wantKeys(live)
	h.stop() // so that the last sweep is counted
	if got := gathered(t, j); got["tintype_janitor_sweeps_total done"] == 0 || got["tintype_janitor_walked_timestamp_seconds"] == 0 {
		t.Errorf("no sweep is counted: %v", got)
	}
}

// gathered are the janitor's numbers by name and label.
func gathered(t *testing.T, j *Janitor) map[string]float64 {
	t.Helper()
	families, err := j.cfg.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

// walked tells of each walk that came to its end.
type walked struct {
	*store.Store
	walks chan struct{}
}

func (w walked) Walked(ctx context.Context, to string) error {
	err := w.Store.Walked(ctx, to)
	if to == "" {
		w.walks <- struct{}{}
	}
	return err
}
