package stream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// gatherMost bounds how many messages a reader hands over at once.
const gatherMost = 512

const (
	// stopWait is how long the end of a reader waits for its consumer's.
	stopWait = 200 * time.Millisecond
	// forgetAfter is when the server forgets a consumer that nobody reads.
	forgetAfter = 30 * time.Second
)

type message struct {
	seq  uint64
	data []byte
}

// read follows a stream from sequence first on and calls fn with everything
// that has arrived, in order, until ctx ends or fn fails.
func (s *Streams) read(ctx context.Context, st jetstream.Stream, first uint64, fn func([]message) error) error {
	// fn may fail while the consumer's callback waits to hand over the next
	// message: ending this context is what lets the callback go.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cons, err := st.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(first, 1), InactiveThreshold: forgetAfter,
	})
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	msgs := make(chan message, gatherMost)
	cc, err := cons.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			return // not a stream message: nothing an ordered consumer delivers
		}
		select {
		case msgs <- message{meta.Sequence.Stream, m.Data()}:
		case <-ctx.Done():
		}
	}, jetstream.PullExpiry(5*time.Second), jetstream.PullHeartbeat(time.Second), jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		// The consumer is made anew by the client; a reader only sees a pause.
		s.log.Debug("stream consumer was reset", "err", err)
	}))
	if err != nil {
		return fmt.Errorf("read stream: %w", err)
	}
	defer func() {
		cancel()
		// The client stops a consumer that it is making anew only once that has
		// been made, for 10 s and more: whoever goes on to lead does not wait.
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			cc.Stop()
			<-cc.Closed()
		}()
		select {
		case <-stopped:
		case <-time.After(stopWait):
		}
	}()
	for {
		var batch []message
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-msgs:
			batch = append(batch, m)
		}
	more:
		for len(batch) < gatherMost {
			select {
			case m := <-msgs:
				batch = append(batch, m)
			default:
				break more
			}
		}
		if err := fn(batch); err != nil {
			return err
		}
	}
}

// get reads one message, from any replica first and then from the stream's
// leader: a follower may lag behind what was acknowledged.
func get(ctx context.Context, js jetstream.JetStream, st jetstream.Stream, name string, seq uint64) ([]byte, error) {
	msg, err := st.GetMsg(ctx, seq)
	if err == nil {
		return msg.Data, nil
	}
	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, err
	}
	body, err := json.Marshal(map[string]uint64{"seq": seq})
	if err != nil {
		return nil, err
	}
	resp, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+name, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Data string `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(resp.Data, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, jetstream.ErrMsgNotFound
		}
		return nil, answer.Error
	}
	return base64.StdEncoding.DecodeString(answer.Message.Data)
}
