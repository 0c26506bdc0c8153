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

func (f *files) Project(ctx context.Context, from, to store.Projection, filing store.Filing) (int, error) {
	select {
	case <-f.shut:
		return f.Store.Project(ctx, from, to, filing)
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
		_, err = h.store.Project(h.t.Context(), p, p, store.Filing{Ends: []store.Ended{end}})
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
	if got := gathered(t, j.cfg.Metrics.(*prometheus.Registry)); got["tintype_janitor_sweeps_total done"] == 0 || got["tintype_janitor_walked_timestamp_seconds"] == 0 {
		t.Errorf("no sweep is counted: %v", got)
	}
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
