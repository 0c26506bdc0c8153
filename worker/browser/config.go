package browser

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// DefaultBin is where Debian's package puts the binary.
const DefaultBin = "/usr/lib/chromium/chromium-headless-shell"

// Config says how browsers are started. Its zero value is right on Debian
// with the package chromium-headless-shell.
type Config struct {
	// Bin is the browser's binary; empty means DefaultBin.
	Bin string
	// User is the unprivileged user, by name or number, that browsers of a
	// root worker run as; empty means nobody. A worker that is not root runs
	// them as itself and ignores this.
	User string
	// Dir is the folder in which each browser gets a folder of its own, which
	// goes with it. Every parent must be open to User, so a data folder below
	// a private home will not do; empty means tintype-<uid> in the system's
	// temporary folder.
	Dir string
	// Listeners is how many proxies of jobs a browser can have in its life;
	// zero means 128. They are made with the browser's network namespace, into
	// which nobody gets later.
	Listeners int
	// Memory is how many bytes a browser may have in all, where the kernel can
	// count them for it; zero means no such limit.
	Memory int64
	// FlagsOnly starts browsers also where the kernel gives them no network
	// namespace, on this machine's network.
	FlagsOnly bool

	ways  []way                        // into a namespace, the first that is open; tests name their own
	adapt func(args []string) []string // tests change the browser's flags; nil leaves them
}

// identity is who the browser runs as.
type identity struct {
	uid, gid int
	change   bool // the worker is root and must step down
}

// resolve checks the configuration and fills what it leaves open.
func (c Config) resolve() (Config, identity, error) {
	if c.Bin == "" {
		c.Bin = DefaultBin
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(os.TempDir(), "tintype-"+strconv.Itoa(os.Getuid()))
	}
	if c.ways == nil {
		c.ways = []way{onThread, byHelper}
	}
	if c.Listeners <= 0 {
		c.Listeners = 128
	}
	if st, err := os.Stat(c.Bin); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return c, identity{}, fmt.Errorf("no browser at %s: install it with: apt-get install -y chromium-headless-shell", c.Bin)
	}
	id := identity{uid: os.Getuid(), gid: os.Getgid()}
	if id.uid == 0 {
		id.change = true
		var err error
		if id.uid, id.gid, err = lookup(c.User); err != nil {
			return c, id, err
		}
	}
	return c, id, nil
}

// lookup finds the unprivileged user of a root worker.
func lookup(name string) (uid, gid int, err error) {
	if name == "" {
		name = "nobody"
	}
	if n, err := strconv.Atoi(name); err == nil {
		uid, gid = n, n
	} else {
		u, err := user.Lookup(name)
		if err != nil {
			return 0, 0, fmt.Errorf("the browser's user: %w", err)
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return 0, 0, fmt.Errorf("the browser's user %q: %w", name, err)
		}
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return 0, 0, fmt.Errorf("the browser's user %q: %w", name, err)
		}
	}
	if uid <= 0 || gid <= 0 {
		return 0, 0, errors.New("the browser never runs as root: name an unprivileged user")
	}
	return uid, gid, nil
}

// credential is what the kernel sets before the browser's binary starts; nil
// leaves the worker's own.
func (id identity) credential() *syscall.Credential {
	if !id.change {
		return nil
	}
	return &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)} // and no further groups
}
