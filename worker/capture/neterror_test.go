package capture

import (
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

func TestNetFailure(t *testing.T) {
	for text, want := range map[string]job.Code{
		"net::ERR_NAME_NOT_RESOLVED":              job.NameNotResolved,
		"net::ERR_UNSAFE_PORT":                    job.AddressRefused,
		"net::ERR_UNSAFE_REDIRECT":                job.AddressRefused,
		"net::ERR_BLOCKED_BY_CLIENT":              job.AddressRefused,
		"net::ERR_CONNECTION_REFUSED":             job.ConnectionRefused,
		"net::ERR_ADDRESS_UNREACHABLE":            job.ConnectionRefused,
		"net::ERR_TUNNEL_CONNECTION_FAILED":       job.ConnectionRefused,
		"net::ERR_CONNECTION_RESET":               job.ConnectionReset,
		"net::ERR_CONNECTION_CLOSED":              job.ConnectionReset,
		"net::ERR_HTTP2_PROTOCOL_ERROR":           job.ConnectionReset,
		"net::ERR_INCOMPLETE_CHUNKED_ENCODING":    job.ConnectionReset,
		"net::ERR_SOMETHING_NEW":                  job.ConnectionReset,
		"":                                        job.ConnectionReset,
		"net::ERR_CERT_DATE_INVALID":              job.TLSError,
		"net::ERR_CERT_AUTHORITY_INVALID":         job.TLSError,
		"net::ERR_CERT_COMMON_NAME_INVALID":       job.TLSError,
		"net::ERR_SSL_PROTOCOL_ERROR":             job.TLSError,
		"net::ERR_SSL_VERSION_OR_CIPHER_MISMATCH": job.TLSError,
		"net::ERR_BAD_SSL_CLIENT_AUTH_CERT":       job.TLSError,
		"net::ERR_TOO_MANY_REDIRECTS":             job.RedirectLoop,
		"net::ERR_ABORTED":                        job.EmptyResponse,
		"net::ERR_EMPTY_RESPONSE":                 job.EmptyResponse,
		"net::ERR_INVALID_HTTP_RESPONSE":          job.EmptyResponse,
		"net::ERR_RESPONSE_HEADERS_TOO_BIG":       job.EmptyResponse,
		"net::ERR_HTTP_RESPONSE_CODE_FAILURE":     job.EmptyResponse,
		"net::ERR_TIMED_OUT":                      job.NavigationTimeout,
		"net::ERR_CONNECTION_TIMED_OUT":           job.NavigationTimeout,
		"net::ERR_INSUFFICIENT_RESOURCES":         job.OutOfMemory,
	} {
		f := netFailure(text, job.StageNavigate)
		if f.Code != want || f.Stage != job.StageNavigate || f.Retryable != job.Codes[want] {
			t.Errorf("%s: %+v, want %s", text, f, want)
		}
		if name := strings.TrimPrefix(text, "net::"); !strings.Contains(f.Detail, name) {
			t.Errorf("%s: the detail does not name it: %s", text, f.Detail)
		}
	}
}

func TestHostOf(t *testing.T) {
	for raw, want := range map[string]string{
		"http://a.example/x":       "a.example:80",
		"https://a.example":        "a.example:443",
		"http://a.example:8080/":   "a.example:8080",
		"http://[::1]/":            "[::1]:80",
		"http://%zz/":              "the host",
		"":                         "the host",
		"ws://a.example/":          "a.example:80",
		"wss://a.example/x?y#z":    "a.example:443",
		"https://a.example:444/?q": "a.example:444",
	} {
		if got := hostOf(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
