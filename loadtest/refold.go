package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
	"github.com/tintype/tintype/scheduler"
)

// refold measures how long a scheduler that starts cold takes to lead: it has
// the ledger to read first.
type refold struct {
	Jobs     int           `default:"100000" help:"Jobs that wait."`
	Rate     int           `default:"1000" help:"Jobs that began and ended in each second of the last minute, which the ledger still holds."`
	Last     time.Duration `default:"1m" help:"How much of that there is."`
	Frames   int           `default:"200" help:"Frames of each of those seconds."`
	Accounts int           `default:"100" help:"Whose jobs they are."`
	Times    int           `default:"5" help:"Cold starts."`
}

// refoldReport is one line of JSON.
type refoldReport struct {
	Waiting     int       `json:"jobs_waiting"`
	Finished    int       `json:"jobs_finished"`
	LedgerBytes uint64    `json:"ledger_bytes"`
	Frames      uint64    `json:"ledger_frames"`
	Lead        quantiles `json:"lead_ms"` // from the start of a cold scheduler until it leads
	// Memory that a scheduler holds for the waiting jobs alone after it has read
	// them, over their number. A record's body stays in JOBS until it is needed.
	Bytes float64 `json:"bytes_per_waiting_job"`
}

// Run writes a ledger and starts schedulers on it.
func (c *refold) Run(ctx context.Context) (err error) {
	if c.Jobs < 1 || c.Rate < 0 || c.Frames < 1 || c.Accounts < 1 || c.Times < 1 {
		return errors.New("--jobs, --frames, --accounts and --times must be above 0")
	}
	dir, err := os.MkdirTemp("", "tintype-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	srv, err := nats.New(nats.Config{Dir: dir, MaxStore: 8 << 30})
	if err != nil {
		return err
	}
	defer srv.Close()
	nc, err := srv.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	streams, err := stream.Open(ctx, nc, stream.Config{})
	if err != nil {
		return err
	}
	w := &ledger{ctx: ctx, streams: streams, now: time.Now().Add(-c.Last - time.Hour)}
	out := refoldReport{Waiting: c.Jobs, Finished: c.Rate * int(c.Last.Seconds())}

	waiting := make([]*pb.Event, c.Jobs)
	for i := range waiting {
		waiting[i] = &pb.Event{Fact: &pb.Event_Accepted{Accepted: accepted(i%c.Accounts, uint64(i+1))}}
	}
	if err := w.write(waiting, c.Jobs/64+1); err != nil {
		return err
	}
	waiting = nil
	before := heap()
	_, err = lead(ctx, streams, func() { out.Bytes = float64(heap()-before) / float64(c.Jobs) })
	if err != nil {
		return err
	}
	if err := w.skip(); err != nil {
		return err
	}
	w.now = time.Now().Add(-c.Last)
	for s := range int(c.Last.Seconds()) {
		if err := w.write(second(c.Rate, s, c.Accounts), c.Frames); err != nil {
			return err
		}
		w.now = w.now.Add(time.Second)
	}
	st, err := streams.LedgerState(ctx)
	if err != nil {
		return err
	}
	out.LedgerBytes, out.Frames = st.Bytes, st.Last-st.First+1
	var took []time.Duration
	for range c.Times {
		t, err := lead(ctx, streams, func() {})
		if err != nil {
			return err
		}
		took = append(took, t)
	}
	out.Lead = summarise(took)
	return report(out)
}

// heap is what is in use now.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// lead starts a cold scheduler and ends it, as a kill does, when it has led.
func lead(ctx context.Context, streams *stream.Streams, leading func()) (took time.Duration, err error) {
	log := slog.New(slog.DiscardHandler)
	s, err := scheduler.New(scheduler.Config{Address: "here", Alone: true, Log: log, Metrics: prometheus.NewRegistry()}, streams, shelf{}, shelf{})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startWithin, errors.New("the scheduler did not lead in time"))
	defer cancel()
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- s.Run(context.WithoutCancel(ctx), ctx) }()
	for !s.Leading() {
		select {
		case err := <-ended:
			return 0, errors.Join(err, context.Cause(ctx), errors.New("the scheduler ended"))
		case <-time.After(time.Millisecond):
		}
	}
	took = time.Since(began)
	leading()
	cancel()
	return took, <-ended
}

// ledger writes frames as a leader would.
type ledger struct {
	ctx     context.Context
	streams *stream.Streams
	now     time.Time
	seq     uint64
	epoch   uint64
	chain   stream.Chain
}

// skip goes on behind what a scheduler has appended.
func (w *ledger) skip() error {
	st, err := w.streams.LedgerState(w.ctx)
	if err != nil {
		return err
	}
	w.seq, w.epoch = st.Last, w.epoch+1
	w.chain, _, err = w.streams.ChainAt(w.ctx, st.Last)
	return err
}

// write spreads events evenly over frames.
func (w *ledger) write(events []*pb.Event, frames int) error {
	for i := range frames {
		part := events[i*len(events)/frames : (i+1)*len(events)/frames]
		data, chain, err := stream.Seal(w.chain, &pb.Frame{Epoch: w.epoch, TimeUs: w.now.UnixMicro(), Events: part})
		if err != nil {
			return err
		}
		w.seq++
		if err := w.streams.Settle(w.ctx, stream.Sealed{Seq: w.seq, Data: data}, nil); err != nil {
			return err
		}
		w.chain = chain
	}
	return nil
}

func accepted(n int, seq uint64) *pb.Accepted {
	return &pb.Accepted{
		JobsSeq: seq, Place: pb.Place_PLACE_PARKED,
		Envelope: &pb.Envelope{
			Id: string(job.NewID()), Account: fmt.Sprintf("acc_%026d", n), Api: "0190a0a0-0000-7000-8000-000000000000",
			SentUs: time.Now().UnixMicro(), Host: "www.example.com", ContentType: "image/png",
		},
	}
}

// second is the life of the jobs of one second: each was accepted, started and
// finished within it.
func second(rate, nth, accounts int) []*pb.Event {
	spec := job.Defaults()
	spec.URL = "https://www.example.com/some/path/to/a/page?with=a&query=string"
	body := &pb.Body{Spec: spec.Marshal(), CustomId: "custom"}
	evidence, err := json.Marshal(job.Evidence{FinalURL: spec.URL, StatusCode: http.StatusOK, Title: "An example of a page with a title"})
	if err != nil {
		panic("loadtest: evidence does not marshal: " + err.Error())
	}
	events := make([]*pb.Event, 0, 3*rate)
	for i := range rate {
		a := accepted(i%accounts, uint64(1+nth*rate+i))
		now := time.Now().UnixMicro()
		events = append(
			events, &pb.Event{Fact: &pb.Event_Accepted{Accepted: a}},
			&pb.Event{Fact: &pb.Event_Started{Started: &pb.Started{Id: a.Envelope.Id, Worker: "worker", Boot: a.Envelope.Api, WallMs: 60_000}}},
			&pb.Event{Fact: &pb.Event_Finished{Finished: &pb.Finished{Units: account.UnitsPerCredit, Job: &pb.Job{
				Id: a.Envelope.Id, Account: a.Envelope.Account, State: string(job.Succeeded), AcceptedUs: now, StartedUs: now, FinishedUs: now,
				ExpiresUs: now, Attempts: 1, Billable: true, Body: body, Evidence: evidence,
				Result: &pb.Result{
					Object: "r/" + a.Envelope.Account + "/" + a.Envelope.Id + "/1234567890123.png", ContentType: "image/png",
					Width: 1280, Height: 1024, SizeBytes: 123_456, Sha256: make([]byte, 32),
				},
				Timings: &pb.Timings{QueueMs: 10, NavigateMs: 200, WaitMs: 30, CaptureMs: 40, UploadMs: 10, TotalMs: 290},
			}}}},
		)
	}
	return events
}

// shelf is an archive that has every account and no job, and a bucket that
// signs nothing: what the stores take is not what is measured.
type shelf struct{}

func (shelf) Tenants(_ context.Context, ids []string, _ time.Time) ([]store.Tenant, error) {
	out := make([]store.Tenant, len(ids))
	for i, id := range ids {
		out[i] = store.Tenant{ID: id, Account: &account.Account{ID: id, Name: id, Plan: "default", BillingDay: 1}}
	}
	return out, nil
}

func (shelf) Projection(context.Context) (store.Projection, error) { return store.Projection{}, nil }

func (shelf) Project(context.Context, store.Projection, store.Projection, store.Filing) (int, error) {
	return 0, errors.New("this archive keeps nothing")
}

func (shelf) PresignPut(string, string, time.Duration) (string, http.Header, error) {
	return "", nil, errors.New("this bucket signs nothing")
}

func (shelf) PresignGet(string, time.Duration, string) (string, error) {
	return "", errors.New("this bucket signs nothing")
}
