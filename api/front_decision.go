package api

import (
	"context"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// decision is one record whose decision somebody waits for.
type decision struct {
	front *front
	id    job.ID
	seq   uint64        // of its record, 0 while that is not known; guarded by front.mu
	made  chan struct{} // closed once verdict is set
	then  func()        // called when it is made; guarded by front.mu
	// verdict is written before made is closed and never again.
	verdict *pb.Decision
}

// expect registers a record whose decision will be waited for. It comes
// before the publish, and it waits for a welcomed stream: the leader drops a
// decision that has no stream to go down, and a hello asks only for what was
// registered before it. Its error means that nothing may be published.
func (f *front) expect(ctx context.Context, id job.ID) (*decision, error) {
	d := &decision{front: f, id: id, made: make(chan struct{})}
	for {
		f.mu.Lock()
		welcomed, gone, up := f.session != nil && f.session.epoch != 0, f.unreachable(), f.up
		if welcomed {
			f.awaited[id] = d
		}
		f.mu.Unlock()
		switch {
		case welcomed:
			return d, nil
		case gone:
			return nil, noLeader()
		}
		select {
		case <-up:
		case <-time.After(giveUpEvery):
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, context.Cause(ctx), "no scheduler leads at the moment; try again")
		}
	}
}

// stored tells the sequence of the record, for a reconnect.
func (d *decision) stored(seq uint64) {
	d.front.mu.Lock()
	defer d.front.mu.Unlock()
	d.seq = seq
}

// forget ends the wait.
func (d *decision) forget() {
	d.front.mu.Lock()
	defer d.front.mu.Unlock()
	delete(d.front.awaited, d.id)
}

// decided hands a decision to whoever waits for it.
func (f *front) decided(p *pb.Decision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.awaited[job.ID(p.Id)]; d != nil {
		delete(f.awaited, d.id)
		d.verdict = p
		close(d.made)
		if d.then != nil {
			d.then()
		}
	}
}

// onceMade has fn called when the decision is made, or now if it is.
func (d *decision) onceMade(fn func()) {
	d.front.mu.Lock()
	defer d.front.mu.Unlock()
	if d.verdict != nil {
		fn()
		return
	}
	d.then = fn
}
