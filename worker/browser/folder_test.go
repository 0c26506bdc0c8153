package browser

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSweepSparesTheLiving(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "browsers")
	if err := openParent(dir); err != nil {
		t.Fatal(err)
	}
	living, err := newFolder(dir, "living", identity{})
	if err != nil {
		t.Fatal(err)
	}
	stale, err := newFolder(dir, "stale", identity{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stale.path, "profile", "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	stale.lock.Close() // as when its owner died
	if err := os.WriteFile(filepath.Join(dir, "foreign"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "browser-living browser-living.lock foreign" {
		t.Errorf("left: %s", got)
	}
	if err := living.remove(); err != nil {
		t.Error(err)
	}
}

func TestParentIsChecked(t *testing.T) {
	base := t.TempDir()
	open := filepath.Join(base, "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o777)
	link := filepath.Join(base, "link")
	if err := os.Symlink(base, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{open, link} {
		if err := openParent(dir); err == nil {
			t.Errorf("%s: accepted", filepath.Base(dir))
		}
	}
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	strict := filepath.Join(base, "strict")
	if err := openParent(strict); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(strict); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v: the browser's user cannot enter", st.Mode(), err)
	}
}

func TestUserIsUnprivileged(t *testing.T) {
	for _, name := range []string{"root", "0", "no-such-user-here"} {
		if _, _, err := lookup(name); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if uid, gid, err := lookup(""); err != nil || uid == 0 || gid == 0 {
		t.Errorf("the default: %d %d %v", uid, gid, err)
	}
	if uid, gid, err := lookup("54321"); err != nil || uid != 54321 || gid != 54321 {
		t.Errorf("a number: %d %d %v", uid, gid, err)
	}
}

func TestCheckNamesTheWayOut(t *testing.T) {
	err := Check(Config{Bin: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.Contains(err.Error(), "apt-get install -y chromium-headless-shell") {
		t.Error(err)
	}
}

func TestCommandLine(t *testing.T) {
	line := strings.Join(args("/d"), "\n")
	for _, must := range []string{
		"--remote-debugging-pipe", "--proxy-bypass-list=<-loopback>", "--user-data-dir=/d/profile",
		"--force-webrtc-ip-handling-policy=disable_non_proxied_udp", "--webrtc-ip-handling-policy=disable_non_proxied_udp",
		"--host-resolver-rules=MAP tintype-egress 127.0.0.1 , MAP * ~NOTFOUND", "--block-new-web-contents",
	} {
		if !strings.Contains(line, must) {
			t.Errorf("lacks %s", must)
		}
	}
	for _, never := range []string{"--no-sandbox", "--no-zygote", "--single-process", "--disable-web-security", "--remote-debugging-port", "--allow-file-access"} {
		if strings.Contains(line, never) {
			t.Errorf("has %s", never)
		}
	}
	for _, e := range environment("/d") {
		if strings.HasPrefix(e, "TINTYPE") {
			t.Errorf("the environment has %s", e)
		}
	}
}
