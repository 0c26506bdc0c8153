// Package natstest runs a cluster of three NATS servers in a test's process,
// set up as docs/operations.md tells operators to: JetStream synced at every
// write, clients and routes with secrets.
package natstest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Store is what the streams of a server may hold, in bytes.
const Store = 8 << 30

const (
	nodes    = 3
	token    = "client-token"
	upWithin = time.Minute
)

// Cluster is three servers.
type Cluster struct {
	t       *testing.T
	options [nodes]*server.Options
	servers [nodes]*server.Server // nil while stopped
}

// New starts a cluster and waits until JetStream has a leader in it. It ends
// with the test.
func New(t *testing.T) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	dir := t.TempDir()
	t.Cleanup(func() {
		for i := range c.servers {
			c.Stop(i)
		}
	})
	var routes []*url.URL
	for range nodes {
		routes = append(routes, &url.URL{Scheme: "nats", User: url.UserPassword("route", "route"), Host: freeAddress(t)})
	}
	for i := range c.options {
		c.options[i] = &server.Options{
			ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: port("nats://" + freeAddress(t)), Authorization: token,
			JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprintf("n%d", i)), SyncAlways: true, JetStreamMaxStore: Store,
			NoSigs: true, NoLog: true, DisableJetStreamBanner: true, MaxPayload: 1 << 20, Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port(routes[i].String()), Username: "route", Password: "route"},
		}
		c.launch(i)
	}
	for i := range c.servers {
		c.await(i)
	}
	return c
}

// Start starts a server that was stopped, on the port that it had.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	c.launch(i)
	c.await(i)
}

func (c *Cluster) launch(i int) {
	c.t.Helper()
	srv, err := server.NewServer(c.options[i].Clone())
	if err != nil {
		c.t.Fatal(err)
	}
	srv.Start()
	c.servers[i] = srv
}

// await returns when a server takes clients, which it does once it has found
// the others and JetStream has a leader.
func (c *Cluster) await(i int) {
	c.t.Helper()
	srv := c.servers[i]
	if !srv.ReadyForConnections(upWithin) {
		c.t.Fatalf("nats server %d was not ready within %s", i, upWithin)
	}
	c.options[i].Port = port(srv.ClientURL())
	until(c.t, "JetStream has a leader", func() bool {
		return slices.ContainsFunc(c.servers[:], func(s *server.Server) bool {
			return s != nil && s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == nodes
		})
	})
}

// freeAddress has a port below those that the system gives to connections, which
// come and go.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20_000+rand.N(12_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free port")
	return ""
}

func port(clientURL string) int {
	at, err := url.Parse(clientURL)
	if err != nil {
		return server.RANDOM_PORT
	}
	var n int
	if _, err := fmt.Sscan(at.Port(), &n); err != nil {
		return server.RANDOM_PORT
	}
	return n
}

// Stop stops a server, without a warning to the others. It does nothing to one
// that is stopped.
func (c *Cluster) Stop(i int) {
	if c.servers[i] == nil {
		return
	}
	c.servers[i].Shutdown()
	c.servers[i].WaitForShutdown()
	c.servers[i] = nil
}

// StopNamed stops the server of that name, such as a stream's leader, and
// returns its number.
func (c *Cluster) StopNamed(name string) int {
	c.t.Helper()
	for i, o := range c.options {
		if o.ServerName == name {
			c.Stop(i)
			return i
		}
	}
	c.t.Fatalf("no nats server %q", name)
	return 0
}

// URL is where clients connect: all servers, with the token.
func (c *Cluster) URL() string {
	var list []string
	for _, o := range c.options {
		list = append(list, fmt.Sprintf("nats://%s@127.0.0.1:%d", token, o.Port))
	}
	return strings.Join(list, ",")
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(upWithin)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %s", upWithin, what)
		case <-tick.C:
		}
	}
}
