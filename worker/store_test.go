package worker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// A trick is what a store does with one request instead of the right thing. It
// reports whether the request is dealt with; take stores the object.
type trick func(w http.ResponseWriter, r *http.Request, take func()) bool

// A fakeStore is an object store over real HTTP that honours If-None-Match. Its
// tricks are used up one by one, a request each.
type fakeStore struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string][]byte
	headers []http.Header // of each PUT, in order of arrival
	tricks  []trick
}

func newStore(t *testing.T, tricks ...trick) *fakeStore {
	t.Helper()
	s := &fakeStore{objects: map[string][]byte{}, tricks: tricks}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *fakeStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := r.URL.Path
	take := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.objects[key] = body
	}
	if play := s.arrived(r); play != nil && play(w, r, take) {
		return
	}
	s.mu.Lock()
	have, taken := s.objects[key]
	s.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && taken:
		_, _ = w.Write(have)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
	case taken && r.Header.Get("If-None-Match") == "*":
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		take()
	}
}

// arrived notes a request and gives the trick to play on it, nil for none.
func (s *fakeStore) arrived(r *http.Request) trick {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		s.headers = append(s.headers, r.Header.Clone())
	}
	if len(s.tricks) == 0 {
		return nil
	}
	play := s.tricks[0]
	s.tricks = s.tricks[1:]
	return play
}

func (s *fakeStore) object(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.objects[key])
}

func (s *fakeStore) puts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.headers)
}

// answer fails with a status.
func answer(status int) trick {
	return func(w http.ResponseWriter, _ *http.Request, _ func()) bool {
		w.WriteHeader(status)
		return true
	}
}

// answerAndTake fails with a status, but takes effect.
func answerAndTake(status int) trick {
	return func(w http.ResponseWriter, _ *http.Request, take func()) bool {
		take()
		w.WriteHeader(status)
		return true
	}
}

// hangUp breaks the connection before anything happens.
func hangUp(http.ResponseWriter, *http.Request, func()) bool { panic(http.ErrAbortHandler) }

// takeAndHangUp takes effect, but its answer is lost.
func takeAndHangUp(_ http.ResponseWriter, _ *http.Request, take func()) bool {
	take()
	panic(http.ErrAbortHandler)
}

// stall holds the request until its client gives up.
func stall(_ http.ResponseWriter, r *http.Request, _ func()) bool {
	<-r.Context().Done()
	return true
}

// takeAndStall takes effect and never answers.
func takeAndStall(_ http.ResponseWriter, r *http.Request, take func()) bool {
	take()
	<-r.Context().Done()
	return true
}
