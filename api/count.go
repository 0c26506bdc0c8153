package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const (
	// countWithin bounds the wait for the leader's word about a request. Without
	// it this replica counts for itself.
	countWithin = time.Second
	// metersWithin bounds how long an answer waits for the numbers in its headers
	// when nothing else hangs on them.
	metersWithin = 250 * time.Millisecond
)

// caller is whom a request is counted against.
type caller struct {
	identity netip.Prefix // of the client's address; invalid: nobody's
	address  string       // IdentityText of it
	key      string       // id; empty: none that is good
	account  string       // empty: nobody's
}

// subject is the caller as a limit by "by" counts it, here and at the leader.
func (c caller) subject(by account.By) account.Subject {
	return by.Subject(c.account, c.key, c.address)
}

// meters are what the leader said of the limits of one request's caller, the
// last word of each.
type meters struct {
	mu  sync.Mutex
	all []*pb.Meter // guarded by mu
}

// hear takes in what came with an answer.
func (m *meters) hear(said []*pb.Meter) {
	if m == nil || len(said) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
next:
	for _, one := range said {
		for i, old := range m.all {
			if old.Name == one.Name {
				m.all[i] = one
				continue next
			}
		}
		m.all = append(m.all, one)
	}
}

func (m *meters) list() []*pb.Meter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

// left is what the leader has said so far; where it was asked beside the
// handler its answer is waited for.
func (c *call) left() []*pb.Meter {
	if c.measured != nil {
		late := time.NewTimer(metersWithin)
		defer late.Stop()
		select {
		case <-c.measured:
		case <-late.C:
		}
	}
	return c.meters.list()
}

// callKey finds the call that a context belongs to: whoever asks the leader says
// for whom, and the meters of the answer go there, however deep it is.
type callKey struct{}

// callerOf is who made the request that ctx belongs to; nobody where it belongs
// to none.
func callerOf(ctx context.Context) caller {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.who
	}
	return caller{}
}

// metersOf is where the meters of that request go; nil where there is none.
func metersOf(ctx context.Context) *meters {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.meters
	}
	return nil
}

// stopAddress refuses what is known to be refused of the caller's address,
// without asking anybody. It comes first of all.
func (s *Server) stopAddress(c *call) error {
	if c.who.address == "" {
		return nil
	}
	if !s.blocks.none() {
		network := account.Subject{Kind: account.SubjectNetwork, ID: account.Network(c.who.identity).String()}
		if f := s.blocks.find(network, c.began); f != nil {
			return f
		}
	}
	if f := s.blocks.find(c.who.subject(account.ByIP), c.began); f != nil {
		return f
	}
	return s.stopRequests(c, account.ByIP)
}

// stopCaller is stopAddress for a key and its account.
func (s *Server) stopCaller(c *call) error {
	for _, by := range [...]account.By{account.ByKey, account.ByAccount} {
		who := c.who.subject(by)
		if who.Kind != account.SubjectAddress { // that was looked at before
			if f := s.blocks.find(who, c.began); f != nil {
				return f
			}
		}
		if err := s.stopRequests(c, by); err != nil {
			return err
		}
	}
	return nil
}

// stopRequests refuses who has made too many requests.
func (s *Server) stopRequests(c *call, by account.By) error {
	for _, l := range s.policy().HTTPLimits {
		if l.By == by && l.Class == string(c.class) {
			if err := s.again(c, requestsOf(l, c.who)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stopSubmission refuses who has submitted too fast, where that is remembered.
// A request with an Idempotency-Key may be a replay, which costs no token: it
// is left to the leader.
func (s *Server) stopSubmission(c *call) error {
	if c.key != "" || !c.plan.Rate.Limited() {
		return nil
	}
	return s.again(c, c.rated())
}

// rated is the plan's rate, of whom it counts the request together with: a bad
// key's as the anonymous client that shows it.
func (c *call) rated() limited {
	who := c.who.subject(c.plan.Rate.By)
	if c.who.account == "" && c.who.identity.IsValid() {
		who = c.plan.Rate.By.Subject(account.AnonymousID(c.who.identity), "", c.who.address)
	}
	return limited{who, account.LimitRate, c.plan.Rate}
}

// requestsOf is a limit of requests, of whom it counts the caller together with.
func requestsOf(l account.HTTPLimit, who caller) limited {
	return limited{
		who.subject(l.By), l.Name(),
		account.Rate{Algorithm: account.FixedWindow, Requests: l.Requests, Window: l.Window, By: l.By},
	}
}

// again is the refusal of a limit that is remembered, or the cool-down of whom
// it counts, if there is one.
func (s *Server) again(c *call, k limited) error {
	r, ok := s.throttles.find(limited{Subject: k.Subject, policy: account.LimitCooling}, c.who.address, c.began)
	if ok {
		r.meters = s.throttles.cooled(k, s.front.now()+r.fault.RetryAfter.Microseconds())
	} else {
		r, ok = s.throttles.find(k, c.who.address, c.began)
	}
	if !ok {
		return nil
	}
	s.metrics.throttled.Inc()
	c.ctx = nil // it asks nobody, for headers neither
	c.meters.hear(r.meters)
	return &r.fault
}

// throttled remembers a refusal of the leader, or of this replica while there
// is none.
func (s *Server) throttled(c *call, f *fault.Error) {
	if f == nil || f.Kind != fault.RateLimited {
		return
	}
	var k limited
	if f.Policy == account.LimitRate {
		k = c.rated()
	}
	for _, l := range s.policy().HTTPLimits {
		if l.Name() == f.Policy {
			k = requestsOf(l, c.who)
		}
	}
	if k.Subject == (account.Subject{}) {
		return // of a limit that this replica does not know
	}
	// What an address is told must not speak of the account that asked.
	said := c.meters.list()
	if k.Kind == account.SubjectAddress && !account.Anonymous(c.who.account) {
		var own []*pb.Meter
		for _, m := range said {
			if m.Name == f.Policy {
				own = append(own, m)
			}
		}
		said = own
	}
	s.throttles.learn(k, f, said, c.who.address, c.began, time.Now())
}

// count reports the request to the leader and is its refusal, if it refuses.
// refused is why the request will be refused anyway. One message has all: the
// class and the caller for the limits of requests, what the call costs, and
// whether a bad key was shown.
func (s *Server) count(r *http.Request, rt *route, c *call, refused error) error {
	q := &pb.Count{
		Address: c.who.address, Key: c.who.key, Account: c.who.account,
		BadKey: s.badKeyCosts() && (c.badKey || fault.Is(refused, fault.Unauthenticated) && fault.From(refused).Code != "missing_key"),
	}
	if s.limits(c.class) {
		q.Class = string(c.class)
	}
	if q.BadKey {
		if err := s.again(c, c.rated()); err != nil {
			return err
		}
	}
	if refused == nil && c.who.account != "" {
		q.Units = c.bill.atOnce(rt, c.plan)
		if q.Units != 0 {
			q.Reason = reasonCall
		}
	}
	switch {
	case q.Class != "" || q.Units != 0 || q.BadKey:
	case refused == nil && c.who.account != "":
		if c.ctx = r.Context(); !rt.asks {
			s.measure(c.ctx, c)
		}
		return nil
	default:
		return nil
	}
	err := s.report(r.Context(), c, q)
	s.throttled(c, fault.From(err))
	return err
}

// report puts one count. While nobody answers, this replica counts requests for
// itself, and what they cost is free.
func (s *Server) report(ctx context.Context, c *call, q *pb.Count) error {
	err := s.front.count(ctx, q)
	switch {
	case err == nil:
		c.bill.charged += q.Units
		c.bill.reason = q.Reason
	case errors.Is(err, errUncounted):
		return s.local.count(s.policy().HTTPLimits, q.Class, c.who, c.began)
	}
	return err
}

// measure asks for the meters beside the handler.
func (s *Server) measure(ctx context.Context, c *call) {
	q, done := &pb.Count{Address: c.who.address, Key: c.who.key, Account: c.who.account}, make(chan struct{})
	c.measured = done
	s.active.Go(func() {
		defer close(done)
		_ = s.front.count(ctx, q) // headers that miss are no reason to refuse
	})
}

// limits reports whether requests of the class are bounded.
func (s *Server) limits(cl class) bool {
	for _, l := range s.policy().HTTPLimits {
		if l.Class == string(cl) {
			return true
		}
	}
	return false
}

// badKeyCosts reports whether a bad key costs its address a token.
func (s *Server) badKeyCosts() bool {
	p := s.policy()
	if p.AnonymousPlan == "" {
		return false
	}
	plan, _ := p.Plan(p.AnonymousPlan)
	return plan.Rate.Limited()
}
