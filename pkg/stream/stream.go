// Package stream is the farm's two JetStream streams and its heartbeat: JOBS,
// the door through which API replicas submit, LEDGER, the memory that the
// leader alone writes, and a core NATS subject on which the leader says that
// it lives.
//
// It promises that
//  1. a record whose publish returned a sequence is stored and synced;
//  2. a publish that failed with a Refused fault left nothing behind, and any
//     other failure leaves open whether it landed: it is never tried again;
//  3. a frame is appended only at the sequence its writer expected, and is
//     sent again only byte for byte;
//  4. a reader of LEDGER sees every frame in order or gets ErrGap.
//
// What the messages mean is the scheduler's to know.
package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The names of shard 0, the only one there is.
const (
	JobsName         = "JOBS_0"
	jobsSubject      = "tintype.job.0"
	LedgerName       = "LEDGER_0"
	ledgerSubject    = "tintype.ledger.0"
	heartbeatSubject = "tintype.hb.0"
)

// ackTimeout bounds the wait for one acknowledgement. A stream leader's
// election takes 4 to 9 s; waiting it out keeps an append in doubt that much
// longer, so it is looked up in the log instead.
const ackTimeout = 5 * time.Second

const (
	// ensureWithin bounds the wait for one answer about a stream, and
	// ensureAgain is the pause before it is asked for again.
	ensureWithin = 5 * time.Second
	ensureAgain  = 200 * time.Millisecond
)

// Config are the bounds of the streams. JetStream reserves MaxBytes, so their
// sum must fit the server's store.
type Config struct {
	Replicas       int   // 1 or 3; 0 is 1
	JobsMaxBytes   int64 // 0: 1 GiB
	LedgerMaxBytes int64 // 0: 2 GiB
	Log            *slog.Logger
}

// Streams are the opened streams.
type Streams struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	jobs   jetstream.Stream
	ledger jetstream.Stream
	copies int
	log    *slog.Logger
}

// Open creates the streams, or brings existing ones to this configuration.
// Both refuse new messages when they are full (DiscardNew): nothing accepted
// is ever pushed out.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Streams, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return nil, fmt.Errorf("jetstream client: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	orDefault := func(v, d int64) int64 {
		if v == 0 {
			return d
		}
		return v
	}
	common := jetstream.StreamConfig{
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		Replicas: max(cfg.Replicas, 1), AllowDirect: true, Duplicates: 0, MaxMsgs: -1, MaxMsgsPerSubject: -1,
	}
	jobs := common
	jobs.Name, jobs.Subjects = JobsName, []string{jobsSubject}
	jobs.AllowAtomicPublish, jobs.MaxBytes = true, orDefault(cfg.JobsMaxBytes, 1<<30)
	ledger := common
	ledger.Name, ledger.Subjects = LedgerName, []string{ledgerSubject}
	ledger.MaxMsgSize, ledger.MaxBytes = 1<<20, orDefault(cfg.LedgerMaxBytes, 2<<30)

	s := &Streams{nc: nc, js: js, copies: common.Replicas, log: cfg.Log}
	if s.jobs, err = ensure(ctx, js, jobs); err != nil {
		return nil, fmt.Errorf("stream %s: %w", JobsName, err)
	}
	if s.ledger, err = ensure(ctx, js, ledger); err != nil {
		return nil, fmt.Errorf("stream %s: %w", LedgerName, err)
	}
	return s, nil
}

// ensure makes the stream, or brings it to this configuration, however many
// processes of the farm do the same now. It asks again where no answer comes
// in: a cluster that makes a stream drops second requests for it, and one that
// has just started has no leader to ask.
func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	for {
		st, err := ensureOnce(ctx, js, want)
		if err == nil {
			return st, nil
		}
		if api := apiError(err); api != nil && (api.Code != 503 || cannotStore(err) != nil) {
			return nil, placement(err, want.Replicas)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(ensureAgain):
		}
	}
}

func ensureOnce(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, ensureWithin, errors.New("no answer from JetStream"))
	defer cancel()
	st, err := js.Stream(ctx, want.Name)
	if err == nil {
		have := st.CachedInfo().Config
		if have.Replicas == want.Replicas && have.MaxBytes == want.MaxBytes && have.Discard == want.Discard && have.AllowDirect == want.AllowDirect &&
			have.AllowAtomicPublish == want.AllowAtomicPublish && (have.MaxMsgSize == want.MaxMsgSize || want.MaxMsgSize == 0) {
			return st, nil
		}
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	return js.CreateOrUpdateStream(ctx, want)
}

// Ping asks NATS for an answer.
func (s *Streams) Ping(ctx context.Context) error {
	if err := s.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

// Disk is how many bytes the account of this connection has left for streams,
// and how many it may have; size 0 when the server sets it no bound. What the
// server's disk itself has left no client can ask.
func (s *Streams) Disk(ctx context.Context) (free, size uint64, err error) {
	info, err := s.js.AccountInfo(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("nats account: %w", err)
	}
	tier := info.Tier
	if t, ok := info.Tiers[fmt.Sprintf("R%d", s.copies)]; ok {
		tier = t
	}
	if tier.Limits.MaxStore <= 0 {
		return 0, 0, nil
	}
	size = uint64(tier.Limits.MaxStore)
	return size - min(size, tier.Store), size, nil
}

// State is a stream's extent.
type State struct {
	First, Last uint64 // sequences; an empty stream has First = Last + 1
	Bytes       uint64
	MaxBytes    int64
}

func state(ctx context.Context, st jetstream.Stream) (State, error) {
	info, err := st.Info(ctx)
	if err != nil {
		return State{}, fmt.Errorf("stream info: %w", err)
	}
	first := info.State.FirstSeq
	if info.State.Msgs == 0 {
		first = info.State.LastSeq + 1
	}
	return State{First: first, Last: info.State.LastSeq, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes}, nil
}
