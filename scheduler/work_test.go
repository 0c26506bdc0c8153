package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// refused says hello as this boot and wants to be told of a namesake.
func (b *bubble) refused(s *Scheduler, when, boot string) {
	b.t.Helper()
	var err error
	_, hang := connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error {
		err = workService{s: s}.Connect(p)
		return err
	}, &pb.WorkUp{Hello: hello(boot)})
	synctest.Wait()
	hang()
	if f := wire.StatusFault(err); f == nil || f.Kind != fault.Conflict || !strings.Contains(f.Detail, `worker "w1"`) || !strings.Contains(f.Detail, "--name") {
		b.t.Errorf("%s: hello of %s: %v, want a conflict that names the worker and --name", when, boot, err)
	}
}

// Two workers with one name do not take turns: the later one keeps it, and its
// leases, until it goes.
func TestDisplacedWorkerIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		w, _ := b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id := b.submit()
		assigned(w)
		w, _ = b.worker(s, "b2") // it may be a restart
		b.want(s, "after the hello of another boot", id, job.Queued, 1)
		w.send(&pb.WorkUp{Credit: 1})
		a := assigned(w)
		for n := range uint64(20) {
			b.refused(s, "while its namesake works", "b1")
			w.send(&pb.WorkUp{Beat: &pb.Beat{Number: n, Tokens: []uint64{a.Token}}})
			time.Sleep(beatEvery)
		}
		b.want(s, "after many hellos of the displaced boot", id, job.Running, 2)

		w, hang := connect(b, func(p *pipe[pb.WorkUp, pb.WorkDown]) error { return workService{s: s}.Connect(p) }, &pb.WorkUp{
			Hello: hello("b2", &pb.Held{Token: a.Token, Job: a.Job}),
		})
		b.refused(s, "on its namesake's next stream", "b1")
		w.send(done(a))
		committed(w, a.Token)
		b.want(s, "at the end", id, job.Succeeded, 2)

		hang()
		w, hang = b.worker(s, "b1")
		w.send(&pb.WorkUp{Credit: 1})
		id = b.submit()
		w.send(done(assigned(w)))
		b.want(s, "once the namesake has gone", id, job.Succeeded, 1)
		hang()
	})
}

func TestDisplacedWorkersAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		s, _ := b.start("a", alone())
		for n := range 2 * maxBefore {
			b.worker(s, fmt.Sprint("b", n))
			synctest.Wait()
		}
		l := s.leader.Load()
		l.mu.Lock()
		n := len(l.workers["w1"].before)
		l.mu.Unlock()
		if n != maxBefore {
			t.Errorf("%d displaced boots are remembered, want %d", n, maxBefore)
		}
		b.refused(s, "the latest", fmt.Sprint("b", 2*maxBefore-2))
		b.refused(s, "the earliest that is remembered", fmt.Sprint("b", maxBefore-1))
	})
}
