package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/metadata"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// welcomeWithin bounds the way from dialling to the leader's welcome.
	welcomeWithin = 2 * time.Second
	// Between two tries; a heartbeat of another leader ends the pause.
	firstPause = 20 * time.Millisecond
	mostPause  = time.Second
	// giveUpEvery is how often questions are looked at while no leader is there.
	giveUpEvery = 250 * time.Millisecond
)

// target is where a leader is said to be.
type target struct {
	address, token string
}

// run keeps a stream to the leader open until ctx ends.
func (f *front) run(ctx context.Context) error {
	sweeping := make(chan struct{})
	go func() {
		defer close(sweeping)
		every := time.NewTicker(giveUpEvery)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				f.giveUp()
			}
		}
	}()
	defer func() { <-sweeping }()

	pause, hint, warned := firstPause, "", ""
	for ctx.Err() == nil {
		to, ok := f.leader()
		if ok {
			if hint != "" {
				to.address, hint = hint, ""
			}
			welcomed, err := f.connect(ctx, to)
			if ctx.Err() != nil {
				break
			}
			if n, ok := errors.AsType[*notLeaderError](err); ok && n.address != to.address {
				hint = n.address
			}
			level := slog.LevelDebug
			switch {
			case welcomed:
				level, pause, warned = slog.LevelInfo, firstPause, ""
			case untrusted(err) && err.Error() != warned: // once, not at every try
				level, warned = slog.LevelWarn, err.Error()
			}
			f.log.Log(ctx, level, "no stream to the scheduler", "address", to.address, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-f.changed:
			pause, hint = firstPause, ""
		case <-waitFor(ok, pause+rand.N(pause/2)):
			pause = min(2*pause, mostPause)
		}
	}
	return ctx.Err()
}

// waitFor is a timer's channel, or one that never fires: before the first
// heartbeat there is nobody to dial.
func waitFor(use bool, d time.Duration) <-chan time.Time {
	if !use {
		return nil
	}
	return time.After(d)
}

// leader is where the last heartbeat came from.
func (f *front) leader() (target, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.beat == nil {
		return target{}, false
	}
	return target{f.beat.Address, f.beat.FrontToken}, true
}

// notLeaderError is a scheduler's answer that it does not lead.
type notLeaderError struct{ address string }

func (e *notLeaderError) Error() string {
	return fmt.Sprintf("the scheduler does not lead; it names %q", e.address)
}

// connect opens one stream and serves it until it ends. Its error says why.
func (f *front) connect(ctx context.Context, to target) (welcomed bool, err error) {
	conn, err := f.dial(to.address)
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(welcomeWithin, func() {
		cancel(fmt.Errorf("the scheduler did not welcome this replica within %s", welcomeWithin))
	})
	defer late.Stop()

	stream, err := pb.NewFrontClient(conn).Connect(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+to.token))
	if err != nil {
		return false, cause(ctx, fmt.Errorf("connect: %w", err))
	}
	s := &session{cancel: cancel}
	hello := f.open(s)
	defer f.close(s)
	if err := stream.Send(&pb.FrontUp{Hello: hello}); err != nil {
		cancel(fmt.Errorf("hello: %w", err))
	}
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		f.write(ctx, stream, cancel)
	}()
	defer func() { cancel(nil); <-writing }()

	for {
		down, err := stream.Recv()
		if err != nil {
			return welcomed, cause(ctx, fmt.Errorf("stream: %w", err))
		}
		if n := down.NotLeader; n != nil {
			return welcomed, &notLeaderError{n.Address}
		}
		if w := down.Welcome; w != nil && !welcomed {
			late.Stop()
			welcomed = true
			f.welcome(s, w.Epoch)
			if f.welcomed != nil {
				f.welcomed()
			}
			f.log.Info("connected to the leading scheduler", "address", to.address, "epoch", w.Epoch)
		}
		f.retold(down.Touched)
		for _, d := range down.Decisions {
			f.decided(d)
		}
		for _, a := range down.Answers {
			f.answered(a)
		}
		for _, b := range down.Blocks {
			if f.blocked != nil {
				f.blocked(b, f.ahead())
			}
		}
	}
}

// cause prefers why we ended the stream to what gRPC says of it.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// open makes s the session and gives its hello: every decision that is still
// waited for. All questions are asked again on it but those that may be put
// once alone.
func (f *front) open(s *session) *pb.FrontHello {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.session, f.out = s, new(pb.FrontUp)
	for number, q := range f.asked {
		if q.once {
			delete(f.asked, number)
			close(q.answer)
			continue
		}
		f.put(number, q)
	}
	hello := &pb.FrontHello{Api: f.api}
	for id, d := range f.awaited {
		hello.Pending = append(hello.Pending, &pb.Pending{Id: string(id), JobsSeq: d.seq})
	}
	return hello
}

// welcome lets records be published: from now on the leader knows where this
// replica's decisions go.
func (f *front) welcome(s *session, epoch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.epoch = epoch
	close(f.up)
	if f.beat != nil && f.beat.Epoch > epoch {
		s.cancel(errNewLeader)
	}
}

func (f *front) close(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.epoch != 0 {
		f.downAt, f.up = time.Now(), make(chan struct{})
	}
	f.session = nil
}

// write drains what was queued into one message at a time.
func (f *front) write(ctx context.Context, stream pb.Front_ConnectClient, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		msg := f.out
		f.out = new(pb.FrontUp)
		f.mu.Unlock()
		if len(msg.Lookups)+len(msg.Cancels)+len(msg.Lists)+len(msg.Queues)+len(msg.Forget)+
			len(msg.Counts)+len(msg.Strikes)+len(msg.Touched)+len(msg.Bans) == 0 {
			continue
		}
		if err := stream.Send(msg); err != nil {
			cancel(fmt.Errorf("send: %w", err))
			return
		}
	}
}
