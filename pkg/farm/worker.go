package farm

import (
	"context"
	"fmt"
	"time"

	"github.com/tintype/tintype/api"
	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/font"
)

// Worker runs one worker until ctx ends and its jobs are done.
func (p *Process) Worker(ctx context.Context, cfg config.Worker) error {
	peers, err := p.peers(cfg.GRPC, identity.Dials)
	if err != nil {
		return err
	}
	return p.live(ctx, func(parts *parts) error {
		watch, err := p.startWatch(ctx, parts, cfg.AdminListen)
		if err != nil {
			return err
		}
		w, err := p.startWorker(parts, cfg.Render, worker.Config{
			Name: cfg.Name, Schedulers: cfg.Schedulers, Token: cfg.WorkerToken, DrainLimit: cfg.DrainLimit, Credentials: peers.dial,
		})
		if err != nil {
			return err
		}
		watch.ready(
			api.Check{Name: "leader", Needed: true, Ask: func(context.Context) error { return w.Connected() }},
			api.Check{Name: "browser", Needed: true, Ask: func(context.Context) error { return w.Renders() }},
			isolation(w),
		)
		return nil
	})
}

// isolation degrades a process whose browsers are on its machine's network.
func isolation(w *worker.Worker) api.Check {
	return api.Check{Name: "isolation", Ask: func(context.Context) error { return w.Isolated() }}
}

// startWorker fills in what every worker of this process shares.
func (p *Process) startWorker(parts *parts, render config.Render, cfg worker.Config) (*worker.Worker, error) {
	seats, err := p.seats(render)
	if err != nil {
		return nil, err
	}
	cfg.HTTP = p.Transfers
	cfg.Log, cfg.Metrics = p.Log, p.Metrics
	// Zero means the worker's own default, and here it means not to wait.
	cfg.DrainLimit = max(cfg.DrainLimit, time.Millisecond)
	w, err := worker.New(cfg, seats)
	if err != nil {
		return nil, err
	}
	if p.Seats == nil {
		parts.run("fonts", func(ctx context.Context) error { // it may take a second, which no browser waits for
			err := worker.CheckFonts(font.Known, p.Log, p.Metrics)
			if err == nil {
				<-ctx.Done()
			}
			return err
		})
	}
	parts.run("worker", func(ctx context.Context) error { return w.Run(ctx, p.hurry()) })
	return w, nil
}

// seats are browsers, unless this process has others.
func (p *Process) seats(render config.Render) ([]worker.Renderer, error) {
	if p.Seats != nil {
		return p.Seats(render.Seats), nil
	}
	lists, err := egress.LoadLists(render.Blocklists)
	if err != nil {
		return nil, err
	}
	if len(render.Blocklists) > 0 {
		p.Log.Info("blocklists read", "kind", fmt.Sprintf("%d rules, %d lines that are none for us", lists.Rules, lists.Skipped))
	}
	guard, err := egress.New(egress.Config{Allow: render.EgressAllow, DNS: render.EgressDNS, Lists: lists})
	if err != nil {
		return nil, err
	}
	seats := make([]worker.Renderer, render.Seats)
	for i := range seats {
		seats[i], err = worker.NewSeat(worker.SeatConfig{
			Browser: browser.Config{Bin: render.ChromiumBin, FlagsOnly: render.IAcceptFlagOnlyIsolation}, Guard: guard, Log: p.Log, Metrics: p.Metrics,
		})
		if err != nil {
			return nil, err
		}
	}
	return seats, nil
}
