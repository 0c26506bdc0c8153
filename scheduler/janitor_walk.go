package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
)

// What is below these is walked through, in this order: artifacts, by the
// attempts that wrote them (objectKey), and specs that are too large for JOBS.
const (
	artifacts = "r/"
	specs     = "s/"
)

// under is what a walk that has come to "after" goes through, and what comes
// next; "" is nothing more.
func under(after string) (prefix, next string) {
	all := []string{artifacts, specs, ofBatches, ofFiles, ""}
	for i, p := range all[1 : len(all)-1] {
		if strings.HasPrefix(after, p) {
			return p, all[i+2]
		}
	}
	return all[0], all[1]
}

// item is an object that belongs, or belonged, to a job.
type item struct {
	object.Info
	account string
	job     job.ID
}

// parseKey reads r/<account>/<job>/<token>.<ext> and s/<account>/<job>.json.
func parseKey(o object.Info) (item, bool) {
	parts := strings.Split(o.Key, "/")
	name := ""
	switch {
	case len(parts) == 4 && strings.HasPrefix(o.Key, artifacts):
		name = parts[2]
	case len(parts) == 3 && strings.HasPrefix(o.Key, specs):
		if id, ok := strings.CutSuffix(parts[2], ".json"); ok {
			name = id
		}
	}
	id, err := job.ParseID(name)
	return item{o, parts[min(1, len(parts)-1)], id}, err == nil && string(id) == name
}

// made is the later of the times that the object and its job's id were made
// at, by the clocks of S3 and of an API replica.
func (i item) made() time.Time { return maxTime(i.ModTime, i.job.Time()) }

// walk goes on through the bucket, a bounded number of pages at a time.
func (j *Janitor) walk(ctx context.Context, l *leader, did *swept) error {
	for range walkPages {
		start := time.Now()
		more, err := j.page(ctx, l, did)
		if err != nil || !more {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(walkRest * time.Since(start)):
		}
	}
	return nil
}

// page judges the next objects of the walk and notes how far it has come. It
// reports false when the walk is at its end, or not due.
func (j *Janitor) page(ctx context.Context, l *leader, did *swept) (more bool, err error) {
	ask, cancel := janitorWithin(ctx, askWithin, "the walk through the bucket")
	defer cancel()
	after, due, err := j.archive.Walk(ask, j.cfg.WalkEvery)
	if err != nil || !due {
		return false, err
	}
	prefix, next := under(after)
	objects, err := j.bucket.Page(ctx, prefix, after, j.cfg.PageSize)
	if err != nil {
		return false, err
	}
	did.looked += len(objects)
	j.metrics.looked.Add(float64(len(objects)))
	// Objects that cannot be deleted now are met again by the next walk.
	if prefix == ofBatches || prefix == ofFiles {
		err = j.judgeUploads(ctx, objects, did)
	} else {
		err = j.judge(ctx, l, objects, did)
	}
	if err != nil && !errors.Is(err, errStay) {
		return false, err
	} else if err != nil {
		j.log.Warn("objects that are over stay in the bucket", "err", err)
	}
	switch {
	case len(objects) == j.cfg.PageSize:
		after = objects[len(objects)-1].Key
	default:
		after, did.walked = next, next == ""
	}
	if did.walked {
		j.dropUploads(ctx)
	}
	note, cancel := janitorWithin(ctx, askWithin, "the walk through the bucket")
	defer cancel()
	return after != "", j.archive.Walked(note, after)
}

// dropUploads ends uploads whose API replica did not live to complete them.
func (j *Janitor) dropUploads(ctx context.Context) {
	n, err := j.bucket.DropUploads(ctx, time.Now().Add(-uploadAfter))
	if n > 0 {
		j.log.Info("uploads that were never completed are dropped", "uploads", n)
	}
	if err != nil { // the next walk tries them again
		j.metrics.stayed.Inc()
		j.log.Warn("uploads that were never completed stay in the bucket", "err", err)
	}
}

// errStay says that objects could not be deleted.
var errStay = errors.New("janitor: not deleted")

// judge deletes those of the objects that are over. The order is what makes it
// safe: first the objects were listed, then the leader says what it holds, and
// then the archive is asked about the rest. A job is known to the leader until
// it has been in the archive for a while, so none falls between the two.
func (j *Janitor) judge(ctx context.Context, l *leader, objects []object.Info, did *swept) error {
	var items []item
	ids, accounts := map[job.ID]bool{}, map[string]bool{}
	for _, o := range objects {
		if i, ok := parseKey(o); ok { // what is none of the farm's stays
			items = append(items, i)
			ids[i.job], accounts[i.account] = true, true
		}
	}
	if len(items) == 0 {
		return nil
	}
	ask, cancel := janitorWithin(ctx, askWithin, "whose the objects are")
	defer cancel()
	held, projected, err := l.holds(ask, slices.Collect(maps.Keys(ids)))
	if err != nil {
		return err
	}
	maps.DeleteFunc(ids, func(id job.ID, _ bool) bool { return held[id] })
	kept, err := j.archive.Retained(ask, slices.Collect(maps.Keys(ids)), slices.Collect(maps.Keys(accounts)))
	if err != nil {
		return err
	}
	if j.seen = max(j.seen, projected); kept.Seq < j.seen {
		return fmt.Errorf("janitor: the archive is at frame %d and was at %d before: it is older than what it filed, and nothing is deleted", kept.Seq, j.seen)
	}
	j.seen = kept.Seq
	var gone []string
	var count swept
	var bytes int64
	for _, i := range items {
		why := j.verdict(i, held[i.job], kept)
		switch why {
		case "":
			continue
		case overExpired:
			count.expired++
		case overOrphan:
			count.orphan++
		case overSpec:
			count.specs++
		}
		gone, bytes = append(gone, i.Key), bytes+i.SizeBytes
	}
	if len(gone) == 0 {
		return nil
	}
	if err := j.bucket.Delete(ctx, gone...); err != nil {
		j.metrics.stayed.Inc()
		return fmt.Errorf("%w: %w", errStay, err)
	}
	did.expired, did.orphan, did.specs = did.expired+count.expired, did.orphan+count.orphan, did.specs+count.specs
	j.metrics.deleted(count, bytes)
	return nil
}

// Why an object is over; also the values of a label.
const (
	overExpired = "expired"
	overOrphan  = "orphan"
	overSpec    = "spec"
	overUpload  = "upload"
)

// verdict is why an object is over, or "" if it stays.
func (j *Janitor) verdict(i item, held bool, r store.Retained) string {
	if r.Shared[i.Key] {
		return "" // it answers other requests
	}
	row, filed := r.Jobs[i.job]
	aged := r.At.Sub(i.made()) > j.orphanAge()
	switch {
	case held:
		return ""
	case filed && row.Object == i.Key:
		if row.Over {
			return overExpired
		}
		return ""
	case !filed && !r.Accounts[i.account]:
		return "" // of another farm that was given this bucket, or of an archive that is not the right one
	case !aged:
		return "" // somebody may still be about to name it
	case strings.HasPrefix(i.Key, specs):
		return overSpec // its job has ended, or was refused
	}
	return overOrphan // of an attempt that was lost, or of a row that is gone
}
