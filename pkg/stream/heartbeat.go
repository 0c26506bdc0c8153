package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// Beat says that the leader lives. Nobody answers; a lost one costs time.
func (s *Streams) Beat(hb *pb.Heartbeat) error {
	data, err := proto.Marshal(hb)
	if err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	if err := s.nc.Publish(heartbeatSubject, data); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	return nil
}

// Heartbeats calls fn with each heartbeat, one at a time, until ctx ends.
func (s *Streams) Heartbeats(ctx context.Context, fn func(*pb.Heartbeat)) error {
	msgs := make(chan *nats.Msg, 64)
	sub, err := s.nc.ChanSubscribe(heartbeatSubject, msgs)
	if err != nil {
		return fmt.Errorf("heartbeats: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // a closed connection has no subscriptions
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-msgs:
			hb := new(pb.Heartbeat)
			if proto.Unmarshal(m.Data, hb) == nil {
				fn(hb)
			}
		}
	}
}
