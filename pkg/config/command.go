package config

import (
	"encoding/json"
	"strings"
	"time"
)

// Up is the whole farm in one process.
type Up struct {
	Folder
	HTTP
	Admin
	Sealing
	Policy
	Join
	Render
	Webhooks
	Cluster
	GRPC
	Drain
	Backends
	Embedded
	Demo bool `help:"Once the farm is ready, render the bundled page to PNG and PDF into <data>/demo."`
}

// API is one replica of the HTTP tier.
type API struct {
	HTTP
	Admin
	Sealing
	Policy
	Egress
	Webhooks
	GRPC
	Drain
	Backends
}

// Scheduler is one scheduler.
type Scheduler struct {
	Sealing
	Policy
	Cluster
	GRPC
	Join
	Watch
	Backends
}

// Worker is one worker.
type Worker struct {
	Schedulers []string `name:"scheduler" help:"Schedulers to ask for jobs, one or more with commas." env:"TINTYPE_SCHEDULER" placeholder:"HOST:PORT"`
	Name       string   `help:"Name in logs, stable over restarts and its own among the workers." env:"TINTYPE_WORKER_NAME" default:"${hostname}"`
	TokenFile  string   `name:"worker-token-file" help:"File with the farm's worker token, <data>/worker.token there." placeholder:"FILE"`
	Join
	GRPC
	Render
	Drain
	Watch
}

// Stores serves the embedded back ends of a data folder and nothing else. As in
// `up`, an address of your own replaces its part.
type Stores struct {
	Folder
	StoreListen
	Watch
	NATSURL     string `name:"nats-url" env:"TINTYPE_NATS_URL" help:"NATS of your own; none is served then." secret:"" envonly:"" hidden:""`
	DatabaseURL string `name:"database-url" env:"TINTYPE_DATABASE_URL" help:"Postgres of your own; none is served then." secret:"" envonly:"" hidden:""`
	S3Bucket    string `name:"s3-bucket" env:"TINTYPE_S3_BUCKET" default:"tintype" help:"The bucket that the tiers are told to use." envonly:"" hidden:""`
	Embedded
}

// Migrate brings the database to this release's schema.
type Migrate struct {
	DatabaseURL string `name:"database-url" env:"TINTYPE_DATABASE_URL" help:"Postgres 15 or newer." secret:"" envonly:"" hidden:""`
}

// Page is what a client command renders. How is said by the options.
type Page struct {
	URL      string        `arg:"" optional:"" help:"The page, http or https."`
	HTML     string        `name:"html" help:"Render this file instead of a URL; - reads standard input." placeholder:"FILE|-"`
	Markdown string        `help:"Render this file, which is Markdown; - reads standard input." placeholder:"FILE|-"`
	Output   string        `short:"o" help:"File to write; - writes to standard output. Default: the page's host and the format's extension." placeholder:"FILE|-"`
	Delay    time.Duration `help:"--delay-ms as a duration, such as 2s." hidden:""`
	Timeout  time.Duration `help:"--timeout-ms as a duration, such as 20s." hidden:""`
	Freshness
}

// Freshness is how old a result may be.
type Freshness struct {
	TTL   *time.Duration `name:"ttl" help:"Take the account's last result of the same options if it is no older, unbilled, and keep this one for so long; 0s takes and keeps none. Default: as the plan says." placeholder:"DURATION"`
	Force bool           `help:"Render anew, whatever is cached or under way."`
}

// Shot takes a screenshot.
type Shot struct {
	Client
	Folder
	Page
	Format string   `help:"${formats}. Default: by the extension of the output, else png." placeholder:"FORMAT"`
	Scale  *float64 `help:"--device-scale-factor." hidden:""`
	ShotOptions
}

// PDF prints a page.
type PDF struct {
	Client
	Folder
	Page
	PDFOptions
}

// Pairs are texts by name, each "Name: value" on the command line.
type Pairs []string

// MarshalJSON writes them as the object that they are in a request.
func (p Pairs) MarshalJSON() ([]byte, error) {
	object := make(map[string]string, len(p))
	for _, pair := range p {
		name, value, _ := strings.Cut(pair, ":")
		object[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return json.Marshal(object)
}

// Batch renders a file of pages.
type Batch struct {
	Client
	Folder
	File     string   `arg:"" optional:"" help:"File with a job a line: JSON objects, CSV or URLs; gzip too; - reads standard input."`
	Output   string   `short:"o" help:"Folder of the results, made if missing; the same command goes on in it where it was interrupted. - writes a line of JSON for each job, and no artifacts, to standard output." placeholder:"DIR|-"`
	Format   string   `help:"How the file is written: jsonl, csv or text. Default: by its name, else by its first line." placeholder:"FORMAT"`
	Defaults string   `help:"Fields for all lines, a JSON object or a file with one." placeholder:"JSON|@FILE"`
	Options  []string `name:"option" sep:"none" help:"A field for all lines, such as format=pdf or width=800; repeatable." placeholder:"NAME=VALUE"`
	OnError  string   `help:"What lines do that no job can be made of: reject the whole batch, or skip, where they fail alone. Default: reject." placeholder:"reject|skip"`
	DryRun   bool     `help:"Say what would be made of the file and what it would cost; make nothing."`
	Attach   string   `name:"batch" help:"Follow this batch instead of uploading a file." placeholder:"ID"`
}

// AdminClient is a client command that uses the admin API.
type AdminClient struct {
	Target
	Admin
	Folder
	JSON bool `name:"json" help:"Print the answer as JSON on standard output."`
}

// Account has the commands on accounts.
type Account struct {
	Create AccountCreate `cmd:"" help:"Create an account and show its first key, once."`
	List   AccountList   `cmd:"" help:"List accounts."`
	Show   AccountShow   `cmd:"" help:"Show an account: its plan, its keys and what it used."`
	Update AccountUpdate `cmd:"" help:"Change an account's plan, billing day, or whether it is suspended; at once."`
}

// AccountCreate creates an account.
type AccountCreate struct {
	AdminClient
	Name string `arg:"" help:"A name that no other account has."`
	Plan string `help:"The account's plan. Empty: the installation's default." placeholder:"PLAN"`
}

// AccountUpdate changes an account. What is not named stays as it is.
type AccountUpdate struct {
	AdminClient
	Account    string `arg:"" help:"Name or id of the account."`
	Plan       string `help:"One of the plans of the installation." placeholder:"PLAN"`
	Suspend    bool   `help:"Let it neither submit nor look; what it has accepted goes on." xor:"suspended"`
	Resume     bool   `help:"Lift a suspension." xor:"suspended"`
	BillingDay int    `help:"Day of the month, 1 to 31, on which its periods begin, where its plan bills by it." placeholder:"DAY"`
}

// AccountList lists accounts.
type AccountList struct {
	AdminClient
}

// AccountShow shows an account.
type AccountShow struct {
	AdminClient
	Account string `arg:"" help:"Name or id of the account."`
}

// Usage shows what the key's account used.
type Usage struct {
	Client
	Folder
	Period string `help:"A month as YYYY-MM, or the first day of a period. Default: the present one." placeholder:"PERIOD"`
	CSV    bool   `name:"csv" help:"Print a line for each day, or with --events for each charge, as CSV."`
	Events bool   `help:"The ledger of charges instead, whole: one charge a line, as JSON or with --csv as CSV."`
	Output string `short:"o" help:"File to write; - writes to standard output." default:"-" placeholder:"FILE|-"`
}

// Ban has the commands on who is kept out.
type Ban struct {
	List BanList `cmd:"" help:"List who is kept out, by the abuse ladder or an admin."`
	Add  BanAdd  `cmd:"" help:"Keep an address, a network, a key or an account out."`
	Lift BanLift `cmd:"" help:"Let it in again."`
}

// BanList lists bans.
type BanList struct {
	AdminClient
}

// BanAdd keeps somebody out.
type BanAdd struct {
	AdminClient
	Subject string        `arg:"" help:"address:203.0.113.7, network:203.0.113.0/24, key:ID or account:ID."`
	Reason  string        `help:"Why, for the list and the audit." required:"" placeholder:"TEXT"`
	For     time.Duration `help:"How long, such as 24h. Default: until it is lifted." placeholder:"DURATION"`
}

// BanLift lets somebody in again.
type BanLift struct {
	AdminClient
	Subject string `arg:"" help:"As ban list shows it."`
}

// Key has the commands on keys.
type Key struct {
	Create KeyCreate `cmd:"" help:"Create a key and show it, once."`
	List   KeyList   `cmd:"" help:"List an account's keys."`
	Revoke KeyRevoke `cmd:"" help:"Revoke a key; it opens nothing from five seconds on."`
	Sign   KeySign   `cmd:"" help:"Print a link to a render that works without a key, until it ends."`
}

// KeyCreate creates a key.
type KeyCreate struct {
	AdminClient
	Account string        `arg:"" help:"Name or id of the account."`
	Name    string        `help:"What the key is for." placeholder:"TEXT"`
	Scopes  []string      `name:"scope" help:"What it opens: read, render, or both with a comma. Default: everything." placeholder:"SCOPE"`
	Expires time.Duration `name:"expires-in" help:"How long it works, such as 720h. Default: until it is revoked." placeholder:"DURATION"`
}

// KeySign signs a link. It asks no server.
type KeySign struct {
	Target
	URL     string        `arg:"" help:"The page, http or https."`
	KeyID   string        `name:"key-id" required:"" help:"Id of the key in whose name it is signed." placeholder:"ID"`
	Secret  string        `name:"signing-secret" help:"The key's signing secret, shown when it was made." env:"TINTYPE_SIGNING_SECRET" secret:"" placeholder:"SECRET"`
	Expires time.Duration `name:"expires-in" help:"How long the link works, at most 168h." default:"24h" placeholder:"DURATION"`
	PDF     bool          `name:"pdf" help:"A link to a PDF instead of a picture."`
	Options []string      `name:"option" sep:"none" help:"An option of the render, such as width=800; repeatable." placeholder:"NAME=VALUE"`
}

// KeyList lists an account's keys.
type KeyList struct {
	AdminClient
	Account string `arg:"" help:"Name or id of the account."`
}

// KeyRevoke revokes a key.
type KeyRevoke struct {
	AdminClient
	Account string `arg:"" help:"Name or id of the account."`
	Key     string `arg:"" help:"Id of the key, as key list shows it."`
}

// PolicyFile has the commands on policy files.
type PolicyFile struct {
	Check PolicyCheck `cmd:"" help:"Say what is wrong in a policy file, or what it has; exit 2 if anything is wrong."`
	Show  PolicyShow  `cmd:"" help:"Print a policy as a file that leaves nothing to a default: of a file, a built-in one, or the one that a farm goes by."`
}

// PolicyCheck checks a policy file.
type PolicyCheck struct {
	File string `arg:"" help:"The file, or the name of a built-in policy."`
}

// PolicyShow prints a policy.
type PolicyShow struct {
	Target
	Admin
	Folder
	File string `arg:"" optional:"" help:"A file, or the name of a built-in policy. Left out: the policy that the farm at --server goes by."`
}

// Doctor looks at this machine as `up` would find it.
type Doctor struct {
	Folder
	HTTP
	Render
	Cluster
	Backends
	Embedded
	JSON bool `name:"json" help:"Print the findings as JSON."`
}

// Healthcheck asks /readyz.
type Healthcheck struct {
	Target
}

// Show prints the settings: those of every command.
type Show struct {
	Folder
	HTTP
	Admin
	Sealing
	Policy
	Join
	Render
	Webhooks
	Cluster
	GRPC
	Drain
	Backends
	Embedded
	StoreListen
	Schedulers []string `name:"scheduler" help:"Schedulers that a worker asks for jobs." env:"TINTYPE_SCHEDULER" placeholder:"HOST:PORT"`
	Name       string   `help:"A worker's name." env:"TINTYPE_WORKER_NAME" default:"${hostname}"`
	Client
}

// Version prints versions.
type Version struct {
	ChromiumBin string `env:"TINTYPE_CHROMIUM_BIN" help:"The chromium-headless-shell to ask." envonly:"" hidden:""`
}
