package scheduler

import (
	"context"
	"sync"

	"google.golang.org/grpc"
)

// outboxBytes is about how much is gathered into one message: well below
// gRPC's bound of 4 MiB.
const outboxBytes = 1 << 20

// outbox gathers what is to go down one gRPC stream. put never blocks, so it
// can be called under the leader's lock; one writer drains it, and what
// gathered while it wrote goes as one message.
type outbox[M any] struct {
	mu     sync.Mutex
	msgs   []*M // guarded by mu
	bytes  int  // of the last one; guarded by mu
	closed bool // guarded by mu
	wake   chan struct{}
}

func newOutbox[M any]() *outbox[M] { return &outbox[M]{wake: make(chan struct{}, 1)} }

// put adds something of about size bytes.
func (o *outbox[M]) put(size int, fill func(*M)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	if n := len(o.msgs); n == 0 || o.bytes+size > outboxBytes {
		o.msgs, o.bytes = append(o.msgs, new(M)), 0
	}
	fill(o.msgs[len(o.msgs)-1])
	o.bytes += size
	o.signal()
}

// close lets the writer send what is there and end.
func (o *outbox[M]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.signal()
}

func (o *outbox[M]) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// drain sends until the outbox is closed and empty, or sending fails.
func (o *outbox[M]) drain(ctx context.Context, send func(*M) error) error {
	for {
		o.mu.Lock()
		msgs, closed := o.msgs, o.closed
		o.msgs = nil
		o.mu.Unlock()
		for _, m := range msgs {
			if err := send(m); err != nil {
				return err
			}
		}
		if closed {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-o.wake:
		}
	}
}

// serve is one stream after its first message: what comes is taken, one message
// after the other, and what is in the outbox goes down, until that is closed or
// the stream ends. beside runs as long.
func serve[Up, Down any](stream grpc.BidiStreamingServer[Up, Down], first *Up, out *outbox[Down], take func(context.Context, *Up), beside ...func(context.Context)) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, run := range beside {
		wg.Go(func() { run(ctx) })
	}
	take(ctx, first)
	go func() { // ends with the stream, which ends when the caller's method returns
		defer cancel()
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			take(ctx, m)
		}
	}()
	return out.drain(ctx, stream.Send)
}
