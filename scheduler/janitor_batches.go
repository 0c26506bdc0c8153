package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batches "github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
)

const (
	// batchesAtOnce is how many batches that are over are looked at in one sweep.
	batchesAtOnce = 100
	// resultsAtOnce is how many results of a deleted batch go with one statement,
	// and their objects with one call.
	resultsAtOnce = 1000
	// deliveriesAfter is how long after its end a delivery is kept.
	deliveriesAfter = 30 * 24 * time.Hour
)

// Objects that are no job's: of batches, b/<account>/<batch>/<name>, and files,
// f/<account>/<file>.
const (
	ofBatches = "b/"
	ofFiles   = "f/"
)

// upload is an object of a batch or a file.
type upload struct {
	object.Info
	account string
	batch   string // empty: of a file
}

// parseUpload reads a key of these.
func parseUpload(o object.Info) (upload, bool) {
	parts := strings.Split(o.Key, "/")
	switch {
	case len(parts) == 4 && strings.HasPrefix(o.Key, ofBatches) && isID(parts[2], "batch_"):
		return upload{o, parts[1], parts[2]}, true
	case len(parts) == 3 && strings.HasPrefix(o.Key, ofFiles) && isID(parts[2], "file_"):
		return upload{o, parts[1], ""}, true
	}
	return upload{}, false
}

// isID reports an id of that kind.
func isID(text, prefix string) bool {
	rest, ok := strings.CutPrefix(text, prefix)
	id, err := job.ParseID("job_" + rest)
	return ok && err == nil && string(id) == "job_"+rest
}

// judgeUploads deletes those of the objects that nothing names any more. What
// is named first and put then is younger than any of them.
func (j *Janitor) judgeUploads(ctx context.Context, objects []object.Info, did *swept) error {
	var items []upload
	var keys []string
	ids, accounts := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		if u, ok := parseUpload(o); ok { // what is none of the farm's stays
			items, keys = append(items, u), append(keys, u.Key)
			ids[u.batch], accounts[u.account] = true, true
		}
	}
	if len(items) == 0 {
		return nil
	}
	ask, cancel := janitorWithin(ctx, askWithin, "whose the uploads are")
	defer cancel()
	said, err := j.archive.Uploads(ask, keys, slices.Collect(maps.Keys(ids)), slices.Collect(maps.Keys(accounts)))
	if err != nil {
		return err
	}
	var gone []string
	var bytes int64
	for _, u := range items {
		// An account that is not there is another farm's, or the archive is not the right one.
		if !said.Named[u.Key] && said.Accounts[u.account] && said.At.Sub(u.ModTime) > j.orphanAge() {
			gone, bytes = append(gone, u.Key), bytes+u.SizeBytes
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := j.bucket.Delete(ctx, gone...); err != nil {
		j.metrics.stayed.Inc()
		return fmt.Errorf("%w: %w", errStay, err)
	}
	did.uploads += len(gone)
	j.metrics.deleted(swept{uploads: len(gone)}, bytes)
	return nil
}

// past ends batches, files and deliveries whose time is over.
func (j *Janitor) past(ctx context.Context, did *swept) error {
	ask, cancel := janitorWithin(ctx, askWithin, "the batches that are over")
	defer cancel()
	over, err := j.archive.OverBatches(ask, batchesAtOnce)
	errs := []error{err}
	for _, b := range over {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := j.endBatch(ctx, b)
		if err == nil {
			did.batches++
		}
		errs = append(errs, err)
	}
	errs = append(
		errs,
		inBulk(ctx, "the files that are over", &did.files, j.archive.DeleteFiles),
		inBulk(ctx, "the deliveries that are over", &did.deliveries, func(ctx context.Context, limit int) (int, error) {
			return j.archive.DeleteDeliveries(ctx, deliveriesAfter, limit)
		}),
	)
	return errors.Join(errs...)
}

// inBulk deletes until there is nothing left to.
func inBulk(ctx context.Context, what string, count *int, some func(ctx context.Context, limit int) (int, error)) error {
	for {
		ask, cancel := janitorWithin(ctx, scanWithin, what)
		n, err := some(ask, rowsAtOnce)
		cancel()
		*count += n
		if err != nil || n < rowsAtOnce {
			return err
		}
	}
}

// endBatch deletes the objects of a batch that is over and then its row, which
// names them. Of one that its account deleted the results of its lines go first;
// of others they have their own retention. Again, if it is cut off.
func (j *Janitor) endBatch(ctx context.Context, b *batches.Batch) error {
	if b.KeptUntil.Before(b.CreatedAt) {
		if err := j.dropResults(ctx, b); err != nil {
			return err
		}
	}
	var own []string
	for _, key := range []string{b.Input, b.Lines, b.PassObject} {
		if strings.HasPrefix(key, ofBatches+b.Account+"/"+b.ID+"/") && !slices.Contains(own, key) {
			own = append(own, key)
		}
	}
	if err := j.bucket.Delete(ctx, own...); err != nil {
		j.metrics.stayed.Inc()
		return fmt.Errorf("%w: %w", errStay, err)
	}
	ask, cancel := janitorWithin(ctx, askWithin, "the deletion of a batch")
	defer cancel()
	return j.archive.DeleteBatch(ask, b.ID)
}

func (j *Janitor) dropResults(ctx context.Context, b *batches.Batch) error {
	for after := 0; ; {
		ask, cancel := janitorWithin(ctx, scanWithin, "the results of a deleted batch")
		objects, last, err := j.archive.DropBatchResults(ask, b, after, resultsAtOnce)
		cancel()
		if err != nil {
			return err
		}
		if err := j.bucket.Delete(ctx, objects...); err != nil {
			j.metrics.stayed.Inc()
			return fmt.Errorf("%w: %w", errStay, err)
		}
		if after = last; last == 0 {
			return nil
		}
	}
}

// batchShelves is what of Postgres this is about.
type batchShelves interface {
	Uploads(ctx context.Context, keys, batches, accounts []string) (store.Uploads, error)
	OverBatches(ctx context.Context, limit int) ([]*batches.Batch, error)
	DropBatchResults(ctx context.Context, b *batches.Batch, after, limit int) (objects []string, last int, err error)
	DeleteBatch(ctx context.Context, id string) error
	DeleteFiles(ctx context.Context, limit int) (int, error)
	DeleteDeliveries(ctx context.Context, age time.Duration, limit int) (int, error)
}
