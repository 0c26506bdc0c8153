package nats

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A goroutine of the server's package, started when it is imported.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"))
}

// start runs a server for the length of the test.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// client connects for the length of the test.
func client(t *testing.T, s *Server) jetstream.JetStream {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestKeepsMessagesAcrossRestart(t *testing.T) {
	ctx, dir := bounded(t), t.TempDir()

	first, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := first.Connect()
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	first.Close()
	first.Close() // a second Close is harmless

	stream, err := client(t, start(t, Config{Dir: dir})).Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(ctx, 1)
	if err != nil || string(msg.Data) != "kept" {
		t.Fatalf("got %v, %v; want the message published before the restart", msg, err)
	}
}

func TestStoreLimitRefusesOversubscription(t *testing.T) {
	ctx := bounded(t)
	js := client(t, start(t, Config{Dir: t.TempDir(), MaxStore: 4 << 20}))
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "FITS", Subjects: []string{"a"}, MaxBytes: 3 << 20}); err != nil {
		t.Fatal(err)
	}
	_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "TOO_MUCH", Subjects: []string{"b"}, MaxBytes: 2 << 20})
	if err == nil || !strings.Contains(err.Error(), "insufficient storage") {
		t.Fatalf("got %v, want a refusal for lack of storage", err)
	}
}

func TestListensOnLoopbackWithToken(t *testing.T) {
	s := start(t, Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", Token: "secret"})
	if nc, err := natsgo.Connect(s.ClientURL()); err == nil {
		nc.Close()
		t.Fatal("connected without the token")
	}
	nc, err := natsgo.Connect(s.ClientURL(), natsgo.Token("secret"))
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	client(t, s) // in-process clients get in as well

	if url := start(t, Config{Dir: t.TempDir()}).ClientURL(); url != "" {
		t.Fatalf("a server that does not listen has the URL %q", url)
	}
}

func TestSaysWhyItCannotStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no folder":     {Config{}, "no data folder"},
		"negative":      {Config{Dir: t.TempDir(), MaxStore: -1}, "negative"},
		"a file":        {Config{Dir: file}, "data folder"},
		"below a file":  {Config{Dir: filepath.Join(file, "x")}, "not a directory"},
		"public":        {Config{Dir: t.TempDir(), Listen: "0.0.0.0:0", Token: "x"}, "not a loopback address"},
		"no port":       {Config{Dir: t.TempDir(), Listen: "127.0.0.1", Token: "x"}, "not host:port"},
		"odd port":      {Config{Dir: t.TempDir(), Listen: "127.0.0.1:70000", Token: "x"}, "no valid port"},
		"without token": {Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}, "needs a token"},
		"port taken":    {Config{Dir: t.TempDir(), Listen: taken.Addr().String(), Token: "x"}, "listening on port"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(c.cfg)
			if err == nil {
				s.Close()
				t.Fatal("started")
			}
			if !strings.Contains(strings.ToLower(err.Error()), c.want) {
				t.Fatalf("got %q, want it to say %q", err, c.want)
			}
		})
	}
}

func TestLogReachesSlog(t *testing.T) {
	var out bytes.Buffer
	b := newBridge(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	b.Noticef("quiet")
	b.Warnf("low on %s", "space")
	b.Errorf("write failed: %d", 7)
	got := out.String()
	for _, want := range []string{"level=WARN", "low on space", "level=ERROR", "write failed: 7"} {
		if !strings.Contains(got, want) {
			t.Errorf("log lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "quiet") {
		t.Errorf("a notice is above debug:\n%s", got)
	}
}
