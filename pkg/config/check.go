package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/identity"
	"github.com/tintype/tintype/pkg/seal"
)

// mostTTL is the API's bound of ttl_s, a year.
const mostTTL = 365 * 24 * time.Hour

// check finds the values of the chosen command that break a rule or do not go
// together.
func (p *Parsed) check() []string {
	var c checker
	var level slog.Level
	if err := level.UnmarshalText([]byte(p.LogLevel)); err != nil {
		c.add("--log-level: want debug, info, warn or error, not %q", p.LogLevel)
	}
	switch p.Command {
	case "up":
		p.Up.check(&c)
	case "api":
		c.policy(p.API.Policy)
		c.http(p.API.HTTP)
		c.grpc(p.API.GRPC, identity.Dials)
		c.drain(p.API.Drain)
		c.external(p.API.Backends)
		c.need("TINTYPE_ADMIN_TOKEN", p.API.AdminToken, "the token that opens /admin")
		c.sealed(p.API.Sealing)
		c.egress(p.API.Egress)
	case "scheduler":
		s := p.Scheduler
		c.policy(s.Policy)
		c.need("--cluster-listen", s.ClusterListen, "the address on which this scheduler serves the other tiers")
		c.cluster(s.Cluster, s.GRPC)
		c.grpc(s.GRPC, identity.Listens)
		c.watch(s.Watch)
		c.external(s.Backends)
		c.sealed(s.Sealing)
		c.need("TINTYPE_WORKER_TOKEN", s.WorkerToken, "the token that workers show")
	case "worker":
		p.Worker.check(&c)
	case "backends":
		c.stores(p.Stores.StoreListen)
		c.watch(p.Stores.Watch)
		c.nats(Backends{NATSURL: p.Stores.NATSURL})
	case "migrate":
		c.need("TINTYPE_DATABASE_URL", p.Migrate.DatabaseURL, "the database to bring up to date")
	case "shot":
		c.server(p.Shot.Server)
		c.page(p.Shot.Page, p.Shot.JSON)
	case "pdf":
		c.server(p.PDF.Server)
		c.page(p.PDF.Page, p.PDF.JSON)
	case "batch":
		c.server(p.Batch.Server)
		c.batch(p.Batch)
	case "account create":
		c.server(p.Account.Create.Server)
	case "account list":
		c.server(p.Account.List.Server)
	case "account show":
		c.server(p.Account.Show.Server)
	case "usage":
		c.server(p.Usage.Server)
		switch {
		case p.Usage.JSON && p.Usage.CSV:
			c.add("--json and --csv are two formats; give one")
		case p.Usage.Output != "-" && !p.Usage.CSV && !p.Usage.Events:
			c.add("--output goes with --csv or --events")
		}
	case "ban list":
		c.server(p.Ban.List.Server)
	case "ban add":
		c.server(p.Ban.Add.Server)
		if p.Ban.Add.For < 0 {
			c.add("--for %s: must not be negative; leave it out to keep somebody out until it is lifted", p.Ban.Add.For)
		}
	case "ban lift":
		c.server(p.Ban.Lift.Server)
	case "key create":
		c.server(p.Key.Create.Server)
		if p.Key.Create.Expires < 0 {
			c.add("--expires-in %s: must not be in the past", p.Key.Create.Expires)
		}
	case "key list":
		c.server(p.Key.List.Server)
	case "key revoke":
		c.server(p.Key.Revoke.Server)
	case "key sign":
		c.server(p.Key.Sign.Server)
		if e := p.Key.Sign.Expires; e < time.Second || e > 7*24*time.Hour {
			c.add("--expires-in %s: must be 1s to 168h", e)
		}
	case "doctor":
		c.http(p.Doctor.HTTP)
		c.render(p.Doctor.Render)
		c.nats(p.Doctor.Backends)
		c.s3(p.Doctor.S3)
	case "healthcheck":
		c.server(p.Healthcheck.Server)
	}
	return c.problems
}

func (u *Up) check(c *checker) {
	c.http(u.HTTP)
	c.sealing(u.Sealing)
	c.policy(u.Policy)
	c.render(u.Render)
	c.drain(u.Drain)
	c.cluster(u.Cluster, u.GRPC)
	c.grpc(u.GRPC, identity.Listens, identity.Dials)
	c.nats(u.Backends)
	c.s3(u.S3)
	c.streams(u.Streams)
	if u.Demo && u.Seats == 0 {
		c.add("--demo renders a page; give --seats of at least 1")
	}
	if u.ClusterListen != "" && u.S3Endpoint == "" && !loopback(u.ClusterListen) {
		c.add("--cluster-listen %s: workers on other machines upload straight to the bucket, and the embedded one is on loopback; set TINTYPE_S3_ENDPOINT", u.ClusterListen)
	}
}

func (w *Worker) check(c *checker) {
	c.render(w.Render)
	c.drain(w.Drain)
	if w.Seats == 0 {
		c.add("--seats: a worker needs at least 1")
	}
	if len(w.Schedulers) == 0 {
		c.add("--scheduler is missing: the scheduler to ask for jobs, HOST:PORT")
	}
	for _, s := range w.Schedulers {
		c.hostPort("--scheduler", s)
		if !loopback(s) {
			c.secured("--scheduler "+s, w.GRPC)
		}
	}
	c.grpc(w.GRPC, identity.Dials)
	c.watch(w.Watch)
	c.bare()
	switch {
	case w.TokenFile != "" && w.WorkerToken != "":
		c.add("the worker's token is set twice: give --worker-token-file or TINTYPE_WORKER_TOKEN")
	case w.TokenFile != "":
		token, err := readSecret(w.TokenFile)
		if err != nil {
			c.add("--worker-token-file: %v", err)
		}
		w.WorkerToken = token
	default:
		c.need("--worker-token-file", w.WorkerToken, "the file with the farm's worker token")
	}
}

// checker gathers problems.
type checker struct {
	problems []string
}

func (c *checker) add(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

func (c *checker) need(name, value, what string) {
	if value == "" {
		c.add("%s is missing: %s", name, what)
	}
}

func (c *checker) hostPort(name, value string) {
	if host, port, err := net.SplitHostPort(value); err != nil || port == "" || strings.ContainsAny(host, "/ ") {
		c.add("%s: want HOST:PORT, not %q", name, value)
	}
}

func (c *checker) http(h HTTP) {
	c.hostPort("--listen", h.Listen)
	if h.AdminListen != "" {
		c.hostPort("--admin-listen", h.AdminListen)
	}
}

func (c *checker) watch(w Watch) {
	if w.AdminListen != "" {
		c.hostPort("--admin-listen", w.AdminListen)
	}
}

// bare refuses credentials of the stores to a worker, which runs strangers'
// pages: what it does not have cannot be taken from it.
func (c *checker) bare() {
	for _, name := range []string{
		"TINTYPE_NATS_URL", "TINTYPE_DATABASE_URL", "TINTYPE_S3_ACCESS_KEY", "TINTYPE_S3_SECRET_KEY", "TINTYPE_ADMIN_TOKEN", "TINTYPE_SECRET_KEY",
	} {
		for _, name := range []string{name, name + "_FILE"} {
			if os.Getenv(name) != "" {
				c.add("%s is set: a worker runs strangers' pages and is given no key to the stores or to /admin; unset it", name)
			}
		}
	}
}

// policy reads the file to report what is wrong with it beside the rest.
func (c *checker) policy(p Policy) {
	_, err := account.ReadPolicy(p.File)
	if bad, ok := errors.AsType[*account.PolicyError](err); ok {
		for _, line := range bad.Lines() {
			c.add("--policy: %s", line)
		}
	} else if err != nil {
		c.add("--policy: %v", err)
	}
}

func (c *checker) render(r Render) {
	if r.Seats < 0 || r.Seats > 1000 {
		c.add("--seats: want 0 to 1000, not %d", r.Seats)
	}
	c.egress(r.Egress)
	if _, err := egress.LoadLists(r.Blocklists); err != nil {
		for line := range strings.Lines(err.Error()) {
			c.add("--blocklists: %s", strings.TrimSpace(line))
		}
	}
}

func (c *checker) egress(e Egress) {
	if _, err := egress.New(egress.Config{Allow: e.EgressAllow, DNS: e.EgressDNS}); err != nil {
		for line := range strings.Lines(err.Error()) {
			c.add("%s", strings.TrimSpace(line))
		}
	}
}

// sealed is for tiers that cannot make a key: all of them must have the same.
func (c *checker) sealed(s Sealing) {
	c.need("TINTYPE_SECRET_KEY", s.SecretKey, "the key that secrets are sealed with, the same for every API replica and scheduler; `head -c 32 /dev/urandom | base64` makes one")
	c.sealing(s)
}

// sealing never repeats what may be a key.
func (c *checker) sealing(s Sealing) {
	if s.SecretKey == "" {
		return
	}
	if _, err := seal.Parse(s.SecretKey); err != nil {
		c.add("TINTYPE_SECRET_KEY: %v", err)
	}
}

func (c *checker) drain(d Drain) {
	if d.DrainLimit < 0 {
		c.add("--drain-limit: want 0s or more, not %s", d.DrainLimit)
	}
}

func (c *checker) cluster(s Cluster, g GRPC) {
	if s.ClusterListen == "" {
		if s.Advertise != "" {
			c.add("--advertise says where --cluster-listen is reached; give both")
		}
		return
	}
	c.hostPort("--cluster-listen", s.ClusterListen)
	if s.Advertise != "" {
		c.hostPort("--advertise", s.Advertise)
	} else if host, _, err := net.SplitHostPort(s.ClusterListen); err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
		c.add("--cluster-listen %s is no address that others can dial; give --advertise HOST:PORT, where they reach it", s.ClusterListen)
	}
	if !loopback(s.ClusterListen) {
		c.secured("--cluster-listen "+s.ClusterListen, g)
	}
}

// secured is for gRPC off loopback.
func (c *checker) secured(what string, g GRPC) {
	if !g.Files().Given() && !g.InsecureCluster {
		c.add("%s: gRPC off loopback needs mutual TLS; give --grpc-cert, --grpc-key and --grpc-ca, or --insecure-cluster if nobody else reads that network", what)
	}
}

// grpc reads the certificates to report what is wrong with them beside the
// rest.
func (c *checker) grpc(g GRPC, roles ...identity.Role) {
	if !g.Files().Given() {
		return
	}
	if _, err := identity.Load(g.Files(), nil, roles...); err != nil {
		c.add("%v", err)
	}
}

func (c *checker) stores(s StoreListen) {
	for _, at := range [][2]string{
		{"--nats-listen", s.NATSListen}, {"--postgres-listen", s.PostgresListen}, {"--s3-listen", s.S3Listen},
	} {
		c.hostPort(at[0], at[1])
		if !loopback(at[1]) && !s.InsecureBackends {
			c.add("%s %s: off loopback passwords and pages travel in clear; give --insecure-backends if nobody else reads that network", at[0], at[1])
		}
	}
}

func (c *checker) s3(s S3) {
	if s.S3Endpoint == "" {
		c.orphan("TINTYPE_S3_ACCESS_KEY", s.S3AccessKey)
		c.orphan("TINTYPE_S3_SECRET_KEY", s.S3SecretKey)
		c.orphan("TINTYPE_S3_PUBLIC_URL", s.S3PublicURL)
		return
	}
	c.url("TINTYPE_S3_ENDPOINT", s.S3Endpoint)
	c.need("TINTYPE_S3_ACCESS_KEY", s.S3AccessKey, "the bucket's access key")
	c.need("TINTYPE_S3_SECRET_KEY", s.S3SecretKey, "the bucket's secret key")
	if s.S3PublicURL != "" {
		c.url("TINTYPE_S3_PUBLIC_URL", s.S3PublicURL)
	}
}

func (c *checker) orphan(name, value string) {
	if value != "" {
		c.add("%s is set and TINTYPE_S3_ENDPOINT is not: which server is it for?", name)
	}
}

// nats never repeats an address: it may hold a token.
func (c *checker) nats(b Backends) {
	if b.NATSURL != "" {
		for i, address := range strings.Split(b.NATSURL, ",") {
			u, err := url.Parse(strings.TrimSpace(address))
			if err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" {
				c.add("TINTYPE_NATS_URL: want nats://HOST:PORT or tls://HOST:PORT, more of them with commas; address %d is none", i+1)
			}
		}
	}
	switch b.NATSReplicas {
	case 0, 1, 3:
	default:
		c.add("TINTYPE_NATS_REPLICAS: want 1 or 3, or 0 for three where NATS is a cluster, not %d", b.NATSReplicas)
	}
	if b.NATSReplicas > 0 && b.NATSURL == "" {
		c.add("TINTYPE_NATS_REPLICAS is set and TINTYPE_NATS_URL is not: the embedded NATS keeps one copy")
	}
}

// external is for tiers that have nothing embedded to fall back to.
func (c *checker) external(b Backends) {
	c.need("TINTYPE_NATS_URL", b.NATSURL, "the farm's NATS")
	c.need("TINTYPE_DATABASE_URL", b.DatabaseURL, "the farm's database")
	c.need("TINTYPE_S3_ENDPOINT", b.S3Endpoint, "the farm's S3 server")
	c.nats(b)
	c.s3(b.S3)
	c.streams(b.Streams)
}

// streams are large enough for a handful of their largest messages.
func (c *checker) streams(s Streams) {
	const least = 8 << 20
	if s.JobsBytes < least {
		c.add("TINTYPE_JOBS_BYTES: want at least %d, not %d", least, s.JobsBytes)
	}
	if s.LedgerBytes < least {
		c.add("TINTYPE_LEDGER_BYTES: want at least %d, not %d", least, s.LedgerBytes)
	}
}

func (c *checker) server(s string) { c.url("--server", s) }

func (c *checker) url(name, value string) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		c.add("%s: want http(s)://HOST[:PORT], not %q", name, value)
	}
}

func (c *checker) page(p Page, json bool) {
	sources := 0
	for _, s := range []string{p.URL, p.HTML, p.Markdown} {
		if s != "" {
			sources++
		}
	}
	switch {
	case sources == 0:
		c.add("what is to be rendered? Give a URL, or --html FILE")
	case sources > 1:
		c.add("give a URL or --html FILE, not both; nor --markdown FILE beside one")
	}
	if json && p.Output == "-" {
		c.add("--json and -o - both want standard output")
	}
	if ttl := p.TTL; ttl != nil && (*ttl < 0 || *ttl > mostTTL || *ttl%time.Second != 0) {
		c.add("--ttl %s: want whole seconds, 0s to %s", *ttl, mostTTL)
	}
}

func (c *checker) batch(b Batch) {
	switch {
	case b.Attach == "" && b.File == "":
		c.add("what is to be rendered? Give a FILE of lines, - for standard input, or --batch ID")
	case b.Attach != "" && b.File != "":
		c.add("give a FILE or --batch ID, not both")
	case b.Attach != "" && (b.DryRun || b.Format != "" || b.Defaults != "" || len(b.Options) > 0 || b.OnError != ""):
		c.add("--batch follows a batch that is there; --format, --defaults, --option, --on-error and --dry-run go with a FILE")
	}
	switch {
	case b.Output == "" && !b.DryRun:
		c.add("where do the results go? Give -o DIR, or -o - for a line of JSON for each job")
	case b.Output != "" && b.DryRun:
		c.add("--dry-run makes nothing that could go to -o %s; leave one out", b.Output)
	case b.Output == "-" && b.JSON:
		c.add("--json and -o - both want standard output")
	}
	switch b.OnError {
	case "", "reject", "skip":
	default:
		c.add("--on-error %s: want reject or skip", b.OnError)
	}
}

// loopback reports whether only this machine reaches the address.
func loopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
