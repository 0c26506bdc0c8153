package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user that the server runs as. The zero value is the user of this
// process.
type owner struct {
	name     string
	uid, gid uint32
	other    bool   // not the user of this process, which is root then
	program  string // what the owner will run
}

// chooseOwner keeps the server from running as root, which Postgres refuses.
func chooseOwner() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return owner{}, fmt.Errorf("read the ids of user %s: %w", name, err)
		}
		return owner{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return owner{}, errors.New("a Postgres server does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

// attributes is how a process of the owner is started.
func (o owner) attributes() *syscall.SysProcAttr {
	if !o.other {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
}

// take makes dir (and what is missing above it), gives it to the owner with mode
// 0700, and makes sure that the owner gets there.
func (o owner) take(dir string) error {
	// What is made above dir lets others pass, as the owner has to.
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if o.other {
		if err := os.Lchown(dir, int(o.uid), int(o.gid)); err != nil {
			return fmt.Errorf("give the folder to user %s: %w", o.name, err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close the folder to others: %w", err)
	}
	return o.reach(dir)
}

// reach runs the server's program in dir as the owner, to see whether it can. It
// would be initdb that fails otherwise, with words that name neither the folder
// nor the fix.
func (o owner) reach(dir string) error {
	if !o.other {
		return nil
	}
	cmd := exec.Command(o.program, "--version")
	cmd.Dir = dir
	cmd.SysProcAttr = o.attributes()
	err := cmd.Run()
	if err == nil {
		return nil
	}
	for _, path := range []string{dir, o.program} {
		if closed := o.closedFolder(path); closed != "" {
			return fmt.Errorf("the Postgres server runs as user %s, who cannot pass through %s to reach %s: "+
				"choose another folder, or allow it with: chmod o+x %s", o.name, closed, path, closed)
		}
	}
	return fmt.Errorf("user %s cannot run %s in %s: %w", o.name, o.program, dir, err)
}

// closedFolder is the topmost folder above path whose mode keeps the owner out,
// or empty.
func (o owner) closedFolder(path string) string {
	var above []string
	for d := filepath.Dir(path); ; d = filepath.Dir(d) {
		above = append(above, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for i := len(above) - 1; i >= 0; i-- {
		st, err := os.Stat(above[i])
		if err != nil {
			continue
		}
		bit := fs.FileMode(0o001)
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			switch {
			case sys.Uid == o.uid:
				bit = 0o100
			case sys.Gid == o.gid:
				bit = 0o010
			}
		}
		if st.Mode()&bit == 0 {
			return above[i]
		}
	}
	return ""
}
