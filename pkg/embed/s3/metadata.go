package s3

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"golang.org/x/sys/unix"
)

// openMetadata picks where the server keeps content types, ETags and checksums:
// in extended attributes of the objects, or, where the file system has none, in
// files below sidecarDir. The choice is made once per data folder: if sidecarDir
// is there, it is used, since the objects' metadata is in it.
func openMetadata(objects, sidecarDir string) (meta.MetadataStorer, bool, error) {
	_, err := os.Lstat(sidecarDir)
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("look for the metadata folder: %w", err)
	default:
		ok, err := hasXattr(objects)
		if err != nil {
			return nil, false, err
		}
		if ok {
			return meta.XattrMeta{}, false, nil
		}
		if err := makeDir(sidecarDir); err != nil {
			return nil, false, err
		}
	}
	store, err := meta.NewSideCar(sidecarDir)
	if err != nil {
		return nil, false, fmt.Errorf("open the metadata folder: %w", err)
	}
	return sidecar{objects: objects, store: store}, true, nil
}

// hasXattr tries a user attribute on a fresh file in dir.
func hasXattr(dir string) (bool, error) {
	f, err := os.CreateTemp(dir, ".probe-")
	if err != nil {
		return false, fmt.Errorf("probe for extended attributes: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	err = unix.Fsetxattr(int(f.Fd()), "user.probe", make([]byte, 512), 0)
	switch {
	case err == nil:
		return true, nil
	// EPERM is what some network and container file systems say.
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.E2BIG):
		return false, nil
	default:
		return false, fmt.Errorf("probe for extended attributes: %w", err)
	}
}

// sidecar is versitygw's metadata in files, told buckets by the full path of
// their folder. It stores them by their name, so that the data folder can move.
type sidecar struct {
	objects string
	store   meta.SideCar
}

// name is the bucket's path below the folder of objects.
func (s sidecar) name(bucket string) string {
	rel, err := filepath.Rel(s.objects, bucket)
	if err != nil {
		return bucket
	}
	return rel
}

func (s sidecar) RetrieveAttribute(f *os.File, bucket, object, attribute string) ([]byte, error) {
	return s.store.RetrieveAttribute(f, s.name(bucket), object, attribute)
}

func (s sidecar) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	return s.store.StoreAttribute(f, s.name(bucket), object, attribute, value)
}

func (s sidecar) DeleteAttribute(bucket, object, attribute string) error {
	return s.store.DeleteAttribute(s.name(bucket), object, attribute)
}

func (s sidecar) ListAttributes(bucket, object string) ([]string, error) {
	return s.store.ListAttributes(s.name(bucket), object)
}

func (s sidecar) DeleteAttributes(bucket, object string) error {
	return s.store.DeleteAttributes(s.name(bucket), object)
}

func (s sidecar) RenameObject(bucket, oldObject, newObject string) error {
	return s.store.RenameObject(s.name(bucket), oldObject, newObject)
}
