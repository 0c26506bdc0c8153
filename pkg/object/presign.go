package object

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// PresignPut signs a URL with which anyone may store key once, until ttl (1 s
// to 7 days, in whole seconds) is over. The upload must carry exactly the
// returned header fields, or S3 refuses the signature (403). If-None-Match is
// among them: S3 answers 412 when the key is taken.
func (b *Bucket) PresignPut(key, contentType string, ttl time.Duration) (string, http.Header, error) {
	header := http.Header{"If-None-Match": {"*"}}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	if b.uploads.able(key, ttl) {
		return b.uploads.put(key, contentType, ttl, time.Now()), header, nil
	}
	u, err := b.client.PresignHeader(context.Background(), http.MethodPut, b.name, key, ttl, nil, header)
	if err != nil {
		return "", nil, fmt.Errorf("presign the upload of %s: %w", key, err)
	}
	return u.String(), header, nil
}

// PresignGet signs a URL with which anyone may read key until ttl (1 s to 7
// days, in whole seconds) is over, at Config.PublicURL where there is one. A
// disposition, if any, becomes the answer's Content-Disposition.
func (b *Bucket) PresignGet(key string, ttl time.Duration, disposition string) (string, error) {
	query := url.Values{}
	if disposition != "" {
		query.Set("response-content-disposition", disposition)
	}
	u, err := b.public.PresignedGetObject(context.Background(), b.name, key, ttl, query)
	if err != nil {
		return "", fmt.Errorf("presign the download of %s: %w", key, err)
	}
	return u.String(), nil
}
