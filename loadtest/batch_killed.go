package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/loadtest/audit"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// killed runs the batch on a farm of processes, kills tiers on the way, and
// audits results and bills.
func (c *batchLoad) killed(ctx context.Context, out *batchReport) (err error) {
	dir, err := os.MkdirTemp("", "tintype-load-")
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // Postgres runs as another user and has to pass
		return err
	}
	threads := c.Threads
	if threads == 0 {
		threads = c.Seats
	}
	a, err := newArena(dir, 10_000, map[string]chaosPlan{
		"lines": {1, audit.Plan{Threads: threads}, "over_threads: {action: park, backlog: 100000}"},
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, a.stop())
		if c.Keep || err != nil {
			say("its folder is kept: %s", dir)
		} else {
			err = os.RemoveAll(dir)
		}
	}()
	a.deaf = true
	a.worker = []string{"--null=noupload", "--slow", c.Slow.String(), "--seats", fmt.Sprint(max(c.Seats/3, 1))}
	if err := a.startCluster(ctx, false); err != nil {
		return err
	}
	b := newBatchRun(a.hosts[0], a.keys[a.named["lines"]], c.Lines)
	out.Bytes = b.size()
	began := time.Now()
	if err := b.upload(ctx); err != nil {
		return err
	}
	out.UploadS = time.Since(began).Seconds()
	mark := time.Now()
	end, err := c.killing(ctx, a, b)
	if err != nil {
		return err
	}
	out.FedS = time.Since(mark).Seconds()
	out.FedPerS = float64(c.Lines) / out.FedS
	out.State, out.Counts = end.Status, end.Counts
	watch := &conn{host: a.hosts[0], key: b.key}
	defer watch.close()
	mark = time.Now()
	states, wrong, err := b.read(ctx)
	if err != nil {
		return err
	}
	out.ResultsS = time.Since(mark).Seconds()
	out.ResultsPerS = float64(c.Lines) / out.ResultsS
	units, err := b.usage(ctx, watch)
	if err != nil {
		return err
	}
	out.Wrong = append(append(out.Wrong, wrong...), b.judge(end, states, units, 0)...)
	more, err := a.billed(ctx, b)
	out.Wrong = append(out.Wrong, more...)
	return err
}

// killing sees the batch to its end, and kills one tier after the other, evenly
// over its lines: all replicas of the API, one of which feeds, then the leading
// scheduler, and so on.
func (c *batchLoad) killing(ctx context.Context, a *arena, b *batchRun) (*batchState, error) {
	killed, since, last := 0, time.Now(), ""
	for replica := 0; ; replica++ {
		watch := &conn{host: a.hosts[replica%len(a.hosts)], key: b.key}
		s, err := b.state(ctx, watch)
		watch.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil { // else nobody leads, or the replica is just not there
			if s.ended() {
				if killed < c.Kills {
					return s, fmt.Errorf("it ended after %d of %d kills: take more --lines", killed, c.Kills)
				}
				return s, nil
			}
			if done := b.n - s.open(); s.Status != "validating" && done >= b.n*(killed+1)/(c.Kills+2) && killed < c.Kills {
				who, err := a.killTier(ctx, killed)
				if err != nil {
					return nil, err
				}
				killed++
				say("kill -9 of %s after %d lines", who, done)
			}
			if now := fmt.Sprint(s.Status, s.Counts); now != last {
				last, since = now, time.Now()
			}
		}
		if time.Since(since) > stuckAfter {
			return nil, fmt.Errorf("the batch stays %s, %v", last, err)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}

// killTier kills the tier whose turn it is.
func (a *arena) killTier(ctx context.Context, turn int) (string, error) {
	if turn%2 == 0 {
		for _, name := range a.apis {
			a.byName[name].signal(syscall.SIGSTOP) // so that none takes over what the other one leaves
		}
		for _, name := range a.apis {
			a.byName[name].kill(0)
		}
		return "the API", nil
	}
	p, err := a.leads(ctx)
	if err != nil {
		return "", err
	}
	p.kill(0)
	return p.name, nil
}

// leads is the scheduler that beats.
func (a *arena) leads(ctx context.Context) (*part, error) {
	nc, err := nats.Connect(a.natsURL)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("tintype.hb.0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, recoverWithin)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("nobody leads: %w", err)
	}
	hb := new(pb.Heartbeat)
	if err := proto.Unmarshal(m.Data, hb); err != nil {
		return nil, err
	}
	for _, p := range a.parts {
		if p.address != "" && p.address == hb.Address {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%s leads, which is none of ours", hb.Address)
}

// billed asks the archive itself: a job and a charge for each line, and no more.
func (a *arena) billed(ctx context.Context, b *batchRun) (wrong []string, err error) {
	c, err := pgx.Connect(ctx, a.databaseURL)
	if err != nil {
		return nil, err
	}
	defer c.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	const sum = `
SELECT count(*), count(DISTINCT line), coalesce(min(line), 0), coalesce(max(line), 0),
       (SELECT count(*) FROM usage_events), (SELECT count(DISTINCT id) FROM usage_events), (SELECT coalesce(sum(units), 0)::bigint FROM usage_events),
       (SELECT count(*) FROM usage_events AS e WHERE NOT EXISTS (SELECT FROM jobs AS j WHERE j.id = e.id))
FROM jobs WHERE batch = $1`
	var rows, distinct, first, last, events, ids, units, others int64
	if err := c.QueryRow(ctx, sum, filepath.Base(b.path)).Scan(&rows, &distinct, &first, &last, &events, &ids, &units, &others); err != nil {
		return nil, err
	}
	n := int64(b.n)
	if rows != n || distinct != n || first != 1 || last != n {
		wrong = append(wrong, fmt.Sprintf("the archive has %d jobs of %d lines, from %d to %d, want one of each of %d", rows, distinct, first, last, n))
	}
	if events != n || ids != n || units != n*unitsPerRender || others != 0 {
		wrong = append(wrong, fmt.Sprintf("%d charges of %d jobs and %d units, %d of them of no job; want one of each of %d lines", events, ids, units, others, n))
	}
	return wrong, nil
}
