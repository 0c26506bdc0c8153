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
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// call is one request on its way through its handler.
type call struct {
	id      string // req_ and 26 Crockford characters
	op      *operation
	account account.Account // of a route that wants a key
	plan    account.Plan
	shown   account.Key // zero: of a client without one
	meters  []*pb.Meter // what the leader says is left, after this request; nil: it does not answer
	query   *input      // of a route with credentials
	key     string      // Idempotency-Key; empty without one
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
		a := &answer{ResponseWriter: w, request: "req_" + job.EncodeBase32(uuid.Must(uuid.NewV7()))}
		began := time.Now()
		h := w.Header()
		h.Set("X-Request-Id", a.request)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		inner, _ := mux.Handler(r)
		to, ok := inner.(routed) // the mux's own handlers redirect or refuse
		defer func() { s.done(a, r, to.route, began, recover()) }()
		switch {
		case !ok:
			s.unrouted(a, r, inner)
			return
		case r.Method == http.MethodHead && to.op.renders():
			s.wrongMethod(a, r, http.MethodGet) // it would render a page to show nothing
			return
		}
		mux.ServeHTTP(a, r) // again: it fills in the path's values
	})
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
	c := &call{id: w.request, op: rt.op}
	err := s.admit(r, rt, c)
	if err == nil {
		err = rt.handle(w, r, c)
	}
	if err == nil {
		return
	}
	f := fault.From(err)
	level := slog.LevelDebug
	switch {
	case f.Kind == fault.Internal:
		level = slog.LevelError
	case f.Kind == fault.Unavailable && f.Err != nil:
		level = slog.LevelWarn
	}
	s.log.Log(r.Context(), level, "request refused", "trace", c.id, "account", c.account.ID, "route", rt.pattern, "kind", f.Kind.String(), "err", err)
	if w.status != 0 {
		// Half an answer was sent: the client must not take it for a whole one.
		panic(http.ErrAbortHandler)
	}
	look := faceFor(f, c.plan)
	s.metrics.problem(f, look)
	writeFace(w, r, f, look, c.id)
}

// admit checks what every route with credentials has in common.
func (s *Server) admit(r *http.Request, rt *route, c *call) (err error) {
	if err := s.authenticate(r, rt.auth, c); err != nil {
		return err
	}
	if rt.auth == byNobody || rt.auth == byAdminOffHost {
		return nil
	}
	if c.key, err = checkKey(r, rt.op); err != nil {
		return err
	}
	c.query = rt.op.decodeQuery(r.URL.RawQuery)
	if rt.op.renders() {
		return nil // the query of a render is its request, and is judged as that
	}
	return invalid(c.query.problems...)
}

// unrouted answers a request that has no route: 405 where the path has other
// methods, 404 otherwise.
func (s *Server) unrouted(w *answer, r *http.Request, inner http.Handler) {
	probe := &statusOnly{header: make(http.Header)}
	inner.ServeHTTP(probe, r)
	if probe.status != http.StatusMethodNotAllowed {
		writeProblem(w, r, fault.New(fault.NotFound, "there is nothing at this path; /openapi.yaml lists what there is"), w.request)
		return
	}
	s.wrongMethod(w, r, probe.header.Get("Allow"))
}

func (s *Server) wrongMethod(w *answer, r *http.Request, allow string) {
	w.Header().Set("Allow", allow)
	writeFace(w, r, fault.New(fault.Invalid, "%s is not offered here; %s is", r.Method, allow),
		face{status: http.StatusMethodNotAllowed, code: "method_not_allowed", title: "The method is not offered"}, w.request)
}

// done ends a request: a panic becomes a problem without text, and the
// request is logged and counted.
func (s *Server) done(w *answer, r *http.Request, rt *route, began time.Time, panicked any) {
	if panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // recover gives the value itself
		s.log.Error("handler panicked", "trace", w.request, "err", panicked, "stack", string(debug.Stack()))
		if w.status == 0 {
			writeProblem(w, r, fault.New(fault.Internal, ""), w.request)
			panicked = nil
		} else {
			panicked = http.ErrAbortHandler
		}
	}
	pattern, cl := "none", classWeb
	if rt != nil {
		pattern, cl = rt.pattern, rt.class
	}
	took := time.Since(began)
	s.metrics.request(cl, w.status, took)
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
	status  int // 0 until the header is written
	bytes   int64
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
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
