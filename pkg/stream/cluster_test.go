package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/nats/natstest"
)

// An operator's way from one copy to three: the streams keep what they have,
// and afterwards any server may be lost.
func TestReplicasAreRaised(t *testing.T) {
	c := natstest.New(t)
	nc, err := natsgo.Connect(c.URL(), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(50*time.Millisecond), natsgo.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// Processes that start together ask for the same streams at once.
	var together errgroup.Group
	for range 6 {
		together.Go(func() error {
			_, err := Open(ctx, nc, Config{Replicas: 1, JobsMaxBytes: 64 << 20, LedgerMaxBytes: 64 << 20})
			return err
		})
	}
	if err := together.Wait(); err != nil {
		t.Fatal(err)
	}
	bounds := Config{Replicas: 1, JobsMaxBytes: 64 << 20, LedgerMaxBytes: 64 << 20}
	s, err := Open(ctx, nc, bounds)
	if err != nil {
		t.Fatal(err)
	}
	p := s.Publisher()
	background(t, p.Run)
	for i := range 3 {
		if _, err := p.Publish(ctx, record(fmt.Sprint("job", i))); err != nil {
			t.Fatal(err)
		}
	}

	bounds.Replicas = 3
	if s, err = Open(ctx, nc, bounds); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	home := ""
	for _, st := range []jetstream.Stream{s.jobs, s.ledger} {
		for current := 0; current < 2; <-tick.C {
			info, err := st.Info(ctx)
			if err != nil {
				t.Fatal(err)
			}
			current = 0
			for _, peer := range info.Cluster.Replicas {
				if peer.Current {
					current++
				}
			}
			if st == s.jobs {
				home = info.Cluster.Leader
			}
		}
	}

	stopped := c.StopNamed(home)
	// A publish is never tried again by itself; a caller may, and finds the
	// new leader.
	for _, err = p.Publish(ctx, record("job3")); err != nil; _, err = p.Publish(ctx, record("job3")) {
		select {
		case <-ctx.Done():
			t.Fatalf("no publish after the loss of a server: %v", err)
		case <-tick.C:
		}
	}
	for seq := uint64(1); seq <= 4; seq++ {
		rec, err := s.Record(ctx, seq)
		if err != nil || rec.Envelope.Id != fmt.Sprint("job", seq-1) {
			t.Errorf("record %d: %v, %v", seq, rec, err)
		}
	}
	c.Start(stopped)
}

// More copies than there are servers are refused with the way out.
func TestTooManyReplicas(t *testing.T) {
	srv, err := nats.New(nats.Config{Dir: t.TempDir(), MaxStore: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	nc, err := srv.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if _, err := Open(t.Context(), nc, Config{Replicas: 3, JobsMaxBytes: 1 << 20, LedgerMaxBytes: 1 << 20}); err == nil || !strings.Contains(err.Error(), "TINTYPE_NATS_REPLICAS") {
		t.Errorf("three copies on one server: %v", err)
	}
}
