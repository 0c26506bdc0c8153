package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// tidyEvery is the pause between two sweeps.
	tidyEvery = time.Minute
	// walkEvery is how often a walk through the bucket begins. A large bucket
	// takes longer; then one follows the other.
	walkEvery = time.Hour
	// walkPages bounds the pages of one sweep, and walkRest is how many times
	// as long as a page took the janitor rests after it: S3 and the archive are
	// there for others. The embedded S3 reads a whole folder for each page.
	walkPages = 20
	walkRest  = 9
	// rowsEvery is how often old days of the archive are looked at.
	rowsEvery = 6 * time.Hour
	// rowsAfter is how long after its retention a row is deleted by itself: by
	// then its whole day has been dropped, unless other plans keep theirs longer.
	rowsAfter = 48 * time.Hour
	// rowsAtOnce bounds the rows that one statement deletes.
	rowsAtOnce = 5000
	// daysAhead is how many days' partitions are there before their time.
	daysAhead = 2
	// orphanAfter is how long after its upload URL expired an object that
	// nothing names is deleted, and after its making the stored spec of a job
	// that needs it no more.
	orphanAfter = time.Hour
	// uploadAfter is how long after its beginning an upload that was not completed
	// is dropped. No list shows it.
	uploadAfter = 24 * time.Hour
)

// JanitorConfig is what NewJanitor needs. The zero value of each duration is
// the one that a farm has.
type JanitorConfig struct {
	// Plans are those of the policy. Empty: the built-in policy's.
	Plans []account.Plan
	// Policy is Plans where these may change. Nil: they do not.
	Policy *account.Live
	// Every is the pause between two sweeps.
	Every time.Duration
	// WalkEvery and RowsEvery are how often a sweep walks through the bucket and
	// looks at old days.
	WalkEvery, RowsEvery time.Duration
	// PageSize is how many objects are judged at once.
	PageSize int
	// OrphanAge is how old an object must be, at least, that nothing names. The
	// zero value follows from the plans.
	OrphanAge time.Duration
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Shelves is what the janitor needs of Postgres.
type Shelves interface {
	Retained(ctx context.Context, ids []job.ID, accounts []string) (store.Retained, error)
	Walk(ctx context.Context, every time.Duration) (after string, due bool, err error)
	Walked(ctx context.Context, to string) error
	MakeDays(ctx context.Context, ahead int) error
	Days(ctx context.Context) ([]time.Time, error)
	DayOver(ctx context.Context, day time.Time) (bool, error)
	DropDay(ctx context.Context, day time.Time) error
	DeleteExpired(ctx context.Context, day time.Time, since time.Duration, limit int) (int, error)
	DeleteArtifacts(ctx context.Context, stale time.Duration, limit int) (int, error)

	batchShelves
}

// Objects is what the janitor needs of the object store.
type Objects interface {
	Page(ctx context.Context, prefix, after string, size int) ([]object.Info, error)
	Delete(ctx context.Context, keys ...string) error
	DropUploads(ctx context.Context, before time.Time) (int, error)
}

// Janitor ends what nobody may ask for any more: objects in janitor_walk.go,
// rows in janitor_rows.go, batches and what is beside them in
// janitor_batches.go. It works while its process leads, because only a
// leader knows which jobs are unfinished. An archive, a bucket or a leader
// that does not answer deletes nothing: each deletion rests on a yes of the
// leader and of the archive.
type Janitor struct {
	cfg      JanitorConfig
	archive  Shelves
	bucket   Objects
	log      *slog.Logger
	metrics  *janitorMetrics
	policy   *account.Policy // that the next ones go by; owned by run, as all below
	shortest time.Duration   // retention of all plans since this process began
	wall     time.Duration   // the longest of them, likewise
	stale    time.Duration   // the longest time that any plan takes stale results, likewise

	seen   uint64    // the furthest projection that was ever seen
	rowsAt time.Time // when old days were last looked at
}

// NewJanitor checks its configuration and starts nothing: hand it to New.
func NewJanitor(cfg JanitorConfig, archive Shelves, bucket Objects) (*Janitor, error) {
	if len(cfg.Plans) == 0 {
		cfg.Plans = account.DefaultPolicy().Plans
	}
	if cfg.Policy == nil {
		cfg.Policy = account.NewLive(&account.Policy{Plans: cfg.Plans})
	}
	for _, d := range []struct {
		of     *time.Duration
		normal time.Duration
	}{
		{&cfg.Every, tidyEvery},
		{&cfg.WalkEvery, walkEvery},
		{&cfg.RowsEvery, rowsEvery},
	} {
		if *d.of == 0 {
			*d.of = d.normal
		}
	}
	if cfg.PageSize == 0 {
		cfg.PageSize = object.PageSize
	}
	if cfg.PageSize < 1 || cfg.PageSize > object.PageSize {
		return nil, fmt.Errorf("janitor: a page has 1 to %d objects, not %d", object.PageSize, cfg.PageSize)
	}
	m, err := newJanitorMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("janitor: %w", err)
	}
	j := &Janitor{cfg: cfg, archive: archive, bucket: bucket, log: cfg.Log, metrics: m}
	j.adopt()
	return j, nil
}

// adopt takes up the policy in force. Rows and attempts of an earlier one are
// still there: the shortest retention and the longest wall budget count of all
// that this process has met.
func (j *Janitor) adopt() {
	p := j.cfg.Policy.Now()
	if p == j.policy {
		return
	}
	if j.policy == nil {
		j.shortest = p.Plans[0].Retention
	}
	j.policy = p
	for _, plan := range p.Plans {
		j.wall, j.shortest, j.stale = max(j.wall, plan.Wall), min(j.shortest, plan.Retention), max(j.stale, plan.Stale)
	}
}

// orphanAge is how old an object that nothing names is at least when it is
// deleted.
func (j *Janitor) orphanAge() time.Duration {
	if j.cfg.OrphanAge != 0 {
		return j.cfg.OrphanAge
	}
	return j.wall + wallGrace + putGrace + orphanAfter
}

// swept is what one sweep did.
type swept struct {
	looked                 int // objects
	expired, orphan, specs int // objects deleted
	uploads                int // objects of batches and files deleted
	days, rows, cached     int
	batches, files         int
	deliveries             int
	walked                 bool // the walk came to its end
}

// run sweeps until ctx ends. Whatever goes wrong is tried again with the next
// sweep: it ends no reign.
func (j *Janitor) run(ctx context.Context, l *leader) error {
	t := time.NewTicker(j.cfg.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		start := time.Now()
		j.adopt()
		var did swept
		err := errors.Join(j.rows(ctx, l, &did), j.forget(ctx, &did), j.past(ctx, &did), j.walk(ctx, l, &did))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		j.metrics.sweep(did, err)
		args := []any{
			"looked", did.looked, "expired", did.expired, "orphans", did.orphan, "specs", did.specs,
			"uploads", did.uploads, "days", did.days, "rows", did.rows, "cached", did.cached,
			"batches", did.batches, "files", did.files, "deliveries", did.deliveries, "took", time.Since(start),
		}
		switch {
		case err != nil:
			j.log.Warn("the janitor did not come to its end", append(args, "err", err)...)
		case did != swept{} && did != swept{looked: did.looked, walked: did.walked}:
			j.log.Info("the janitor swept", args...)
		default:
			j.log.Debug("the janitor swept", args...)
		}
	}
}

// janitorWithin bounds one question to a store, and names it.
func janitorWithin(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, errors.New("janitor: no answer in time: "+what))
}

// tidy runs the janitor for as long as this reign lasts.
func (l *leader) tidy(ctx context.Context) error {
	if l.s.cfg.Janitor == nil {
		return nil
	}
	return l.s.cfg.Janitor.run(ctx, l)
}

// holds reports which of the jobs this reign knows, unfinished or not in the
// archive for long, and how far the projection was then. It answers when that
// is durable and the reign proved: an object that was in the bucket before
// belongs to a job of these, or to one that has ended and was filed.
func (l *leader) holds(ctx context.Context, ids []job.ID) (held map[job.ID]bool, projected uint64, err error) {
	err = l.look(ctx, func() {
		held, projected = make(map[job.ID]bool, len(ids)), l.s.projected.Load()
		for _, id := range ids {
			if l.board.entries[string(id)] != nil {
				held[id] = true
			}
		}
	})
	return held, projected, err
}

// holdsAny reports whether this reign knows a job whose id was made from "from"
// on and before "to".
func (l *leader) holdsAny(ctx context.Context, from, to time.Time) (any bool, err error) {
	first, next := string(job.FirstID(from)), string(job.FirstID(to))
	err = l.look(ctx, func() {
		for id := range l.board.entries {
			if id >= first && id < next {
				any = true
				return
			}
		}
	})
	return any, err
}

// look runs fn under the lock and returns once what it saw is durable and this
// reign proved.
func (l *leader) look(ctx context.Context, fn func()) error {
	proved := make(chan struct{})
	l.enter()
	if l.over {
		l.leave()
		return errors.New("janitor: the reign is over")
	}
	fn()
	l.after(func() { close(proved) })
	l.leave()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-proved:
		return nil
	}
}
