package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

var (
	// ErrGap: LEDGER's sequences jump under a reader. What it folded so far
	// cannot be continued; it starts again from the front.
	ErrGap = errors.New("stream: LEDGER was purged under the reader")
	// ErrCorrupt: a frame's chain value is not that of its bytes, or frames are
	// missing from the middle.
	ErrCorrupt = errors.New("stream: LEDGER's chain is broken")
	// ErrDeposed: somebody else appended to LEDGER; this reign is over.
	ErrDeposed = errors.New("stream: another scheduler leads")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Chain is the running CRC-32C over all frames.
type Chain uint32

// next is the chain value after a frame of these bytes.
func (c Chain) next(frame []byte) Chain {
	var prev [4]byte
	binary.BigEndian.PutUint32(prev[:], uint32(c))
	return Chain(crc32.Update(crc32.Checksum(prev[:], castagnoli), castagnoli, frame))
}

// A Link is a frame as LEDGER holds it.
type Link struct {
	Seq   uint64
	Size  int // on the stream, in bytes
	Chain Chain
	Frame *pb.Frame
}

// Seal gives a frame's bytes on the stream and the chain value after it.
func Seal(prev Chain, f *pb.Frame) ([]byte, Chain, error) {
	body, err := proto.Marshal(f)
	if err != nil {
		return nil, 0, fmt.Errorf("frame: %w", err)
	}
	next := prev.next(body)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(next)), body...), next, nil
}

// unseal checks a frame against the chain value before it; trust takes the
// frame's own word, for the first frame that a reader meets.
func unseal(prev Chain, trust bool, data []byte) (*pb.Frame, Chain, error) {
	if len(data) < 4 {
		return nil, 0, ErrCorrupt
	}
	said, body := Chain(binary.BigEndian.Uint32(data)), data[4:]
	if !trust && prev.next(body) != said {
		return nil, 0, ErrCorrupt
	}
	f := new(pb.Frame)
	if err := proto.Unmarshal(body, f); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return f, said, nil
}

// Follow calls fn with every frame after seq, whose chain value was chain, in
// order and as many at a time as have arrived, until ctx ends. With seq 0 it
// begins at the front of the ledger and trusts the first frame. It returns
// ErrGap, ErrCorrupt, fn's error or ctx's.
func (s *Streams) Follow(ctx context.Context, seq uint64, chain Chain, fn func([]Link) error) error {
	return s.follow(ctx, seq, chain, seq == 0, seq == 0, fn)
}

// FollowFrom is Follow for who folds nothing: it begins at the frame seq, or
// waits for it, and takes that frame's own word. ErrGap says that LEDGER does
// not hold it any more.
func (s *Streams) FollowFrom(ctx context.Context, seq uint64, fn func([]Link) error) error {
	return s.follow(ctx, seq-1, 0, true, false, fn)
}

// follow begins after seq, or, where that does not matter, at the first frame
// that there is; trust takes the first frame's word for what was before it.
func (s *Streams) follow(ctx context.Context, seq uint64, chain Chain, trust, anywhere bool, fn func([]Link) error) error {
	return s.read(ctx, s.ledger, seq+1, func(msgs []message) error {
		links := make([]Link, 0, len(msgs))
		for _, m := range msgs {
			if !anywhere && m.seq != seq+1 {
				return s.gap(ctx, seq, m.seq)
			}
			frame, next, err := unseal(chain, trust, m.data)
			if err != nil {
				return fmt.Errorf("frame %d: %w", m.seq, err)
			}
			trust, anywhere, seq, chain = false, false, m.seq, next
			links = append(links, Link{seq, len(m.data), chain, frame})
		}
		return fn(links)
	})
}

// gap tells frames that were purged under a reader from frames that are
// missing: purge takes the front alone, and with it the frame before the gap.
func (s *Streams) gap(ctx context.Context, before, next uint64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ackTimeout, errors.New("looking at a gap"))
	defer cancel()
	if st, err := s.LedgerState(ctx); err == nil && st.First <= before {
		return fmt.Errorf("%w: frames %d to %d are missing", ErrCorrupt, before+1, next-1)
	}
	return fmt.Errorf("%w: %d follows %d", ErrGap, next, before)
}

// LedgerState is the extent of LEDGER.
func (s *Streams) LedgerState(ctx context.Context) (State, error) { return state(ctx, s.ledger) }

// ChainAt is the chain value of the frame at seq; ok is false when LEDGER does
// not hold it.
func (s *Streams) ChainAt(ctx context.Context, seq uint64) (c Chain, ok bool, err error) {
	data, err := get(ctx, s.js, s.ledger, LedgerName, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("frame %d: %w", seq, err)
	}
	if len(data) < 4 {
		return 0, false, fmt.Errorf("frame %d: %w", seq, ErrCorrupt)
	}
	return Chain(binary.BigEndian.Uint32(data)), true, nil
}

// ErrNoFrame is returned for a sequence that LEDGER does not hold.
var ErrNoFrame = errors.New("stream: LEDGER holds no such frame")

// Frame reads one stored frame.
func (s *Streams) Frame(ctx context.Context, seq uint64) (*pb.Frame, error) {
	data, err := get(ctx, s.js, s.ledger, LedgerName, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("%w: %d", ErrNoFrame, seq)
	}
	if err != nil {
		return nil, fmt.Errorf("frame %d: %w", seq, err)
	}
	f, _, err := unseal(0, true, data)
	if err != nil {
		return nil, fmt.Errorf("frame %d: %w", seq, err)
	}
	return f, nil
}

// PurgeLedger drops every frame before seq. The last frame is never dropped:
// its chain value is where a fold begins.
func (s *Streams) PurgeLedger(ctx context.Context, seq uint64) error {
	if err := s.ledger.Purge(ctx, jetstream.WithPurgeSequence(seq)); err != nil {
		return purgeError(LedgerName, err)
	}
	return nil
}

func purgeError(name string, err error) error {
	if why := cannotStore(err); why != nil {
		return fmt.Errorf("purge %s: %w: %w", name, why, err)
	}
	return fmt.Errorf("purge %s: %w", name, err)
}

// Sealed is a frame on its way into the ledger.
type Sealed struct {
	Seq  uint64 // where it goes
	Data []byte // as Seal made it
}

// Append sends one frame and returns the future of its acknowledgement. The
// caller has one frame under way at a time: one sent behind it could be stored
// although another writer's frame took its place.
func (s *Streams) Append(f Sealed) (jetstream.PubAckFuture, error) {
	return s.js.PublishMsgAsync(&nats.Msg{Subject: ledgerSubject, Data: f.Data}, jetstream.WithExpectLastSequence(f.Seq-1))
}

// Settle waits for the acknowledgement of a frame, however long that takes:
// a frame in doubt is looked for in the log and, if it is not there, sent
// again byte for byte. It returns nil once the frame is stored, ErrDeposed
// when another frame stands in its place, and ctx's error; and ErrFull,
// ErrTooLarge or ErrStore when the server said that it does not store it and
// it is not there.
func (s *Streams) Settle(ctx context.Context, f Sealed, ack jetstream.PubAckFuture) error {
	for {
		var err error
		if ack == nil {
			if ack, err = s.Append(f); err != nil {
				ack = nil
			}
		}
		if ack != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ack.Ok():
				return nil
			case err = <-ack.Err():
			}
			ack = nil
		}
		stored, found, lookErr := s.stored(ctx, f)
		switch {
		case lookErr == nil && found && stored:
			return nil
		case lookErr == nil && found:
			return ErrDeposed
		case lookErr == nil && isWrongSequence(err):
			// Refused, and nothing at its place: frames before it are missing,
			// or after it exist. Either way this writer's view is not the log's.
			last, stateErr := s.LedgerState(ctx)
			if stateErr == nil && last.Last != f.Seq-1 {
				return ErrDeposed
			}
		case lookErr == nil:
			if why := cannotStore(err); why != nil {
				return fmt.Errorf("frame %d of %d bytes: %w: %w", f.Seq, len(f.Data), why, err)
			}
		}
		s.log.Warn("a ledger append is in doubt", "seq", f.Seq, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stored looks at the frame's place in the log: is something there, and is it
// this frame.
func (s *Streams) stored(ctx context.Context, f Sealed) (same, found bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ackTimeout, errors.New("looking for a frame in doubt"))
	defer cancel()
	data, err := get(ctx, s.js, s.ledger, LedgerName, f.Seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	return bytes.Equal(data, f.Data), true, nil
}
