package scheduler

import (
	"context"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Jobs of one cache key want the same picture. Those that were accepted as
// followers wait for it: they end with the first fresh result of their key, and
// while there is none, the oldest unfinished job of the key is what they wait
// for. When that ends otherwise and the next one is a follower, it renders. All
// of it follows from the facts, so a new leader finds it as it was.

// join counts e among the unfinished jobs of its picture. What is cached ends
// at once and is none of them.
func (f *facts) join(e *entry) {
	if len(e.env.CacheKey) == 0 || e.place == pb.Place_PLACE_CACHED {
		return
	}
	twins := f.twins[string(e.env.CacheKey)]
	if twins == nil {
		twins = &line{key: byOrder}
		f.twins[string(e.env.CacheKey)] = twins
	}
	twins.add(e)
	if e.place != pb.Place_PLACE_FOLLOWER {
		return
	}
	tail := f.tails[string(e.env.CacheKey)]
	if tail == nil {
		tail = &line{key: byOrder}
		f.tails[string(e.env.CacheKey)] = tail
	}
	tail.add(e)
}

// part takes e, which has ended, out of them.
func (f *facts) part(e *entry) {
	key := string(e.env.CacheKey)
	if key == "" || e.place == pb.Place_PLACE_CACHED {
		return
	}
	leave := func(lines map[string]*line) {
		if lines[key].n > 1 {
			lines[key].remove(e)
		} else {
			delete(lines, key)
		}
	}
	leave(f.twins)
	if e.place == pb.Place_PLACE_FOLLOWER {
		leave(f.tails)
	}
}

// twin is the oldest unfinished job of a picture; nil when there is none.
func (f *facts) twin(cacheKey []byte) *entry {
	if twins := f.twins[string(cacheKey)]; twins != nil && len(cacheKey) > 0 {
		return twins.front()
	}
	return nil
}

// source is the fresh result that has come since e was accepted to wait for it;
// nil while there is none, and for a job that renders itself.
func (f *facts) source(e *entry) *entry {
	if e.place != pb.Place_PLACE_FOLLOWER || e.began {
		return nil
	}
	if src := f.fresh[string(e.env.CacheKey)]; src != nil && src.endToken > e.order {
		return src
	}
	return nil
}

// follows reports whether e waits for a twin, or for its own end with the result
// of one that is there.
func (f *facts) follows(e *entry) bool {
	return e.place == pb.Place_PLACE_FOLLOWER && !e.began && (f.twin(e.env.CacheKey) != e || f.source(e) != nil)
}

// followed reports whether another job waits for e, the oldest of its picture.
func (f *facts) followed(e *entry) bool {
	tail := f.tails[string(e.env.CacheKey)]
	if tail == nil || f.twin(e.env.CacheKey) != e {
		return false
	}
	for other := range tail.all() {
		if other != e && f.follows(other) {
			return true
		}
	}
	return false
}

// served are the unfinished jobs of a picture that end with the result that has
// come, the oldest first, and at most so many.
func (f *facts) served(cacheKey string, most int) []*entry {
	var out []*entry
	if tail := f.tails[cacheKey]; tail != nil {
		for e := range tail.all() {
			if len(out) == most {
				break
			}
			if f.source(e) != nil {
				out = append(out, e)
			}
		}
	}
	return out
}

// followers are how many of a holder's jobs follow a twin. As many may as may be
// parked.
func (b *board) followers(account, key string) int {
	if t := b.holder(account, key); t != nil {
		return t.tally[following]
	}
	return 0
}

// promote lets the next job of a picture take its turn when it has nobody to
// follow any more. It goes before the others that its holder has parked.
func (b *board) promote(cacheKey []byte, now time.Time) *tenant {
	next := b.twin(cacheKey)
	if next == nil || next.standing != following || b.follows(next) {
		return nil
	}
	b.park(next, now)
	return next.tenant
}

// byParked is the order in which parked jobs take slots: first those that
// somebody sent by itself, or waits for, then lines of batches; of each those
// that followed a twin which came to nothing, then by acceptance.
func byParked(e *entry) uint64 {
	class := uint64(0)
	if e.place != pb.Place_PLACE_FOLLOWER {
		class = 1
	}
	if e.env.Batch != "" && !e.hurried {
		class += 2
	}
	return e.order | class<<62 // which no token reaches
}

// hurry lets the line of a batch that e waits for go before other lines, where
// e is none itself.
func (b *board) hurry(e *entry, now time.Time) {
	twin := b.twin(e.env.CacheKey)
	if e.env.Batch != "" || e.standing != following || twin == nil || twin == e || twin.env.Batch == "" || twin.hurried {
		return
	}
	if twin.standing == parked { // its place is another one from now on
		twin.tenant.unpark(twin, now)
		twin.hurried = true
		twin.tenant.park(twin, now)
	}
	twin.hurried = true
}

// follow has a job wait for its twin, if it has one and its plan lets jobs
// wait. A refresh that finds one, or its result, is dropped. It reports false
// where the job is still to be decided.
//
// Of a twin and all that follow it one at most is charged, so the quota need not
// have room for more than the first, which has asked. One of another period, or
// at another price, asks for itself, and follows nobody.
func (l *leader) follow(a *pb.Accepted, body *pb.Body, terms terms) bool {
	env := a.Envelope
	twin := l.board.twin(env.CacheKey)
	switch {
	case env.Revalidate && (twin != nil || l.recent(env) != nil):
		l.refuse(env, fault.New(fault.Conflict, "a fresh result is there, or on its way"))
	case twin == nil || twin.account != env.Account || env.Force || terms.refuse, twin.period != a.Period, twin.units < a.Units:
		return false
	case l.board.followers(env.Account, env.Key) >= terms.backlog:
		l.refuseBacklog(env, terms)
	default:
		a.Place = pb.Place_PLACE_FOLLOWER
		l.accept(a, body)
	}
	return true
}

// servedAtOnce is how many jobs of a picture end in one step with its result.
// There may be as many as a backlog has room for, and everybody waits for the
// step's end.
const servedAtOnce = 100

// endServed ends the jobs of a picture whose result has come; without a key
// those of all pictures. What is more than a step's worth, or has a body that is
// not in memory, as after a takeover, is left to endLate.
func (l *leader) endServed(cacheKey []byte) {
	if cacheKey != nil {
		l.endSome(string(cacheKey))
		return
	}
	for key := range l.board.tails {
		l.endSome(key)
	}
}

func (l *leader) endSome(key string) {
	for i, e := range l.board.served(key, servedAtOnce+1) {
		if i == servedAtOnce || e.body == nil {
			l.late[key] = true
			select {
			case l.wakeLate <- struct{}{}:
			default:
			}
			return
		}
		l.endTwin(e)
	}
}

// endTwin ends a job with its twin's result, where that has come.
func (l *leader) endTwin(e *entry) {
	src := l.board.source(e)
	if src == nil || e.end != nil {
		return
	}
	j := src.end.Job
	l.finish(e, shared(&pb.Hit{Result: j.Result, Evidence: j.Evidence, ExpiresUs: j.ExpiresUs}))
}

// endLate ends what endServed left: a body may have to be read from JOBS first,
// and nobody waits for that with the lock in hand.
func (l *leader) endLate(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wakeLate:
		}
		l.enter()
		late := l.late
		l.late = map[string]bool{}
		l.leave()
		for key := range late {
			l.endRest(ctx, key)
		}
	}
}

func (l *leader) endRest(ctx context.Context, key string) {
	var ids []string
	l.enter()
	for _, e := range l.board.served(key, -1) {
		ids = append(ids, e.id)
	}
	l.leave()
	for _, id := range ids {
		l.withBody(ctx, id, func(e *entry) {
			if e != nil && !l.over {
				l.endTwin(e)
			}
		})
	}
}
