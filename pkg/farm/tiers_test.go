package farm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/embed/s3"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/identity/identitytest"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/telemetry"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// openDir makes a folder that Postgres and Chromium can reach as the users
// that they run as, which t.TempDir does not let them.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tintype-farm-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// The three stores, started as if they were somebody else's.
func foreignStores(t *testing.T) config.Backends {
	t.Helper()
	return config.Backends{NATSURL: foreignNATS(t), DatabaseURL: foreignPostgres(t), S3: foreignS3(t)}
}

func foreignNATS(t *testing.T) string {
	t.Helper()
	srv, err := nats.New(nats.Config{Dir: filepath.Join(openDir(t), "nats"), MaxStore: natsStore, Listen: "127.0.0.1:0", Token: "token"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	at, err := url.Parse(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.User("token")
	return at.String()
}

func foreignPostgres(t *testing.T) string {
	t.Helper()
	srv, err := postgres.New(postgres.Config{Dir: filepath.Join(openDir(t), "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return srv.URL()
}

func foreignS3(t *testing.T) config.S3 {
	t.Helper()
	srv, err := s3.New(s3.Config{Dir: filepath.Join(openDir(t), "s3"), AccessKey: "access", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := srv.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return config.S3{
		S3Endpoint: "http://" + srv.Endpoint(), S3Bucket: "tintype", S3Region: s3.Region, S3AccessKey: "access", S3SecretKey: "secret",
	}
}

// testSealing is the secret key of every farm of several processes.
var testSealing = config.Sealing{SecretKey: seal.NewKey()}

// freeAddress is one that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func process(t *testing.T, name string) *Process {
	return &Process{
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)).With("process", name),
		Metrics: telemetry.Registry("test"), Out: t.Output(),
	}
}

// start runs one tier until the test ends, or until stop is called.
func start(t *testing.T, name string, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// goroutines of the embedded stores' libraries that outlive them by design.
func noLeaks(t *testing.T) {
	t.Helper()
	current := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		goleak.VerifyNone(t, current,
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
	})
}

// Each tier in a process of its own, on stores that it is given: the same
// tiers as in `up`, with nothing between them but addresses, and mutual TLS on
// the way. A second scheduler takes over from the first. Who lacks a
// certificate of the farm's CA, or a service's own token, gets nowhere.
func TestTiersApart(t *testing.T) {
	needtest.Farm(t)
	noLeaks(t)
	stores, dir := foreignStores(t), openDir(t)
	if err := process(t, "migrate").Migrate(t.Context(), config.Migrate{DatabaseURL: stores.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir) // where the browsers' folders go

	certs, ca := t.TempDir(), identitytest.New(t)
	tls := func(name string) config.GRPC { return grpcFiles(ca.Issue(t, certs, name)) }
	first, second, door := freeAddress(t), freeAddress(t), freeAddress(t)
	schedule := func(address string) func(context.Context) error {
		p := process(t, "scheduler "+address)
		return func(ctx context.Context) error {
			return p.Scheduler(ctx, config.Scheduler{
				Cluster: config.Cluster{ClusterListen: address}, Join: config.Join{WorkerToken: "join"}, Sealing: testSealing, Backends: stores,
				GRPC: tls("scheduler"),
			})
		}
	}
	stopFirst := start(t, "first scheduler", schedule(first))
	drain := config.Drain{DrainLimit: 10 * time.Second}
	a := process(t, "api")
	start(t, "api", func(ctx context.Context) error {
		return a.API(ctx, config.API{HTTP: config.HTTP{Listen: door}, Admin: config.Admin{AdminToken: "admin"}, Sealing: testSealing, Drain: drain, Backends: stores, GRPC: tls("api")})
	})
	w := process(t, "worker")
	start(t, "worker", func(ctx context.Context) error {
		return w.Worker(ctx, config.Worker{
			Schedulers: []string{first, second}, Name: "w1", Join: config.Join{WorkerToken: "join"}, Render: config.Render{Seats: 1}, Drain: drain,
			GRPC: tls("worker"),
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := ready(ctx, "http://"+door); err != nil {
		t.Fatal(err)
	}

	admin := clientOf(t, door, "admin")
	made, err := admin.CreateAccount(ctx, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, door, made.Key)
	renders(t, ctx, c)
	refuses(t, ctx, first, grpcFiles(ca.Issue(t, certs, "stranger")), grpcFiles(identitytest.New(t).Issue(t, certs, "foreigner")))

	start(t, "second scheduler", schedule(second))
	stopFirst()
	renders(t, ctx, c)
}

func grpcFiles(f identity.Files) config.GRPC {
	return config.GRPC{GRPCCert: f.Cert, GRPCKey: f.Key, GRPCCA: f.CA}
}

// refuses asks a scheduler for what it must not give.
func refuses(t *testing.T, ctx context.Context, address string, own, foreign config.GRPC) {
	t.Helper()
	for name, try := range map[string]struct {
		creds config.GRPC
		token string
		front bool
		want  codes.Code
	}{
		"worker":               {own, "join", false, codes.InvalidArgument}, // let in, and its hello has no seats
		"no certificate":       {config.GRPC{}, "join", false, codes.Unavailable},
		"another CA":           {foreign, "join", false, codes.Unavailable},
		"no token":             {own, "", false, codes.Unauthenticated},
		"a wrong token":        {own, "guess", false, codes.Unauthenticated},
		"Front for a worker":   {own, "join", true, codes.Unauthenticated},
		"Front without anyone": {own, "", true, codes.Unauthenticated},
	} {
		peers, err := process(t, name).peers(try.creds, identity.Dials)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(peers.dial), grpc.WithPerRPCCredentials(wire.BearerToken(try.token, false)))
		if err != nil {
			t.Fatal(err)
		}
		if try.front {
			var s pb.Front_ConnectClient
			if s, err = pb.NewFrontClient(conn).Connect(ctx); err == nil {
				_, err = s.Recv()
			}
		} else {
			var s pb.Work_ConnectClient
			if s, err = pb.NewWorkClient(conn).Connect(ctx); err == nil {
				// An error here comes with the answer, too.
				_ = s.Send(&pb.WorkUp{Hello: &pb.Hello{Worker: name, Boot: name}})
				_, err = s.Recv()
			}
		}
		if got := status.Code(err); got != try.want {
			t.Errorf("%s: %v, want %s", name, err, try.want)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func clientOf(t *testing.T, server, key string) *client.Client {
	t.Helper()
	c, err := client.New("http://"+server, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// renders takes a picture, through a change of leaders if need be.
func renders(t *testing.T, ctx context.Context, c *client.Client) {
	t.Helper()
	html := "<h1>Hello</h1>"
	job, err := c.Submit(ctx, client.JobRequest{Html: &html})
	for p := (*client.Problem)(nil); errors.As(err, &p) && p.Status == 503; job, err = c.Submit(ctx, client.JobRequest{Html: &html}) {
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-time.After(p.RetryAfter):
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if job, err = c.Wait(ctx, job.Id, nil); err != nil || job.Status != "succeeded" {
		t.Fatalf("the job: %+v, %v", job, err)
	}
	body, err := c.Result(ctx, job.Id)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	picture, err := io.ReadAll(body)
	if err != nil || !bytes.HasPrefix(picture, []byte("\x89PNG")) {
		t.Errorf("%d bytes, %v", len(picture), err)
	}
}

// Each address that `up` is given replaces its embedded part and nothing else.
func TestUpOnForeignStores(t *testing.T) {
	needtest.Farm(t)
	for foreign, give := range map[string]func(*testing.T, *config.Backends){
		"nats":     func(t *testing.T, b *config.Backends) { b.NATSURL = foreignNATS(t) },
		"postgres": func(t *testing.T, b *config.Backends) { b.DatabaseURL = foreignPostgres(t) },
		"s3":       func(t *testing.T, b *config.Backends) { b.S3 = foreignS3(t) },
	} {
		t.Run(foreign, func(t *testing.T) {
			noLeaks(t)
			data := filepath.Join(openDir(t), "data")
			cfg := config.Up{
				Folder: config.Folder{Data: data}, HTTP: config.HTTP{Listen: freeAddress(t), AdminListen: freeAddress(t)},
				Backends: config.Backends{S3: config.S3{S3Bucket: "tintype"}},
			}
			give(t, &cfg.Backends)
			p := process(t, "up")
			banner := make(lines, 1)
			p.Out = banner
			start(t, "up", func(ctx context.Context) error { return p.Up(ctx, cfg) })
			if text := <-banner; !strings.Contains(text, cfg.Listen) || !strings.Contains(text, cfg.AdminListen) {
				t.Errorf("the banner lacks an address:\n%s", text)
			}
			for _, part := range []string{"nats", "postgres", "s3"} {
				if _, err := os.Stat(filepath.Join(data, part)); errors.Is(err, os.ErrNotExist) != (part == foreign) {
					t.Errorf("folder of the embedded %s: %v", part, err)
				}
			}
		})
	}
}

// lines hands on what is written to it.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// A store that is not there is said to be so, by name.
func TestUnreachableStores(t *testing.T) {
	p := process(t, "x")
	nowhere := freeAddress(t)
	for name, run := range map[string]func(context.Context) error{
		"NATS": func(ctx context.Context) error {
			return p.Scheduler(ctx, config.Scheduler{Sealing: testSealing, Backends: config.Backends{NATSURL: "nats://" + nowhere}})
		},
		"the database": func(ctx context.Context) error {
			return p.Migrate(ctx, config.Migrate{DatabaseURL: "postgres://x@" + nowhere + "/x"})
		},
	} {
		err := run(t.Context())
		if _, ok := errors.AsType[*Unreachable](err); !ok || !strings.Contains(err.Error(), name+" is not reachable") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
