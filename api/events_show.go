package api

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// What streams tell beside the types of webhooks.
const (
	jobQueued    webhook.Type = "job.queued"
	jobRunning   webhook.Type = "job.running"
	streamOpened webhook.Type = "stream.opened" // how the account stands as its stream begins
	streamReset  webhook.Type = "reset"         // something was missed
)

const (
	// showAtOnce is how many facts are shown in one write, and askAtOnce how many
	// jobs are asked for at a time for that.
	showAtOnce = 64
	askAtOnce  = 16
	// knownMost bounds the jobs that a stream remembers.
	knownMost = 256
)

// wants reports whether a fact is one of the subscription's.
func (s *subscription) wants(f fact) bool {
	if f.batch != "" && s.kind != subjectJob && !s.lines {
		return false
	}
	switch s.kind {
	case subjectJob:
		return f.job == s.id
	case subjectBatch:
		return f.batch == s.id
	}
	return f.account == s.id
}

// show writes facts that were not shown yet, in their order.
func (l *live) show(ctx context.Context, facts []fact) error {
	for len(facts) > 0 && !l.ended {
		n := min(len(facts), showAtOnce)
		if err := l.showSome(ctx, facts[:n]); err != nil {
			return err
		}
		facts = facts[n:]
	}
	return nil
}

func (l *live) showSome(ctx context.Context, facts []fact) error {
	if err := l.learn(ctx, facts); err != nil {
		return err
	}
	for _, f := range facts {
		if f.token <= l.shown {
			continue
		}
		l.shown = f.token
		id := job.ID(f.job)
		var err error
		if end := f.event.GetFinished(); end != nil {
			err = l.job(wire.FromJob(end.Job), f.token, f.at)
			delete(l.known, id)
		} else if q := f.event.GetQuotaReached(); q != nil {
			err = l.event(webhook.OfQuota(int(q.Percent)), l.id(f.token), f.at,
				webhook.QuotaData(account.DayOf(q.Period), int(q.Percent), q.Used, q.Limit, wire.Time(q.ResetsUs)))
		} else if j := l.known[id]; j != nil {
			err = l.job(asOf(j, f), f.token, f.at)
		}
		if err != nil {
			return err
		}
		if l.ended {
			break
		}
	}
	return l.flush()
}

// learn asks for the jobs of facts that do not tell all of them. Without a leader
// it waits for one: a stream goes on where it was.
func (l *live) learn(ctx context.Context, facts []fact) error {
	if len(l.known)+len(facts) > knownMost {
		clear(l.known)
	}
	ask := make(map[job.ID]bool)
	for _, f := range facts {
		if id := job.ID(f.job); id != "" && f.event.GetFinished() == nil && f.token > l.shown && l.known[id] == nil {
			ask[id] = true
		}
	}
	for beatAt := time.Now().Add(beatEvery); len(ask) > 0; {
		found := make(chan *job.Job, len(ask))
		var away atomic.Bool
		var asking errgroup.Group
		asking.SetLimit(askAtOnce)
		for id := range ask {
			asking.Go(func() error {
				j, err := l.find(ctx, id, l.call.account.ID, 0)
				switch {
				case err == nil:
					found <- j
				case fault.Is(err, fault.Unavailable) || ctx.Err() != nil:
					away.Store(true)
				}
				return nil // one that is gone by now is not told of any more
			})
		}
		_ = asking.Wait() // nobody fails
		close(found)
		for j := range found {
			l.known[j.ID] = j
			delete(ask, j.ID)
		}
		if !away.Load() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryPause):
		}
		if time.Now().After(beatAt) {
			beatAt = time.Now().Add(beatEvery)
			l.out.comment("beat")
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// asOf is a job as it was when something happened to it: what it was submitted
// with, and nothing that came later.
func asOf(j *job.Job, f fact) *job.Job {
	v := &job.Job{
		ID: j.ID, Account: j.Account, State: job.Queued, Tier: j.Tier, CreatedAt: j.CreatedAt, CustomID: j.CustomID, Metadata: j.Metadata,
		Options: j.Options, Batch: j.Batch, Line: j.Line, Pass: j.Pass, Webhook: j.Webhook,
	}
	switch ev := f.event.Fact.(type) {
	case *pb.Event_Accepted:
		v.WaitingFor = waitsAt(ev.Accepted.Place)
	case *pb.Event_Started:
		v.State, v.StartedAt, v.Attempts = job.Running, f.at.UTC(), int(ev.Started.Of.GetAttempts())
	case *pb.Event_Released:
		v.WaitingFor, v.StartedAt, v.Attempts = job.WaitingForWorker, wire.Time(ev.Released.Of.GetStartedUs()), int(ev.Released.Of.GetAttempts())
		if ev.Released.NotBeforeUs > 0 {
			v.WaitingFor = job.WaitingForRetry
		}
	}
	if v.State == j.State && v.Attempts == j.Attempts && v.StartedAt.Equal(j.StartedAt) {
		return j // with its place in the queue
	}
	return v
}

// waitsAt is what a job waits for at its place.
func waitsAt(p pb.Place) job.WaitingFor {
	switch p {
	case pb.Place_PLACE_PARKED:
		return job.WaitingForSlot
	case pb.Place_PLACE_FOLLOWER:
		return job.WaitingForTwin
	}
	return job.WaitingForWorker
}

// job tells how a job is. token is the last event that this follows from, and at
// when it came.
func (l *live) job(j *job.Job, token uint64, at time.Time) error {
	id := l.id(token)
	if j.State.Terminal() {
		if at = came(j); l.only == j.ID {
			id, l.ended = id+endMark, true
		}
	}
	data, err := jobData(j, l.cfg.PublicURL)
	if err != nil {
		return err
	}
	return l.event(webhook.OfEnd(j.State), id, at, data)
}

// came is about when a job came into the state that it is in.
func came(j *job.Job) time.Time {
	switch {
	case j.State.Terminal():
		return j.FinishedAt
	case j.State == job.Running:
		return j.StartedAt
	}
	return j.CreatedAt
}

// id is how an event of the ledger is called.
func (l *live) id(token uint64) string { return strconv.FormatUint(token, 10) }

// jobData is a job as those are told of it who do not ask for it: as GET shows
// it, without the page that it was submitted with.
func jobData(j *job.Job, base string) (any, error) {
	told := *j
	if bytes.Contains(j.Options, []byte(`"html"`)) || bytes.Contains(j.Options, []byte(`"markdown"`)) {
		spec, err := job.ParseSpec(j.Options)
		if err != nil {
			return nil, err
		}
		spec.HTML, spec.Markdown = "", ""
		told.Options = spec.Marshal()
	}
	v, err := show(&told, base)
	return map[string]any{"job": v}, err
}

// event adds an event, of the form that webhooks have.
func (l *live) event(kind webhook.Type, id string, at time.Time, data any) error {
	text, err := marshal(struct {
		Type      webhook.Type `json:"type"`
		Timestamp Time         `json:"timestamp"`
		Data      any          `json:"data"`
	}{kind, Time{at}, data})
	if err != nil {
		return err
	}
	l.out.event(string(kind), id, text)
	l.live.sent.WithLabelValues(string(kind)).Inc()
	return nil
}

// reset tells the client that something was missed. It has no id: a client that
// comes back before it was told more says again where it has been.
func (l *live) reset(why, detail string) {
	_ = l.event(streamReset, "", time.Now(), map[string]json.RawMessage{ // these always marshal
		"reason": json.RawMessage(strconv.Quote(why)), "detail": json.RawMessage(strconv.Quote(detail)),
	})
}
