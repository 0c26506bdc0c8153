package capture

import (
	"net"
	"net/url"
	"strings"

	"github.com/tintype/tintype/pkg/job"
)

// netFailure types Chromium's text for a navigation that failed, such as
// net::ERR_CERT_DATE_INVALID. This is the one place that knows these texts;
// what is new to it counts as a broken connection and keeps Chromium's text.
func netFailure(text string, stage job.Stage) *job.Failure {
	name := strings.TrimPrefix(text, "net::")
	fail := func(code job.Code, words string) *job.Failure {
		return job.Fail(code, stage, "%s (%s)", words, name)
	}
	switch name {
	case "ERR_NAME_NOT_RESOLVED", "ERR_NAME_RESOLUTION_FAILED":
		return fail(job.NameNotResolved, "the host's name could not be resolved")
	case "ERR_UNSAFE_PORT":
		return fail(job.AddressRefused, "the port is one that pages may not reach")
	case "ERR_UNSAFE_REDIRECT", "ERR_DISALLOWED_URL_SCHEME", "ERR_UNKNOWN_URL_SCHEME", "ERR_ACCESS_DENIED", "ERR_FILE_NOT_FOUND":
		return fail(job.AddressRefused, "the page leads to something that is no web page")
	case "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_FAILED", "ERR_ADDRESS_UNREACHABLE", "ERR_INTERNET_DISCONNECTED", "ERR_TUNNEL_CONNECTION_FAILED":
		return fail(job.ConnectionRefused, "the host cannot be reached")
	case "ERR_TOO_MANY_REDIRECTS":
		return fail(job.RedirectLoop, "the page redirects again and again; it may want cookies from an earlier visit")
	case "ERR_ABORTED", "ERR_EMPTY_RESPONSE":
		return fail(job.EmptyResponse, "the server answered without a page, such as with 204 No Content")
	case "ERR_INVALID_HTTP_RESPONSE", "ERR_INVALID_RESPONSE", "ERR_INVALID_REDIRECT", "ERR_HTTP_RESPONSE_CODE_FAILURE",
		"ERR_RESPONSE_HEADERS_TOO_BIG", "ERR_RESPONSE_HEADERS_TRUNCATED", "ERR_RESPONSE_HEADERS_MULTIPLE_CONTENT_LENGTH",
		"ERR_RESPONSE_HEADERS_MULTIPLE_LOCATION", "ERR_RESPONSE_HEADERS_MULTIPLE_CONTENT_DISPOSITION",
		"ERR_CONTENT_DECODING_FAILED", "ERR_CONTENT_DECODING_INIT_FAILED", "ERR_INVALID_CHUNKED_ENCODING",
		"ERR_UNEXPECTED_PROXY_AUTH", "ERR_METHOD_NOT_SUPPORTED":
		return fail(job.EmptyResponse, "the server's answer is not one that a browser can show")
	case "ERR_TIMED_OUT", "ERR_CONNECTION_TIMED_OUT":
		return fail(job.NavigationTimeout, "the server sent no response in time")
	case "ERR_INSUFFICIENT_RESOURCES", "ERR_OUT_OF_MEMORY":
		return fail(job.OutOfMemory, "the page needed more memory than a page may have")
	}
	if strings.HasPrefix(name, "ERR_CERT_") || strings.HasPrefix(name, "ERR_SSL_") || strings.HasPrefix(name, "ERR_BAD_SSL_") ||
		strings.HasPrefix(name, "ERR_ECH_") || name == "ERR_CERTIFICATE_TRANSPARENCY_REQUIRED" {
		return fail(job.TLSError, "the host's TLS is not valid; its certificate may have expired, be for another name, or be signed by nobody")
	}
	if strings.HasPrefix(name, "ERR_BLOCKED_BY_") {
		return fail(job.AddressRefused, "the browser does not open this page")
	}
	return fail(job.ConnectionReset, "the connection broke before the page arrived")
}

// hostOf is the HOST:PORT of a URL, for a message.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "the host"
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http" || u.Scheme == "ws":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
