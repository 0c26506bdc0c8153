package job

import (
	"errors"
	"fmt"
	"strings"
)

// A Cookie is one that a job gives its browser before the page is opened.
type Cookie struct {
	Name, Value string
	Domain      string // and its subdomains, lower case; empty: the page's host alone
	Path        string
	Secure      bool
	HTTPOnly    bool
	SameSite    string // Strict, Lax, None or empty
}

// ParseCookie reads one line as Set-Cookie writes it (RFC 6265bis section 4.1).
// It refuses what a browser would drop in silence. Its errors never hold the
// cookie's value.
func ParseCookie(line string) (*Cookie, error) {
	for i := range len(line) {
		if line[i] < 0x20 || line[i] == 0x7F {
			return nil, errors.New("holds a control character")
		}
	}
	first, rest, _ := strings.Cut(line, ";")
	name, value, ok := strings.Cut(first, "=")
	c := &Cookie{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value), Path: "/"}
	switch {
	case !ok || c.Name == "":
		return nil, errors.New("wants name=value before the first semicolon")
	case !isToken(c.Name):
		return nil, errors.New("has a name with characters that names of cookies do not have")
	case len(c.Name)+len(c.Value) > 4096:
		return nil, errors.New("is longer than the 4096 bytes that browsers keep of name and value")
	}
	if err := c.attributes(rest); err != nil {
		return nil, err
	}
	return c, c.check()
}

// attributes reads what stands behind the value.
func (c *Cookie) attributes(rest string) error {
	for part := range strings.SplitSeq(rest, ";") {
		key, value, _ := strings.Cut(part, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch strings.ToLower(key) {
		case "":
		case "domain":
			c.Domain = strings.ToLower(strings.TrimPrefix(value, "."))
			if c.Domain == "" {
				return errors.New("has an empty Domain; leave it out for the page's own host")
			}
		case "path":
			if !strings.HasPrefix(value, "/") {
				return errors.New("has a Path that does not begin with a slash")
			}
			c.Path = value
		case "secure":
			c.Secure = true
		case "httponly":
			c.HTTPOnly = true
		case "samesite":
			for _, v := range []string{"Strict", "Lax", "None"} {
				if strings.EqualFold(v, value) {
					c.SameSite = v
				}
			}
			if c.SameSite == "" {
				return errors.New("has a SameSite that is not Strict, Lax or None")
			}
		case "expires", "max-age", "priority": // the browser lives no longer than the job
		default:
			return fmt.Errorf("has the attribute %q, which is not offered: give Domain, Path, Secure, HttpOnly, SameSite", CleanText(key))
		}
	}
	return nil
}

// check holds the attributes against each other.
func (c *Cookie) check() error {
	lower := strings.ToLower(c.Name)
	switch {
	case c.SameSite == "None" && !c.Secure:
		return errors.New("is SameSite=None without Secure, which browsers drop")
	case strings.HasPrefix(lower, "__secure-") && !c.Secure:
		return errors.New("has a name that begins with __Secure- and is not Secure, which browsers drop")
	case strings.HasPrefix(lower, "__host-") && (!c.Secure || c.Path != "/" || c.Domain != ""):
		return errors.New("has a name that begins with __Host- and is not Secure with Path=/ and without Domain, which browsers drop")
	case (strings.HasPrefix(lower, "__http-") || strings.HasPrefix(lower, "__host-http-")) && (!c.Secure || !c.HTTPOnly):
		return errors.New("has a name that begins with __Http- or __Host-Http- and is not Secure and HttpOnly, which browsers drop")
	case c.Domain == "":
		return nil
	}
	u, err := urls.Parse("http://" + c.Domain + "/")
	if err != nil || u.Hostname() == "" || strings.ContainsAny(c.Domain, ":/\\@?#") {
		return errors.New("has a Domain that is no host name")
	}
	if !strings.Contains(u.Hostname(), ".") && u.Hostname() != "localhost" {
		return errors.New("has a Domain of one label, which would be every site of it; browsers drop it")
	}
	c.Domain = u.Hostname()
	return nil
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
