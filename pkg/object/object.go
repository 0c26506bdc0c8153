// Package object is the bucket that holds artifacts and large specs, on any S3.
//
// It promises:
//
//  1. An object is written once: Put and a presigned PUT both refuse a key that
//     is taken (ErrExists). Nobody overwrites, a zombie included.
//  2. Every call has a deadline of its own, beside the caller's.
//  3. Signing a URL calls nobody, so it works while S3 is down.
//
// It leaves to others: who may read which key, how long objects live (the
// janitor deletes; lifecycle rules are not used), and the upload through a
// presigned URL, which is plain HTTP.
package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// callWithin bounds a call without a body: a stat, a delete.
	callWithin = 15 * time.Second
	// bodyWithin bounds a call with a body, up or down.
	bodyWithin = 5 * time.Minute
	// attempts is how often a call is sent when the connection fails or S3
	// answers that it is busy. Calls that must not wait long have a context.
	attempts = 3
	// defaultRegion is used when Config.Region is empty.
	defaultRegion = "us-east-1"
)

// ErrNotFound is returned for a key that holds no object.
var ErrNotFound = errors.New("object not found")

// ErrExists is returned by Put for a key that is taken. A caller whose earlier
// Put had no answer may be looking at its own object.
var ErrExists = errors.New("object exists")

// Config is what New needs.
type Config struct {
	// Endpoint is host:port, which is spoken to in plain HTTP, a bare host
	// (HTTPS), or a URL with http or https and no path. Required.
	Endpoint string

	// Bucket is the bucket's name. Required.
	Bucket string

	// Region is what requests are signed for. Empty means us-east-1; it is never
	// asked of the server.
	Region string

	// AccessKey and SecretKey sign the requests. Required.
	AccessKey, SecretKey string

	// PublicURL is where people's browsers reach the same S3, as a URL without
	// a path. PresignGet signs for it. Empty means Endpoint.
	PublicURL string
}

// Bucket is one bucket. Its methods are safe for concurrent use.
type Bucket struct {
	name      string
	region    string
	client    minio.Core
	public    *minio.Client // signs URLs for browsers
	transport *http.Transport
	uploads   *uploadSigner
}

// Info describes an object.
type Info struct {
	Key         string
	SizeBytes   int64
	ContentType string // empty in a List
	ETag        string // without quotes
	ModTime     time.Time
}

// New checks cfg and calls nobody.
func New(cfg Config) (*Bucket, error) {
	for _, f := range []struct{ name, value string }{
		{"endpoint", cfg.Endpoint}, {"bucket", cfg.Bucket}, {"access key", cfg.AccessKey}, {"secret key", cfg.SecretKey},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("object store: no %s", f.name)
		}
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	transport, err := minio.DefaultTransport(true)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	client, err := dial(cfg, cfg.Endpoint, transport)
	if err != nil {
		return nil, fmt.Errorf("object store: endpoint: %w", err)
	}
	public := client
	if cfg.PublicURL != "" {
		if public, err = dial(cfg, cfg.PublicURL, transport); err != nil {
			return nil, fmt.Errorf("object store: public URL: %w", err)
		}
	}
	sample, err := client.PresignHeader(context.Background(), http.MethodPut, cfg.Bucket, "k", time.Minute, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	return &Bucket{
		name: cfg.Bucket, region: cfg.Region, client: minio.Core{Client: client}, public: public, transport: transport,
		uploads: newUploadSigner(cfg, sample),
	}, nil
}

// dial makes a client for the endpoint. It opens no connection.
func dial(cfg Config, endpoint string, transport *http.Transport) (*minio.Client, error) {
	host, secure, err := parseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	return minio.New(host, &minio.Options{
		Creds:      credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, ""),
		Secure:     secure,
		Region:     cfg.Region, // or every first call would ask for the bucket's location
		Transport:  transport,
		MaxRetries: attempts,
	})
}

// parseEndpoint reads the three forms of Config.Endpoint.
func parseEndpoint(endpoint string) (host string, secure bool, err error) {
	if !strings.Contains(endpoint, "://") {
		_, _, err := net.SplitHostPort(endpoint)
		if secure = err != nil; secure {
			endpoint = "https://" + endpoint
		} else {
			endpoint = "http://" + endpoint
		}
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "", false, fmt.Errorf("not host:port and not a URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", false, fmt.Errorf("%q has a scheme other than http and https", u.Redacted())
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", false, fmt.Errorf("%q is more than a scheme, a host and a port", u.Redacted())
	}
	return u.Host, u.Scheme == "https", nil
}

// Close drops idle connections. Use it when nothing calls the bucket any more.
func (b *Bucket) Close() { b.transport.CloseIdleConnections() }

// Ensure makes the bucket if it is missing.
func (b *Bucket) Ensure(ctx context.Context) error {
	ctx, cancel := within(ctx, callWithin, "make the bucket")
	defer cancel()
	ok, err := b.client.BucketExists(ctx, b.name)
	if err == nil && !ok {
		err = b.client.MakeBucket(ctx, b.name, minio.MakeBucketOptions{Region: b.region})
		if minio.ToErrorResponse(err).Code == minio.BucketAlreadyOwnedByYou {
			err = nil // another process was faster
		}
	}
	return b.fail(ctx, "make bucket", "", err)
}

// Ping is nil when S3 answers, takes our keys and has the bucket.
func (b *Bucket) Ping(ctx context.Context) error {
	ctx, cancel := within(ctx, callWithin, "look for the bucket")
	defer cancel()
	ok, err := b.client.BucketExists(ctx, b.name)
	if err == nil && !ok {
		err = fmt.Errorf("there is no bucket %q", b.name)
	}
	return b.fail(ctx, "ping", "", err)
}

// Put stores body, of exactly size bytes, under key. ErrExists if the key is
// taken. After any other error the object may be there all the same.
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error {
	if size < 0 {
		return fmt.Errorf("put %s: size of %d bytes is negative", key, size)
	}
	ctx, cancel := within(ctx, bodyWithin, "put the object")
	defer cancel()
	opts := minio.PutObjectOptions{
		ContentType: contentType,
		// In parts, the condition below would not be sent.
		DisableMultipart: true,
		// An empty body is not signed as it streams: its only chunk has nothing in
		// it, and the embedded server would take that for the next request.
		DisableContentSha256: size == 0,
	}
	opts.SetMatchETagExcept("*")
	_, err := b.client.Client.PutObject(ctx, b.name, key, body, size, opts)
	return b.fail(ctx, "put", key, err)
}

// Get opens an object. The caller closes the reader and reads it within five
// minutes. ErrNotFound if there is none.
func (b *Bucket) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	ctx, cancel := within(ctx, bodyWithin, "get the object")
	body, oi, _, err := b.client.GetObject(ctx, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		err = b.fail(ctx, "get", key, err)
		cancel()
		return nil, Info{}, err
	}
	oi.Key = key
	return &reader{ReadCloser: body, cancel: cancel}, info(oi), nil
}

// reader ends the deadline of a Get when its body is closed.
type reader struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (r *reader) Close() error {
	defer r.cancel()
	return r.ReadCloser.Close()
}

// Stat describes an object. ErrNotFound if the bucket is there and holds none.
func (b *Bucket) Stat(ctx context.Context, key string) (Info, error) {
	ctx, cancel := within(ctx, callWithin, "stat the object")
	defer cancel()
	oi, err := b.client.StatObject(ctx, b.name, key, minio.StatObjectOptions{})
	if err == nil {
		return info(oi), nil
	}
	err = b.fail(ctx, "stat", key, err)
	if errors.Is(err, ErrNotFound) {
		// The answer to a HEAD has no body, so a missing bucket looks the same.
		if gone := b.Ping(ctx); gone != nil {
			err = gone
		}
	}
	return Info{}, err
}

// Delete removes objects. A key that holds none is no error. On an error the
// others have been tried, and it names the keys that are still there.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	// A request takes a thousand keys.
	ctx, cancel := within(ctx, callWithin*time.Duration(1+len(keys)/1000), "delete the objects")
	defer cancel()
	if len(keys) == 1 {
		err := b.fail(ctx, "delete", keys[0], b.client.RemoveObject(ctx, b.name, keys[0], minio.RemoveObjectOptions{}))
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	todo := func(yield func(minio.ObjectInfo) bool) {
		for key := range slices.Values(keys) {
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}
	results, err := b.client.RemoveObjectsWithIter(ctx, b.name, todo, minio.RemoveObjectsOptions{})
	if err != nil {
		return b.fail(ctx, "delete", "", err)
	}
	var errs []error
	for r := range results {
		if err := b.fail(ctx, "delete", r.ObjectName, r.Err); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func info(oi minio.ObjectInfo) Info {
	return Info{Key: oi.Key, SizeBytes: oi.Size, ContentType: oi.ContentType, ETag: oi.ETag, ModTime: oi.LastModified}
}

// within gives a call its deadline, and the deadline a name.
func within(ctx context.Context, d time.Duration, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("object store did not %s within %s", what, d))
}
