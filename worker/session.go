package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// welcomeLimit bounds connecting, Hello and Welcome. A standby in front of a
	// dead leader answers NotLeader at once, so nothing slow is worth waiting for.
	welcomeLimit = 5 * time.Second

	// closeLimit is how long the leader may take to end a stream that the
	// worker has closed.
	closeLimit = time.Second

	// silentBeats beats without any answer end a stream: three of 2 s leave
	// time to find the next leader before pages are aborted.
	silentBeats = 3

	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second

	// maxHints bounds how often NotLeader is followed without a pause: two
	// standbys may each take the other for the leader.
	maxHints = 3

	// Of a leader that does not say: design.md, "The ledger".
	defaultBeat  = 2 * time.Second
	defaultLease = 12 * time.Second

	// abortMargin before the end of its lease a page is aborted.
	abortMargin = 2 * time.Second
)

var (
	errNoWelcome = errors.New("no welcome within " + welcomeLimit.String())
	errSilent    = errors.New("the leader answers no beats")
	errHangUp    = errors.New("the worker stops")
)

// notLeader is a scheduler's answer that another one leads.
type notLeader struct {
	address string // "" if it knows none
}

func (e *notLeader) Error() string { return "not the leader" }

// keepConnected holds one stream to the leader until ctx ends: it tries the
// schedulers in turn and follows NotLeader to the address that it names.
func (w *Worker) keepConnected(ctx context.Context) {
	var turn, tries, hints int
	var hint, logged string
	var namesake bool // another process has this one's name, and that was said
	for ctx.Err() == nil {
		address := w.cfg.Schedulers[turn%len(w.cfg.Schedulers)]
		if hint != "" {
			address = hint
		} else {
			turn++
		}
		hint = ""
		welcomed, err := w.session(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if welcomed {
			tries, hints, logged, namesake = 0, 0, "", false
		}
		if other, ok := errors.AsType[*notLeader](err); ok {
			tries = 0 // it lives, and is about to lead or to know who does
			if other.address != "" && other.address != address && hints < maxHints {
				hint = other.address
				hints++
				continue
			}
		}
		hints = 0
		if f := wire.StatusFault(err); f != nil && f.Kind == fault.Conflict {
			if !namesake {
				w.log.Error("this worker's name is taken", "address", address, "err", f.Detail)
			}
			namesake = true
			if pause(ctx, 0, retryMax, retryMax) != nil { // until somebody mends it, or the other one ends
				return
			}
			continue
		}
		if err != nil && err.Error() != logged { // once, not at every try
			logged = err.Error()
			level := slog.LevelWarn
			if _, standby := errors.AsType[*notLeader](err); standby {
				level = slog.LevelDebug // it lives; the leader is elsewhere, or is about to be
			}
			w.log.Log(ctx, level, "no stream to the leader", "address", address, "err", err)
		}
		if pause(ctx, tries, retryMin, retryMax) != nil {
			return
		}
		tries++
	}
}

// pause waits before try number try+1, 0 being the first: least plus full
// jitter that doubles from least up to most. It returns the cause of ctx if
// that ends first.
func pause(ctx context.Context, try int, least, most time.Duration) error {
	spread := min(most-least, least<<min(try, 16))
	timer := time.NewTimer(least + rand.N(spread+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// session holds one stream to address until it breaks or ctx ends; then what
// is pending has been sent and the leader has seen the end of the stream, if it
// answers within closeLimit. It reports whether the leader took the Hello.
func (w *Worker) session(ctx context.Context, address string) (welcomed bool, err error) {
	conn, err := grpc.NewClient(address, w.dialOptions()...)
	if err != nil {
		return false, err
	}
	defer conn.Close()

	// The stream outlives ctx by as much as its orderly end takes.
	streamCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	watchdog := time.AfterFunc(welcomeLimit, func() { cancel(errNoWelcome) })
	defer watchdog.Stop()
	greeted := context.AfterFunc(ctx, func() { cancel(errHangUp) })
	defer greeted()

	stream, err := pb.NewWorkClient(conn).Connect(streamCtx)
	if err != nil {
		return false, streamError(streamCtx, err)
	}
	held := w.leases.hello(time.Now())
	hello := &pb.Hello{Worker: w.cfg.Name, Boot: w.boot, Seats: uint32(len(w.seats)), Held: held}
	if err := stream.Send(&pb.WorkUp{Hello: hello}); err != nil && !errors.Is(err, io.EOF) { // of an EOF, Recv has the reason
		return false, streamError(streamCtx, err)
	}
	down, err := stream.Recv()
	if err != nil {
		return false, streamError(streamCtx, err)
	}
	if other := down.NotLeader; other != nil {
		return false, &notLeader{other.Address}
	}
	if down.Welcome == nil {
		return false, errors.New("the scheduler's first message is no welcome")
	}
	if !greeted() {
		return false, errHangUp
	}
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(closeLimit, func() { cancel(errHangUp) })
	})()

	beat, abort := times(down.Welcome)
	watchdog.Stop()
	silence := time.AfterFunc(silentBeats*beat, func() { cancel(errSilent) })
	defer silence.Stop()
	w.leases.welcomed(abort)
	defer w.leases.lost()
	w.welcome.Store(true)
	defer w.welcome.Store(false)
	w.log.Info("stream to the leader", "address", address, "epoch", down.Welcome.Epoch)

	ended := make(chan error, 1)
	go func() {
		for {
			if down.Beaten != nil {
				silence.Reset(silentBeats * beat)
			}
			if err := w.heed(down); err != nil {
				ended <- err
				return
			}
			var err error
			if down, err = stream.Recv(); err != nil {
				ended <- streamError(streamCtx, err)
				return
			}
		}
	}()
	sendErr := w.speak(ctx, stream, beat, ended)
	if sendErr != nil {
		cancel(sendErr)
	}
	return true, <-ended
}

// times reads the pace that the leader sets: how often to beat, and how long
// after the sending of an answered beat a page is aborted.
func times(welcome *pb.Welcome) (beat, abort time.Duration) {
	beat, lease := defaultBeat, defaultLease
	if welcome.BeatMs > 0 {
		beat = time.Duration(welcome.BeatMs) * time.Millisecond
	}
	if welcome.LeaseMs > 0 {
		lease = time.Duration(welcome.LeaseMs) * time.Millisecond
	}
	return beat, lease - min(abortMargin, lease/2)
}

// speak is the one writer of a stream: it gathers what is pending into one
// message, beats, and when ctx ends closes its side. It returns nil once the
// reader's end is certain to come, and puts that end back where it was taken.
func (w *Worker) speak(ctx context.Context, stream grpc.BidiStreamingClient[pb.WorkUp, pb.WorkDown], every time.Duration, ended chan error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	beatNow := true // the leases that came over from another stream must not wait
	for {
		up, changed := w.leases.pending()
		if beatNow {
			if up == nil {
				up = new(pb.WorkUp)
			}
			up.Beat = w.leases.beat(time.Now())
			beatNow = false
		}
		if up != nil {
			if err := stream.Send(up); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("send: %w", err)
			}
			w.leases.wrote()
			continue
		}
		select {
		case <-changed:
		case <-ticker.C:
			beatNow = true
		case err := <-ended:
			ended <- err
			return nil
		case <-ctx.Done():
			return stream.CloseSend()
		}
	}
}

// heed does what one message of the leader says. Its error ends the stream.
//
// A message may hold what was gathered over a while, so the order counts: a
// lease that is assigned and revoked in one message was revoked last, and an
// answered beat in it is no proof of a lease that the beat does not name.
func (w *Worker) heed(down *pb.WorkDown) error {
	now := time.Now()
	for _, a := range down.Assign {
		w.leases.assign(a, now)
	}
	if down.Beaten != nil {
		w.leases.beaten(down.Beaten.Number, now)
	}
	for _, token := range down.Committed {
		w.leases.drop(token, dropStale) // its report, if any, is safe; nobody waits for a page
	}
	for _, token := range down.Stale {
		w.leases.drop(token, dropStale)
	}
	for _, token := range down.Revoke {
		w.leases.drop(token, dropRevoked)
	}
	if other := down.NotLeader; other != nil {
		return &notLeader{other.Address}
	}
	return nil
}

// dialOptions keep gRPC to one honest connection: no proxy from the
// environment, no configuration from DNS, no retries under our own.
func (w *Worker) dialOptions() []grpc.DialOption {
	transport := w.cfg.Credentials
	if transport == nil {
		transport = insecure.NewCredentials()
	}
	secure := transport.Info().SecurityProtocol == "tls"
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: welcomeLimit}),
	}
	if w.cfg.Token != "" {
		opts = append(opts, grpc.WithPerRPCCredentials(wire.BearerToken(w.cfg.Token, secure)))
	}
	return opts
}

// streamError prefers our own reason for ending a stream to gRPC's.
func streamError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
