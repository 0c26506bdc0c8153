// Package config is everything that can be set from outside: the commands,
// their flags, the environment and the files that hold secrets.
//
// It promises:
//
//  1. A value comes from its flag, else from its environment variable, else
//     from the file that the variable's _FILE variant names (secrets), else it
//     is the default. An empty value means the default.
//  2. Everything that is wrong is reported at once, before anything opens:
//     unknown TINTYPE_ names, values of the wrong type, and values that do not
//     go together.
//  3. A secret is never printed.
//
// The doc comments and help texts of the fields are the manual. What to do
// with the values is left to main, pkg/farm and pkg/command.
package config

import (
	"time"

	"github.com/tintype/tintype/pkg/identity"
)

// Config is the one struct: a field for each command, made of the sections
// below, which are the same wherever they appear.
type Config struct {
	Logging

	Up        Up        `cmd:"" help:"Run the whole farm in this process."`
	API       API       `cmd:"" name:"api" help:"Run one replica of the HTTP tier."`
	Scheduler Scheduler `cmd:"" help:"Run one scheduler, the leader or a standby."`
	Worker    Worker    `cmd:"" help:"Run one worker: it renders what a scheduler leases to it."`
	Stores    Stores    `cmd:"" name:"backends" help:"Serve only the embedded NATS, Postgres and S3, to tiers in other processes."`
	Migrate   Migrate   `cmd:"" help:"Bring the database to this release's schema."`

	Shot        Shot        `cmd:"" help:"Take a screenshot of a page and write it to a file."`
	PDF         PDF         `cmd:"" name:"pdf" help:"Print a page to a PDF file."`
	Batch       Batch       `cmd:"" help:"Render a file of pages, a job a line, and write the results into a folder."`
	Usage       Usage       `cmd:"" help:"Show what was used, what is pending and what is left."`
	Account     Account     `cmd:"" help:"Create, list, show and change accounts."`
	Key         Key         `cmd:"" help:"Create, list and revoke API keys."`
	Ban         Ban         `cmd:"" help:"List who is kept out, keep somebody out, let them in again."`
	Policy      PolicyFile  `cmd:"" help:"Check and show policies."`
	Healthcheck Healthcheck `cmd:"" help:"Ask a server whether it is ready; exit 0 if so."`

	Doctor  Doctor  `cmd:"" help:"Look at what this machine has for a farm, and name the one fix for each thing that it lacks; exit 1 if it would not work."`
	Config  Show    `cmd:"" help:"Print every setting's effective value and where it came from."`
	Version Version `cmd:"" help:"Print the versions of tintype, Go and Chromium."`
}

// Logging is how the process speaks to its operator.
type Logging struct {
	LogLevel string `help:"Least level that is logged: debug, info, warn or error." env:"TINTYPE_LOG_LEVEL" default:"info" placeholder:"LEVEL"`
}

// Folder is where a farm keeps what it holds.
type Folder struct {
	Data string `help:"Folder of everything the farm keeps." env:"TINTYPE_DATA" default:"${data}" placeholder:"DIR"`
}

// HTTP is the API's outside.
type HTTP struct {
	Listen      string `help:"Address of the HTTP API." env:"TINTYPE_LISTEN" default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	AdminListen string `help:"Own address for /admin and /metrics. Empty: they are on the main listener, and /metrics needs the admin token off loopback." env:"TINTYPE_ADMIN_LISTEN" placeholder:"HOST:PORT"`
}

// Watch is where a mode without an HTTP API shows how it is.
type Watch struct {
	AdminListen string `help:"Address of /healthz, /readyz and /metrics. They are open to whoever reaches it. Empty: none." env:"TINTYPE_ADMIN_LISTEN" placeholder:"HOST:PORT"`
}

// Admin opens /admin.
type Admin struct {
	AdminToken string `help:"Token that opens /admin. Empty: the one in <data>/admin.token." env:"TINTYPE_ADMIN_TOKEN" secret:"" placeholder:"TOKEN"`
}

// Join opens the Work service of a scheduler, and nothing else.
type Join struct {
	WorkerToken string `help:"Token that workers show to a scheduler. Empty: the one in <data>/worker.token." env:"TINTYPE_WORKER_TOKEN" secret:"" envonly:"" hidden:""`
}

// Sealing is what the farm keeps secrets with.
type Sealing struct {
	SecretKey string `help:"Key that secrets in the streams and the database are sealed with, 32 bytes in base64; the same for every API replica and scheduler, and to be kept with the backups. Empty: the one in <data>/secret.key." env:"TINTYPE_SECRET_KEY" secret:"" envonly:"" hidden:""`
}

// Policy is who may use how much of the farm. API and schedulers of one farm
// are given the same file.
type Policy struct {
	File string `name:"policy" help:"Policy file of the plans and limits, or the name of a built-in one: default, page2images, screenshot-api, shotit, urlbox, webshot. Empty: default." env:"TINTYPE_POLICY" placeholder:"FILE|NAME"`
}

// Render is what a worker has to render with.
type Render struct {
	Seats int `help:"Browsers, each for one job at a time. 0 starts no worker." env:"TINTYPE_SEATS" default:"${seats}" placeholder:"N"`
	Egress
	Blocklists               []string `help:"Lists of hosts and URLs for block_ads, or with trackers= for block_trackers: hosts files, or rules of Adblock Plus. May be repeated." env:"TINTYPE_BLOCKLISTS" placeholder:"[ads=|trackers=]FILE"`
	IAcceptFlagOnlyIsolation bool     `help:"Render also where the kernel gives the browsers no network namespace: on this machine's network, held back by their own flags alone." env:"TINTYPE_I_ACCEPT_FLAG_ONLY_ISOLATION"`
	ChromiumBin              string   `help:"The chromium-headless-shell to run. Empty: Debian's." env:"TINTYPE_CHROMIUM_BIN" envonly:"" hidden:""`
}

// Egress is where pages and webhooks lead.
type Egress struct {
	EgressAllow []string `help:"Private destinations that pages and webhooks may reach: IP, CIDR or NAME, with :PORT or for 80, 443, 8080 and 8443. May be repeated." env:"TINTYPE_EGRESS_ALLOW" placeholder:"IP|CIDR|NAME[:PORT]"`
	EgressDNS   string   `help:"Resolver for the names of pages and webhooks. Empty: the system's." env:"TINTYPE_EGRESS_DNS" placeholder:"HOST:PORT"`
}

// Webhooks is how accounts are told what happened.
type Webhooks struct {
	WebhookAllowHTTP bool `name:"webhook-allow-http" help:"Let webhooks go to http addresses: where nobody else reads the network." env:"TINTYPE_WEBHOOK_ALLOW_HTTP"`
}

// Drain bounds the way down.
type Drain struct {
	DrainLimit time.Duration `help:"How long a stop waits for running jobs before it hands them back." env:"TINTYPE_DRAIN_LIMIT" default:"1m" placeholder:"DURATION"`
}

// Cluster is where tiers in other processes find a scheduler.
type Cluster struct {
	ClusterListen string `help:"Address for tiers in other processes (gRPC). Empty: none." env:"TINTYPE_CLUSTER_LISTEN" placeholder:"HOST:PORT"`
	Advertise     string `help:"Address under which others reach this scheduler. Empty: the one it listens on." env:"TINTYPE_ADVERTISE" placeholder:"HOST:PORT"`
}

// GRPC is who this process is to the other tiers. With the files every
// connection is mutual TLS; a process shows the certificate when it listens and
// when it dials.
type GRPC struct {
	GRPCCert        string `name:"grpc-cert" help:"This process's certificate, PEM: gRPC between the tiers is mutual TLS." env:"TINTYPE_GRPC_CERT" placeholder:"FILE"`
	GRPCKey         string `name:"grpc-key" help:"The certificate's key, PEM." env:"TINTYPE_GRPC_KEY" placeholder:"FILE"`
	GRPCCA          string `name:"grpc-ca" help:"The CA that signs the certificates of this farm and of nothing else, PEM." env:"TINTYPE_GRPC_CA" placeholder:"FILE"`
	InsecureCluster bool   `help:"Allow gRPC without TLS off loopback: on a network that nobody else reads." env:"TINTYPE_INSECURE_CLUSTER"`
}

// Files are where the identity is kept.
func (g GRPC) Files() identity.Files {
	return identity.Files{Cert: g.GRPCCert, Key: g.GRPCKey, CA: g.GRPCCA}
}

// Backends are the stores. In `up` each address replaces the embedded part of
// its kind and nothing else; the single tiers need all three.
type Backends struct {
	NATSURL      string `name:"nats-url" env:"TINTYPE_NATS_URL" help:"NATS with JetStream, nats://TOKEN@HOST:4222; the servers of a cluster with commas." secret:"" envonly:"" hidden:""`
	NATSReplicas int    `name:"nats-replicas" env:"TINTYPE_NATS_REPLICAS" help:"Copies of the streams, 1 or 3, the same for all processes. 0: three where NATS is a cluster." default:"0" envonly:"" hidden:""`
	DatabaseURL  string `name:"database-url" env:"TINTYPE_DATABASE_URL" help:"Postgres 15 or newer, postgres://user:password@host/db." secret:"" envonly:"" hidden:""`
	S3
	Streams
}

// Streams are the bounds of the two streams. A farm refuses jobs before they
// are reached.
type Streams struct {
	JobsBytes   int64 `env:"TINTYPE_JOBS_BYTES" help:"Bound of the stream of submitted jobs, in bytes." default:"1073741824" envonly:"" hidden:""`
	LedgerBytes int64 `env:"TINTYPE_LEDGER_BYTES" help:"Bound of the ledger, in bytes." default:"2147483648" envonly:"" hidden:""`
}

// S3 is the bucket of artifacts.
type S3 struct {
	S3Endpoint  string `name:"s3-endpoint" env:"TINTYPE_S3_ENDPOINT" help:"The S3 server, http(s)://host:port." envonly:"" hidden:""`
	S3Bucket    string `name:"s3-bucket" env:"TINTYPE_S3_BUCKET" default:"tintype" help:"The bucket; made if missing." envonly:"" hidden:""`
	S3Region    string `name:"s3-region" env:"TINTYPE_S3_REGION" default:"us-east-1" help:"The bucket's region." envonly:"" hidden:""`
	S3AccessKey string `name:"s3-access-key" env:"TINTYPE_S3_ACCESS_KEY" help:"Its access key." secret:"" envonly:"" hidden:""`
	S3SecretKey string `name:"s3-secret-key" env:"TINTYPE_S3_SECRET_KEY" help:"Its secret key." secret:"" envonly:"" hidden:""`
	S3PublicURL string `name:"s3-public-url" env:"TINTYPE_S3_PUBLIC_URL" help:"Address under which clients reach it; results are then redirects." envonly:"" hidden:""`
}

// Embedded is how the embedded back ends are run.
type Embedded struct {
	PostgresBin string `env:"TINTYPE_POSTGRES_BIN" help:"Folder of initdb and postgres. Empty: the newest that Debian installed." envonly:"" hidden:""`
}

// StoreListen is where `backends` serves.
type StoreListen struct {
	NATSListen       string `name:"nats-listen" help:"Address of NATS." env:"TINTYPE_NATS_LISTEN" default:"127.0.0.1:4222" placeholder:"HOST:PORT"`
	PostgresListen   string `name:"postgres-listen" help:"Address of Postgres." env:"TINTYPE_POSTGRES_LISTEN" default:"127.0.0.1:5432" placeholder:"HOST:PORT"`
	S3Listen         string `name:"s3-listen" help:"Address of S3." env:"TINTYPE_S3_LISTEN" default:"127.0.0.1:9000" placeholder:"HOST:PORT"`
	InsecureBackends bool   `help:"Allow the stores off loopback, where passwords and pages travel in clear: on a network that nobody else reads." env:"TINTYPE_INSECURE_BACKENDS"`
}

// Target is the farm that a client command talks to.
type Target struct {
	Server string `help:"URL of the farm." env:"TINTYPE_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL"`
}

// Client is who a client command is.
type Client struct {
	Target
	Key  string `help:"API key. Empty: the one in <data>/first.key." env:"TINTYPE_KEY" secret:"" placeholder:"KEY"`
	JSON bool   `name:"json" help:"Print the answer as JSON on standard output."`
}
