package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/tintype/tintype/pkg/webhook"
)

const (
	// settleMost is how much goes into one transaction.
	settleMost = 500
	// lastWord is how long a sender that was told to end at once still tries to
	// give back what it holds.
	lastWord = 2 * time.Second
)

// came is one of: what came of an attempt; a lane to give back.
type came struct {
	outcome *webhook.Outcome

	release  *webhook.Release
	standing webhook.Standing // that it was claimed with
	account  string
}

// write writes what comes, all that is there at once in one transaction, until
// done is closed.
func (s *Sender) write(ctx context.Context, done <-chan struct{}) {
	for {
		var first came
		select {
		case first = <-s.settled:
		case <-done:
			return
		}
		batch := []came{first}
		for more := true; more && len(batch) < settleMost; {
			select {
			case c := <-s.settled:
				batch = append(batch, c)
			default:
				more = false
			}
		}
		s.settle(ctx, batch)
	}
}

// settle writes a batch, however long the archive is away; bouts wait
// meanwhile. Once ctx has ended it tries for a last moment: what is not written
// then is sent again by whoever claims it after the lease.
func (s *Sender) settle(ctx context.Context, batch []came) {
	var outcomes []webhook.Outcome
	var released []webhook.Release
	for _, c := range batch {
		if c.outcome != nil {
			outcomes = append(outcomes, *c.outcome)
		} else {
			released = append(released, *c.release)
		}
	}
	defer func() {
		for _, c := range batch {
			if c.release != nil {
				s.gaveBack(c.standing, c.account)
			}
		}
		if len(released) > 0 {
			s.look() // there is room, or something is due
		}
	}()
	for warned := false; ; {
		off, err := s.settleOnce(ctx, outcomes, released)
		if err == nil {
			s.settledAll(outcomes, off)
			return
		}
		if !warned {
			s.log.Warn("what came of deliveries cannot be written yet", "count", len(outcomes), "err", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			s.log.Error("what came of deliveries was not written; they are sent again", "count", len(outcomes), "err", err)
			return
		case <-time.After(rest):
		}
	}
}

func (s *Sender) settleOnce(ctx context.Context, outcomes []webhook.Outcome, released []webhook.Release) ([]webhook.Disabled, error) {
	within := storeWithin
	if ctx.Err() != nil {
		within = lastWord
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), within, errors.New("settling deliveries"))
	defer cancel()
	off, _, err := s.store.Settle(ctx, s.boot, outcomes, released)
	return off, err
}

// settledAll tells of what was written.
func (s *Sender) settledAll(outcomes []webhook.Outcome, off []webhook.Disabled) {
	for _, o := range outcomes {
		if o.Verdict.State != webhook.Pending {
			s.metrics.ended.WithLabelValues(string(o.Verdict.State)).Inc()
		}
		if o.Verdict.State == webhook.Failed {
			s.log.Info("a delivery failed for good", "delivery", o.Delivery, "endpoint", o.Endpoint, "status", o.Attempt.Status)
		}
	}
	for _, d := range off {
		s.metrics.disabled.WithLabelValues(d.Reason).Inc()
		s.log.Warn("a webhook endpoint was disabled", "endpoint", d.ID, "account", d.Account, "kind", d.Reason)
	}
}
