package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/loadtest/audit"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// watch reads JOBS and LEDGER as they grow: the farm trims them from the
// front, and the auditor must have seen everything. It also tells a run what
// has just become durable, so that a kill can fall right behind it.
type watch struct {
	url string

	mu      sync.Mutex
	changed chan struct{}   // closed and made anew with every change
	records []audit.Message // those that were not trimmed before they were read
	frames  []audit.Message
	read    map[string]uint64 // last sequence by stream
	lost    error             // a frame was trimmed before it was read

	seqs    map[string]uint64 // in JOBS, by custom_id; of a key, the last
	ids     map[string]string // of jobs, likewise
	jobs    uint64            // decided up to here
	taken   map[string]bool   // ids that are accepted
	leases  map[string]leased // open ones, by job
	leader  string            // address
	ended   int               // Finished so far
	endedAt uint64            // frame of the last Finished
	fed     int               // lines of batches that were accepted
}

// leased is a lease as the watch knows it.
type leased struct {
	worker string
	since  time.Time // read then
}

func newWatch(url string) *watch {
	return &watch{
		url: url, changed: make(chan struct{}), read: map[string]uint64{}, seqs: map[string]uint64{}, taken: map[string]bool{},
		ids: map[string]string{}, leases: map[string]leased{},
	}
}

// run reads until ctx ends, through whatever happens to the server.
func (w *watch) run(ctx context.Context) error {
	nc, err := nats.Connect(w.url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	wake := make(chan struct{}, 1)
	if _, err := nc.Subscribe("tintype.*.0", func(*nats.Msg) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}); err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		more := w.next(ctx, nc, js, "JOBS_0", &w.records, w.record)
		if w.next(ctx, nc, js, "LEDGER_0", &w.frames, w.frame) || more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// next takes what is new in a stream, and reports whether there was any.
func (w *watch) next(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, stream string, to *[]audit.Message, take func(audit.Message)) bool {
	any := false
	for {
		seq := w.read[stream] + 1 // this goroutine alone writes it
		m, err := direct(ctx, nc, stream, seq)
		if errors.Is(err, errNotThere) {
			w.skip(ctx, js, stream, seq)
		}
		if err != nil {
			return any
		}
		any = true
		w.mu.Lock()
		*to = append(*to, m)
		w.read[stream] = seq
		take(m)
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
	}
}

var errNotThere = errors.New("no such message")

// direct reads one message from the store itself.
func direct(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (audit.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ask, err := json.Marshal(map[string]uint64{"seq": seq})
	if err != nil {
		return audit.Message{}, err
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream, ask)
	if err != nil {
		return audit.Message{}, err
	}
	switch m.Header.Get("Status") {
	case "404":
		return audit.Message{}, errNotThere
	case "":
	default:
		return audit.Message{}, fmt.Errorf("%s: %s", stream, m.Header.Get("Description"))
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	return audit.Message{Seq: seq, Stored: at, Data: m.Data}, err
}

// skip looks whether a message that is not there ever was. Records are trimmed
// as soon as they are decided and done with, so some may go unread: what was
// accepted of them is in the ledger. Of the ledger, nothing may.
func (w *watch) skip(ctx context.Context, js jetstream.JetStream, stream string, seq uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return
	}
	first := s.CachedInfo().State.FirstSeq
	if first <= seq {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read[stream] = first - 1
	if stream == "LEDGER_0" {
		w.lost = fmt.Errorf("%s was trimmed up to %d before %d was read", stream, first, seq)
	}
}

// record and frame bring the watch's own view up to date. mu is held.
func (w *watch) record(m audit.Message) {
	r := new(pb.Record)
	if proto.Unmarshal(m.Data, r) == nil {
		name := r.Body.GetCustomId()
		w.seqs[name], w.ids[name] = m.Seq, r.Envelope.GetId()
	}
}

func (w *watch) frame(m audit.Message) {
	f := new(pb.Frame)
	if len(m.Data) < 4 || proto.Unmarshal(m.Data[4:], f) != nil {
		return // the auditor will say so
	}
	for _, ev := range f.Events {
		switch ev := ev.Fact.(type) {
		case *pb.Event_EpochOpened:
			w.leader = ev.EpochOpened.Address
		case *pb.Event_Accepted:
			w.taken[ev.Accepted.Envelope.Id] = true
			if ev.Accepted.Envelope.Batch != "" {
				w.fed++
			}
		case *pb.Event_Started:
			w.leases[ev.Started.Id] = leased{ev.Started.Worker, time.Now()}
		case *pb.Event_Released:
			delete(w.leases, ev.Released.Id)
		case *pb.Event_Finished:
			delete(w.leases, ev.Finished.Job.Id)
			w.ended, w.endedAt = w.ended+1, m.Seq
		}
	}
	w.jobs = max(w.jobs, f.Jobs)
}

// until waits for a condition, called with mu held after every change and now
// and then, and reports whether it came in time.
func (w *watch) until(ctx context.Context, within time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		w.mu.Lock()
		ok, changed := condition(), w.changed
		w.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond): // conditions look at clocks, too
		case <-ctx.Done():
			return false
		}
	}
}

// decided reports whether a submission is decided, and how. mu is held.
func (w *watch) decided(name string) (known, accepted bool) {
	seq := w.seqs[name]
	return seq != 0 && seq <= w.jobs, w.taken[w.ids[name]]
}
