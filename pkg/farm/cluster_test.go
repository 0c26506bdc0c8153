package farm

import (
	"context"
	"net/http"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/nats/natstest"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/stream"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// pngSeat renders nothing and returns the beginning of a PNG.
type pngSeat struct{ ready chan struct{} }

func pngSeats(n int) []worker.Renderer {
	s := pngSeat{make(chan struct{})}
	close(s.ready)
	seats := make([]worker.Renderer, n)
	for i := range seats {
		seats[i] = s
	}
	return seats
}

func (pngSeat) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s pngSeat) Ready() <-chan struct{} { return s.ready }

func (pngSeat) Render(context.Context, job.ID, *job.Spec) capture.Outcome {
	return capture.Outcome{
		Artifact: &capture.Artifact{Body: []byte("\x89PNG\r\n\x1a\n"), Width: 1, Height: 1}, Evidence: &job.Evidence{StatusCode: http.StatusOK},
	}
}

// On a NATS of three servers the streams have three copies, and the farm goes
// on when the server that leads both of them, or the one that it talks to, is
// gone.
func TestLossOfANATSServer(t *testing.T) {
	needtest.Farm(t)
	nodes := natstest.New(t)
	stores := config.Backends{NATSURL: nodes.URL(), DatabaseURL: foreignPostgres(t), S3: foreignS3(t)}
	if err := process(t, "migrate").Migrate(t.Context(), config.Migrate{DatabaseURL: stores.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	cluster, door := freeAddress(t), freeAddress(t)
	s := process(t, "scheduler")
	start(t, "scheduler", func(ctx context.Context) error {
		return s.Scheduler(ctx, config.Scheduler{
			Cluster: config.Cluster{ClusterListen: cluster}, Join: config.Join{WorkerToken: "join"}, Sealing: testSealing, Backends: stores,
		})
	})
	drain := config.Drain{DrainLimit: 10 * time.Second}
	a := process(t, "api")
	start(t, "api", func(ctx context.Context) error {
		return a.API(ctx, config.API{HTTP: config.HTTP{Listen: door}, Admin: config.Admin{AdminToken: "admin"}, Sealing: testSealing, Drain: drain, Backends: stores})
	})
	w := process(t, "worker")
	w.Seats = pngSeats
	start(t, "worker", func(ctx context.Context) error {
		return w.Worker(ctx, config.Worker{
			Schedulers: []string{cluster}, Name: "w1", Join: config.Join{WorkerToken: "join"}, Render: config.Render{Seats: 1}, Drain: drain,
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := ready(ctx, "http://"+door); err != nil {
		t.Fatal(err)
	}
	made, err := clientOf(t, door, "admin").CreateAccount(ctx, "acme", "")
	if err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, door, made.Key)
	renders(t, ctx, c)

	stopped := nodes.StopNamed(leads(t, ctx, nodes, stream.LedgerName))
	renders(t, ctx, c)
	nodes.Start(stopped)
	renders(t, ctx, c)
}

// leads names the server that leads a stream of three copies.
func leads(t *testing.T, ctx context.Context, nodes *natstest.Cluster, name string) string {
	t.Helper()
	nc, err := natsgo.Connect(nodes.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	st, err := js.Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	info := st.CachedInfo()
	if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		t.Fatalf("%s: %d copies, %+v; want three", name, info.Config.Replicas, info.Cluster)
	}
	return info.Cluster.Leader
}
