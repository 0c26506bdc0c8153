package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/font"
)

// want checks a finding: its status, what its words hold, and that a fix is
// there exactly where one is needed.
func want(t *testing.T, what string, got Finding, status Status, words ...string) {
	t.Helper()
	if got.Status != status || got.Name == "" || got.Detail == "" || (got.Fix == "") != (status == OK) {
		t.Errorf("%s: %+v, want it to be %s", what, got, status)
	}
	for _, w := range words {
		if !strings.Contains(got.Detail+" "+got.Fix, w) {
			t.Errorf("%s: %+v does not say %q", what, got, w)
		}
	}
}

func write1(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTell(t *testing.T) {
	all := []Finding{ok("a", "well"), warn("bc", "do this", "hm"), fail("d", "do that", "no")}
	var out bytes.Buffer
	err := tell(&out, all, false)
	if failed, is := errors.AsType[*Failed](err); !is || failed.Failures != 1 || failed.Findings != 3 {
		t.Errorf("%v", err)
	}
	if got, want := out.String(), "ok    a   well\nwarn  bc  hm\n          fix: do this\nfail  d   no\n          fix: do that\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	out.Reset()
	if err := tell(&out, all[:2], false); err != nil {
		t.Errorf("a warning is a failure: %v", err)
	}
	out.Reset()
	var got struct {
		OK     bool
		Checks []Finding
	}
	if err := tell(&out, all, true); err == nil || json.Unmarshal(out.Bytes(), &got) != nil || got.OK || len(got.Checks) != 3 || got.Checks[2] != all[2] {
		t.Errorf("%v, %s", err, &out)
	}
}

// A machine on which the tests run is well, but for what they put in the way.
func TestExamine(t *testing.T) {
	needtest.Browser(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Doctor{Folder: config.Folder{Data: filepath.Join(dir, "data")}, HTTP: config.HTTP{Listen: "127.0.0.1:0"}, Render: config.Render{Seats: 1}}
	seen := map[string]Finding{}
	for _, f := range Examine(t.Context(), cfg) {
		seen[f.Name] = f
		if f.Status == Fail && f.Name != "disk" || (f.Fix == "") != (f.Status == OK) {
			t.Errorf("%+v", f)
		}
	}
	for _, name := range []string{
		"chromium", "browser user", "namespaces", "sandbox", "fonts", "shared memory", "postgres", "data folder", "disk", "memory", "port 127.0.0.1:0",
	} {
		if seen[name].Status == "" {
			t.Errorf("%s was not looked at", name)
		}
	}
	if _, err := os.Stat(cfg.Data); err == nil {
		t.Error("the data folder was made")
	}
	cfg.Seats = 0
	for _, f := range Examine(t.Context(), cfg) {
		if f.Name == "chromium" || f.Name == "memory" {
			t.Errorf("without seats: %+v", f)
		}
	}
}

func TestBrowser(t *testing.T) {
	dir := t.TempDir()
	none := chromium(t.Context(), config.Render{ChromiumBin: filepath.Join(dir, "none")})
	want(t, "no browser", none[0], Fail, "TINTYPE_CHROMIUM_BIN")
	script := func(name, lines string) []Finding {
		bin := write1(t, filepath.Join(dir, name), "#!/bin/sh\n"+lines+"\n")
		if err := os.Chmod(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		return chromium(t.Context(), config.Render{ChromiumBin: bin})
	}
	want(t, "one that says nothing", script("mute", "exit 1")[0], Fail, "TINTYPE_CHROMIUM_BIN")
	other := script("other", "echo other 1.0; echo more of it")
	want(t, "another program", other[0], Fail, "is no Chromium; it says: other 1.0", "TINTYPE_CHROMIUM_BIN")
	if len(other) != 1 || strings.Contains(other[0].Detail, "more") {
		t.Errorf("another program: %+v", other)
	}
	// It is not the kernel that keeps this one from starting.
	broken := script("broken", `[ "$1" = --version ] && echo Chromium 1 && exit; exit 1`)
	want(t, "one that ends at once", broken[len(broken)-1], Fail, "did not start", "TINTYPE_CHROMIUM_BIN")
	if name := broken[len(broken)-1].Name; name != "browser start" {
		t.Errorf("one that ends at once: %s", name)
	}
	if len(none) != 1 {
		t.Errorf("a browser that is not there was started: %+v", none)
	}
}

func TestNamespaceFix(t *testing.T) {
	sys := t.TempDir()
	if got := namespaceFix(sys); !strings.Contains(got, "seccomp=unconfined") {
		t.Errorf("nothing is set: %s", got)
	}
	for path, want := range map[string]string{
		"kernel/apparmor_restrict_unprivileged_userns=1": "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
		"kernel/unprivileged_userns_clone=0":             "sysctl -w kernel.unprivileged_userns_clone=1",
		"user/max_user_namespaces=0":                     "sysctl -w user.max_user_namespaces=10000",
	} {
		name, value, _ := strings.Cut(path, "=")
		file := write1(t, filepath.Join(sys, name), value+"\n")
		if got := namespaceFix(sys); got != want {
			t.Errorf("%s: %s", path, got)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFonts(t *testing.T) {
	want(t, "none", fontsOf(&font.Coverage{}, nil), Warn, "devanagari", "fonts-noto-color-emoji")
	want(t, "no tool", fontsOf(nil, fmt.Errorf("wrapped: %w", font.ErrNoTool)), Warn, "apt-get install", "fontconfig")
	want(t, "broken", fontsOf(nil, errors.New("it is broken")), Warn, "it is broken")
}

func TestMachine(t *testing.T) {
	dir := t.TempDir()
	want(t, "no /dev/shm", sharedMemory(filepath.Join(dir, "none")), Warn, "remount")
	want(t, "no /proc", memory(filepath.Join(dir, "none"), 1), Warn, "mount /proc")
	want(t, "another /proc", memory(write1(t, filepath.Join(dir, "odd"), "MemAvailable: lots\n"), 1), Warn)
	meminfo := write1(t, filepath.Join(dir, "meminfo"), "MemTotal:       16000000 kB\nMemAvailable:    4194304 kB\n")
	want(t, "enough memory", memory(meminfo, 4), OK, "4096 MB")
	want(t, "too little", memory(meminfo, 64), Warn, "--seats 7")

	want(t, "disk", disk(filepath.Join(dir, "not", "there")), diskOf(t, dir))
	want(t, "a file for a folder", dataFolder(write1(t, filepath.Join(dir, "file"), "")), Fail, "--data")
	if os.Geteuid() == 0 {
		closed := filepath.Join(dir, "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		want(t, "a closed folder", dataFolder(filepath.Join(closed, "data")), Fail, "chmod o+x "+closed)
	} else {
		want(t, "another's folder", dataFolder("/proc/tintype"), Fail, "--data")
	}
}

// diskOf is what the disk of a folder is, by the same bounds.
func diskOf(t *testing.T, dir string) Status {
	t.Helper()
	free, whole, err := space(dir)
	switch {
	case err != nil:
		t.Fatal(err)
	case free < whole/10:
		return Fail
	case free < 5<<30:
		return Warn
	}
	return OK
}

// A port that is taken is trouble, unless the farm of this folder has it.
func TestPorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config.Doctor{Folder: config.Folder{Data: t.TempDir()}, HTTP: config.HTTP{Listen: l.Addr().String(), AdminListen: "192.0.2.1:1"}}
	all := ports(cfg)
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	want(t, "taken", all[0], Fail, "--listen", "ss -ltnp")
	want(t, "not ours", all[1], Fail, "--admin-listen")

	lock, err := os.Create(filepath.Join(cfg.Data, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.WriteString(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		t.Fatal(err)
	}
	if holder(cfg.Data) != "" {
		t.Error("a folder that nobody holds is in use")
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	want(t, "the farm's own", ports(cfg)[0], OK, cfg.Data)
	if got := holder(cfg.Data); got != strconv.Itoa(os.Getpid()) {
		t.Errorf("held by %q", got)
	}
}

// Stores that are named are asked, and what opens them is not repeated.
func TestStores(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	here, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	cfg := config.Doctor{Backends: config.Backends{
		NATSURL: "nats://hush@" + gone, DatabaseURL: "postgres://user:hush@" + gone + "/db",
		S3: config.S3{S3Endpoint: "http://" + gone, S3Bucket: "b", S3Region: "r", S3AccessKey: "hush", S3SecretKey: "hush"},
	}}
	all := append(stores(t.Context(), cfg.Backends), postgresServer(t.Context(), cfg))
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	for i, setting := range []string{"TINTYPE_NATS_URL", "TINTYPE_S3_ENDPOINT", "TINTYPE_DATABASE_URL"} {
		want(t, setting, all[i], Fail, setting)
		if strings.Contains(fmt.Sprint(all[i]), "hush") {
			t.Errorf("a secret is told: %+v", all[i])
		}
	}
	want(t, "one of two servers", nats(t.Context(), "nats://"+gone+", nats://hush@"+here.Addr().String()), OK, here.Addr().String())
	cfg = config.Doctor{Folder: config.Folder{Data: t.TempDir()}, Embedded: config.Embedded{PostgresBin: t.TempDir()}}
	want(t, "no programs", postgresServer(t.Context(), cfg), Fail, "TINTYPE_POSTGRES_BIN")
}
