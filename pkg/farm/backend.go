package farm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/embed/s3"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
)

const (
	// connectWithin bounds the first contact with one external store.
	connectWithin = 15 * time.Second
	// dialNATSWithin bounds one try of one server: behind one that is gone
	// without a word, another of its cluster waits.
	dialNATSWithin = 3 * time.Second
	// startWithin bounds the start of one embedded store; a large ledger is
	// read through and a killed Postgres recovers first.
	startWithin = 2 * time.Minute
	// natsStore is what the embedded NATS may promise to its streams, in
	// bytes: both at their default bounds, and room to raise them. It is a
	// limit and no reservation of disk.
	natsStore = 8 << 30
	// natsSpare is what streams may be promised beside those two.
	natsSpare = 1 << 30
	// leastNATS is the oldest server whose durability was measured: before
	// it, a cluster that syncs does so once for every message.
	leastNATS = "2.15.2"
)

// stores are the three back ends, each behind its one client.
type stores struct {
	streams *stream.Streams
	archive *store.Store
	bucket  *object.Bucket
	url     string // of the archive, for migrations
	// disk is what is left where the streams are kept: of the data folder's, or
	// what an external NATS says.
	disk func(context.Context) (free, size uint64, err error)
}

// openStores connects to what cfg names.
func (p *Process) openStores(ctx context.Context, parts *parts, cfg config.Backends, options ...store.Option) (*stores, error) {
	nc, err := p.dialNATS(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return p.clients(ctx, parts, nc, cfg, options...)
}

// openEmbedded is openStores with a part of our own for each address that cfg
// lacks.
func (p *Process) openEmbedded(ctx context.Context, parts *parts, f *folder, sockets string, cfg config.Up, options ...store.Option) (*stores, error) {
	var nc *natsgo.Conn
	var err error
	if cfg.NATSURL != "" {
		nc, err = p.dialNATS(ctx, cfg.Backends)
	} else {
		nc, err = p.embeddedNATS(parts, f, cfg.Streams)
	}
	if err != nil {
		return nil, err
	}
	b := cfg.Backends
	if b.DatabaseURL == "" {
		srv, err := p.startPostgres(ctx, parts, postgres.Config{
			Dir: f.join("postgres"), SocketDir: sockets + "/pg", BinDir: cfg.PostgresBin,
		})
		if err != nil {
			nc.Close()
			return nil, err
		}
		b.DatabaseURL = srv.URL()
	}
	if b.S3Endpoint == "" {
		if b.S3, err = p.embeddedBucket(ctx, parts, f, b.S3Bucket); err != nil {
			nc.Close()
			return nil, err
		}
	}
	s, err := p.clients(ctx, parts, nc, b, options...)
	if err == nil && cfg.NATSURL == "" {
		s.disk = f.disk
	}
	return s, err
}

func (p *Process) embeddedNATS(parts *parts, f *folder, sizes config.Streams) (*natsgo.Conn, error) {
	srv, err := p.startNATS(parts, nats.Config{
		Dir: f.join("nats"), MaxStore: max(natsStore, sizes.JobsBytes+sizes.LedgerBytes+natsSpare),
	})
	if err != nil {
		return nil, err
	}
	return srv.Connect(p.natsOptions()...)
}

// startNATS runs cfg with this process's log and bounds.
func (p *Process) startNATS(parts *parts, cfg nats.Config) (*nats.Server, error) {
	if cfg.Log = p.Log; cfg.MaxStore == 0 {
		cfg.MaxStore = natsStore
	}
	srv, err := nats.New(cfg)
	if err != nil {
		return nil, err
	}
	parts.watch("nats server", srv.Broken(), srv.Err, func() error { srv.Close(); return nil })
	return srv, nil
}

func (p *Process) dialNATS(ctx context.Context, cfg config.Backends) (*natsgo.Conn, error) {
	within := dialNATSWithin
	if deadline, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(deadline))
	}
	nc, err := natsgo.Connect(cfg.NATSURL, append(p.natsOptions(), natsgo.Timeout(within))...)
	if err != nil {
		return nil, &Unreachable{"NATS", err}
	}
	if version := nc.ConnectedServerVersion(); older(version, leastNATS) {
		nc.Close()
		return nil, fmt.Errorf("the NATS server is %s, and %s is needed: older ones sync each message by itself, or lose some", version, leastNATS)
	}
	return nc, nil
}

// older compares versions such as 2.15.2; what follows a number, as in
// 2.16.0-RC.1, does not count.
func older(version, least string) bool {
	a, b := strings.Split(version, "."), strings.Split(least, ".")
	for i := range b {
		var x, y int
		if i < len(a) {
			fmt.Sscanf(a[i], "%d", &x) //nolint:errcheck // none is 0
		}
		fmt.Sscanf(b[i], "%d", &y) //nolint:errcheck // ours
		if x != y {
			return x < y
		}
	}
	return false
}

// natsOptions fit publishes whose outcome must be known: without a buffer, one
// fails at once while there is no connection, instead of landing seconds after
// its caller gave up.
func (p *Process) natsOptions() []natsgo.Option {
	log := p.Log
	return []natsgo.Option{
		natsgo.Name("tintype"),
		natsgo.ReconnectBufSize(-1),
		natsgo.MaxReconnects(-1),
		natsgo.ReconnectWait(250 * time.Millisecond),
		natsgo.IgnoreAuthErrorAbort(), // a server that is being set up anew may refuse for a while
		natsgo.PingInterval(5 * time.Second),
		natsgo.DisconnectErrHandler(func(_ *natsgo.Conn, err error) {
			if err != nil {
				log.Warn("lost the connection to nats", "err", err)
			}
		}),
		natsgo.ReconnectHandler(func(*natsgo.Conn) { log.Info("connected to nats again") }),
		natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) {
			log.Warn("nats reported an error", "err", err)
		}),
	}
}

func (p *Process) startPostgres(ctx context.Context, parts *parts, cfg postgres.Config) (*postgres.Server, error) {
	cfg.Log = p.Log
	srv, err := postgres.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("postgres was not ready within %s", startWithin))
	defer cancel()
	if err := srv.Start(ctx); err != nil {
		return nil, err
	}
	parts.watch("postgres", srv.Done(), srv.Err, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		return srv.Stop(ctx)
	})
	return srv, nil
}

func (p *Process) startS3(ctx context.Context, parts *parts, cfg s3.Config) (*s3.Server, error) {
	cfg.Log = p.Log
	srv, err := s3.New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, fmt.Errorf("s3 was not ready within %s", startWithin))
	defer cancel()
	if err := srv.Start(ctx); err != nil {
		return nil, err
	}
	parts.watch("s3", srv.Done(), srv.Err, srv.Close)
	return srv, nil
}

// embeddedBucket is a bucket that this process alone is told of, on a port
// that is another one at each start.
func (p *Process) embeddedBucket(ctx context.Context, parts *parts, f *folder, bucket string) (config.S3, error) {
	access, err := f.secret("", "s3.access")
	if err != nil {
		return config.S3{}, err
	}
	secret, err := f.secret("", "s3.secret")
	if err != nil {
		return config.S3{}, err
	}
	srv, err := p.startS3(ctx, parts, s3.Config{Dir: f.join("s3"), AccessKey: access, SecretKey: secret})
	if err != nil {
		return config.S3{}, err
	}
	return config.S3{
		S3Endpoint: "http://" + srv.Endpoint(), S3Bucket: bucket, S3Region: s3.Region, S3AccessKey: access, S3SecretKey: secret,
	}, nil
}

// clients opens the one client of each store. It owns nc.
func (p *Process) clients(ctx context.Context, parts *parts, nc *natsgo.Conn, cfg config.Backends, options ...store.Option) (*stores, error) {
	parts.opened("nats client", func() error { nc.Close(); return nil })
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, errors.New("the stores did not answer in time"))
	defer cancel()
	streams, err := stream.Open(ctx, nc, stream.Config{
		Replicas: replicas(nc, cfg.NATSReplicas), JobsMaxBytes: cfg.JobsBytes, LedgerMaxBytes: cfg.LedgerBytes, Log: p.Log,
	})
	if err != nil {
		return nil, err
	}
	archive, err := store.Open(ctx, cfg.DatabaseURL, p.Log, options...)
	if err != nil {
		return nil, err
	}
	parts.opened("postgres client", func() error { archive.Close(); return nil })
	bucket, err := object.New(object.Config{
		Endpoint: cfg.S3Endpoint, Bucket: cfg.S3Bucket, Region: cfg.S3Region,
		AccessKey: cfg.S3AccessKey, SecretKey: cfg.S3SecretKey, PublicURL: cfg.S3PublicURL,
	})
	if err != nil {
		return nil, err
	}
	parts.opened("s3 client", func() error { bucket.Close(); return nil })
	return &stores{streams: streams, archive: archive, bucket: bucket, url: cfg.DatabaseURL, disk: streams.Disk}, nil
}

// replicas keeps three copies of the streams where NATS is a cluster, unless
// told how many.
func replicas(nc *natsgo.Conn, told int) int {
	switch {
	case told > 0:
		return told
	case strings.TrimSpace(nc.ConnectedClusterName()) != "":
		return 3
	}
	return 1
}

// prepare makes the schema and the bucket: what a first start needs.
func (p *Process) prepare(ctx context.Context, s *stores) error {
	if err := migrate(ctx, s.url, p.Log); err != nil {
		return err
	}
	return s.ensureBucket(ctx)
}

func (s *stores) ensureBucket(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectWithin, fmt.Errorf("no answer within %s", connectWithin))
	defer cancel()
	if err := s.bucket.Ensure(ctx); err != nil {
		return &Unreachable{"the bucket", err}
	}
	return nil
}

func migrate(ctx context.Context, url string, log *slog.Logger) error {
	if err := reachable(ctx, url, log); err != nil {
		return err
	}
	return store.Migrate(ctx, url, log)
}

// reachable tells a database that is not there from one that refuses.
func reachable(ctx context.Context, url string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectWithin, fmt.Errorf("no answer within %s", connectWithin))
	defer cancel()
	s, err := store.Open(ctx, url, log)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Ping(ctx); err != nil {
		return &Unreachable{"the database", err}
	}
	return nil
}

// Migrate brings the database to this release's schema.
func (p *Process) Migrate(ctx context.Context, cfg config.Migrate) error {
	return migrate(ctx, cfg.DatabaseURL, p.Log)
}
