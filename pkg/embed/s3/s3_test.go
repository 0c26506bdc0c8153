package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/needtest"
)

// quietDir names the folder of the server that the test binary is to run when
// it is started to be listened to.
const quietDir = "TEST_S3_QUIET_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(quietDir); dir != "" {
		os.Exit(beServer(dir))
	}
	goleak.VerifyTestMain(m, // see Close
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

const access, secret = "tester", "a-long-secret"

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.AccessKey, cfg.SecretKey = access, secret
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func client(t *testing.T, s *Server) *minio.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := minio.New(s.Endpoint(), &minio.Options{
		Creds: credentials.NewStaticV4(access, secret, ""), Region: Region, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func get(t *testing.T, c *minio.Client, bucket, key string) (string, minio.ObjectInfo) {
	t.Helper()
	o, err := c.GetObject(bounded(t), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	data, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	oi, err := o.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return string(data), oi
}

// TestServes runs what the client uses, once per kind of metadata.
func TestServes(t *testing.T) {
	for _, kind := range []string{"attributes", "files"} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			if kind == "files" {
				if err := os.Mkdir(filepath.Join(dir, "metadata"), 0o700); err != nil {
					t.Fatal(err)
				}
			} else if ok, err := hasXattr(dir); err != nil || !ok {
				needtest.Lacks(t, "no extended attributes on %s (%v)", dir, err)
			}
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			ctx := bounded(t)
			c := client(t, start(t, Config{Dir: dir}))

			if err := c.MakeBucket(ctx, "first", minio.MakeBucketOptions{Region: Region}); err != nil {
				t.Fatal(err)
			}
			if err := c.MakeBucket(ctx, "first", minio.MakeBucketOptions{Region: Region}); minio.ToErrorResponse(err).Code != minio.BucketAlreadyOwnedByYou {
				t.Errorf("second bucket of one name: %v", err)
			}
			if _, err := c.PutObject(ctx, "first", "r/a/b/1.png", strings.NewReader("picture"), 7, minio.PutObjectOptions{ContentType: "image/png"}); err != nil {
				t.Fatal(err)
			}
			data, oi := get(t, c, "first", "r/a/b/1.png")
			if data != "picture" || oi.ContentType != "image/png" || oi.ETag == "" {
				t.Errorf("got %q, %+v", data, oi)
			}

			// 6 MiB in parts of 5 MiB.
			big := bytes.Repeat([]byte("0123456789abcdef"), 6<<16)
			if _, err := c.PutObject(ctx, "first", "big", bytes.NewReader(big), int64(len(big)), minio.PutObjectOptions{PartSize: 5 << 20, ContentType: "text/plain"}); err != nil {
				t.Fatal(err)
			}
			if data, oi := get(t, c, "first", "big"); data != string(big) || !strings.HasSuffix(oi.ETag, "-2") || oi.ContentType != "text/plain" {
				t.Errorf("multipart upload came back as %d bytes, %+v", len(data), oi)
			}

			var keys []string
			for oi := range c.ListObjectsIter(ctx, "first", minio.ListObjectsOptions{Recursive: true}) {
				if oi.Err != nil {
					t.Fatal(oi.Err)
				}
				keys = append(keys, oi.Key)
			}
			if d := cmp.Diff([]string{"big", "r/a/b/1.png"}, keys); d != "" {
				t.Error(d)
			}

			if err := c.RemoveObject(ctx, "first", "big", minio.RemoveObjectOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := c.StatObject(ctx, "first", "big", minio.StatObjectOptions{}); minio.ToErrorResponse(err).Code != minio.NoSuchKey {
				t.Errorf("deleted object: %v", err)
			}
			_, err = c.PutObject(ctx, "second", "x", strings.NewReader("x"), 1, minio.PutObjectOptions{})
			if answer := minio.ToErrorResponse(err); answer.Code != minio.NoSuchBucket || strings.Contains(answer.BucketName, "/") {
				t.Errorf("missing bucket: %v (bucket name %q)", err, answer.BucketName)
			}
			if _, err := c.GetBucketLifecycle(ctx, "first"); err == nil {
				t.Error("lifecycle rules are not meant to be served")
			}

			if now, err := os.Getwd(); err != nil || now != here {
				t.Errorf("the working directory moved to %s (%v)", now, err)
			}
		})
	}
}

func TestKeepsObjectsAcrossRestart(t *testing.T) {
	dir, ctx := t.TempDir(), bounded(t)
	first := start(t, Config{Dir: dir})
	c := client(t, first)
	if err := c.MakeBucket(ctx, "kept", minio.MakeBucketOptions{Region: Region}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, "kept", "k", strings.NewReader("v"), 1, minio.PutObjectOptions{ContentType: "text/x"}); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-first.Done()

	// The data folder may move: nothing in it names it.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if data, oi := get(t, client(t, start(t, Config{Dir: moved})), "kept", "k"); data != "v" || oi.ContentType != "text/x" {
		t.Errorf("got %q, %+v", data, oi)
	}
}

func TestOnePerProcess(t *testing.T) {
	start(t, Config{Dir: t.TempDir()})
	other, err := New(Config{Dir: t.TempDir(), AccessKey: access, SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(bounded(t)); err == nil || !strings.Contains(err.Error(), "only one") {
		t.Fatalf("got %v, want a refusal", err)
	}
	if err := other.Close(); err != nil {
		t.Errorf("closing a server that never ran: %v", err)
	}
}

func TestRefusesBadConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no data folder":         {AccessKey: "a", SecretKey: "s"},
		"secret key":             {Dir: "x", AccessKey: "a"},
		"not a loopback address": {Dir: "x", AccessKey: "a", SecretKey: "s", Addr: "0.0.0.0:9000"},
		"not host:port":          {Dir: "x", AccessKey: "a", SecretKey: "s", Addr: "9000"},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Dir: t.TempDir(), Addr: l.Addr().String(), AccessKey: access, SecretKey: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bounded(t)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v, want it to say that the port is taken", err)
	}
	start(t, Config{Dir: t.TempDir()}) // a failed start is no running server
}

// TestPrintsNothing guards against a new version that talks on stdout.
// TestPrintsNothing listens to a process of its own: the gateway's library
// prints to whatever standard output is.
func TestPrintsNothing(t *testing.T) {
	cmd := exec.CommandContext(bounded(t), os.Args[0])
	cmd.Env = append(os.Environ(), quietDir+"="+t.TempDir())
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil || len(out) > 0 {
		t.Errorf("printed %q (%v)", out, err)
	}
}

// beServer serves one request and ends; the exit code says whether it could.
func beServer(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := New(Config{Dir: dir, AccessKey: access, SecretKey: secret})
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	c, err := minio.New(s.Endpoint(), &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Region: Region, MaxRetries: 1})
	if err == nil {
		_, err = c.BucketExists(ctx, "none")
	}
	if err = errors.Join(err, s.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestChain(t *testing.T) {
	if d := cmp.Diff([]string{"/o/b/r/x", "/o/b/r", "/o/b", "/o"}, chain("/o/", "/o/b/r/x")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/o"}, chain("/o", "/o")); d != "" {
		t.Error(d)
	}
}

func TestSyncTreeOfDeletedObject(t *testing.T) {
	dir := t.TempDir()
	if err := syncTree(dir, filepath.Join(dir, "gone", "x")); err != nil {
		t.Error(err)
	}
}
