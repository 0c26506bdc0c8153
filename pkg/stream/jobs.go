package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Bounds of one atomic batch. Below batchFrom records single publishes are
// cheaper: a batch is staged to disk, at about six flushes.
const (
	batchFrom  = 8
	batchMost  = 500
	batchBytes = 4 << 20
)

// ErrOpen says that nobody knows whether a record landed in JOBS. Its
// submitter waits for the decision; the record is not published again.
var ErrOpen = errors.New("stream: the publish was not acknowledged")

// A Publisher submits records to JOBS. While one publish is in flight it
// gathers what comes, so that many submitters share a flush.
type Publisher struct {
	s  *Streams
	in chan *submission
}

type submission struct {
	data []byte
	done chan published // buffered: its submitter may be gone
}

type published struct {
	seq uint64
	err error
}

// Publisher makes the door; Run must run for Publish to return.
func (s *Streams) Publisher() *Publisher {
	return &Publisher{s: s, in: make(chan *submission, 4096)}
}

// Publish submits one record and returns its sequence once it is stored. A
// fault.Error means that nothing was stored; any other error, ctx's own
// included, is ErrOpen.
func (p *Publisher) Publish(ctx context.Context, rec *pb.Record) (uint64, error) {
	data, err := proto.Marshal(rec)
	if err != nil {
		return 0, fault.Wrap(fault.Internal, err, "")
	}
	sub := &submission{data: data, done: make(chan published, 1)}
	select {
	case p.in <- sub:
	case <-ctx.Done():
		return 0, fault.Wrap(fault.Unavailable, ctx.Err(), "the queue's door is busy; try again")
	}
	select {
	case r := <-sub.done:
		return r.seq, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrOpen, ctx.Err())
	}
}

// Run publishes what is submitted until ctx ends; what it has taken by then is
// still published.
func (p *Publisher) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-p.in:
			p.publish(p.gather(first))
		}
	}
}

func (p *Publisher) gather(first *submission) []*submission {
	subs, size := []*submission{first}, len(first.data)
	for len(subs) < batchMost && size < batchBytes {
		select {
		case sub := <-p.in:
			subs, size = append(subs, sub), size+len(sub.data)
		default:
			return subs
		}
	}
	return subs
}

func (p *Publisher) publish(subs []*submission) {
	if len(subs) >= batchFrom {
		p.publishBatch(subs)
		return
	}
	futures := make([]jetstream.PubAckFuture, len(subs))
	for i, sub := range subs {
		f, err := p.s.js.PublishMsgAsync(&nats.Msg{Subject: jobsSubject, Data: sub.data})
		if err != nil {
			sub.done <- published{err: refusal(err)}
			continue
		}
		futures[i] = f
	}
	for i, f := range futures {
		if f == nil {
			continue
		}
		select {
		case ack := <-f.Ok():
			subs[i].done <- published{seq: ack.Sequence}
		case err := <-f.Err():
			subs[i].done <- published{err: refusal(err)}
		}
	}
}

// publishBatch stores all or nothing (ADR-50 of NATS: Nats-Batch headers).
// The members' sequences are the last ones up to the acknowledged one.
func (p *Publisher) publishBatch(subs []*submission) {
	fail := func(err error) {
		for _, sub := range subs {
			sub.done <- published{err: err}
		}
	}
	id := nuid.Next()
	for i, sub := range subs {
		msg := &nats.Msg{Subject: jobsSubject, Data: sub.data, Header: nats.Header{
			"Nats-Batch-Id":       {id},
			"Nats-Batch-Sequence": {strconv.Itoa(i + 1)},
		}}
		if i < len(subs)-1 {
			if err := p.s.nc.PublishMsg(msg); err != nil {
				// Without its commit the server drops the batch.
				fail(fault.Wrap(fault.Unavailable, err, "the queue is not reachable; try again"))
				return
			}
			continue
		}
		msg.Header.Set("Nats-Batch-Commit", "1")
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		resp, err := p.s.nc.RequestMsgWithContext(ctx, msg)
		cancel()
		if err != nil {
			fail(refusal(err))
			return
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
			Count int                 `json:"count"`
		}
		if err := json.Unmarshal(resp.Data, &ack); err != nil {
			fail(fmt.Errorf("%w: %w", ErrOpen, err))
			return
		}
		if ack.Error != nil {
			fail(refusal(ack.Error))
			return
		}
		if ack.Count != len(subs) {
			fail(fmt.Errorf("%w: the server acknowledged %d of %d", ErrOpen, ack.Count, len(subs)))
			return
		}
		for i, sub := range subs {
			sub.done <- published{seq: ack.Seq - uint64(len(subs)-1-i)}
		}
	}
}

// refusal tells a publish that surely left nothing (a fault) from one whose
// outcome is open.
func refusal(err error) error {
	switch cannotStore(err) {
	case ErrTooLarge:
		return fault.Wrap(fault.TooLarge, err, "the job is too large to be stored")
	case ErrFull, ErrStore:
		return &fault.Error{
			Kind: fault.Unavailable, Code: "storage_full", RetryAfter: 30 * time.Second, Err: err,
			Detail: "the farm's storage for submitted jobs is full; nothing was accepted",
		}
	}
	switch {
	case apiError(err) != nil:
		return fault.Wrap(fault.Unavailable, err, "the queue refused the job; try again")
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, jetstream.ErrNoStreamResponse):
		// Not nats.ErrDisconnected: a reconnect fails every publish under way
		// with it, also those that were stored.
		return fault.Wrap(fault.Unavailable, err, "the queue is not reachable; try again")
	}
	return fmt.Errorf("%w: %w", ErrOpen, err)
}

// A Submitted is a record as the leader reads it.
type Submitted struct {
	Seq    uint64
	Size   int        // of the stored bytes
	Record *pb.Record // nil when they are no record
}

// Tail calls fn with every record after seq, in order, until ctx ends. It
// gathers what has arrived, so that one frame can hold many decisions. JOBS is
// purged from the front only up to what is decided, so a jump in sequence
// skips nothing undecided.
func (s *Streams) Tail(ctx context.Context, seq uint64, fn func([]Submitted)) error {
	return s.read(ctx, s.jobs, seq+1, func(msgs []message) error {
		recs := make([]Submitted, len(msgs))
		for i, m := range msgs {
			recs[i].Seq, recs[i].Size = m.seq, len(m.data)
			rec := new(pb.Record)
			if err := proto.Unmarshal(m.data, rec); err != nil || rec.Envelope == nil {
				s.log.Error("a record of JOBS is unreadable", "seq", m.seq, "err", err)
				continue
			}
			recs[i].Record = rec
		}
		fn(recs)
		return nil
	})
}

// ErrNoRecord is returned for a sequence that JOBS does not hold.
var ErrNoRecord = errors.New("stream: JOBS holds no such record")

// Record reads one stored record. A direct get may ask a follower that lags;
// what it misses is asked of the stream's leader.
func (s *Streams) Record(ctx context.Context, seq uint64) (*pb.Record, error) {
	data, err := get(ctx, s.js, s.jobs, JobsName, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %d", ErrNoRecord, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("record %d of JOBS: %w", seq, err)
	}
	rec := new(pb.Record)
	if err := proto.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("record %d of JOBS: %w", seq, err)
	}
	return rec, nil
}

// JobsState is the extent of JOBS.
func (s *Streams) JobsState(ctx context.Context) (State, error) { return state(ctx, s.jobs) }

// PurgeJobs drops every record before seq.
func (s *Streams) PurgeJobs(ctx context.Context, seq uint64) error {
	if err := s.jobs.Purge(ctx, jetstream.WithPurgeSequence(seq)); err != nil {
		return purgeError(JobsName, err)
	}
	return nil
}
