package job

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the rules are the same wherever this runs
)

// checkNetwork checks what the page's server is to see, and what is not to be
// loaded. No detail repeats a value of a secret.
func (s *Spec) checkNetwork() (errs []*FieldError) {
	bad := func(field, format string, args ...any) {
		errs = append(errs, &FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
	}
	s.checkIdentity(bad)
	s.checkHeaders(bad)
	for i, line := range s.Secrets.Cookies[:min(len(s.Secrets.Cookies), 100)] {
		c, err := ParseCookie(line)
		if err == nil && c.Domain == "" && s.URL == "" {
			err = errors.New("names no Domain, and markup has no host of its own that it could be of")
		}
		if err != nil {
			bad("cookies/"+strconv.Itoa(i), "%s", err)
		}
	}
	if p := s.Secrets.Proxy; p != "" {
		if _, err := ParseUpstream(p); err != nil {
			bad("proxy", "%s", err)
		}
	}
	for i, p := range s.BlockURLs {
		if strings.TrimSpace(p) == "" {
			bad("block_urls/"+strconv.Itoa(i), "is empty: give a pattern such as *.example.com/ads/*")
		}
	}
	return errs
}

// checkIdentity checks who and where the browser says it is.
func (s *Spec) checkIdentity(bad func(field, format string, args ...any)) {
	if !isZone(s.TZ) {
		bad("tz", "must be the name of a time zone in the IANA database, such as Europe/Berlin, not %q", CleanText(s.TZ))
	}
	if s.AcceptLang != "" && len(Languages(s.AcceptLang)) == 0 {
		bad("accept_lang", "names no language: give tags such as de-DE,de;q=0.9,en;q=0.8")
	}
}

// isZone reports a name that every browser knows, and the empty one.
func isZone(name string) bool {
	// LoadLocation takes "Local" for the server's own zone, and finds what else
	// lies in the system's folder: names for that zone, and two more copies of
	// the database.
	switch dir, _, _ := strings.Cut(name, "/"); dir {
	case "Local", "localtime", "posixrules", "posix", "right":
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

// refusedHeaders are those that a job may not set, each with the way out. They
// are about one connection, would be another option, are the browser's own to
// say, or open the metadata services of clouds.
var refusedHeaders = map[string]string{
	"host": "it goes with the URL", "content-length": "", "expect": "", "connection": "", "keep-alive": "", "te": "", "trailer": "",
	"transfer-encoding": "", "upgrade": "", "http2-settings": "", "date": "", "via": "", "accept-encoding": "",
	"cookie": "give cookies", "cookie2": "give cookies", "set-cookie": "give cookies", "user-agent": "give user_agent", "accept-language": "give accept_lang",
	"origin": "", "access-control-request-method": "", "access-control-request-headers": "", "upgrade-insecure-requests": "",
	"metadata": "", "metadata-flavor": "", "x-google-metadata-request": "", "x-identity-header": "", "x-metadata-token": "",
	"x-tintype-egress": "",
}

// refusedPrefixes are the beginnings of further such names.
var refusedPrefixes = []string{"proxy-", "sec-", "x-aws-ec2-metadata-"}

// pointerEscape writes a name as a part of a JSON Pointer (RFC 6901 section 3).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")

// checkHeaders checks what is sent to the page's own origin alone.
func (s *Spec) checkHeaders(bad func(field, format string, args ...any)) {
	secret := &s.Secrets
	given := map[string]bool{"headers": len(secret.Headers) > 0, "authorization": secret.Authorization != "", "basic_auth": secret.BasicAuth != ""}
	for _, field := range []string{"headers", "authorization", "basic_auth"} {
		if given[field] && s.URL == "" {
			bad(field, "is sent to the page's own origin, and markup has none; give url")
		}
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(secret.Headers)) {
		lower := strings.ToLower(name)
		why, refused := refusedHeaders[lower]
		refused = refused || slices.ContainsFunc(refusedPrefixes, func(p string) bool { return strings.HasPrefix(lower, p) })
		problem := ""
		switch {
		case !isToken(name):
			problem = "is no name of a header: letters, digits and hyphens"
		case refused && why != "":
			problem = "may not be set as a header; " + why
		case refused:
			problem = "may not be set: it is the browser's or the connection's own"
		case seen[lower]:
			problem = "is there twice, in other letters"
		case !isHeaderValue(secret.Headers[name]):
			problem = "has a value that is not visible ASCII with blanks inside"
		case lower == "authorization":
			given["headers: Authorization"] = true
		}
		if problem != "" {
			bad("headers/"+pointerEscape.Replace(name), "%s", problem)
		}
		seen[lower] = true
	}
	if !isHeaderValue(secret.Authorization) {
		bad("authorization", "is not visible ASCII with blanks inside")
	}
	if given["headers: Authorization"] && (given["authorization"] || given["basic_auth"]) {
		bad("headers", "has an Authorization, and so says authorization or basic_auth; give one")
	}
}

// isHeaderValue reports whether s can be a header's value as it is.
func isHeaderValue(s string) bool {
	for i := range len(s) {
		if (s[i] < 0x20 || s[i] > 0x7E) && s[i] != '\t' {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// An Upstream is an HTTP proxy of the client's own.
type Upstream struct {
	Host, Port     string // the host in lower case, an IPv6 address without brackets
	User, Password string
}

// ParseUpstream reads [http://][user:password@]host:port. Its errors repeat
// nothing of it.
func ParseUpstream(text string) (*Upstream, error) {
	const form = "wants [user:password@]host:port of an HTTP proxy"
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		if !strings.EqualFold(scheme, "http") {
			return nil, fmt.Errorf("%s; %s is not offered", form, CleanText(scheme))
		}
		text = strings.TrimSuffix(rest, "/")
	}
	up := &Upstream{}
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		user, password, ok := strings.Cut(text[:at], ":")
		if !ok || user == "" {
			return nil, fmt.Errorf("%s: user and password are divided by a colon", form)
		}
		up.User, up.Password, text = user, password, text[at+1:]
	}
	if strings.ContainsAny(text, "/?#") {
		return nil, fmt.Errorf("%s, and nothing behind the port: it has a path or a query there", form)
	}
	colon := strings.LastIndexByte(text, ':')
	if colon < 1 {
		return nil, fmt.Errorf("%s: the port is missing", form)
	}
	port, err := strconv.ParseUint(text[colon+1:], 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%s: the port is 1 to 65535", form)
	}
	for i := range len(text) + len(up.User) + len(up.Password) {
		if c := (text + up.User + up.Password)[i]; c < 0x20 || c > 0x7E {
			return nil, fmt.Errorf("%s, in visible ASCII", form)
		}
	}
	u, err := urls.Parse("http://" + text[:colon] + "/")
	if err != nil || u.Hostname() == "" || u.Port() != "" || u.Pathname() != "/" || u.Search() != "" {
		return nil, fmt.Errorf("%s: the host is none", form)
	}
	up.Host, up.Port = strings.Trim(u.Hostname(), "[]"), strconv.FormatUint(port, 10)
	if a, err := netip.ParseAddr(up.Host); err == nil {
		up.Host = a.String()
	}
	return up, nil
}
