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

// serveStores starts the stores and returns the settings that lead to them, by
// name. An address that is given is passed on, and nothing served for it.
func (p *Process) serveStores(ctx context.Context, parts *parts, f *folder, watch *watch, cfg config.Stores) ([][2]string, error) {
	for _, name := range []string{"admin.token", "worker.token"} { // for the tiers
		if _, err := f.secret("", name); err != nil {
			return nil, err
		}
	}
	if _, err := f.secretKey(""); err != nil { // for the API and the scheduler
		return nil, err
	}
	var checks []api.Check
	natsURL, databaseURL, at := cfg.NATSURL, cfg.DatabaseURL, ""
	var err error
	if natsURL == "" || f.own(natsURL, "nats.token") {
		if natsURL, at, err = p.serveNATS(parts, f, cfg); err != nil {
			return nil, err
		}
		checks = append(checks, api.Check{Name: "nats", Needed: true, Ask: dials(at)})
	}
	if databaseURL == "" || f.own(databaseURL, "postgres.password") {
		if databaseURL, at, err = p.servePostgres(ctx, parts, f, cfg); err != nil {
			return nil, err
		}
		checks = append(checks, api.Check{Name: "postgres", Needed: true, Ask: dials(at)})
	}
	if err := errors.Join(f.write("nats.url", natsURL), f.write("postgres.url", databaseURL)); err != nil {
		return nil, err
	}
	endpoint, err := p.serveS3(ctx, parts, f, cfg)
	if err != nil {
		return nil, err
	}
	watch.ready(append(checks, api.Check{Name: "s3", Needed: true, Ask: dials(endpoint)})...)
	return [][2]string{
		{"TINTYPE_NATS_URL_FILE", f.join("nats.url")},
		{"TINTYPE_DATABASE_URL_FILE", f.join("postgres.url")},
		{"TINTYPE_S3_ENDPOINT", "http://" + outside(cfg.S3Listen, endpoint)},
		{"TINTYPE_S3_BUCKET", cfg.S3Bucket},
		{"TINTYPE_S3_REGION", s3.Region},
		{"TINTYPE_S3_ACCESS_KEY_FILE", f.join("s3.access")},
		{"TINTYPE_S3_SECRET_KEY_FILE", f.join("s3.secret")},
		{"TINTYPE_ADMIN_TOKEN_FILE", f.join("admin.token")},
		{"TINTYPE_SECRET_KEY_FILE", f.join("secret.key")},
		{"TINTYPE_WORKER_TOKEN_FILE", f.join("worker.token")},
	}, nil
}

func (p *Process) serveNATS(parts *parts, f *folder, cfg config.Stores) (address, at string, err error) {
	token, err := f.secret("", "nats.token")
	if err != nil {
		return "", "", err
	}
	if err := available("--nats-listen", cfg.NATSListen); err != nil {
		return "", "", err
	}
	srv, err := p.startNATS(parts, nats.Config{Dir: f.join("nats"), Listen: cfg.NATSListen, Token: token, Open: cfg.InsecureBackends})
	if err != nil {
		return "", "", err
	}
	u, err := url.Parse(srv.ClientURL())
	if err != nil {
		return "", "", err
	}
	return (&url.URL{Scheme: "nats", User: url.User(token), Host: outside(cfg.NATSListen, u.Host)}).String(), u.Host, nil
}

func (p *Process) servePostgres(ctx context.Context, parts *parts, f *folder, cfg config.Stores) (address, at string, err error) {
	password, err := f.secret("", "postgres.password")
	if err != nil {
		return "", "", err
	}
	sockets, err := f.socketFolder()
	if err != nil {
		return "", "", err
	}
	parts.opened("socket folder", func() error { return os.RemoveAll(sockets) })
	srv, err := p.startPostgres(ctx, parts, postgres.Config{
		Dir: f.join("postgres"), SocketDir: sockets + "/pg", BinDir: cfg.PostgresBin,
		Listen: cfg.PostgresListen, Password: password, Open: cfg.InsecureBackends,
	})
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
		return "", "", fmt.Errorf("--postgres-listen: %w", op)
	}
	if err != nil {
		return "", "", err
	}
	return srv.RemoteURL(outside(cfg.PostgresListen, srv.Address())), srv.Address(), nil
}

func (p *Process) serveS3(ctx context.Context, parts *parts, f *folder, cfg config.Stores) (at string, err error) {
	access, err := f.secret("", "s3.access")
	if err != nil {
		return "", err
	}
	secret, err := f.secret("", "s3.secret")
	if err != nil {
		return "", err
	}
	if err := available("--s3-listen", cfg.S3Listen); err != nil { // in our words
		return "", err
	}
	srv, err := p.startS3(ctx, parts, s3.Config{
		Dir: f.join("s3"), Addr: cfg.S3Listen, AccessKey: access, SecretKey: secret, Open: cfg.InsecureBackends,
	})
	if err != nil {
		return "", err
	}
	return srv.Endpoint(), nil
}

// own reports whether an address holds the secret of that file: it is one that
// this folder's `backends` gave out, and whoever starts it again from a shell
// with that environment means the same.
func (f *folder) own(address, name string) bool {
	secret, err := f.read(name)
	u, parseErr := url.Parse(address)
	if err != nil || parseErr != nil || secret == "" || u.User == nil {
		return false
	}
	password, _ := u.User.Password()
	return u.User.Username() == secret || password == secret
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
