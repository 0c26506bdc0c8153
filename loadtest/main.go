// Command loadtest measures a farm over its real HTTP API and prints one line
// of JSON. It checks each answer: a picture that is not a picture, or a job
// that is lost, fails the run.
//
//	go run ./loadtest render --subjects all
//	go run ./loadtest soak --renders 1000
//	go run ./loadtest idle --key-file /var/lib/tintype/first.key
//	go run ./loadtest control --clients 256 --duration 20s
//	go run ./loadtest failover --kills 100
//	go run ./loadtest refold --jobs 100000
//	go run ./loadtest flood --rate 2000
//	go run ./loadtest batch --lines 100000 --kills 3
//	go run ./loadtest webhooks --endpoints 1000 --hang 100
//	go run ./loadtest seeds
//	go run ./loadtest up --null=noupload --data /tmp/null --seats 128
//
// render takes turns between the farm with browsers and what one would use in
// its place, each as processes of their own. idle goes beside the same work on a bare driver in the same run. control
// starts a farm of its own, with seats that return a fixed picture (up --null):
// what it measures is everything but rendering. failover does the same with each
// tier in a process of its own, and ends the leader again and again.
package main

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type commands struct {
	Render   render    `cmd:"" help:"Renders of a corpus of pages: this farm beside a bare driver, a reused tab, and peers."`
	Soak     soak      `cmd:"" help:"Render for a long time, hostile pages among the others, and look for what grows or is left."`
	Idle     idle      `cmd:"" help:"Latency of one job at a time on an idle farm, beside a bare rod driver on the same binary."`
	Control  control   `cmd:"" help:"Throughput, latency and CPU of the control plane on a renderer that renders nothing."`
	Failover failover  `cmd:"" help:"How long nobody is served when the leading scheduler is killed, or with --planned stopped."`
	Cache    cached    `cmd:"" help:"What a cache hit takes, beside the render that it spares."`
	Flood    flood     `cmd:"" help:"What a flood of throttled requests does to those who are served, beside the same flood on /healthz."`
	Batch    batchLoad `cmd:"" help:"Lines of a batch a second, the memory that they take, and what a batch does to jobs sent one by one."`
	Webhooks webhooks  `cmd:"" help:"Webhooks a second, and what receivers that hang do to those that do not."`
	Seeds    speeds    `cmd:"" help:"The speeds that Page2images and Webshot publish, as this farm has them."`
	Plants   plants    `cmd:"" help:"Plant known bugs in a copy of the tree; each named test must notice its own."`
	Refold   refold    `cmd:"" help:"How long a scheduler that starts cold takes to lead, and what a waiting job takes of its memory."`
	Chaos    chaos     `cmd:"" help:"Kill the parts of a farm while it works, and audit what is left."`
	Subject  subject   `cmd:"" hidden:"" help:"The bare driver in a process of its own."`
	Reaper   reaper    `cmd:"" hidden:"" help:"A command, with whatever it leaves behind."`
	Store    storeCmd  `cmd:"" hidden:"" help:"One embedded store in a process of its own."`
	Tier     tier      `cmd:"" hidden:"" passthrough:"" help:"A mode of tintype in this program."`
	Up       up        `cmd:"" passthrough:"" help:"tintype up with seats that render nothing: --null or --null=noupload."`
	Worker   work      `cmd:"" passthrough:"" help:"tintype worker with seats that render nothing: --null or --null=noupload."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	k := kong.Parse(&commands{}, kong.Name("loadtest"), kong.UsageOnError(), kong.Vars{"subjects": strings.Join(subjectNames(), ", "), "pages": pageNames()}, kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}

// quantiles of a series, in milliseconds.
type quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func summarise(took []time.Duration) quantiles {
	if len(took) == 0 {
		return quantiles{}
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		d := took[min(int(q*float64(len(took))), len(took)-1)]
		return float64(d.Microseconds()) / 1000
	}
	return quantiles{P50: at(0.5), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

func report(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }
