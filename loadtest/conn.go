package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// conn is one client's connection to the API: HTTP/1.1 with no machinery in
// between, so that the generator takes little of the processor that it shares
// with what it measures.
type conn struct {
	host, key   string   // no key: none is shown
	source      string   // address of loopback that it is dialled from; empty: any
	idempotency string   // Idempotency-Key of the next requests; empty: none
	contentType string   // of the next requests; empty: JSON
	c           net.Conn // nil: to be dialled
	r           *bufio.Reader
	out         []byte
}

// hostOf is the HOST:PORT of a farm's URL.
func hostOf(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	if u.Scheme != "http" || u.Host == "" {
		return "", fmt.Errorf("--server: want http://HOST:PORT, not %q", server)
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "80"), nil
	}
	return u.Host, nil
}

// do sends one request and reads its answer whole. After an error nobody knows
// whether the request took effect.
func (c *conn) do(ctx context.Context, within time.Duration, method, path string, body []byte) (*http.Response, []byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if c.c == nil {
		d := &net.Dialer{Timeout: 5 * time.Second}
		if c.source != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.source)}
		}
		dialed, err := d.DialContext(ctx, "tcp", c.host)
		if err != nil {
			return nil, nil, err
		}
		c.c, c.r = dialed, bufio.NewReaderSize(dialed, 8<<10)
	}
	resp, answer, err := c.exchange(ctx, within, method, path, body)
	if err != nil || resp.Close {
		c.close()
	}
	return resp, answer, err
}

func (c *conn) exchange(ctx context.Context, within time.Duration, method, path string, body []byte) (*http.Response, []byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) }) // wakes the reader below
	defer stop()
	if err := c.c.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, nil, err
	}
	b := append(c.out[:0], method...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	if c.key != "" {
		b = append(b, "\r\nAuthorization: Bearer "...)
		b = append(b, c.key...)
	}
	if c.idempotency != "" {
		b = append(b, "\r\nIdempotency-Key: "...)
		b = append(b, c.idempotency...)
	}
	if body != nil {
		b = append(b, "\r\nContent-Type: "...)
		b = append(b, cmp.Or(c.contentType, "application/json")...)
		b = append(b, "\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
	}
	b = append(b, "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	if _, err := c.c.Write(b); err != nil {
		return nil, nil, errors.Join(err, ctx.Err())
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, nil, errors.Join(err, ctx.Err())
	}
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, errors.Join(err, resp.Body.Close())
}

func (c *conn) close() {
	if c.c != nil {
		_ = c.c.Close() // what it was for has been read, or has failed
		c.c = nil
	}
}

// json is do with a body in JSON.
func (c *conn) json(ctx context.Context, method, path string, in any) (status int, answer []byte, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, nil, err
	}
	resp, answer, err := c.do(ctx, answerWithin, method, path, body)
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, answer, nil
}

// into is a GET of JSON.
func (c *conn) into(ctx context.Context, path string, out any) (status int, answer []byte, err error) {
	resp, answer, err := c.do(ctx, answerWithin, http.MethodGet, path, nil)
	if err != nil {
		return 0, nil, err
	}
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, answer, err
}
