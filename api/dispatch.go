package api

import (
	"context"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// call is one request on its way through its handler.
type call struct {
	id      string // req_ and 26 Crockford characters
	began   time.Time
	class   class
	op      *operation
	who     caller
	account account.Account // of a route that wants a key
	plan    account.Plan
	shown   account.Key // zero: of a client without one
	query   *input      // of a route with credentials
	key     string      // Idempotency-Key; empty without one
	link    bool        // it is a signed link
	badKey  bool        // of a link whose signature is none

	meters   *meters
	ctx      context.Context // of the request, where the leader may be asked for meters alone; else nil
	measured chan struct{}   // closed when meters that were asked for beside the handler are there; nil if none were
	bill     bill
	refused  *fault.Error // what the request was answered with
	opened   time.Time    // when its answer began that goes on for as long as the client likes; zero: it has an end
}

// key is the route as openapi.yaml names it.
func (rt *route) key() string { return strings.TrimSuffix(rt.pattern, "{$}") }

// dispatch finds the route of a request. Every answer, also that of a route
// that does not exist and of a handler that panics, names its request and is a
// problem document where it is an error.
func (s *Server) dispatch(routes []route) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes {
		mux.Handle(rt.pattern, routed{s, &rt})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.active.Add(1)
		defer s.active.Done()
		s.inWork.Add(1)
		defer s.inWork.Add(-1)
		c := &call{id: "req_" + job.EncodeBase32(uuid.Must(uuid.NewV7())), began: time.Now(), meters: new(meters)}
		a := &answer{ResponseWriter: w, request: c.id, call: c}
		h := w.Header()
		h.Set("X-Request-Id", a.request)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		inner, _ := mux.Handler(r)
		to, ok := inner.(routed) // the mux's own handlers redirect or refuse
		c.class = classOf(to.route, r.URL.Path)
		if c.class != classExempt {
			s.meet(a, r)
		}
		defer func() { s.done(a, r, to.route, recover()) }()
		// A request of a throttled address costs no more than this.
		if err := s.stopAddress(c); err != nil {
			s.refuse(a, r, err)
			return
		}
		head := ok && r.Method == http.MethodHead && to.op.renders()
		if !ok || head {
			err := s.count(r, nil, c, nil)
			switch {
			case err != nil:
				s.refuse(a, r, err)
			case head:
				s.wrongMethod(a, r, "GET, POST") // it would render a page to show nothing
			default:
				s.unrouted(a, r, inner, mux)
			}
			return
		}
		mux.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), callKey{}, c))) // again: it fills in the path's values
	})
}

// classOf is the class of a request. What has no route counts like what it
// looks like.
func classOf(rt *route, path string) class {
	switch {
	case rt != nil:
		return rt.class
	case strings.HasPrefix(path, "/v1/"):
		return classAPI
	case strings.HasPrefix(path, "/admin/"):
		return classExempt
	}
	return classWeb
}

// meet fills in what is known of a caller before its key is: its address, and
// how refusals look to somebody without an account.
func (s *Server) meet(a *answer, r *http.Request) {
	c, p := a.call, s.policy()
	c.who.identity = clientOf(r, p.TrustedProxies)
	c.who.address = account.IdentityText(c.who.identity)
	c.plan, _ = p.Plan(p.AnonymousPlan)
	if len(p.TrustedProxies) == 0 && len(r.Header["X-Forwarded-For"]) > 0 && behindProxy(c.who.identity) {
		s.proxied.Do(func() {
			s.log.Warn("a proxy on this machine or network speaks for clients and is not trusted, so they all count as one address: name it in the policy's trusted_proxies", "proxy", c.who.address)
		})
	}
	a.before = func() { s.seal(a.Header(), c) }
}

// routed is the handler of a route.
type routed struct {
	server *Server
	*route
}

// ServeHTTP answers; w is dispatch's.
func (h routed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.server.answer(w.(*answer), r, h.route)
}

// answer serves one route.
func (s *Server) answer(w *answer, r *http.Request, rt *route) {
	c := w.call
	c.op = rt.op
	err := s.admit(r, rt, c)
	if err == nil {
		err = rt.handle(w, r, c)
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

// refuse answers with what an error says.
func (s *Server) refuse(w *answer, r *http.Request, err error) {
	c, f := w.call, fault.From(err)
	level := slog.LevelDebug
	switch {
	case f.Kind == fault.Internal:
		level = slog.LevelError
	case f.Kind == fault.Unavailable && f.Err != nil:
		level = slog.LevelWarn
	}
	if s.log.Enabled(r.Context(), level) {
		s.log.Log(r.Context(), level, "request refused", "trace", c.id, "account", c.account.ID, "route", r.Pattern, "kind", f.Kind.String(), "err", err)
	}
	c.refused = f
	if w.status != 0 {
		// Half an answer was sent: the client must not take it for a whole one.
		panic(http.ErrAbortHandler)
	}
	if f.Kind == fault.Unavailable || f.Kind == fault.Canceled {
		c.ctx = nil // nobody is there to be asked, or to be told
	}
	look := faceFor(f, c.plan)
	s.metrics.problem(f, look)
	writeFace(w, r, f, look, c.id)
}

// admit checks what every route with credentials has in common.
func (s *Server) admit(r *http.Request, rt *route, c *call) (err error) {
	refused := s.authenticate(r, rt.auth, c)
	if fault.Is(refused, fault.Canceled) {
		return refused // nobody is there to be told
	}
	if c.class != classExempt {
		if err := s.stopCaller(c); err != nil {
			return err
		}
		if err := s.count(r, rt, c, refused); err != nil {
			return err
		}
	}
	switch {
	case refused != nil:
		return refused
	case rt.auth == byNobody || rt.auth == byAdminOffHost:
		return nil
	}
	if err := c.mayUse(rt); err != nil {
		return err
	}
	if c.key, err = checkKey(r, rt.op); err != nil {
		return err
	}
	if rt.submits() {
		if err := s.stopSubmission(c); err != nil {
			return err
		}
	}
	c.query = rt.op.decodeQuery(r.URL.RawQuery)
	if rt.op.renders() {
		c.unlink()
		return nil // the query of a render is its request, and is judged as that
	}
	return invalid(c.query.problems...)
}

// unrouted answers a request that has no route: 405 where the path has other
// methods, 404 otherwise.
func (s *Server) unrouted(w *answer, r *http.Request, inner http.Handler, mux *http.ServeMux) {
	probe := &statusOnly{header: make(http.Header)}
	inner.ServeHTTP(probe, r)
	if probe.status != http.StatusMethodNotAllowed {
		writeProblem(w, r, fault.New(fault.NotFound, "there is nothing at this path; /openapi.yaml lists what there is"), w.request)
		return
	}
	allow := probe.header.Get("Allow")
	get := r.Clone(r.Context())
	get.Method = http.MethodGet
	if h, _ := mux.Handler(get); h != nil {
		if to, ok := h.(routed); ok && to.op.renders() {
			allow = strings.Replace(allow, "HEAD, ", "", 1) // the mux takes it for a part of GET
		}
	}
	s.wrongMethod(w, r, allow)
}

func (s *Server) wrongMethod(w *answer, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	writeFace(w, r, fault.New(fault.Invalid, "%s is not offered here; offered: %s", r.Method, allow),
		face{status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "The method is not offered"}, w.request)
}

// done ends a request: a panic becomes a problem without text, and the
// request is logged and counted.
func (s *Server) done(w *answer, r *http.Request, rt *route, panicked any) {
	if panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // recover gives the value itself
		s.log.Error("handler panicked", "trace", w.request, "err", panicked, "stack", string(debug.Stack()))
		if w.status == 0 {
			writeProblem(w, r, fault.New(fault.Internal, ""), w.request)
			panicked = nil
		} else {
			panicked = http.ErrAbortHandler
		}
	}
	pattern := "none"
	if rt != nil {
		pattern = rt.pattern
	}
	s.settle(w.call, w.status)
	took := time.Since(w.call.began)
	if at := w.call.opened; !at.IsZero() {
		took = at.Sub(w.call.began)
	}
	s.metrics.request(w.call.class, w.status, took)
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug("request", "trace", w.request, "method", r.Method, "route", pattern, "status", w.status, "size_bytes", w.bytes, "took", took)
	}
	if panicked != nil {
		panic(panicked)
	}
}

// answer is a ResponseWriter that remembers what was answered.
type answer struct {
	http.ResponseWriter
	request string
	call    *call
	status  int    // 0 until the header is written
	before  func() // called before it is; nil: nothing is to be done
	bytes   int64
}

func (a *answer) WriteHeader(status int) {
	a.begin(status)
	a.ResponseWriter.WriteHeader(status)
}

// begin remembers the first status, after the last headers were written.
func (a *answer) begin(status int) {
	if a.status != 0 {
		return
	}
	if a.before != nil {
		a.before()
	}
	a.status = status
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController through.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// statusOnly takes the status of an answer and nothing else.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }
