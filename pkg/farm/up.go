package farm

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/worker"
)

// Up runs every tier in this process, on embedded back ends where cfg names no
// others, until ctx ends.
func (p *Process) Up(ctx context.Context, cfg config.Up) error {
	policy, err := account.ReadPolicy(cfg.File)
	if err != nil {
		return err
	}
	peers, err := p.peers(cfg.GRPC, identity.Listens, identity.Dials)
	if err != nil {
		return err
	}
	f, err := openFolder(cfg.Data)
	if err != nil {
		return err
	}
	return p.live(ctx, func(parts *parts) error {
		parts.opened("data folder", f.close)
		return p.up(ctx, parts, f, cfg, policy, peers)
	})
}

func (p *Process) up(ctx context.Context, parts *parts, f *folder, cfg config.Up, policy *account.Policy, peers peers) error {
	policies, err := p.startPolicy(parts, policy, cfg.File)
	if err != nil {
		return err
	}
	adminToken, err := f.secret(cfg.AdminToken, "admin.token")
	if err != nil {
		return err
	}
	workerToken, err := f.secret(cfg.WorkerToken, "worker.token")
	if err != nil {
		return err
	}
	box, err := f.secretKey(cfg.SecretKey)
	if err != nil {
		return err
	}
	guard, err := egress.New(egress.Config{Allow: cfg.EgressAllow, DNS: cfg.EgressDNS})
	if err != nil {
		return err
	}
	sockets, err := f.socketFolder()
	if err != nil {
		return err
	}
	parts.opened("socket folder", func() error { return os.RemoveAll(sockets) })
	// Before anything starts, so that a taken port costs nothing.
	doors, err := listenHTTP(cfg.HTTP)
	if err != nil {
		return err
	}
	parts.opened("http listeners", doors.close)
	s, err := p.openEmbedded(ctx, parts, f, sockets, cfg, store.SecretKey(box))
	if err != nil {
		return err
	}
	if err := p.prepare(ctx, s); err != nil {
		return err
	}
	if err := checkKey(ctx, s.archive, connectWithin); err != nil {
		return err
	}
	keyFile, err := firstAccount(ctx, f, s.archive, policy.Plans[0].Name)
	if err != nil {
		return err
	}

	local := "unix://" + sockets + "/scheduler.sock"
	how := schedule{listen: []string{local}, address: local, token: workerToken, alone: cfg.NATSURL == "", policies: policies, creds: peers.listen, secrets: box}
	if cfg.ClusterListen != "" {
		how.listen = append(how.listen, cfg.ClusterListen)
		how.address = cfg.ClusterListen
	}
	if cfg.Advertise != "" {
		how.address = cfg.Advertise
	}
	sched, err := p.startScheduler(parts, s, how)
	if err != nil {
		return err
	}
	var more []api.Check
	if cfg.Seats > 0 {
		w, err := p.startWorker(parts, cfg.Render, worker.Config{
			Name: workerName(f), Schedulers: []string{local}, Token: workerToken, DrainLimit: cfg.DrainLimit,
		})
		if err != nil {
			return err
		}
		more = append(more, isolation(w))
	}
	if err := p.startAPI(parts, s, doors, replica{
		adminToken: adminToken, drain: cfg.DrainLimit, redirect: cfg.S3PublicURL != "", policies: policies, scheduler: sched, front: peers.dial,
		guard: guard, webhooksHTTP: cfg.WebhookAllowHTTP, secrets: box, checks: more,
	}); err != nil {
		return err
	}
	b := banner{url: "http://" + reached(doors.main), data: f.path, keyFile: keyFile, cluster: cfg.ClusterListen, version: p.Version}
	if doors.admin != nil {
		b.admin = "http://" + reached(doors.admin)
	}
	return p.welcome(ctx, parts, f, b, cfg.Demo)
}

// welcome waits until the farm takes jobs and tells who is looking.
func (p *Process) welcome(ctx context.Context, parts *parts, f *folder, b banner, demo bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(parts.ctx, func() { cancel(errors.New("a part failed during the start")) })()
	if err := ready(ctx, b.url); err != nil {
		return err
	}
	if demo {
		var err error
		if b.pictures, err = p.demo(ctx, f, b); err != nil {
			return err
		}
	}
	return b.print(p.Out)
}

// workerName is stable over restarts of this farm, which is what a worker's
// name is for, and another one for a second farm of the machine.
func workerName(f *folder) string {
	host, err := os.Hostname()
	if err != nil {
		host = "local"
	}
	return host + ":" + f.path
}

// reached is how a browser or curl of this machine reaches a listener.
func reached(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return l.Addr().String()
}
