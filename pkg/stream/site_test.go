package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tintype/tintype/pkg/embed/nats"
	"github.com/tintype/tintype/pkg/embed/nats/natstest"
)

// site is one server or a cluster, and a client on each server.
type site struct {
	replicas int
	store    int64 // what the streams of a server may hold, in bytes
	clients  []*Streams
	restart  func(t *testing.T, stream string) // another server leads the stream, or the only one has started anew
	end      func(t *testing.T, stream string) // the server that leads the stream ends; the only one starts anew
	n        int
}

const siteStore = 64 << 20

func embedded(t *testing.T) *site {
	dir := t.TempDir()
	start := func() *nats.Server {
		srv, err := nats.New(nats.Config{Dir: dir, MaxStore: siteStore, Listen: "127.0.0.1:0", Token: "token"})
		if err != nil {
			t.Fatal(err)
		}
		return srv
	}
	srv := start()
	t.Cleanup(func() { srv.Close() })
	s := &site{replicas: 1, store: siteStore}
	// Over the network, as the tiers of a cluster are, and to the same port again.
	at, err := url.Parse(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	s.connect(t, "nats://token@"+at.Host)
	s.end = func(t *testing.T, stream string) { s.restart(t, stream) }
	s.restart = func(t *testing.T, _ string) {
		srv.Close()
		again, err := nats.New(nats.Config{Dir: dir, MaxStore: siteStore, Listen: at.Host, Token: "token"})
		if err != nil {
			t.Error(err)
			return
		}
		srv = again
		for _, c := range s.clients {
			for c.nc.Status() != natsgo.CONNECTED || c.nc.FlushTimeout(time.Second) != nil {
				if t.Context().Err() != nil {
					t.Error("not connected again")
					return
				}
				<-time.After(time.Millisecond)
			}
		}
	}
	return s
}

// threeReplicas is a cluster on loopback, configured as operations.md says.
func threeReplicas(t *testing.T) *site {
	if testing.Short() {
		t.Skip("starts three servers; left out by -short")
	}
	s := &site{replicas: 3, store: natstest.Store}
	c := natstest.New(t)
	s.connect(t, strings.Split(c.URL(), ",")...)
	s.end = func(t *testing.T, stream string) {
		st, err := s.clients[0].js.Stream(t.Context(), stream)
		if err != nil {
			t.Error(err)
			return
		}
		c.StopNamed(st.CachedInfo().Cluster.Leader)
	}
	s.restart = func(t *testing.T, stream string) {
		st, err := s.clients[0].js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		old := st.CachedInfo().Cluster.Leader
		if _, err := s.clients[0].nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil, ackTimeout); err != nil {
			t.Fatal(err)
		}
		for {
			info, err := st.Info(t.Context())
			if err == nil && info.Cluster.Leader != "" && info.Cluster.Leader != old {
				return
			}
			if t.Context().Err() != nil {
				t.Fatal("the stream has no other leader")
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	return s
}

func (s *site) connect(t *testing.T, urls ...string) {
	for _, u := range urls {
		nc, err := natsgo.Connect(u, natsgo.ReconnectBufSize(-1), natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		c, err := Open(t.Context(), nc, Config{
			Replicas: s.replicas, JobsMaxBytes: 8 << 20, LedgerMaxBytes: 8 << 20, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.clients = append(s.clients, c)
	}
}

// fresh is a new stream with the settings of JOBS or of LEDGER, changed as the
// test needs it, seen from each client.
func (s *site) fresh(t *testing.T, like func(*Streams) jetstream.Stream, change func(*jetstream.StreamConfig)) (subject string, streams []jetstream.Stream) {
	t.Helper()
	s.n++
	cfg := like(s.clients[0]).CachedInfo().Config
	cfg.Name, subject = fmt.Sprintf("TEST_%d", s.n), fmt.Sprintf("test.%d", s.n)
	cfg.Subjects, cfg.MaxBytes, cfg.Metadata = []string{subject}, 1<<20, nil
	if change != nil {
		change(&cfg)
	}
	for i, c := range s.clients {
		st, err := c.js.Stream(t.Context(), cfg.Name)
		if i == 0 {
			st, err = c.js.CreateStream(t.Context(), cfg)
		}
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, st)
	}
	t.Cleanup(func() {
		if err := s.clients[0].js.DeleteStream(context.Background(), cfg.Name); err != nil {
			t.Error(err)
		}
	})
	for i := range s.clients {
		s.heard(t, i, subject)
	}
	return subject, streams
}

// heard waits until the client's server knows of a stream that takes the
// subject: on a cluster that news travels behind the stream's creation. It
// publishes what no stream may store.
func (s *site) heard(t *testing.T, client int, subject string) {
	t.Helper()
	for {
		_, err := s.clients[client].js.Publish(t.Context(), subject, nil, jetstream.WithExpectStream("none"), jetstream.WithRetryAttempts(0))
		var refused *jetstream.APIError
		if errors.As(err, &refused) {
			return
		}
		if !errors.Is(err, natsgo.ErrNoResponders) && !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Fatalf("a publish that no stream may store: %v", err)
		}
		if t.Context().Err() != nil {
			t.Fatal("no stream takes the subject")
		}
		<-time.After(time.Millisecond)
	}
}

func likeJobs(s *Streams) jetstream.Stream   { return s.jobs }
func likeLedger(s *Streams) jetstream.Stream { return s.ledger }

func (s *site) publish(t *testing.T, subject, data string, opts ...jetstream.PublishOpt) (uint64, error) {
	t.Helper()
	ack, err := s.clients[0].js.Publish(t.Context(), subject, []byte(data), opts...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (s *site) must(t *testing.T, subject, data string) uint64 {
	t.Helper()
	seq, err := s.publish(t, subject, data)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// holds checks what a stream has.
func holds(t *testing.T, st jetstream.Stream, msgs, last uint64) {
	t.Helper()
	info, err := st.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != msgs || info.State.LastSeq != last {
		t.Errorf("it holds %d messages up to %d, want %d up to %d", info.State.Msgs, info.State.LastSeq, msgs, last)
	}
}
