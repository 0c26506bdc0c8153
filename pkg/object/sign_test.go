package object

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// Our own signature is minio-go's, byte for byte.
func TestUploadSigner(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:9000", "https://s3.example.com:443", "http://minio:80", "[::1]:9000", "s3.amazonaws.com"} {
		b, err := New(Config{Endpoint: endpoint, Bucket: "artifacts", Region: "eu-west-1", AccessKey: "a+b/c", SecretKey: "s"})
		if err != nil {
			t.Fatal(err)
		}
		for _, contentType := range []string{"", "image/png"} {
			header := http.Header{"If-None-Match": {"*"}}
			if contentType != "" {
				header.Set("Content-Type", contentType)
			}
			const key = "r/acc_1/job_2/65536.png"
			u, err := b.client.PresignHeader(context.Background(), http.MethodPut, "artifacts", key, 90*time.Second, nil, header)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse("20060102T150405Z", u.Query().Get("X-Amz-Date"))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time with a key that is kept
				got, err := url.Parse(b.uploads.put(key, contentType, 90*time.Second, at))
				if err != nil {
					t.Fatal(err)
				}
				if got.String() != u.String() {
					t.Errorf("endpoint %s:\n got %s\nwant %s", endpoint, got, u)
				}
			}
		}
		b.Close()
	}
	s := new(uploadSigner)
	for key, want := range map[string]bool{"r/a/j/1.png": true, "": false, "a b": false, "a//b": false, "a/../b": false, "ä": false} {
		if s.able(key, time.Minute) != want {
			t.Errorf("able(%q) is %v", key, !want)
		}
	}
	if s.able("k", 0) || s.able("k", 8*24*time.Hour) {
		t.Error("a time to live that S3 refuses is signed")
	}
}

func TestUploadSignerKeyOfTheDay(t *testing.T) {
	s := &uploadSigner{secret: "s", region: "us-east-1"}
	monday := string(s.keyOf("20270104"))
	if string(s.keyOf("20270105")) == monday || string(s.keyOf("20270104")) != monday {
		t.Error("the key does not follow the day")
	}
}
