package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/webhook"
)

// noSecrets is how long a lane waits whose messages cannot be signed.
const noSecrets = time.Minute

// fight sends what a lane holds, to its end, for a while, or until the receiver
// fails, and gives the lane back.
func (s *Sender) fight(intake, work context.Context, b webhook.Bout) {
	health := b.Health
	release := webhook.Release{Lane: b.Lane}
	defer func() {
		release.Health = health
		s.settled <- came{release: &release, standing: b.Health.Standing, account: b.Account}
	}()
	if len(b.Deliveries) == 0 {
		return
	}
	to, drop := target(b)
	if release.Drop = drop; drop != "" {
		return
	}
	sign, err := s.secrets(work, b)
	if err != nil {
		s.log.Error("messages cannot be signed", "account", b.Account, "lane", b.Lane, "err", err)
		health.Open = noSecrets
		return
	}
	var (
		done     = make(chan *webhook.Outcome)
		inFlight int
		next     int
		width    = rooms[b.Health.Standing].width
		end      = time.Now().Add(boutWithin)
	)
	for {
		for next < len(b.Deliveries) && inFlight < width && health.Failures == b.Health.Failures && intake.Err() == nil && time.Now().Before(end) {
			d := b.Deliveries[next]
			next, inFlight = next+1, inFlight+1
			go func() { done <- s.attempt(work, b, d, to, sign) }()
		}
		if inFlight == 0 {
			return
		}
		o := <-done
		inFlight--
		if o == nil {
			continue // interrupted: as if it had not been
		}
		if o.Attempt.Took > 0 { // else nobody was asked
			health = health.After(o.Answer, o.Attempt.At.Add(o.Attempt.Took))
		}
		s.settled <- came{outcome: o}
	}
}

// target is where a lane's messages go: one address, or what each says itself.
// drop says why they go nowhere.
func target(b webhook.Bout) (to string, drop string) {
	switch {
	case b.Deliveries[0].Endpoint == "":
		return "", ""
	case b.Endpoint == nil:
		return "", "the endpoint was deleted"
	case !b.Endpoint.DisabledAt.IsZero():
		return "", "the endpoint is disabled: " + b.Endpoint.DisabledReason
	}
	return b.Endpoint.URL, ""
}

// secrets are what signs in a lane.
func (s *Sender) secrets(ctx context.Context, b webhook.Bout) ([]webhook.Secret, error) {
	as, owner, sealed := seal.Account, b.Account, b.Secrets
	if b.Endpoint != nil {
		as, owner, sealed = seal.Endpoint, b.Endpoint.ID, b.Endpoint.Secrets
	} else if len(sealed.Sealed) == 0 {
		var err error
		ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("asking for an account's secret"))
		defer cancel()
		if sealed, err = s.store.AccountSecrets(ctx, b.Account); err != nil {
			return nil, err
		}
	}
	live, err := s.store.OpenSecrets(sealed, as, owner, time.Now())
	if len(live) == 0 {
		return nil, err
	}
	if err != nil {
		s.log.Warn("a secret that still signs cannot be read", "account", b.Account, "lane", b.Lane, "err", err)
	}
	return live, nil
}

// attempt sends one message; nil when it was interrupted.
func (s *Sender) attempt(ctx context.Context, b webhook.Bout, d webhook.Delivery, to string, sign []webhook.Secret) *webhook.Outcome {
	o := webhook.Outcome{Delivery: d.ID, Endpoint: d.Endpoint}
	body := []byte(d.Body)
	if len(body) == 0 {
		var err error
		if body, err = s.body(b, d); err != nil {
			at := time.Now().UTC().Truncate(time.Microsecond)
			o.Attempt, o.Endpoint = webhook.Attempt{At: at, Error: "it was not sent: " + err.Error()}, "" // it did not fail there
			o.Verdict = webhook.Verdict{State: webhook.Failed, Failure: err.Error()}
			return &o
		}
	}
	if to == "" {
		to = d.URL
	}
	o.Attempt, o.Answer = s.post.send(ctx, to, d.ID, body, sign)
	if ctx.Err() != nil && o.Answer.Status == 0 {
		return nil
	}
	o.Answer.Roll = rand.Float64()
	o.Verdict = webhook.Next(d.Tries+1, o.Attempt.At.Add(o.Attempt.Took), o.Answer)
	if d.Body == "" {
		o.Body = string(body)
	}
	s.metrics.attempted(d, o)
	s.log.Debug("sent a message", "delivery", d.ID, "account", d.Account, "lane", d.Lane, "attempt", d.Attempts+1, "status", o.Attempt.Status, "took", o.Attempt.Took, "kind", d.Type)
	return &o
}

var errJobGone = errors.New("the job is not kept any more")

// body is what is sent of a message for the first time.
func (s *Sender) body(b webhook.Bout, d webhook.Delivery) ([]byte, error) {
	if len(d.Data) > 0 {
		return encode(d.Type, d.Happened, d.Data)
	}
	j := b.Jobs[job.ID(d.Subject)]
	if j == nil {
		return nil, errJobGone
	}
	body, err := encodeJob(d.Type, d.Happened, j, s.present)
	if err != nil {
		return nil, fmt.Errorf("the job cannot be shown: %w", err)
	}
	return body, nil
}

// Test sends a message about nothing to an endpoint, once, and says what came of
// it. The archive is not told.
func (s *Sender) Test(ctx context.Context, e webhook.Endpoint, d webhook.Delivery) (webhook.Outcome, error) {
	sign, err := s.secrets(ctx, webhook.Bout{Account: e.Account, Endpoint: &e})
	if err != nil {
		return webhook.Outcome{}, err
	}
	body, err := encode(d.Type, d.Happened, d.Data)
	if err != nil {
		return webhook.Outcome{}, err
	}
	o := webhook.Outcome{Delivery: d.ID, Endpoint: e.ID, Body: string(body)}
	o.Attempt, o.Answer = s.post.send(ctx, e.URL, d.ID, body, sign)
	o.Verdict = webhook.Verdict{State: webhook.Delivered}
	if !o.Answer.OK() {
		o.Verdict = webhook.Verdict{State: webhook.Failed, Failure: "a test is tried once"}
	}
	s.metrics.attempts.WithLabelValues(resultOf(o.Answer)).Inc()
	return o, ctx.Err()
}
