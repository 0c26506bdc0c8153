package scheduler

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/seal"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// dispatch gives waiting jobs to free seats: Started goes into the ledger, and
// only once it is durable does the worker hear of it.
func (l *leader) dispatch() {
	for len(l.idle) > 0 && !l.storage.hold() {
		e := l.board.next(l.now)
		if e == nil {
			return
		}
		w := l.idle[0]
		l.idle = l.idle[1:]
		if w.credit == 0 {
			continue
		}
		if w.credit--; w.credit > 0 {
			l.idle = append(l.idle, w) // behind the others: workers fill evenly
		}
		plan, _ := l.s.tenants.planOf(e.account)
		le := l.board.start(e, w.name, w.boot, plan.Wall, l.now)
		l.s.metrics.dispatches.WithLabelValues(strconv.Itoa(int(e.tier))).Inc()
		l.s.metrics.waited.Observe(l.now.Sub(e.since).Seconds())
		l.after(func() {
			switch {
			case l.workers[w.name] != w: // it has gone; its next hello gives the lease back
			case e.lease != le:
				l.offer(w, 1) // cancelled meanwhile: nobody was told
			default:
				w.assigning = append(w.assigning, assigning{e.id, le.token})
				select {
				case w.assign <- struct{}{}:
				default:
				}
			}
		})
	}
}

// assigning is a started job that its worker has not yet been told of.
type assigning struct {
	id    string
	token uint64
}

// assign tells a worker of the jobs that were started for it.
func (l *leader) assign(ctx context.Context, w *workSession) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.assign:
		}
		l.mu.Lock()
		started := w.assigning
		w.assigning = nil
		l.mu.Unlock()
		for _, next := range started {
			l.assignOne(ctx, w, next)
		}
	}
}

func (l *leader) assignOne(ctx context.Context, w *workSession, next assigning) {
	l.withBody(ctx, next.id, func(e *entry) {
		if l.over || l.workers[w.name] != w {
			return
		}
		if e == nil || e.lease == nil || e.lease.token != next.token {
			l.offer(w, 1) // cancelled meanwhile
			return
		}
		a, err := l.assignment(e)
		if err != nil {
			l.s.log.Error("a job cannot be assigned", "job", e.id, "err", err)
			l.attemptFailed(e, ending{failure: job.Fail(job.Internal, job.StageQueue, "the job could not be given to a worker")})
			l.offer(w, 1)
			return
		}
		// The clock of the lease starts when the worker is told, not when the
		// append was sent: else the job could be given away before the worker
		// aborts it.
		le := e.lease
		le.assigned, le.beatBy, le.endBy = true, l.now.Add(leaseFor), l.now.Add(le.wall+wallGrace)
		w.out.put(len(a.Spec)+len(a.Secrets)+1024, func(m *pb.WorkDown) { m.Assign = append(m.Assign, a) })
	})
}

// assignment is all that a worker gets to know of a job: what to render and
// one URL to put one object to.
func (l *leader) assignment(e *entry) (*pb.Assign, error) {
	le := e.lease
	key := objectKey(e.account, e.id, le.token, e.env.ContentType)
	ttl := le.wall + wallGrace + putGrace
	url, header, err := l.s.bucket.PresignPut(key, e.env.ContentType, ttl)
	if err != nil {
		return nil, err
	}
	a := &pb.Assign{
		Token: le.token, Job: e.id, Account: e.account, Attempt: e.attempts, Spec: e.body.GetSpec(),
		PutUrl: url, PutHeaders: map[string]string{}, WallMs: time.Duration(le.wall).Milliseconds(),
	}
	for name := range header {
		a.PutHeaders[name] = header.Get(name)
	}
	if o := e.body.GetSpecObject(); o != "" {
		if a.SpecUrl, err = l.s.bucket.PresignGet(o, ttl, ""); err != nil {
			return nil, err
		}
	}
	if a.Secrets, err = l.s.openSecrets(e); err != nil {
		return nil, err
	}
	return a, nil
}

// openSecrets opens what a job says to its page's server, for the one worker
// that has its lease: nowhere else in the farm is it to be read.
func (s *Scheduler) openSecrets(e *entry) ([]byte, error) {
	sealed := e.body.GetSecrets()
	switch {
	case len(sealed) == 0:
		return nil, nil
	case s.cfg.Secrets == nil:
		return nil, errors.New("its secrets are sealed, and this scheduler has no secret key")
	}
	plain, err := s.cfg.Secrets.Open(sealed, seal.Request, e.account)
	if err != nil {
		return nil, fmt.Errorf("its secrets do not open, since the API and this scheduler must have one secret key: %w", err)
	}
	return plain, nil
}

// withoutSecrets is a body as it goes to everybody but the job's worker. What
// is over needs none, and the ledger and the archive are to have none.
func withoutSecrets(body *pb.Body) *pb.Body {
	if len(body.GetSecrets()) == 0 {
		return body
	}
	shown := proto.CloneOf(body)
	shown.Secrets = nil
	return shown
}
