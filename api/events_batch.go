package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/webhook"
)

const (
	// progressEvery is how often streams look at batches, whose states are not in the
	// ledger: a batch.progress comes no more often.
	progressEvery = time.Second
	// recently is how long ends of batches are looked at: longer than the ledger
	// surely holds what a stream goes on from.
	recently = 90 * time.Second
	// clocksApart is how far the clock of the archive, which dates the ends of
	// batches, and that of the ledger may be apart without an end being missed.
	clocksApart = 5 * time.Second
)

// batchProgress is told of a batch that goes on, at most once in progressEvery.
const batchProgress webhook.Type = "batch.progress"

// watchStore is what the archive tells of batches that somebody watches.
type watchStore interface {
	// RecentBatches are an account's batches that have not ended, or have within
	// this time.
	RecentBatches(ctx context.Context, accountID string, within time.Duration) ([]*batch.Batch, error)
}

// batchEvents is GET /v1/batches/{id}/events.
func (s *Server) batchEvents(w http.ResponseWriter, r *http.Request, c *call) error {
	b, err := s.batchOfPath(r, c)
	if err != nil {
		return err
	}
	lines, _ := c.query.members["batch_line_events"].(bool)
	watch := batchWatch{shown: make(map[string][]byte)}
	look := func(ctx context.Context, l *live) error {
		ctx, cancel := context.WithTimeoutCause(ctx, storeWithin, errors.New("the archive did not answer in time"))
		defer cancel()
		b, err := s.deps.Store.Batch(ctx, c.account.ID, b.ID)
		if err != nil {
			l.ended = fault.Is(err, fault.NotFound) // it was deleted; else the archive is away, and will be back
			return nil
		}
		v := s.batchesNow(ctx, b.Account, b)[0]
		if l.ended = b.State.Ended(); l.ended {
			return l.batchEnd(v, endMark)
		}
		return watch.progress(l, v)
	}
	return s.serveEvents(w, r, c, liveView{
		subject: subject{subjectBatch, b.ID}, lines: lines, states: !lines,
		admit: func(context.Context) (bool, error) { return b.State.Ended(), nil },
		present: func(ctx context.Context, l *live) error {
			if lines {
				if err := l.fromNow(ctx); err != nil {
					return err
				}
			}
			return look(ctx, l)
		},
		look: look,
	})
}

// batchWatch is what a stream has told of batches.
type batchWatch struct {
	shown map[string][]byte    // the last progress, by batch
	ended map[string]time.Time // ends that were told, or are older than the stream
}

// progress tells how a batch stands, unless it was told the same before. When it
// will end is told with the rest and is no news by itself.
func (w *batchWatch) progress(l *live, v *Batch) error {
	same := *v
	same.EstimatedEndAt = nil
	text, err := json.Marshal(same)
	if err != nil || bytes.Equal(text, w.shown[v.Id]) {
		return err
	}
	w.shown[v.Id] = text
	return l.event(batchProgress, l.id(l.shown), time.Now(), map[string]any{"batch": v})
}

// batchEnd tells the end of a batch.
func (l *live) batchEnd(v *Batch, mark string) error {
	return l.event(webhook.BatchCompleted, l.id(l.shown)+mark, v.FinishedAt.Time, map[string]any{"batch": v})
}

// batchesNow are an account's batches as GET shows each of them.
func (s *Server) batchesNow(ctx context.Context, accountID string, list ...*batch.Batch) []*Batch {
	running, now := s.runningOf(ctx, accountID, list...), time.Now()
	out := make([]*Batch, len(list))
	for i, b := range list {
		out[i] = presentBatch(b, running[i], s.endOf(ctx, b, now), s.cfg.PublicURL)
	}
	return out
}

// look tells what has become of the account's batches. The first time it leaves
// out ends that the stream need not tell: those of before it began.
func (w *batchWatch) look(ctx context.Context, l *live) error {
	list, err := l.recent.of(ctx, l.Server, l.call.account.ID)
	if err != nil {
		return nil //nolint:nilerr // the archive is away: what it has is told once it is back
	}
	first := w.ended == nil
	if first {
		w.ended = make(map[string]time.Time)
	}
	there := make(map[string]bool, len(list))
	for _, v := range list {
		there[v.Id] = true
		if v.FinishedAt == nil {
			err = w.progress(l, v)
		} else if at := v.FinishedAt.Time; !w.ended[v.Id].Equal(at) {
			w.ended[v.Id] = at
			if old := first && (l.since.IsZero() || at.Before(l.since.Add(-clocksApart))); !old {
				err = l.batchEnd(v, "")
			}
		}
		if err != nil {
			return err
		}
	}
	for id := range w.ended {
		if !there[id] {
			delete(w.ended, id)
		}
	}
	for id := range w.shown {
		if !there[id] {
			delete(w.shown, id)
		}
	}
	return nil
}

// recentBatches asks the archive once for all streams of an account.
type recentBatches struct {
	asks singleflight.Group
	mu   sync.Mutex
	last map[string]recentAnswer // by account; guarded by mu
}

type recentAnswer struct {
	list []*Batch
	at   time.Time // before it was asked
}

func (r *recentBatches) of(ctx context.Context, s *Server, accountID string) ([]*Batch, error) {
	const fresh = progressEvery * 9 / 10
	now := time.Now()
	r.mu.Lock()
	last, ok := r.last[accountID]
	r.mu.Unlock()
	if ok && now.Sub(last.at) < fresh {
		return last.list, nil
	}
	answer := r.asks.DoChan(accountID, func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), storeWithin, errors.New("the archive did not answer in time"))
		defer cancel()
		found, err := s.deps.Store.RecentBatches(ctx, accountID, recently)
		if err != nil {
			return nil, err
		}
		list := s.batchesNow(ctx, accountID, found...)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.last == nil {
			r.last = make(map[string]recentAnswer)
		}
		for id, old := range r.last { // of accounts that nobody follows any more
			if now.Sub(old.at) > 2*progressEvery {
				delete(r.last, id)
			}
		}
		r.last[accountID] = recentAnswer{list, now}
		return list, nil
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case a := <-answer:
		if a.Err != nil {
			return nil, a.Err
		}
		return a.Val.([]*Batch), nil
	}
}
