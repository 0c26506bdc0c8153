package scheduler

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// simLog is JOBS and LEDGER behind a network that delays, loses and repeats
// what is sent, as the seed says. It is the judge too: a frame that is stored
// must be one that was allowed.
type simLog struct {
	rng        *rand.Rand
	records    []*pb.Record
	frames     [][]byte
	jobsFirst  uint64
	frameFirst uint64
	net        []stream.Sealed // appends on their way
	judge      *judge
}

// errLate is what a candidate hears whose append is still on its way.
var errLate = errors.New("no answer in time")

// deliver lets an append on its way arrive: it is stored if its place is the
// next one.
func (s *simLog) deliver(i int, repeat bool) {
	f := s.net[i]
	if !repeat {
		s.net = append(s.net[:i:i], s.net[i+1:]...)
	}
	if f.Seq != uint64(len(s.frames))+1 {
		return
	}
	s.frames = append(s.frames, f.Data)
	s.judge.frame(f, s.last(uint64(len(s.frames)-1)))
}

// last is the chain value of a frame; 0 before the first one.
func (s *simLog) last(seq uint64) stream.Chain {
	if seq == 0 {
		return 0
	}
	return stream.Chain(binary.BigEndian.Uint32(s.frames[seq-1]))
}

func (s *simLog) link(seq uint64) stream.Link {
	data := s.frames[seq-1]
	l := stream.Link{Seq: seq, Size: len(data), Chain: s.last(seq), Frame: new(pb.Frame)}
	if err := proto.Unmarshal(data[4:], l.Frame); err != nil {
		panic(err)
	}
	return l
}

// fold is what a process knows that has read the ledger from its front.
func (s *simLog) fold() *facts {
	f := newFacts()
	for seq := s.frameFirst; seq <= uint64(len(s.frames)); seq++ {
		f.fold(s.link(seq))
	}
	return f
}

func (s *simLog) Append(f stream.Sealed) (jetstream.PubAckFuture, error) {
	s.net = append(s.net, f)
	return nil, nil //nolint:nilnil // the simulation looks what became of it
}

// Settle is a candidate's: it is answered at once, or too late.
func (s *simLog) Settle(_ context.Context, f stream.Sealed, _ jetstream.PubAckFuture) error {
	s.net = append(s.net, f)
	if s.rng.IntN(4) == 0 {
		return errLate
	}
	s.deliver(len(s.net)-1, s.rng.IntN(4) == 0)
	if same, found := s.look(f); !found || !same {
		return stream.ErrDeposed
	}
	return nil
}

// look looks at a frame's place.
func (s *simLog) look(f stream.Sealed) (same, found bool) {
	if f.Seq < s.frameFirst || f.Seq > uint64(len(s.frames)) {
		return false, f.Seq < s.frameFirst
	}
	return bytes.Equal(s.frames[f.Seq-1], f.Data), true
}

func (s *simLog) Record(_ context.Context, seq uint64) (*pb.Record, error) {
	if seq < s.jobsFirst || seq > uint64(len(s.records)) {
		return nil, stream.ErrNoRecord
	}
	return proto.CloneOf(s.records[seq-1]), nil
}

func (s *simLog) Frame(_ context.Context, seq uint64) (*pb.Frame, error) {
	if seq < s.frameFirst || seq > uint64(len(s.frames)) {
		return nil, stream.ErrNoFrame
	}
	return s.link(seq).Frame, nil
}

func (s *simLog) JobsState(context.Context) (stream.State, error) {
	return stream.State{First: s.jobsFirst, Last: uint64(len(s.records))}, nil
}

func (s *simLog) LedgerState(context.Context) (stream.State, error) {
	return stream.State{First: s.frameFirst, Last: uint64(len(s.frames))}, nil
}

func (s *simLog) ChainAt(_ context.Context, seq uint64) (stream.Chain, bool, error) {
	if seq < s.frameFirst || seq > uint64(len(s.frames)) {
		return 0, false, nil
	}
	return s.last(seq), true, nil
}

func (s *simLog) PurgeJobs(_ context.Context, seq uint64) error {
	s.jobsFirst = max(s.jobsFirst, min(seq, uint64(len(s.records))+1))
	return nil
}

func (s *simLog) PurgeLedger(_ context.Context, seq uint64) error {
	if seq > uint64(len(s.frames)) {
		s.judge.fail("the last frame would be purged")
	}
	s.frameFirst = max(s.frameFirst, seq)
	return nil
}

// Nobody tails or beats by itself: the simulation takes every step.
func (*simLog) Tail(context.Context, uint64, func([]stream.Submitted)) error { return errLate }
func (*simLog) Beat(*pb.Heartbeat) error                                     { return errLate }
func (*simLog) Heartbeats(context.Context, func(*pb.Heartbeat)) error        { return errLate }
func (*simLog) Follow(context.Context, uint64, stream.Chain, func([]stream.Link) error) error {
	return errLate
}

// judge reads each frame as it is stored, and knows the rules by itself: it
// shares no code with the fold or the board.
type judge struct {
	length  int            // L
	threads map[string]int // by account
	jobs    map[string]*judged
	keys    map[string]string
	epoch   uint64
	decided uint64 // JOBS up to here
	record  uint64 // of the last accepted job
	token   uint64
	faults  []string

	accounts *accounts
}

type judged struct {
	account string
	units   int64
	period  int32
	tier    int32
	waits   bool   // counts against the queue's length
	lease   uint64 // open one
	ended   bool
}

func (j *judge) fail(format string, args ...any) {
	j.faults = append(j.faults, fmt.Sprintf(format, args...))
}

func (j *judge) frame(s stream.Sealed, before stream.Chain) {
	var prev [4]byte
	binary.BigEndian.PutUint32(prev[:], uint32(before))
	table := crc32.MakeTable(crc32.Castagnoli)
	f := new(pb.Frame)
	if err := proto.Unmarshal(s.Data[4:], f); err != nil {
		j.fail("frame %d: %v", s.Seq, err)
	}
	if sum := crc32.Update(crc32.Checksum(prev[:], table), table, s.Data[4:]); sum != binary.BigEndian.Uint32(s.Data) {
		j.fail("I8: frame %d of epoch %d is not behind the one that its writer knew", s.Seq, f.Epoch)
	}
	opens := len(f.Events) > 0 && f.Events[0].GetEpochOpened() != nil
	if opens && f.Epoch != j.epoch+1 || !opens && f.Epoch != j.epoch {
		j.fail("I8: frame %d is of epoch %d behind epoch %d (opens one: %t)", s.Seq, f.Epoch, j.epoch, opens)
	}
	if j.epoch = f.Epoch; f.Jobs < j.decided {
		j.fail("frame %d decides up to %d, behind %d", s.Seq, f.Jobs, j.decided)
	}
	for i, ev := range f.Events {
		j.event(s.Seq<<16|uint64(i), f, ev)
	}
	j.decided = f.Jobs
	j.accounts.within(j, s.Seq)
}

func (j *judge) event(tok uint64, f *pb.Frame, ev *pb.Event) {
	switch ev := ev.Fact.(type) {
	case *pb.Event_Accepted:
		a := ev.Accepted
		id := a.Envelope.Id
		if j.jobs[id] != nil {
			j.fail("%s is accepted twice", id)
		}
		if a.JobsSeq <= j.record || a.JobsSeq <= j.decided || a.JobsSeq > f.Jobs {
			j.fail("%s: record %d is accepted in a frame from %d to %d, behind %d", id, a.JobsSeq, j.decided, f.Jobs, j.record)
		}
		if key := string(a.Envelope.KeyHash); key != "" {
			if first := j.keys[key]; first != "" {
				j.fail("I10: %s and %s have one key", first, id)
			}
			j.keys[key] = id
		}
		if age := f.TimeUs - a.Envelope.SentUs; age > staleAfter.Microseconds() {
			j.fail("%s was sent %d µs before it was decided", id, age)
		}
		if ahead := j.count(func(o *judged) bool { return o.waits && o.tier >= a.Tier }); a.Place == pb.Place_PLACE_QUEUE && ahead >= j.length {
			j.fail("I2: %s enters a queue of %d", id, ahead)
		}
		j.record = a.JobsSeq
		j.jobs[id] = &judged{account: a.Envelope.Account, tier: a.Tier, waits: a.Place == pb.Place_PLACE_QUEUE, units: a.Units, period: a.Period}
		j.accounts.accepted(j, f, a)
	case *pb.Event_Started:
		o := j.job(ev.Started.Id, "starts")
		if o.lease != 0 || o.ended || tok <= j.token {
			j.fail("I4: %s starts with token %d behind %d, lease %d, ended %t", ev.Started.Id, tok, j.token, o.lease, o.ended)
		}
		o.lease, o.waits, j.token = tok, false, tok
		if n := j.count(func(p *judged) bool { return p.lease != 0 && p.account == o.account }); n > j.threads[o.account] {
			j.fail("I3: %s has %d leases", o.account, n)
		}
	case *pb.Event_Released:
		o := j.job(ev.Released.Id, "is released")
		if o.lease != ev.Released.Token || o.ended {
			j.fail("I4: %s gives lease %d back and has %d", ev.Released.Id, ev.Released.Token, o.lease)
		}
		o.lease = 0
	case *pb.Event_Finished:
		o := j.job(ev.Finished.Job.Id, "ends")
		if o.ended || ev.Finished.Token != 0 && ev.Finished.Token != o.lease {
			j.fail("I5, I6: %s ends by token %d, lease %d, ended %t", ev.Finished.Job.Id, ev.Finished.Token, o.lease, o.ended)
		}
		if body := string(ev.Finished.Job.Body.GetSpec()); !strings.Contains(body, ev.Finished.Job.Id) {
			j.fail("%s ends with the spec %q", ev.Finished.Job.Id, body)
		}
		o.ended, o.waits, o.lease = true, false, 0
		j.accounts.finished(j, o, ev.Finished)
	case *pb.Event_Charged:
		j.accounts.charged(j, ev.Charged)
	case *pb.Event_QuotaReached:
		j.accounts.reached(j, ev.QuotaReached)
	case *pb.Event_Carried:
		if o := j.job(ev.Carried.Envelope.Id, "is carried"); o.ended || o.lease != ev.Carried.Token {
			j.fail("%s is carried with lease %d, has %d, ended %t", ev.Carried.Envelope.Id, ev.Carried.Token, o.lease, o.ended)
		}
	}
}

func (j *judge) job(id, what string) *judged {
	if o := j.jobs[id]; o != nil {
		return o
	}
	j.fail("%s %s and was never accepted", id, what)
	return new(judged)
}

func (j *judge) count(match func(*judged) bool) int {
	n := 0
	for _, o := range j.jobs {
		if match(o) {
			n++
		}
	}
	return n
}
