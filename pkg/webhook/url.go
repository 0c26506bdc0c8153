package webhook

import (
	"fmt"
	"net/url"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// MostURL is the longest address of a receiver, in bytes.
const MostURL = 2048

// urls parses as browsers do, so that what is checked and stored is what is
// dialled (WHATWG URL Standard).
var urls = whatwg.NewParser()

// CheckURL gives the address of a receiver in its one serialised form, without
// its fragment, which nobody would be sent. Its error says what is wrong and
// never repeats the address: paths and queries of receivers are often secrets.
// Where an address leads is judged when it is dialled.
func CheckURL(raw string, allowHTTP bool) (string, error) {
	if len(raw) > MostURL {
		return "", fmt.Errorf("is %d bytes long; at most %d are accepted", len(raw), MostURL)
	}
	u, err := urls.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("is not an absolute URL: give one such as https://example.com/hook")
	}
	switch scheme := u.Scheme(); {
	case scheme == "https", scheme == "http" && allowHTTP:
	case scheme == "http":
		return "", fmt.Errorf("is http, where anybody on the way reads and changes what is sent; give an https address (an operator permits http with --webhook-allow-http)")
	default:
		return "", fmt.Errorf("has the scheme %q; webhooks go to https addresses", scheme)
	}
	switch {
	case u.Hostname() == "":
		return "", fmt.Errorf("has no host")
	case u.Username() != "" || u.Password() != "":
		return "", fmt.Errorf("holds credentials; leave them out and verify the signature instead")
	}
	href := u.Href(true)
	if len(href) > MostURL {
		return "", fmt.Errorf("is %d bytes long once it is escaped; at most %d are accepted", len(href), MostURL)
	}
	// Browsers go to some addresses that what sends webhooks cannot send to.
	if _, err := url.Parse(href); err != nil {
		return "", fmt.Errorf("cannot be sent to: its host has a character that no host name has, or a %% in its path is not followed by two hex digits (write it %%25)")
	}
	return href, nil
}

// Redacted is an address as logs may have it: without the path and the query,
// which are often what keeps strangers away from a receiver.
func Redacted(address string) string {
	u, err := urls.Parse(address)
	if err != nil {
		return "(no URL)"
	}
	return u.Scheme() + "://" + u.Host() + "/…"
}
