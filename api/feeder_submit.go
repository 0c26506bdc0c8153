package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// lineOf is which line of a batch a submission is.
type lineOf struct {
	id           job.ID
	batch        string
	number, pass int
	// ask says that it may be a job already: leader and archive are asked first.
	ask bool
	// over says that the batch may be somebody else's by now. It is looked at
	// after the record is dated: one who was stopped before it published it has
	// a record that is too old.
	over func() bool
	// known is set when it was a job already.
	known bool
}

// begin makes the envelope, which is dated, that of the line. known says that it
// is a job already.
func (l *lineOf) begin(ctx context.Context, s *Server, env *pb.Envelope) (known bool, err error) {
	if l.over() {
		return false, errLost
	}
	env.Batch, env.Line, env.Pass = l.batch, uint32(l.number), uint32(l.pass)
	if !l.ask {
		return false, nil
	}
	return s.knows(ctx, l.id, env.Account)
}

// put submits a line.
func (of *feeding) put(ctx context.Context, l *batch.Line, ask bool) fed {
	s, b := of.server, of.batch
	line := &lineOf{id: batch.JobID(b.ID, b.CreatedAt, l.Number, b.Pass), batch: b.ID, number: l.Number, pass: b.Pass, ask: ask, over: of.hold.over}
	sub, err := s.submissionOf(b.Account, l, line)
	if err != nil {
		return fed{err: err}
	}
	if b.LineEvents {
		sub.webhook = l.Webhook
	}
	c := &call{began: time.Now(), who: of.who, account: of.account, plan: of.plan, meters: new(meters)}
	ctx = context.WithValue(context.WithoutCancel(ctx), callKey{}, c)
	if units := c.plan.Quota.CallUnits(); units > 0 {
		q := c.who.charge(units, reasonCall)
		q.Event = "call_" + string(line.id) // so that it costs one however often it is tried
		if err := s.front.count(ctx, q); err != nil && !errors.Is(err, errUncounted) {
			return fed{err: err}
		}
	}
	j, _, err := s.submit(ctx, c, sub, nil)
	r := fed{known: line.known, meters: c.meters.list(), err: err}
	r.ended = err == nil && j.State.Terminal()
	return r
}

// submissionOf is the request that a line stands for.
func (s *Server) submissionOf(accountID string, l *batch.Line, line *lineOf) (sub *submission, err error) {
	sub = &submission{customID: l.CustomID, metadata: l.Metadata, ttlS: l.TTLS, force: l.Force, line: line}
	if err := json.Unmarshal(l.Spec, &sub.spec); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the line cannot be read any more")
	}
	if sub.spec.Secrets, err = s.opened(accountID, l.Secrets); err != nil {
		return nil, err
	}
	return sub, nil
}
