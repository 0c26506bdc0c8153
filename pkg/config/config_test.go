package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// parse starts from an environment without any setting of the machine's.
func parse(t *testing.T, env map[string]string, args ...string) (*Parsed, error) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "TINTYPE_") {
			t.Setenv(name, "") // so that it is restored
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	return Parse(args, t.Output())
}

func problems(t *testing.T, err error) []string {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("want a list of problems, got %v", err)
	}
	return e.Problems
}

func TestSources(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := parse(t, map[string]string{
		"TINTYPE_LISTEN":           "127.0.0.1:1",
		"TINTYPE_SEATS":            "3",
		"TINTYPE_ADMIN_LISTEN":     "", // empty means the default
		"TINTYPE_DRAIN_LIMIT":      "",
		"TINTYPE_ADMIN_TOKEN_FILE": secret,
		"TINTYPE_EGRESS_ALLOW":     "10.0.0.1,intranet.example:8000",
		"TINTYPE_INSECURE_CLUSTER": "yes",
		"TINTYPE_DATABASE_URL":     "postgres://u:pw@db/x",
	}, "up", "--seats", "5", "--data", "/srv/x")
	if err != nil {
		t.Fatal(err)
	}
	if p.Command != "up" || p.Up.Listen != "127.0.0.1:1" || p.Up.Seats != 5 || p.Up.Data != "/srv/x" ||
		p.Up.AdminToken != "s3cret" || !p.Up.InsecureCluster || p.Up.DrainLimit.String() != "1m0s" {
		t.Errorf("unexpected values: %+v", p.Up)
	}
	if want := []string{"10.0.0.1", "intranet.example:8000"}; !cmp.Equal(p.Up.EgressAllow, want) {
		t.Errorf("egress allow = %q, want %q", p.Up.EgressAllow, want)
	}
	got := map[string]Setting{}
	for _, s := range p.Settings {
		got[s.Name] = s
	}
	for _, want := range []Setting{
		{"listen", "127.0.0.1:1", "environment TINTYPE_LISTEN"},
		{"seats", "5", "flag"},
		{"admin-token", "***", "file " + secret},
		{"drain-limit", "1m0s", "default"},
		{"TINTYPE_DATABASE_URL", "***", "environment TINTYPE_DATABASE_URL"},
		{"TINTYPE_S3_BUCKET", "tintype", "default"},
	} {
		if got[want.Name] != want {
			t.Errorf("setting %+v, want %+v", got[want.Name], want)
		}
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := parse(t, map[string]string{
		"TINTYPE_LISEN":         "127.0.0.1:1",
		"TINTYPE_SEATS":         "many",
		"TINTYPE_S3_ENDPOINT":   "minio:9000",
		"TINTYPE_S3_ACCESS_KEY": "ak",
		"TINTYPE_WEBHOOK":       "x",
	}, "up", "--drain-limit", "soon", "--listen", "8080", "--egress-allow", "not an address")
	got := strings.Join(problems(t, err), "\n")
	for _, want := range []string{
		"unknown environment variable TINTYPE_LISEN; did you mean TINTYPE_LISTEN?",
		"unknown environment variable TINTYPE_WEBHOOK\n",
		`TINTYPE_SEATS: want a whole number, not "many"`,
		`--drain-limit: want a duration such as 30s or 1m, not "soon"`,
		`--listen: want HOST:PORT, not "8080"`,
		`TINTYPE_S3_ENDPOINT: want http(s)://HOST[:PORT], not "minio:9000"`,
		"TINTYPE_S3_SECRET_KEY is missing",
		"not an address",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in:\n%s", want, got)
		}
	}
}

// All that is wrong in a policy file is told beside the rest.
func TestPolicyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nplans:\n- name: free\n  teir: 2\n  threads: 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"up", "api", "scheduler"} {
		_, err := parse(t, map[string]string{"TINTYPE_POLICY": file}, mode, "--log-level", "loud")
		got := strings.Join(problems(t, err), "\n")
		for _, want := range []string{
			"--policy: " + file + ":4:3: plans[0].teir: is not known; did you mean tier?", file + ":5:12: plans[0].threads: must be", "--log-level",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is missing in:\n%s", mode, want, got)
			}
		}
	}
	if _, err := parse(t, nil, "up", "--policy", "/does/not/exist"); !strings.Contains(strings.Join(problems(t, err), ""), "--policy: open /does/not/exist") {
		t.Errorf("a file that is not there: %v", err)
	}
	if p, err := parse(t, nil, "up", "--policy", "../../deploy/policies/default.yaml"); err != nil || p.Up.File == "" {
		t.Errorf("the default policy: %v", err)
	}
}

func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"unknown flag":           {nil, []string{"up", "--lissten", "x"}, "unknown flag --lissten"},
		"unknown command":        {nil, []string{"upp"}, `unexpected argument upp`},
		"env only":               {nil, []string{"up", "--nats-url", "nats://x"}, "unknown flag --nats-url: it is set in the environment, as TINTYPE_NATS_URL"},
		"log level":              {nil, []string{"--log-level", "loud", "version"}, `--log-level: want debug, info, warn or error, not "loud"`},
		"secret twice":           {map[string]string{"TINTYPE_KEY": "a", "TINTYPE_KEY_FILE": "/b"}, []string{"shot", "http://x"}, "TINTYPE_KEY: is set twice"},
		"secret file missing":    {map[string]string{"TINTYPE_KEY_FILE": "/does/not/exist"}, []string{"shot", "http://x"}, "TINTYPE_KEY_FILE: open /does/not/exist"},
		"nothing to render":      {nil, []string{"shot"}, "Give a URL, or --html FILE"},
		"two things":             {nil, []string{"pdf", "http://x", "--html", "y"}, "not both"},
		"open cluster":           {nil, []string{"up", "--cluster-listen", "0.0.0.0:9"}, "--insecure-cluster"},
		"cluster with own S3":    {nil, []string{"up", "--cluster-listen", "0.0.0.0:9", "--insecure-cluster"}, "TINTYPE_S3_ENDPOINT"},
		"listen everywhere":      {nil, []string{"up", "--cluster-listen", ":9"}, "give --advertise"},
		"half an identity":       {map[string]string{"TINTYPE_GRPC_CERT": "/a"}, []string{"worker"}, "--grpc-key is missing"},
		"certificate not there":  {nil, []string{"api", "--grpc-cert", "/a.crt", "--grpc-key", "/a.key", "--grpc-ca", "/ca.crt"}, "/a.crt"},
		"advertise alone":        {nil, []string{"up", "--advertise", "h:1"}, "--cluster-listen"},
		"demo without seats":     {nil, []string{"up", "--demo", "--seats", "0"}, "--demo"},
		"S3 without endpoint":    {map[string]string{"TINTYPE_S3_SECRET_KEY": "x"}, []string{"up"}, "which server is it for?"},
		"api alone":              {nil, []string{"api"}, "TINTYPE_NATS_URL is missing"},
		"api without a key":      {nil, []string{"api"}, "TINTYPE_SECRET_KEY is missing"},
		"api's bad key":          {map[string]string{"TINTYPE_SECRET_KEY": "too short"}, []string{"api"}, "TINTYPE_SECRET_KEY: want 32 bytes in base64"},
		"up's bad key":           {map[string]string{"TINTYPE_SECRET_KEY": "too short"}, []string{"up"}, "TINTYPE_SECRET_KEY: want 32 bytes in base64"},
		"api's way out":          {nil, []string{"api", "--egress-allow", "10.0.0.0/33"}, `egress allow "10.0.0.0/33"`},
		"worker with the key":    {map[string]string{"TINTYPE_SECRET_KEY": "x"}, []string{"worker"}, "TINTYPE_SECRET_KEY is set: a worker"},
		"scheduler, no key":      {nil, []string{"scheduler", "--cluster-listen", "127.0.0.1:1"}, "TINTYPE_SECRET_KEY is missing"},
		"scheduler's bad key":    {map[string]string{"TINTYPE_SECRET_KEY": "too short"}, []string{"scheduler"}, "TINTYPE_SECRET_KEY: want 32 bytes in base64"},
		"scheduler alone":        {nil, []string{"scheduler"}, "--cluster-listen is missing"},
		"worker alone":           {nil, []string{"worker"}, "--scheduler is missing"},
		"worker token":           {nil, []string{"worker", "--scheduler", "localhost:1"}, "--worker-token-file is missing"},
		"worker token file":      {nil, []string{"worker", "--scheduler", "localhost:1", "--worker-token-file", "/nope"}, "/nope"},
		"worker without seats":   {map[string]string{"TINTYPE_SEATS": "0"}, []string{"worker"}, "at least 1"},
		"worker with a key":      {map[string]string{"TINTYPE_S3_SECRET_KEY_FILE": "/x"}, []string{"worker"}, "TINTYPE_S3_SECRET_KEY_FILE is set: a worker"},
		"worker with a database": {map[string]string{"TINTYPE_DATABASE_URL": "postgres://x"}, []string{"worker"}, "TINTYPE_DATABASE_URL is set: a worker"},
		"where a tier is asked":  {nil, []string{"backends", "--admin-listen", "9191"}, "--admin-listen: want HOST:PORT"},
		"worker off loopback":    {map[string]string{"TINTYPE_WORKER_TOKEN": "t"}, []string{"worker", "--scheduler", "10.0.0.1:1"}, "--insecure-cluster"},
		"migrate without a base": {nil, []string{"migrate"}, "TINTYPE_DATABASE_URL is missing"},
		"open backends":          {nil, []string{"backends", "--s3-listen", "0.0.0.0:9000"}, "--insecure-backends"},
		"backends elsewhere":     {map[string]string{"TINTYPE_NATS_LISTEN": "4222"}, []string{"backends"}, "--nats-listen: want HOST:PORT"},
		"nats address":           {map[string]string{"TINTYPE_NATS_URL": "nats://secret@a:4222,b:4222"}, []string{"up"}, "address 2 is none"},
		"nats copies":            {map[string]string{"TINTYPE_NATS_URL": "nats://a", "TINTYPE_NATS_REPLICAS": "2"}, []string{"up"}, "want 1 or 3"},
		"nats copies at home":    {map[string]string{"TINTYPE_NATS_REPLICAS": "3"}, []string{"up"}, "TINTYPE_NATS_URL is not"},
		"server":                 {nil, []string{"healthcheck", "--server", "localhost:8080"}, "--server: want http(s)://"},
		"a ttl too fine":         {nil, []string{"shot", "http://x", "--ttl", "1500ms"}, "--ttl 1.5s: want whole seconds"},
		"a ttl too long":         {nil, []string{"pdf", "http://x", "--ttl", "8761h"}, "--ttl 8761h0m0s: want whole seconds, 0s to 8760h"},
		"no batch":               {nil, []string{"batch", "-o", "x"}, "Give a FILE of lines"},
		"two batches":            {nil, []string{"batch", "f", "--batch", "b", "-o", "x"}, "not both"},
		"no folder":              {nil, []string{"batch", "f"}, "Give -o DIR"},
		"an attached dry run":    {nil, []string{"batch", "--batch", "b", "--dry-run"}, "go with a FILE"},
		"a dry run into folder":  {nil, []string{"batch", "f", "--dry-run", "-o", "x"}, "--dry-run makes nothing"},
		"batch on the same pipe": {nil, []string{"batch", "f", "--json", "-o", "-"}, "standard output"},
		"on error":               {nil, []string{"batch", "f", "-o", "x", "--on-error", "ignore"}, "want reject or skip"},
		"json on the same pipe":  {nil, []string{"shot", "http://x", "--json", "-o", "-"}, "standard output"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, test.env, test.args...)
			if got := strings.Join(problems(t, err), "\n"); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want something with %q", got, test.want)
			}
		})
	}
}

// A variable that only another command reads is no problem of this one.
func TestForeignVariable(t *testing.T) {
	if _, err := parse(t, map[string]string{"TINTYPE_SEATS": "many"}, "healthcheck"); err != nil {
		t.Error(err)
	}
}

func TestCommands(t *testing.T) {
	for want, args := range map[string][]string{
		"account create": {"account", "create", "acme", "--plan", "pro"},
		"key revoke":     {"key", "revoke", "acme", "k1"},
		"shot":           {"shot", "https://example.com", "-o", "x.png", "--full-page"},
		"batch":          {"batch", "f.csv", "-o", "d", "--option", "a=1,2", "--option", "b=2"},
		"worker":         {"worker", "--scheduler", "localhost:1,localhost:2", "--worker-token-file", writeToken(t)},
	} {
		p, err := parse(t, nil, args...)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		if p.Command != want {
			t.Errorf("%q is command %q, want %q", args, p.Command, want)
		}
		if want == "batch" && (len(p.Batch.Options) != 2 || p.Batch.Options[0] != "a=1,2") {
			t.Errorf("batch: %+v", p.Batch)
		}
		if want == "worker" && (p.Worker.WorkerToken != "tok" || len(p.Worker.Schedulers) != 2) {
			t.Errorf("worker: %+v", p.Worker)
		}
	}
}

func writeToken(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "worker.token")
	if err := os.WriteFile(path, []byte("tok\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"up", "--help"}} {
		var out bytes.Buffer
		if _, err := Parse(args, &out); !errors.Is(err, ErrHelp) {
			t.Errorf("%q: %v", args, err)
		}
		if !strings.Contains(out.String(), "Usage: tintype") {
			t.Errorf("%q printed %q", args, out.String())
		}
		if len(args) == 2 && !strings.Contains(strings.Join(strings.Fields(out.String()), " "), "Default: 127.0.0.1:8080. ($TINTYPE_LISTEN)") {
			t.Errorf("%q does not say what --listen is by default:\n%s", args, out.String())
		}
		if strings.Contains(out.String(), "--nats-url") {
			t.Errorf("%q offers a flag for what only the environment sets", args)
		}
	}
}

func TestPrint(t *testing.T) {
	p, err := parse(t, map[string]string{
		"TINTYPE_DATA": "/srv/tintype", "TINTYPE_SEATS": "2", "TINTYPE_WORKER_NAME": "w1",
		"TINTYPE_ADMIN_TOKEN": "hidden", "TINTYPE_NATS_URL": "nats://user:hidden@nats:4222", "TINTYPE_KEY": "hidden",
		"TINTYPE_SECRET_KEY": "hidden",
	}, "config", "--listen", "127.0.0.1:9090")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Print(&out, p.Settings, true); err != nil {
		t.Fatal(err)
	}
	var again []Setting
	if err := json.Unmarshal(out.Bytes(), &again); err != nil || !cmp.Equal(p.Settings, again) || strings.Contains(out.String(), "hidden") {
		t.Errorf("as JSON: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := Print(&out, p.Settings, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hidden") {
		t.Error("a secret was printed")
	}
	golden := filepath.Join("testdata", "config.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Error(diff)
	}
}
