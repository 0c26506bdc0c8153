package object_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/embed/s3"
	"github.com/tintype/tintype/pkg/object"
)

const access, secret = "tester", "a-long-secret"

// endpoint is the S3 server that all tests of this package share, one bucket each.
var endpoint string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tintype-object-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	srv, err := s3.New(s3.Config{Dir: dir, AccessKey: access, SecretKey: secret})
	if err == nil {
		err = srv.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	endpoint = srv.Endpoint()
	code := m.Run()
	if err := srv.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := goleak.Find( // see s3.Server.Close
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
	); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// bucket makes a bucket of the test's own.
func bucket(t *testing.T) *object.Bucket {
	t.Helper()
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(t.Name()))
	b := open(t, object.Config{Endpoint: endpoint, Bucket: name})
	if err := b.Ensure(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return b
}

func open(t *testing.T, cfg object.Config) *object.Bucket {
	t.Helper()
	cfg.AccessKey, cfg.SecretKey = access, secret
	b, err := object.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, b *object.Bucket, key, body string) {
	t.Helper()
	if err := b.Put(bounded(t), key, strings.NewReader(body), int64(len(body)), "text/plain"); err != nil {
		t.Fatal(err)
	}
}

func TestPutGetStatDelete(t *testing.T) {
	ctx, b := bounded(t), bucket(t)
	if err := b.Ensure(ctx); err != nil {
		t.Errorf("a second Ensure: %v", err)
	}
	if err := b.Ping(ctx); err != nil {
		t.Error(err)
	}
	before := time.Now().Add(-2 * time.Second)
	put(t, b, "r/acme/job_1/65536.txt", "hello")

	body, got, err := b.Get(ctx, "r/acme/job_1/65536.txt")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	stat, err := b.Stat(ctx, "r/acme/job_1/65536.txt")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(stat, got); d != "" {
		t.Errorf("Stat and Get differ: %s", d)
	}
	if string(data) != "hello" || got.SizeBytes != 5 || got.ContentType != "text/plain" ||
		got.ETag != "5d41402abc4b2a76b9719d911017c592" || got.ModTime.Before(before) {
		t.Errorf("got %q, %+v", data, got)
	}

	err = b.Put(ctx, "r/acme/job_1/65536.txt", strings.NewReader("other"), 5, "text/plain")
	if !errors.Is(err, object.ErrExists) {
		t.Errorf("put over an object: %v, want ErrExists", err)
	}
	if err := b.Delete(ctx, "r/acme/job_1/65536.txt", "never"); err != nil {
		t.Error(err)
	}
	if err := b.Delete(ctx, "never"); err != nil {
		t.Error(err)
	}
	if err := b.Delete(ctx); err != nil {
		t.Error(err)
	}
	if _, err := b.Stat(ctx, "r/acme/job_1/65536.txt"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("stat of a deleted object: %v, want ErrNotFound", err)
	}
	if _, _, err := b.Get(ctx, "r/acme/job_1/65536.txt"); !errors.Is(err, object.ErrNotFound) {
		t.Errorf("get of a deleted object: %v, want ErrNotFound", err)
	}
}

// A large object travels in one PUT as well: in parts it would not be refused
// when the key is taken.
func TestLargeObjectIsNotOverwritten(t *testing.T) {
	ctx, b := bounded(t), bucket(t)
	large := strings.Repeat("0123456789abcdef", 20<<16) // 20 MiB
	put(t, b, "large", large)
	if i, err := b.Stat(ctx, "large"); err != nil || i.SizeBytes != 20<<20 {
		t.Fatalf("got %+v, %v", i, err)
	}
	if err := b.Put(ctx, "large", strings.NewReader(large), int64(len(large)), ""); !errors.Is(err, object.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if err := b.Put(ctx, "unknown", strings.NewReader(large), -1, ""); err == nil {
		t.Error("took an object of unknown size")
	}
}

// A missing bucket is a broken installation. It must not look like lost objects.
func TestMissingBucketIsNotNotFound(t *testing.T) {
	ctx, b := bounded(t), open(t, object.Config{Endpoint: "http://" + endpoint, Bucket: "missing"})
	if err := b.Ping(ctx); err == nil {
		t.Error("pinged a missing bucket")
	}
	_, _, getErr := b.Get(ctx, "k")
	_, statErr := b.Stat(ctx, "k")
	for _, err := range []error{getErr, statErr} {
		if err == nil || errors.Is(err, object.ErrNotFound) {
			t.Errorf("got %v, want an error other than ErrNotFound", err)
		}
	}
}

func TestList(t *testing.T) {
	ctx, b := bounded(t), bucket(t)
	want := []string{"r/a/1", "r/a/2", "r/b/1", "r/b/2", "r/b/3"}
	for _, key := range want {
		put(t, b, key, key)
	}
	put(t, b, "s/1", "other")
	for _, size := range []int{1, 2, 5, 1000} {
		var keys []string
		for o, err := range object.Pages(b, ctx, "r/", size) {
			if err != nil {
				t.Fatal(err)
			}
			if o.SizeBytes != 5 || o.ETag == "" || o.ModTime.IsZero() {
				t.Errorf("got %+v", o)
			}
			keys = append(keys, o.Key)
		}
		if d := cmp.Diff(want, keys); d != "" {
			t.Errorf("pages of %d: %s", size, d)
		}
	}

	for range b.List(ctx, "") {
		break // leaving early is allowed
	}
	canceled, cancel := context.WithCancel(ctx)
	defer cancel()
	var last error
	n := 0
	for _, err := range object.Pages(b, canceled, "r/", 2) {
		if last = err; err == nil {
			n++
		}
		cancel()
	}
	if n != 2 || !errors.Is(last, context.Canceled) {
		t.Errorf("a list cut short gave %d objects and %v; want the first page and an error", n, last)
	}
}

// upload does what a worker does with a presigned URL.
func upload(t *testing.T, url string, header http.Header, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return do(t, req)
}

func do(t *testing.T, req *http.Request) int {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func TestPresignedPut(t *testing.T) {
	ctx, b := bounded(t), bucket(t)
	url, header, err := b.PresignPut("r/acme/job_1/1.png", "image/png", time.Minute)
	if err != nil {
		t.Fatal(err)
	}

	without := header.Clone()
	without.Del("If-None-Match")
	if got := upload(t, url, without, "picture"); got != http.StatusForbidden {
		t.Errorf("without If-None-Match: %d, want 403", got)
	}
	other := header.Clone()
	other.Set("Content-Type", "text/html")
	if got := upload(t, url, other, "picture"); got != http.StatusForbidden {
		t.Errorf("with another content type: %d, want 403", got)
	}
	if got := upload(t, strings.Replace(url, "1.png", "2.png", 1), header, "picture"); got != http.StatusForbidden {
		t.Errorf("for another key: %d, want 403", got)
	}
	if got := upload(t, url, header, "picture"); got != http.StatusOK {
		t.Fatalf("first upload: %d", got)
	}
	if got := upload(t, url, header, "other"); got != http.StatusPreconditionFailed {
		t.Errorf("second upload: %d, want 412", got)
	}
	if i, err := b.Stat(ctx, "r/acme/job_1/1.png"); err != nil || i.SizeBytes != 7 || i.ContentType != "image/png" {
		t.Errorf("stored %+v, %v", i, err)
	}
}

// Of many uploads at once to one key, one is stored.
func TestPresignedPutRace(t *testing.T) {
	b := bucket(t)
	url, header, err := b.PresignPut("k", "text/plain", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	codes := make(chan int)
	for i := range 8 {
		go func() { codes <- upload(t, url, header.Clone(), strings.Repeat("x", i+1)) }()
	}
	won := 0
	for range 8 {
		switch code := <-codes; code {
		case http.StatusOK:
			won++
		case http.StatusPreconditionFailed:
		default:
			t.Errorf("got %d", code)
		}
	}
	if won != 1 {
		t.Errorf("%d uploads were stored", won)
	}
}

func TestPresignedGet(t *testing.T) {
	b := bucket(t)
	put(t, b, "k y/ä+1.txt", "hello")
	url, err := b.PresignGet("k y/ä+1.txt", time.Minute, `attachment; filename="shot.txt"`)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != "hello" ||
		resp.Header.Get("Content-Disposition") != `attachment; filename="shot.txt"` {
		t.Errorf("got %s, %v, %q, %v", resp.Status, resp.Header, body, err)
	}
	req.URL.RawQuery = strings.Replace(req.URL.RawQuery, "shot.txt", "evil.exe", 1)
	if got := do(t, req); got != http.StatusForbidden {
		t.Errorf("with another disposition: %d, want 403", got)
	}
}

// Signing works while S3 is away, and for the address that browsers use.
func TestPresignCallsNobody(t *testing.T) {
	b := open(t, object.Config{Endpoint: "127.0.0.1:1", Bucket: "artifacts", PublicURL: "https://files.example.com/"})
	put, _, err := b.PresignPut("k", "image/png", time.Minute)
	if err != nil || !strings.HasPrefix(put, "http://127.0.0.1:1/artifacts/k?") {
		t.Errorf("got %q, %v", put, err)
	}
	get, err := b.PresignGet("k", time.Minute, "")
	if err != nil || !strings.HasPrefix(get, "https://files.example.com/artifacts/k?") {
		t.Errorf("got %q, %v", get, err)
	}
	if _, _, err := b.PresignPut("k", "", 8*24*time.Hour); err == nil {
		t.Error("signed for more than seven days")
	}
	if _, err := b.PresignGet("", time.Minute, ""); err == nil {
		t.Error("signed for no key")
	}
	if err := b.Ping(bounded(t)); err == nil {
		t.Error("pinged a dead endpoint")
	}
}

func TestConfig(t *testing.T) {
	for endpoint, want := range map[string]string{
		"127.0.0.1:9000":              "http://127.0.0.1:9000/bucket/k?",
		"s3.eu-west-1.example.com":    "https://s3.eu-west-1.example.com/bucket/k?",
		"http://minio:9000":           "http://minio:9000/bucket/k?",
		"https://minio:9000/":         "https://minio:9000/bucket/k?",
		"[::1]:9000":                  "http://[::1]:9000/bucket/k?",
		"ftp://minio":                 "",
		"https://minio/path":          "",
		"https://user:pass@minio":     "",
		"http://minio:9000/?x=1":      "",
		"http://":                     "",
		"http://minio:9000:9000/what": "",
	} {
		b, err := object.New(object.Config{Endpoint: endpoint, Bucket: "bucket", AccessKey: "a", SecretKey: "s"})
		if want == "" {
			if err == nil {
				t.Errorf("took the endpoint %q", endpoint)
			}
			continue
		}
		if err != nil {
			t.Errorf("endpoint %q: %v", endpoint, err)
			continue
		}
		if url, err := b.PresignGet("k", time.Minute, ""); err != nil || !strings.HasPrefix(url, want) {
			t.Errorf("endpoint %q signs %q, %v; want %s…", endpoint, url, err, want)
		}
	}
	for _, cfg := range []object.Config{
		{Bucket: "bucket", AccessKey: "a", SecretKey: "s"},
		{Endpoint: "e", AccessKey: "a", SecretKey: "s"},
		{Endpoint: "e", Bucket: "b", SecretKey: "s"},
		{Endpoint: "e", Bucket: "bucket", AccessKey: "a"},
		{Endpoint: "e", Bucket: "bucket", AccessKey: "a", SecretKey: "s", PublicURL: "ftp://x"},
	} {
		if _, err := object.New(cfg); err == nil {
			t.Errorf("took %+v", cfg)
		}
	}
}
