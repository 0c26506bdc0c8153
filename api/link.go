package api

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

// linkMost is how far ahead a signed link may end.
const linkMost = 7 * 24 * time.Hour

// linkParams are the parameters that only signed links have, the last one last.
var linkParams = [...]string{"key_id", "expires", "sig"}

// signed reports a request that shows no key and has a parameter of signed
// links instead. It is one however broken it is: whatever is changed of a link,
// it is refused as a link.
func signed(r *http.Request, op *operation) bool {
	if r.Method != http.MethodGet || !op.renders() || len(r.Header.Values("Authorization")) > 0 {
		return false
	}
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		for _, ours := range linkParams {
			if name == ours {
				return true
			}
		}
	}
	return false
}

// followLink fills in whose link the request follows, or refuses it. What is
// signed is the raw query before "&sig="; nothing else of the request is.
func (s *Server) followLink(r *http.Request, c *call) error {
	c.link = true
	now := time.Now()
	query, sig, _ := cutLast(r.URL.RawQuery, "&sig=")
	values, err := url.ParseQuery(query)
	if err != nil || len(values["key_id"]) != 1 || len(values["expires"]) != 1 || values.Has("sig") {
		return badLink(c)
	}
	var known cachedKey
	if id := values.Get("key_id"); account.ValidKeyID(id) {
		if known, err = s.keys.byID(r.Context(), id, c.who.identity, now); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	// Of an unknown key too, so that it takes as long as a wrong signature.
	right := subtle.ConstantTimeCompare([]byte(known.key.Sign(query)), []byte(sig)) == 1
	switch {
	case known.key.ID == "" || !known.key.Live(now):
		return badLink(c)
	case known.key.SigningSecret == "":
		return fault.New(fault.Forbidden, "this key has no secret to sign links with, since it was made by an older release; make another one")
	case !right:
		return badLink(c)
	}
	if err := s.enter(c, known); err != nil {
		return err
	}
	ends, err := strconv.ParseInt(values.Get("expires"), 10, 64)
	switch {
	case err != nil || ends < 0:
		return fault.New(fault.Forbidden, "expires of this link is not in whole seconds since 1970 UTC")
	case now.Unix() >= ends:
		return fault.New(fault.Forbidden, "this link has expired")
	case time.Duration(ends-now.Unix()) > linkMost/time.Second:
		return fault.New(fault.Forbidden, "expires of this link is more than 7 days ahead; sign it for less")
	}
	return nil
}

// badLink refuses a link without telling which part of it is wrong.
func badLink(c *call) error {
	c.badKey = true
	return fault.New(fault.Forbidden, "this is not a valid signed link: it was changed, or its key is unknown, revoked or expired; its query must end in key_id, expires and sig")
}

// unlink takes the parameters of a link out of its query: what is left is a
// request to render. In any other request they have no place.
func (c *call) unlink() {
	for _, name := range linkParams {
		if _, there := c.query.members[name]; !there {
			continue
		}
		if !c.link {
			c.query.add(name, "goes with a signed link, which shows no key; leave it out")
		}
		delete(c.query.members, name)
	}
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// scope is what a key needs for the route.
func (rt *route) scope() account.Scope {
	if rt.pattern == "GET /v1/account/webhook-secret" { // with it one can sign
		return account.ScopeRender
	}
	method, _, _ := strings.Cut(rt.pattern, " ")
	if (method == http.MethodGet || method == http.MethodHead) && !rt.op.renders() {
		return account.ScopeRead
	}
	return account.ScopeRender
}

// mayUse refuses a key that was not made for this.
func (c *call) mayUse(rt *route) error {
	if need := rt.scope(); c.shown.ID != "" && !c.shown.May(need) {
		f := fault.New(fault.Forbidden, "this key has not the scope %q, which this needs; use another key of the account", string(need))
		f.Extra = map[string]any{"scope": string(need)}
		return f
	}
	return nil
}
