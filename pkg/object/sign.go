package object

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// An uploadSigner signs upload URLs, one for each attempt, with AWS Signature
// Version 4 in the query (docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html).
// minio-go, which signs everything else, makes a whole request for each and
// derives the day's key anew: five times the cost. Its URLs are the reference
// of the test.
type uploadSigner struct {
	base           string // of the bucket, with its trailing slash
	path, host     string // of base
	access, secret string
	region         string
	day            atomic.Pointer[dayKey]
}

// dayKey signs for one day and region.
type dayKey struct {
	date string
	key  []byte
}

// newUploadSigner takes the bucket's address from a URL that minio-go signed
// for the key "k".
func newUploadSigner(cfg Config, sample *url.URL) *uploadSigner {
	path := strings.TrimSuffix(sample.Path, "k")
	return &uploadSigner{
		base: sample.Scheme + "://" + sample.Host + path, path: path, host: sample.Host,
		access: cfg.AccessKey, secret: cfg.SecretKey, region: cfg.Region,
	}
}

// able reports whether a key needs no escaping and a time to live no refusal;
// both are so for every artifact.
func (s *uploadSigner) able(key string, ttl time.Duration) bool {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' || r == '/'
	}
	return key != "" && ttl >= time.Second && ttl <= 7*24*time.Hour && !strings.Contains(key, "//") && !strings.Contains(key, "./") &&
		strings.IndexFunc(key, func(r rune) bool { return !plain(r) }) < 0
}

// put signs a PUT of key with If-None-Match: * and, if there is one, a
// Content-Type.
func (s *uploadSigner) put(key, contentType string, ttl time.Duration, now time.Time) string {
	stamp := now.UTC().Format("20060102T150405Z")
	scope := stamp[:8] + "/" + s.region + "/s3/aws4_request"
	headers, signed := "host:"+s.host+"\nif-none-match:*\n", "host;if-none-match"
	if contentType != "" {
		headers, signed = "content-type:"+strings.TrimSpace(contentType)+"\n"+headers, "content-type;"+signed
	}
	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + url.QueryEscape(s.access+"/"+scope) + "&X-Amz-Date=" + stamp +
		"&X-Amz-Expires=" + strconv.FormatInt(int64(ttl/time.Second), 10) + "&X-Amz-SignedHeaders=" + strings.ReplaceAll(signed, ";", "%3B")
	sum := sha256.Sum256([]byte(http.MethodPut + "\n" + s.path + key + "\n" + query + "\n" + headers + "\n" + signed + "\nUNSIGNED-PAYLOAD"))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	return s.base + key + "?" + query + "&X-Amz-Signature=" + hex.EncodeToString(keyed(s.keyOf(stamp[:8]), text))
}

// keyOf derives the key of a day, once.
func (s *uploadSigner) keyOf(date string) []byte {
	if d := s.day.Load(); d != nil && d.date == date {
		return d.key
	}
	key := []byte("AWS4" + s.secret)
	for _, part := range []string{date, s.region, "s3", "aws4_request"} {
		key = keyed(key, part)
	}
	s.day.Store(&dayKey{date, key})
	return key
}

func keyed(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
