package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/seal"
)

// freeAddress is one of loopback on which nobody listened a moment ago. Its port
// is below those that the system gives to connections, which come and go.
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

// settings is what `backends` wrote for the other modes.
func (w *world) settings() []string {
	w.t.Helper()
	f, err := os.Open(filepath.Join(w.data(), "backends.env"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		w.t.Errorf("backends.env: %v, %v; want mode 0600", st, err)
	}
	var env []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		env = append(env, lines.Text())
	}
	return env
}

// process runs one mode until the test ends or stop is called, which gives its
// exit code.
func (w *world) process(env []string, args ...string) (stop func(os.Signal) int) {
	w.t.Helper()
	cmd := w.command(args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = w.t.Output()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stopped := false
	stop = func(sig os.Signal) int {
		if !stopped {
			stopped = true
			_ = cmd.Process.Signal(sig) // it may have ended by itself
			_ = cmd.Wait()              // the exit code is read from the state
		}
		return cmd.ProcessState.ExitCode()
	}
	w.t.Cleanup(func() { stop(syscall.SIGKILL) })
	return stop
}

// ready waits until a farm takes jobs.
func (w *world) ready(url string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("not ready in time: %v", err)
		case <-tick.C:
		}
	}
}

// Every mode in a process of its own, on what `backends` serves: a page is
// rendered, also after the stores were killed and started anew and after the
// leader was killed; and `up` goes on in the same folder.
func TestEveryModeInAProcess(t *testing.T) {
	needtest.Farm(t)
	w := newWorld(t)
	first, second, door := freeAddress(t), freeAddress(t), freeAddress(t)
	watches := map[string]string{"backends": freeAddress(t), "scheduler": freeAddress(t), "worker": freeAddress(t)}
	ports := []string{
		"--nats-listen", freeAddress(t), "--postgres-listen", freeAddress(t), "--s3-listen", freeAddress(t), "--admin-listen", watches["backends"],
	}
	stores := w.start(append([]string{"backends"}, ports...)...)
	env := w.settings()
	for _, secret := range []string{"nats.token", "nats.url", "postgres.password", "postgres.url", "s3.secret", "worker.token", "admin.token", "secret.key"} {
		st, err := os.Stat(filepath.Join(w.data(), secret))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", secret, st, err)
			continue
		}
		text, err := os.ReadFile(filepath.Join(w.data(), secret))
		if err != nil || strings.Contains(stores.banner, strings.TrimSpace(string(text))) {
			t.Errorf("%s was printed (%v)", secret, err)
		}
		if p := strings.Join(w.strays(), "\n"); strings.Contains(p, strings.TrimSpace(string(text))) {
			t.Errorf("%s is in a command line:\n%s", secret, p)
		}
	}
	if _, said, code := w.client("", "", "backends"); code != 2 || !strings.Contains(said, "is in use by process") {
		t.Errorf("a second start ended with %d: %s", code, said)
	}
	conn, err := pgx.Connect(t.Context(), "postgres://tintype:tintype@"+ports[3]+"/tintype?sslmode=disable")
	if err == nil {
		conn.Close(t.Context())
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "28P01" {
		t.Errorf("Postgres answers a wrong password with %v", err)
	}

	if code := w.process(env, "migrate")(syscall.Signal(0)); code != 0 {
		t.Fatalf("migrate ended with %d", code)
	}
	leader := w.process(env, "scheduler", "--cluster-listen", first, "--admin-listen", watches["scheduler"])
	api := w.process(env, "api", "--listen", door)
	worker := w.process(nil, "worker", "--scheduler", first+","+second, "--seats", "1",
		"--worker-token-file", filepath.Join(w.data(), "worker.token"), "--admin-listen", watches["worker"])
	url := "http://" + door
	w.ready(url)
	standby := w.process(env, "scheduler", "--cluster-listen", second)
	key, said, code := w.client(url, "", "account", "create", "acme")
	if code != 0 {
		t.Fatalf("account create: %d, %s", code, said)
	}
	key = strings.TrimSpace(key)
	renders := func(when string) {
		t.Helper()
		deadline := time.NewTimer(2 * time.Minute)
		defer deadline.Stop()
		for {
			out, said, code := w.client(url, "<h1>Hello</h1>", "shot", "--html", "-", "-o", "-", "--key", key)
			if code == 0 && strings.HasPrefix(out, pngHead) {
				return
			}
			select {
			case <-deadline.C:
				t.Fatalf("%s: %d, %s", when, code, said)
			default: // refused, and told to come back
			}
		}
	}
	renders("at first")
	for _, address := range watches {
		w.ready("http://" + address)
	}
	if _, said, code := w.client("http://"+watches["scheduler"], "", "healthcheck"); code != 0 {
		t.Errorf("healthcheck of the scheduler: %d, %s", code, said)
	}
	wrong := w.command("api", "--listen", "127.0.0.1:0")
	wrong.Env = append(wrong.Env, append(env, "TINTYPE_SECRET_KEY_FILE=", "TINTYPE_SECRET_KEY="+seal.NewKey())...)
	if said, err := wrong.CombinedOutput(); err == nil || wrong.ProcessState.ExitCode() != 2 || !bytes.Contains(said, []byte("secret key is not the one")) {
		t.Errorf("with the secret key of another farm api ended with %v: %s", err, said)
	}
	leader(syscall.SIGKILL)
	renders("after the leader was killed")

	stores.stop(t, syscall.SIGKILL)
	for _, setting := range env { // as from a shell that has read backends.env
		name, value, _ := strings.Cut(setting, "=")
		t.Setenv(name, value)
	}
	stores = w.start(append([]string{"backends"}, ports...)...)
	for _, setting := range env {
		name, _, _ := strings.Cut(setting, "=")
		t.Setenv(name, "")
	}
	w.ready(url)
	renders("after the stores were killed")

	for name, stop := range map[string]func(os.Signal) int{"worker": worker, "api": api, "scheduler": standby} {
		if code := stop(syscall.SIGTERM); code != 0 {
			t.Errorf("%s stopped with %d", name, code)
		}
	}
	if code := stores.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("backends stopped with %d", code)
	}
	w.noStrays()

	all := w.up()
	url = all.url
	renders("in one process")
	if code := all.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("up stopped with %d", code)
	}
	w.noStrays()
}
