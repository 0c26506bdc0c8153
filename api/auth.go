package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

const (
	// keyFresh is how long a key is believed without asking the archive. With
	// the query's own time it keeps a revocation effective within 5 s.
	keyFresh = 3 * time.Second
	// keyStale is how long a key is believed while the archive does not answer.
	keyStale = 10 * time.Minute
	// keyQuery bounds one question to the archive.
	keyQuery = 1500 * time.Millisecond
	// maxKeys bounds the cache.
	maxKeys = 10_000
)

// authenticate fills in whose request it is, or refuses it.
func (s *Server) authenticate(r *http.Request, n need, c *call) error {
	switch n {
	case byKey:
		if signed(r, c.op) {
			return s.followLink(r, c)
		}
		if plan := s.policy().AnonymousPlan; plan != "" && len(r.Header.Values("Authorization")) == 0 && c.who.identity.IsValid() {
			id := account.AnonymousID(c.who.identity)
			c.account, c.who.account = account.Account{ID: id, Name: id, Plan: plan}, id
			return nil // c.plan is that one already
		}
		text, err := bearer(r, "this needs an account's key: Authorization: Bearer tt_live_…")
		if err != nil {
			return err
		}
		known, err := s.keys.find(r.Context(), text, c.who.identity, time.Now())
		if err != nil {
			return err
		}
		return s.enter(c, known)
	case byAdminOffHost:
		if onHost(r) {
			return nil
		}
		return s.admitAdmin(r)
	case byAdmin:
		return s.admitAdmin(r)
	}
	return nil
}

// enter makes the request that of a key and its account.
func (s *Server) enter(c *call, known cachedKey) error {
	c.account, c.shown = known.account, known.key
	c.who.account, c.who.key = c.account.ID, c.shown.ID
	c.plan, _ = s.policy().Plan(c.account.Plan) // a plan that is gone is the first one, as at the leader
	if c.account.Suspended {
		return &fault.Error{Kind: fault.Forbidden, Code: "suspended", Detail: "the account is suspended; its administrator can lift that"}
	}
	return nil
}

func (s *Server) admitAdmin(r *http.Request) error {
	text, err := bearer(r, "this needs the admin token: Authorization: Bearer …")
	if err != nil {
		return err
	}
	// Digests have one length, so that the comparison tells nothing of ours.
	shown, ours := sha256.Sum256([]byte(text)), sha256.Sum256([]byte(s.cfg.AdminToken))
	if s.cfg.AdminToken == "" || subtle.ConstantTimeCompare(shown[:], ours[:]) != 1 {
		return fault.New(fault.Unauthenticated, "this is not the admin token")
	}
	return nil
}

// bearer reads the one Authorization header (RFC 6750 section 2.1). Keys in
// queries are not read: they would end up in logs.
func bearer(r *http.Request, missing string) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", &fault.Error{Kind: fault.Unauthenticated, Code: "missing_key", Detail: missing}
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || text == "" {
		return "", fault.New(fault.Unauthenticated, "the Authorization header is not one bearer token")
	}
	return strings.TrimSpace(text), nil
}

// onHost reports whether the client is on this machine itself, not behind a
// proxy that is. A header counts that is there at all: an empty one may be the
// client's, before the line that the proxy added.
func onHost(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, name := range [...]string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"} {
		if len(r.Header.Values(name)) > 0 {
			return false
		}
	}
	return true
}

// keyCache remembers keys and their accounts for a few seconds, and for
// minutes while the archive is down.
type keyCache struct {
	store   Store
	asks    singleflight.Group
	guesses guesses

	mu    sync.Mutex
	keys  map[string]cachedKey // by key id; guarded by mu
	drops int                  // of accounts; guarded by mu
}

type cachedKey struct {
	key     account.Key
	account account.Account
	at      time.Time // before the archive was asked
}

func newKeyCache(store Store) *keyCache {
	return &keyCache{store: store, keys: make(map[string]cachedKey)}
}

// errRevoked is why a key that was right opens nothing any more. Dialects may
// say so.
var errRevoked = errors.New("the key was revoked")

func badKey(cause error) error {
	return fault.Wrap(fault.Unauthenticated, cause, "this key is unknown, revoked or expired")
}

// find is the key that text is at the moment now, and its account. from is who
// shows it.
func (c *keyCache) find(ctx context.Context, text string, from netip.Prefix, now time.Time) (cachedKey, error) {
	id, err := account.KeyID(text)
	if err != nil {
		return cachedKey{}, fault.Wrap(fault.Unauthenticated, err, "this is not a key; keys look like tt_live_<id>_<secret>")
	}
	known, err := c.byID(ctx, id, from, now)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return cachedKey{}, err
	}
	// An unknown id is compared too, so that it takes as long as a wrong secret.
	right := known.key.Matches(text)
	switch {
	case !right || err != nil:
		return cachedKey{}, badKey(nil)
	case !known.key.RevokedAt.IsZero():
		return cachedKey{}, badKey(errRevoked)
	case !known.key.Live(now):
		return cachedKey{}, badKey(nil)
	}
	return known, nil
}

// byID is the key of that id, in whatever state. One that is not there is a
// fault of kind NotFound, and one of kind RateLimited from who shows many such.
func (c *keyCache) byID(ctx context.Context, id string, from netip.Prefix, now time.Time) (cachedKey, error) {
	c.mu.Lock()
	old, ok := c.keys[id]
	c.mu.Unlock()
	if ok && now.Sub(old.at) < keyFresh {
		return old, nil
	}
	if !ok {
		if f := c.guesses.refuse(from, now); f != nil {
			return cachedKey{}, f
		}
	}
	// Many requests with one key ask once; the question outlives the request
	// that happened to ask it.
	answer := c.asks.DoChan(id, func() (any, error) {
		known, err := c.ask(context.WithoutCancel(ctx), id, now)
		if fault.Is(err, fault.NotFound) {
			c.guesses.charge(from, now)
		}
		return known, err
	})
	select {
	case <-ctx.Done():
		return cachedKey{}, fault.Wrap(fault.Canceled, context.Cause(ctx), "the client went away")
	case a := <-answer:
		if a.Err == nil {
			return a.Val.(cachedKey), nil
		}
		if _, isFault := a.Err.(*fault.Error); !isFault && ok && now.Sub(old.at) < keyStale { //nolint:errorlint // ask wraps nothing
			return old, nil
		}
		return cachedKey{}, unavailable(a.Err, "keys cannot be looked up at the moment; try again")
	}
}

func (c *keyCache) ask(ctx context.Context, id string, now time.Time) (any, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, keyQuery, context.DeadlineExceeded)
	defer cancel()
	c.mu.Lock()
	drops := c.drops
	c.mu.Unlock()
	key, acct, err := c.store.Key(ctx, id)
	if fault.Is(err, fault.NotFound) {
		c.drop(id)
		return nil, fault.New(fault.NotFound, "")
	}
	if err != nil {
		return nil, err
	}
	found := cachedKey{key: key, account: acct, at: now}
	c.mu.Lock()
	defer c.mu.Unlock()
	if drops != c.drops {
		return found, nil
	}
	if len(c.keys) >= maxKeys {
		for other := range c.keys { // any: it is asked again when it is used
			delete(c.keys, other)
			break
		}
	}
	c.keys[id] = found
	return found, nil
}

// dropAccount forgets an account's keys at once: something of it is not as it
// was. A question under way may bring what was before, and is not remembered.
func (c *keyCache) dropAccount(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	for keyID, known := range c.keys {
		if known.account.ID == id {
			delete(c.keys, keyID)
			c.asks.Forget(keyID)
		}
	}
}

// drop forgets a key at once, on the replica that revoked it.
func (c *keyCache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, id)
}

// unavailable keeps a fault and makes everything else a dependency's trouble.
func unavailable(err error, detail string) error {
	if f := fault.From(err); f == nil || f.Kind != fault.Internal || f.Err == nil {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "%s", detail)
}
