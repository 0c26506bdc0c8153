package farm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler"
)

const (
	// maxMessage bounds a gRPC message, in bytes: many ends of jobs, each with
	// its evidence, travel in one.
	maxMessage = 32 << 20
	// peerSilence is after how long without any sign a peer is asked whether
	// it lives; as long again, and its stream is cut.
	peerSilence = 5 * time.Second
	// partWithin is how long peers get to read the last words of their streams.
	partWithin = time.Second
)

// Scheduler runs one scheduler until ctx ends.
func (p *Process) Scheduler(ctx context.Context, cfg config.Scheduler) error {
	policy, err := account.ReadPolicy(cfg.File)
	if err != nil {
		return err
	}
	peers, err := p.peers(cfg.GRPC, identity.Listens)
	if err != nil {
		return err
	}
	box, err := seal.Parse(cfg.SecretKey)
	if err != nil {
		return fmt.Errorf("TINTYPE_SECRET_KEY: %w", err)
	}
	return p.live(ctx, func(parts *parts) error {
		policies, err := p.startPolicy(parts, policy, cfg.File)
		if err != nil {
			return err
		}
		watch, err := p.startWatch(ctx, parts, cfg.AdminListen)
		if err != nil {
			return err
		}
		s, err := p.openStores(ctx, parts, cfg.Backends, store.SecretKey(box))
		if err != nil {
			return err
		}
		if err := p.startKeyCheck(ctx, parts, s.archive); err != nil {
			return err
		}
		// A bucket that does not answer yet keeps nobody from accepting jobs.
		if err := s.ensureBucket(ctx); err != nil {
			p.Log.Warn("the bucket could not be made or looked for", "err", err)
		}
		address := cfg.Advertise
		if address == "" {
			address = cfg.ClusterListen
		}
		sched, err := p.startScheduler(parts, s, schedule{
			listen: []string{cfg.ClusterListen}, address: address, token: cfg.WorkerToken, policies: policies, creds: peers.listen, secrets: box,
		})
		if err != nil {
			return err
		}
		watch.ready(append(s.checks(sched), api.Check{Name: "leader", Needed: true, Ask: func(context.Context) error { return sched.Ready() }})...)
		return nil
	})
}

// schedule is how a scheduler is reached.
type schedule struct {
	listen   []string // HOST:PORT, or unix:///path
	address  string   // of listen or in front of it: what others are told
	token    string   // that workers show
	alone    bool     // no other scheduler can reach these stores
	policies *account.Live
	creds    credentials.TransportCredentials // of the listeners
	secrets  *seal.Box
}

// peers is how this process meets the other tiers.
type peers struct {
	listen, dial credentials.TransportCredentials
}

// peers are mutual TLS where there is an identity. Without one, processes are
// met on this machine, and elsewhere if that was allowed.
func (p *Process) peers(cfg config.GRPC, roles ...identity.Role) (peers, error) {
	if !cfg.Files().Given() {
		return peers{listen: insecure.NewCredentials(), dial: identity.Plain(cfg.InsecureCluster)}, nil
	}
	who, err := identity.Load(cfg.Files(), p.Log, roles...)
	if err != nil {
		return peers{}, err
	}
	return peers{listen: who.Listening(), dial: who.Dialling()}, nil
}

func (p *Process) startScheduler(parts *parts, s *stores, how schedule) (*scheduler.Scheduler, error) {
	janitor, err := scheduler.NewJanitor(scheduler.JanitorConfig{Policy: how.policies, Log: p.Log, Metrics: p.Metrics}, s.archive, s.bucket)
	if err != nil {
		return nil, err
	}
	sched, err := scheduler.New(scheduler.Config{
		Address: how.address, Alone: how.alone, Policy: how.policies, Janitor: janitor, Disk: s.disk, Bans: s.archive, Secrets: how.secrets,
		Log: p.Log, Metrics: p.Metrics,
	}, s.streams, s.archive, s.bucket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(
		grpc.Creds(how.creds),
		grpc.StreamInterceptor(wire.RequireToken(func(method string) string {
			switch {
			case strings.HasPrefix(method, "/"+pb.Front_ServiceDesc.ServiceName+"/"):
				return sched.FrontToken()
			case strings.HasPrefix(method, "/"+pb.Work_ServiceDesc.ServiceName+"/"):
				return how.token
			}
			return ""
		})),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: peerSilence, Timeout: peerSilence}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: peerSilence / 2, PermitWithoutStream: true}),
	)
	sched.RegisterFront(server)
	sched.RegisterWork(server)
	listeners, err := listenAll(how.listen)
	if err != nil {
		return nil, err
	}
	// Closed after the scheduler: a leader that hands over tells its peers.
	parts.service("grpc", func(ctx context.Context) error { return serveGRPC(ctx, server, listeners) })
	parts.service("scheduler", func(ctx context.Context) error { return sched.Run(ctx, p.hurry()) })
	return sched, nil
}

func listenAll(addresses []string) ([]net.Listener, error) {
	var out []net.Listener
	for _, address := range addresses {
		l, err := listen(address)
		if err != nil {
			for _, l := range out {
				err = errors.Join(err, l.Close())
			}
			return nil, fmt.Errorf("listen for the other tiers: %w", err)
		}
		out = append(out, l)
	}
	return out, nil
}

// listen opens a socket. A unix socket that a killed process left is replaced:
// the lock on the data folder says that nobody serves it.
func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return net.Listen("tcp", address)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serveGRPC serves until ctx ends. By then its peers are gone, or have been
// told where to go and their streams end once they have read it; what is left
// after a moment is cut.
func serveGRPC(ctx context.Context, server *grpc.Server, listeners []net.Listener) error {
	var g errgroup.Group
	ended, stop := context.WithCancel(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			defer stop()
			return server.Serve(l)
		})
	}
	<-ended.Done()
	stop()
	cut := time.AfterFunc(partWithin, server.Stop)
	server.GracefulStop()
	cut.Stop()
	if err := g.Wait(); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}
