package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tintype/tintype/api/lines"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/object"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// dryRunsAtOnce is how many dry runs a replica does side by side: each keeps
// its processors busy for as long as its client likes.
const dryRunsAtOnce = 2

// dryRunOf is dryRun of an input in the bucket.
func (s *Server) dryRunOf(in *intake, key string) error {
	body, _, err := s.deps.Bucket.Open(in.r.Context(), key, 0)
	if errors.Is(err, object.ErrNotFound) {
		return fault.Wrap(fault.Conflict, err, "the file was deleted meanwhile")
	}
	if err != nil {
		return unavailable(err, "the object store does not answer at the moment; try again")
	}
	defer body.Close()
	return s.dryRun(in, body)
}

// dryRun judges and prices an input, and stores nothing.
func (s *Server) dryRun(in *intake, input io.Reader) error {
	wait, cancel := context.WithTimeoutCause(in.r.Context(), requestWithin, errors.New("no place for a dry run in time"))
	defer cancel()
	if err := s.dryRuns.Acquire(wait, 1); err != nil {
		return fault.Wrap(fault.Unavailable, err, "too many dry runs are under way; try again")
	}
	defer s.dryRuns.Release(1)
	defaults, err := decodeDefaults(in.settings.defaults)
	if err != nil {
		return fmt.Errorf("defaults: %w", err)
	}
	sum, late := newLineSums(), http.NewResponseController(in.w)
	err = s.judge(in.r.Context(), input, s.reading(in.c.account.ID, in.settings.format, s.terms(in.c.account.ID, in.c.plan), defaults, len(in.settings.defaults)), func(some []batch.Line) error {
		_ = late.SetWriteDeadline(time.Now().Add(requestWithin + answerSlack)) // as in linger; reading goes on
		for i := range some {
			sum.take(&some[i])
		}
		return nil
	})
	refused, isRefused := errors.AsType[*lines.Refused](err)
	switch {
	case isRefused:
		sum = newLineSums()
		sum.errors = []batch.LineError{refused.Wrong}
	case in.r.Context().Err() != nil:
		return fault.Wrap(fault.Canceled, err, "the client went away")
	case err != nil:
		return unavailable(err, "the input could not be read; try again")
	}
	out := DryRun{
		Lines: sum.total, Valid: sum.total - sum.invalid, Invalid: sum.invalid,
		Failure: orNull(sum.failure(in.settings.onError)), Errors: []LineError{},
	}
	if isRefused {
		why := whyRefused(refused.Wrong)
		out.Failure = &why
	}
	for _, e := range sum.errors {
		out.Errors = append(out.Errors, presentLineError(e))
	}
	if out.Price, err = s.price(in.r.Context(), in.c, out.Valid); err != nil {
		return err
	}
	linger(in.w, 0)
	return writeJSON(in.w, http.StatusOK, out)
}

func presentLineError(e batch.LineError) LineError {
	return LineError{Line: e.Line, Column: orNull(e.Column), Code: e.Code, Pointer: e.Pointer, Detail: e.Detail}
}

// price is what so many jobs cost at most, if they were accepted now.
func (s *Server) price(ctx context.Context, c *call, jobs int64) (Price, error) {
	quota := c.plan.Quota
	units := jobs * (quota.RenderUnits() + quota.CallUnits())
	out := Price{Unit: string(quota.Unit), Credits: credits(units)}
	if !quota.Limited() {
		out.Unit = string(account.UnitRender)
		return out, nil
	}
	if m := meterOf(c.left(), pb.Meter_KIND_QUOTA); m != nil {
		left := credits(m.Remaining)
		out.Remaining = &left
	}
	o := quota.Overage
	if !o.Allowed {
		return out, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	days, err := s.deps.Store.Usage(ctx, c.account.ID, presentSpan(c.account, c.plan, time.Now()).start)
	if err != nil {
		return out, archiveDown(err)
	}
	var used int64
	for _, d := range days {
		used += d.Units
	}
	before, _ := o.Overrun(used)
	after, _ := o.Overrun(used + units)
	_, cost := o.Overrun(o.Above*account.UnitsPerCredit + after - before)
	out.Overage = &PriceOverage{Credits: credits(after - before), PricePerUnit: account.Decimal(account.Nano(o.PriceNano)), Cost: account.Decimal(cost)}
	return out, nil
}
