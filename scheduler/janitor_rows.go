package scheduler

import (
	"context"
	"errors"
	"time"
)

const (
	// askWithin bounds a question to the archive, and scanWithin one that reads
	// through a day. A job that is filed while a day is read is still known to
	// the leader afterwards: see filedFor and keepKnown.
	askWithin  = 15 * time.Second
	scanWithin = 25 * time.Second
	dropWithin = 10 * time.Second
)

// rows makes the days to come, drops those that are over, and deletes what is
// over on days that are not, every RowsEvery.
func (j *Janitor) rows(ctx context.Context, l *leader, did *swept) error {
	if time.Since(j.rowsAt) < j.cfg.RowsEvery {
		return nil
	}
	ask, cancel := janitorWithin(ctx, askWithin, "the days of the archive")
	defer cancel()
	if err := j.archive.MakeDays(ask, daysAhead); err != nil {
		return err
	}
	days, err := j.archive.Days(ask)
	if err != nil {
		return err
	}
	var errs []error
	for _, day := range days {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(day) < j.shortest {
			break // nothing of it can be over, nor of later ones
		}
		dropped, err := j.dropDay(ctx, l, day)
		if err == nil && dropped {
			did.days++
			continue
		}
		if err == nil {
			err = j.deleteRows(ctx, day, did)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	j.rowsAt = time.Now()
	return nil
}

// forget drops what answers no request any more from the list of cached results.
func (j *Janitor) forget(ctx context.Context, did *swept) error {
	for {
		ask, cancel := janitorWithin(ctx, askWithin, "the cached results that are over")
		n, err := j.archive.DeleteArtifacts(ask, j.stale, rowsAtOnce)
		cancel()
		did.cached += n
		if err != nil || n < rowsAtOnce {
			return err
		}
	}
}

// dropDay drops a day's partition when all in it is over and nothing can be
// filed there any more: every job whose id is of that day has ended and was
// filed. The archive is asked first, so that what was filed meanwhile is still
// known to the leader.
func (j *Janitor) dropDay(ctx context.Context, l *leader, day time.Time) (bool, error) {
	scan, cancel := janitorWithin(ctx, scanWithin, "whether a day is over")
	defer cancel()
	over, err := j.archive.DayOver(scan, day)
	if err != nil || !over {
		return false, err
	}
	ask, cancel := janitorWithin(ctx, askWithin, "the leader's jobs of a day")
	defer cancel()
	held, err := l.holdsAny(ask, day, day.AddDate(0, 0, 1))
	if err != nil || held {
		return false, err
	}
	drop, cancel := janitorWithin(ctx, dropWithin, "the drop of a day")
	defer cancel()
	if err := j.archive.DropDay(drop, day); err != nil {
		return false, err
	}
	j.log.Info("dropped a day of the archive", "day", day.Format(time.DateOnly))
	return true, nil
}

// deleteRows deletes what has been over for long on a day that other plans
// keep.
func (j *Janitor) deleteRows(ctx context.Context, day time.Time, did *swept) error {
	if time.Since(day) < j.shortest+rowsAfter {
		return nil
	}
	for {
		scan, cancel := janitorWithin(ctx, scanWithin, "the deletion of old rows")
		n, err := j.archive.DeleteExpired(scan, day, rowsAfter, rowsAtOnce)
		cancel()
		did.rows += n
		if err != nil || n < rowsAtOnce {
			return err
		}
	}
}
