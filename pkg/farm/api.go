package farm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/scheduler"
)

// API runs one replica of the HTTP tier until ctx ends.
func (p *Process) API(ctx context.Context, cfg config.API) error {
	policy, err := account.ReadPolicy(cfg.File)
	if err != nil {
		return err
	}
	peers, err := p.peers(cfg.GRPC, identity.Dials)
	if err != nil {
		return err
	}
	box, err := seal.Parse(cfg.SecretKey)
	if err != nil {
		return fmt.Errorf("TINTYPE_SECRET_KEY: %w", err)
	}
	guard, err := egress.New(egress.Config{Allow: cfg.EgressAllow, DNS: cfg.EgressDNS})
	if err != nil {
		return err
	}
	return p.live(ctx, func(parts *parts) error {
		policies, err := p.startPolicy(parts, policy, cfg.File)
		if err != nil {
			return err
		}
		doors, err := listenHTTP(cfg.HTTP)
		if err != nil {
			return err
		}
		parts.opened("http listeners", doors.close)
		s, err := p.openStores(ctx, parts, cfg.Backends, store.SecretKey(box))
		if err != nil {
			return err
		}
		if err := p.startKeyCheck(ctx, parts, s.archive); err != nil {
			return err
		}
		return p.startAPI(parts, s, doors, replica{
			adminToken: cfg.AdminToken, drain: cfg.DrainLimit, redirect: cfg.S3PublicURL != "", policies: policies, front: peers.dial,
			guard: guard, webhooksHTTP: cfg.WebhookAllowHTTP, secrets: box,
		})
	})
}

// replica is how an API replica differs from process to process.
type replica struct {
	adminToken string
	drain      time.Duration
	policies   *account.Live
	front      credentials.TransportCredentials
	redirect   bool                 // results are at the bucket's public address
	scheduler  *scheduler.Scheduler // in this process; nil elsewhere
	// Webhooks leave by guard, also to plain http addresses.
	guard        *egress.Guard
	webhooksHTTP bool
	checks       []api.Check // of what else runs in this process
	secrets      *seal.Box
}

func (p *Process) startAPI(parts *parts, s *stores, doors doors, how replica) error {
	publisher := s.streams.Publisher()
	server, err := api.New(api.Config{
		AdminToken: how.adminToken, RedirectResults: how.redirect, Policies: how.policies, Front: how.front,
		Secrets: how.secrets, Egress: how.guard, WebhookAllowHTTP: how.webhooksHTTP,
		DrainWithin: max(how.drain, time.Millisecond), // zero would be its own default
	}, api.Deps{
		Door: publisher, Heartbeats: s.streams.Heartbeats, Store: s.archive, Bucket: s.bucket, Ledger: s.streams, Outbox: s.archive,
		Checks: append(s.checks(nil), how.checks...), Metrics: p.Metrics, Log: p.Log,
		Listener: doors.main, AdminListener: doors.admin,
	})
	if err != nil {
		return err
	}
	parts.service("publisher", publisher.Run)
	parts.run("api", server.Run)
	return nil
}

// doors are the sockets of the HTTP API.
type doors struct {
	main  net.Listener
	admin net.Listener // nil: main has its routes too
}

func listenHTTP(cfg config.HTTP) (doors, error) {
	main, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return doors{}, fmt.Errorf("--listen: %w", err)
	}
	d := doors{main: main}
	if cfg.AdminListen == "" {
		return d, nil
	}
	if d.admin, err = net.Listen("tcp", cfg.AdminListen); err != nil {
		return doors{}, errors.Join(fmt.Errorf("--admin-listen: %w", err), main.Close())
	}
	return d, nil
}

// close closes what the API has not closed already.
func (d doors) close() error {
	var errs []error
	for _, l := range []net.Listener{d.main, d.admin} {
		if l == nil {
			continue
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checks are what /readyz asks beside the leader; of the workers an API asks
// the leader itself.
func (s *stores) checks(sched *scheduler.Scheduler) []api.Check {
	checks := []api.Check{
		{Name: "nats", Needed: true, Ask: s.streams.Ping},
		{Name: "postgres", Ask: s.archive.Ping},
		{Name: "s3", Ask: s.bucket.Ping},
	}
	if sched != nil {
		checks = append(checks, api.Check{Name: "worker", Ask: func(context.Context) error {
			if sched.Leading() && sched.Seats() == 0 {
				return errors.New("no worker is connected")
			}
			return nil
		}})
	}
	return checks
}
