package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// folder is the back end of the server: versitygw's own for local files, with
// the writes synced, its internal errors logged, and buckets named by their
// full path.
//
// The full path is what keeps the process's working directory free: versitygw
// means to enter its folder and names buckets relative to it, yet only ever
// joins bucket and key. What it embeds answers NotImplemented, so an operation
// that is not spelled out here cannot run with a bare name.
type folder struct {
	backend.BackendUnsupported

	files   *posix.Posix
	objects string // the folder of buckets, absolute
	sidecar string // the folder of metadata files; empty with extended attributes
	log     *slog.Logger
}

func newFolder(dir string, log *slog.Logger) (*folder, error) {
	f := &folder{objects: filepath.Join(dir, "objects"), log: log}
	for _, d := range []string{dir, f.objects} {
		if err := makeDir(d); err != nil {
			return nil, err
		}
	}
	sidecarDir := filepath.Join(dir, "metadata")
	storer, inFiles, err := openMetadata(f.objects, sidecarDir)
	if err != nil {
		return nil, err
	}
	if inFiles {
		f.sidecar = sidecarDir
	}
	opts := posix.PosixOpts{
		// The lock files guard against a second process, which the lock on the
		// data folder keeps out; they would lie in the working directory.
		ForceNoObjLockFile: true,
	}
	opts.SetNewDirPerm(0o700)
	opts.SetNewFilePerm(0o600)
	// It changes into the folder it is given: into the one we are in, nothing
	// happens. If even that is closed to us, no relative path can be in use.
	if f.files, err = posix.New(".", storer, opts); err != nil {
		if f.files, err = posix.New(f.objects, storer, opts); err != nil {
			return nil, fmt.Errorf("open the folder of objects: %w", err)
		}
	}
	return f, nil
}

func (f *folder) String() string { return "tintype" }

func (f *folder) Shutdown() { f.files.Shutdown() }

func (f *folder) NormalizeObjectKey(bucket, object string) string {
	return f.files.NormalizeObjectKey(bucket, object)
}

// path is the folder of the bucket. versitygw has checked the name: three or
// more characters of a-z, 0-9, dot and hyphen, and no dot at the start.
func (f *folder) path(bucket *string) *string {
	p := filepath.Join(f.objects, *bucket)
	return &p
}

// existing is path for a bucket that is there. It saves callers from errors that
// would name the bucket by its path.
func (f *folder) existing(bucket *string) (*string, error) {
	p := f.path(bucket)
	_, err := os.Stat(*p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s3err.GetBucketErr(s3err.ErrNoSuchBucket, *bucket)
	case err != nil:
		return nil, f.tell("stat bucket", err)
	}
	return p, nil
}

// tell passes on what S3 has a code for. Anything else is logged and becomes
// InternalError here, before versitygw prints it.
func (f *folder) tell(op string, err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[s3err.S3Error](err); ok {
		return known
	}
	f.log.Error("embedded s3 failed", "kind", op, "err", err)
	return s3err.GetAPIError(s3err.ErrInternalError)
}

// keep makes the object and its metadata durable.
func (f *folder) keep(bucket, key string) error {
	if err := syncTree(f.objects, filepath.Join(f.objects, bucket, key)); err != nil {
		return err
	}
	if f.sidecar == "" {
		return nil
	}
	dir := filepath.Join(f.sidecar, bucket, key, "meta")
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync metadata: %w", err)
	}
	for _, n := range names {
		if err := syncPath(filepath.Join(dir, n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncTree(f.sidecar, dir)
}

func (f *folder) HeadBucket(_ context.Context, in *awss3.HeadBucketInput) (*awss3.HeadBucketOutput, error) {
	if _, err := f.existing(in.Bucket); err != nil {
		return nil, err
	}
	return &awss3.HeadBucketOutput{}, nil
}

func (f *folder) CreateBucket(ctx context.Context, in *awss3.CreateBucketInput, acl []byte) error {
	own := *in
	own.Bucket = f.path(in.Bucket)
	if err := f.files.CreateBucket(ctx, &own, acl); err != nil {
		// It would name the bucket by its path.
		if s3code(err) == s3code(s3err.GetAPIError(s3err.ErrBucketAlreadyOwnedByYou)) {
			return s3err.GetBucketErr(s3err.ErrBucketAlreadyOwnedByYou, *in.Bucket)
		}
		return f.tell("create bucket", err)
	}
	return f.tell("create bucket", f.keep(*in.Bucket, ""))
}

// s3code is the code of an S3 error, or empty.
func s3code(err error) string {
	if known, ok := errors.AsType[s3err.S3Error](err); ok {
		return known.BaseError().Code
	}
	return ""
}

// GetBucketAcl is asked before every other operation on a bucket.
func (f *folder) GetBucketAcl(ctx context.Context, in *awss3.GetBucketAclInput) ([]byte, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return nil, err
	}
	acl, err := f.files.GetBucketAcl(ctx, &own)
	return acl, f.tell("read bucket owner", err)
}

// GetBucketPolicy, GetBucketCors and GetObjectLockConfiguration are asked along
// with other operations. None of them can be set here.
func (f *folder) GetBucketPolicy(_ context.Context, bucket string) ([]byte, error) {
	return nil, s3err.GetBucketErr(s3err.ErrNoSuchBucketPolicy, bucket)
}

func (f *folder) GetBucketCors(_ context.Context, bucket string) ([]byte, error) {
	return nil, s3err.GetBucketErr(s3err.ErrNoSuchCORSConfiguration, bucket)
}

func (f *folder) GetObjectLockConfiguration(_ context.Context, bucket string) ([]byte, error) {
	return nil, s3err.GetBucketErr(s3err.ErrObjectLockConfigurationNotFound, bucket)
}

// PutObject returns once the object is durable. If it fails in the sync, the
// object may be there all the same.
func (f *folder) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	bucket, err := f.existing(in.Bucket)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	own := in
	own.Bucket = bucket
	out, err := f.files.PutObject(ctx, own)
	if err == nil {
		err = f.keep(*in.Bucket, *in.Key)
	}
	return out, f.tell("put object", err)
}

func (f *folder) HeadObject(ctx context.Context, in *awss3.HeadObjectInput) (*awss3.HeadObjectOutput, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return nil, err
	}
	out, err := f.files.HeadObject(ctx, &own)
	return out, f.tell("head object", err)
}

func (f *folder) GetObject(ctx context.Context, in *awss3.GetObjectInput) (*awss3.GetObjectOutput, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return nil, err
	}
	out, err := f.files.GetObject(ctx, &own)
	return out, f.tell("get object", err)
}

func (f *folder) DeleteObject(ctx context.Context, in *awss3.DeleteObjectInput) (*awss3.DeleteObjectOutput, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return nil, err
	}
	out, err := f.files.DeleteObject(ctx, &own)
	return out, f.tell("delete object", err)
}

func (f *folder) DeleteObjects(ctx context.Context, in *awss3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return s3response.DeleteResult{}, err
	}
	out, err := f.files.DeleteObjects(ctx, &own)
	return out, f.tell("delete objects", err)
}

func (f *folder) ListObjectsV2(ctx context.Context, in *awss3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	own := *in
	var err error
	if own.Bucket, err = f.existing(in.Bucket); err != nil {
		return s3response.ListObjectsV2Result{}, err
	}
	out, err := f.files.ListObjectsV2(ctx, &own)
	out.Name = in.Bucket
	return out, f.tell("list objects", err)
}
