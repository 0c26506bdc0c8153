package outbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/webhook"
)

const (
	// attemptWithin is for all of an attempt: name, connection, TLS, request and
	// answer.
	attemptWithin = 10 * time.Second
	// answerWithin is how long the rest of an answer is read whose status is
	// there: it is for the log alone.
	answerWithin = 2 * time.Second
	answerMost   = 64 << 10 // bytes of an answer that are read
	answerKept   = 1024     // and that are kept for the log
	errorKept    = 300
	idleWithin   = 30 * time.Second
	// idleMost is how many connections are kept for the next message; a quarter
	// of them to one host, which may be the gateway of many receivers.
	idleMost = 512
)

var (
	errTooLate = errors.New("an attempt takes too long")
	errEnough  = errors.New("an answer takes too long")
)

// poster makes attempts.
type poster struct {
	client    *http.Client
	transport *http.Transport
	allowHTTP bool
}

func newPoster(cfg Config, dial func(ctx context.Context, network, address string) (net.Conn, error)) *poster {
	t := &http.Transport{
		Proxy:       nil, // whatever the environment says: the guard has to see where it goes
		DialContext: dial, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: attemptWithin, DisableCompression: true, MaxResponseHeaderBytes: answerMost,
		MaxIdleConns: idleMost, MaxIdleConnsPerHost: idleMost / 4, IdleConnTimeout: idleWithin,
	}
	return &poster{
		transport: t, allowHTTP: cfg.AllowHTTP,
		client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func (p *poster) close() { p.transport.CloseIdleConnections() }

// send makes one attempt.
func (p *poster) send(ctx context.Context, to, id string, body []byte, sign []webhook.Secret) (webhook.Attempt, webhook.Answer) {
	began := time.Now()
	a := webhook.Attempt{At: began.UTC().Truncate(time.Microsecond)}
	ctx, cancel := context.WithTimeoutCause(ctx, attemptWithin, errTooLate)
	defer cancel()
	answer, err := p.exchange(ctx, &a, to, id, body, sign)
	a.Took = time.Since(began)
	answer.Took = a.Took
	switch {
	case err != nil:
		a.Error = clean(words(ctx, err), errorKept)
	case a.Status >= 300 && a.Status < 400:
		a.Error = "redirects are not followed"
	}
	return a, answer
}

func (p *poster) exchange(ctx context.Context, a *webhook.Attempt, to, id string, body []byte, sign []webhook.Secret) (webhook.Answer, error) {
	if _, err := webhook.CheckURL(to, p.allowHTTP); err != nil {
		return webhook.Answer{}, refusal{err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return webhook.Answer{}, refusal{errors.New("cannot be asked")}
	}
	h := req.Header
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "Tintype-Webhooks/1")
	// It is not sent. It tells the transport that to send the request again, on
	// another connection, does no harm: the id makes it one message.
	h["Idempotency-Key"] = nil
	for _, s := range webhook.Sign(id, a.At, body, sign...) {
		h.Set(s.Name, s.Value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return webhook.Answer{}, err
	}
	a.Status = resp.StatusCode
	a.Answer = clean(string(first(ctx, resp.Body)), answerKept)
	return webhook.Answer{Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}, nil
}

// first reads an answer as far as that is done. What is cut off ends the
// connection.
func first(ctx context.Context, body io.ReadCloser) []byte {
	ctx, cancel := context.WithTimeoutCause(ctx, answerWithin, errEnough)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { body.Close() })
	defer stop()
	defer body.Close()
	text, _ := io.ReadAll(io.LimitReader(body, answerMost)) // the status is what counts
	return text
}

// refusal is of an address that nobody is asked for.
type refusal struct{ error }

// words say why there was no answer, without any address that a name led to.
func words(ctx context.Context, err error) string {
	if refused, ok := errors.AsType[refusal](err); ok {
		return "the address " + refused.Error()
	}
	if errors.Is(context.Cause(ctx), errTooLate) {
		return fmt.Sprintf("no answer within %d seconds", int(attemptWithin/time.Second))
	}
	if e, ok := errors.AsType[*egress.Error](err); ok {
		if e.Reason == egress.Refused {
			return e.Host + " is not a destination that webhooks may go to: only public addresses on the ports 80, 443, 8080 and 8443 are, unless the operator allows more with --egress-allow"
		}
		return e.Reason.Words(e.Host)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not accepted: " + certificateWords(e.Err)
	}
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "what answers there does not speak TLS"
	case errors.As(err, &alert):
		return "it refused the TLS connection: " + alert.Error()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "stream error: "): // of HTTP/2
		return "it broke the connection off"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection without an answer"
	case strings.Contains(err.Error(), "tls: "):
		return "the TLS connection was not made"
	}
	return "what it sent is not an HTTP answer"
}

// certificateWords are those of crypto/x509, which tell of the certificate and
// the name that was asked for.
func certificateWords(err error) string {
	switch err := err.(type) { //nolint:errorlint // it is what was wrapped
	case x509.UnknownAuthorityError:
		return "nobody known has signed it"
	case x509.HostnameError, x509.CertificateInvalidError:
		return strings.TrimPrefix(err.Error(), "x509: ")
	}
	return "it is not valid"
}

// clean is text that a log takes: at most n bytes of UTF-8 without controls.
func clean(text string, n int) string {
	if len(text) > n {
		text = text[:n]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '\uFFFD'
		case r < ' ' && r != '\n' && r != '\t', r == 0x7f:
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
