package farm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/embed/s3"
)

// settingsFile, in the data folder, is the environment with which the tiers
// find the stores. It names files of secrets and holds none.
const settingsFile = "backends.env"

// Backends serves the embedded stores of a data folder to other processes
// until ctx ends. The folder is that of `up`: either runs on what the other
// left.
func (p *Process) Backends(ctx context.Context, cfg config.Stores) error {
	f, err := openFolder(cfg.Data)
	if err != nil {
		return err
	}
	return p.live(ctx, func(parts *parts) error {
		parts.opened("data folder", f.close)
		watch, err := p.startWatch(ctx, parts, cfg.AdminListen)
		if err != nil {
			return err
		}
		settings, err := p.serveStores(ctx, parts, f, watch, cfg)
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, s := range settings {
			fmt.Fprintf(&text, "%s=%s\n", s[0], quote(s[1]))
		}
		if err := f.write(settingsFile, strings.TrimSpace(text.String())); err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.Out, `
The back ends of %s are ready.

%s
The other modes find them with this environment, which is also in a file:

  set -a; . %s; set +a

A worker takes none of it. Ctrl-C stops; stop the tiers first.
`, f.path, text.String(), quote(f.join(settingsFile)))
		return err
	})
}

// serveStores starts the three stores and returns the settings that lead to
// them, by name.
func (p *Process) serveStores(ctx context.Context, parts *parts, f *folder, watch *watch, cfg config.Stores) ([][2]string, error) {
	secrets := map[string]string{}
	for _, name := range []string{"admin.token", "worker.token", "nats.token", "postgres.password", "s3.access", "s3.secret"} {
		var err error
		if secrets[name], err = f.secret("", name); err != nil {
			return nil, err
		}
	}
	sockets, err := f.socketFolder()
	if err != nil {
		return nil, err
	}
	parts.opened("socket folder", func() error { return os.RemoveAll(sockets) })
	// The stores would say it in words of their own, some of them later.
	err = errors.Join(available("--nats-listen", cfg.NATSListen), available("--s3-listen", cfg.S3Listen))
	if err != nil {
		return nil, err
	}

	n, err := p.startNATS(parts, nats.Config{Dir: f.join("nats"), Listen: cfg.NATSListen, Token: secrets["nats.token"], Open: cfg.InsecureBackends})
	if err != nil {
		return nil, err
	}
	natsAt, err := url.Parse(n.ClientURL())
	if err != nil {
		return nil, err
	}
	pg, err := p.startPostgres(ctx, parts, postgres.Config{
		Dir: f.join("postgres"), SocketDir: sockets + "/pg", BinDir: cfg.PostgresBin,
		Listen: cfg.PostgresListen, Password: secrets["postgres.password"], Open: cfg.InsecureBackends,
	})
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return nil, fmt.Errorf("--postgres-listen: %w", op)
	}
	if err != nil {
		return nil, err
	}
	bucket, err := p.startS3(ctx, parts, s3.Config{
		Dir: f.join("s3"), Addr: cfg.S3Listen, AccessKey: secrets["s3.access"], SecretKey: secrets["s3.secret"], Open: cfg.InsecureBackends,
	})
	if err != nil {
		return nil, err
	}

	watch.ready(
		api.Check{Name: "nats", Needed: true, Ask: dials(natsAt.Host)},
		api.Check{Name: "postgres", Needed: true, Ask: dials(pg.Address())},
		api.Check{Name: "s3", Needed: true, Ask: dials(bucket.Endpoint())},
	)
	natsAt = &url.URL{Scheme: "nats", User: url.User(secrets["nats.token"]), Host: outside(cfg.NATSListen, natsAt.Host)}
	if err := f.write("nats.url", natsAt.String()); err != nil {
		return nil, err
	}
	if err := f.write("postgres.url", pg.RemoteURL(outside(cfg.PostgresListen, pg.Address()))); err != nil {
		return nil, err
	}
	return [][2]string{
		{"TINTYPE_NATS_URL_FILE", f.join("nats.url")},
		{"TINTYPE_DATABASE_URL_FILE", f.join("postgres.url")},
		{"TINTYPE_S3_ENDPOINT", "http://" + outside(cfg.S3Listen, bucket.Endpoint())},
		{"TINTYPE_S3_BUCKET", cfg.S3Bucket},
		{"TINTYPE_S3_REGION", s3.Region},
		{"TINTYPE_S3_ACCESS_KEY_FILE", f.join("s3.access")},
		{"TINTYPE_S3_SECRET_KEY_FILE", f.join("s3.secret")},
		{"TINTYPE_ADMIN_TOKEN_FILE", f.join("admin.token")},
		{"TINTYPE_WORKER_TOKEN_FILE", f.join("worker.token")},
	}, nil
}

// available tells of an address that cannot be had by the name of its flag.
func available(flag, address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return l.Close()
}

// outside is where others reach what was told to listen on given and has the
// port of got: under this machine's name when it listens everywhere.
func outside(given, got string) string {
	host, _, err := net.SplitHostPort(given)
	_, port, err2 := net.SplitHostPort(got)
	if err != nil || err2 != nil {
		return got
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			host = "127.0.0.1"
		}
	}
	return net.JoinHostPort(host, port)
}
