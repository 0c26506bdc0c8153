package main

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// smallDisk is the size of the disk under NATS in a run that fills it.
const smallDisk = "size=96m"

// mountSmall puts a small disk at dir, where that is allowed.
func mountSmall(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return unix.Mount("tmpfs", dir, "tmpfs", 0, smallDisk)
}

func unmountSmall(dir string) error {
	if dir == "" {
		return nil
	}
	return unix.Unmount(dir, 0)
}

// fillDisk writes until the disk is full; the file that it returns is to be
// removed.
func fillDisk(dir string) (string, error) {
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
		if errors.Is(err, unix.ENOSPC) && len(block) > 1 {
			block, err = block[:len(block)/2], nil
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		err = nil
	}
	return path, errors.Join(err, f.Close())
}
