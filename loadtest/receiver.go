package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// hooked is one message that arrived, as far as it can be read.
type hooked struct {
	place    string // of the URL that it was sent to: what follows /hook/
	id       string // webhook-id
	kind     string // type
	subject  string // id of the job or the batch
	state    string // that the message says it is in
	finished time.Time
	at       time.Time
	broken   string // what is wrong with it; "" is nothing
}

// receiver is where a run's webhooks arrive. Below /hook/ every message is
// answered with 204 once took has returned; below /hang/ nothing is ever
// answered.
type receiver struct {
	took   func(hooked) // called by many at once
	hung   atomic.Int64 // messages that were or are not answered
	server *http.Server
	listen net.Listener
	ended  chan struct{}
	quit   chan struct{} // closed by close
	once   sync.Once     // of close
	err    error         // of close
}

// newReceiver listens on a port of its own.
func newReceiver(took func(hooked)) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{took: took, listen: l, ended: make(chan struct{}), quit: make(chan struct{})}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(r.ended)
		_ = r.server.Serve(l) // it ends when it is closed
	}()
	return r, nil
}

// address is HOST:PORT.
func (r *receiver) address() string { return r.listen.Addr().String() }

// url is where messages to a place go; hung says that they are never answered.
func (r *receiver) url(place string, hung bool) string {
	if hung {
		return "http://" + r.address() + "/hang/" + place
	}
	return "http://" + r.address() + "/hook/" + place
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	place, healthy := strings.CutPrefix(req.URL.Path, "/hook/")
	if !healthy {
		r.hung.Add(1)
		select {
		case <-req.Context().Done():
		case <-r.quit:
		}
		panic(http.ErrAbortHandler) // without an answer
	}
	h := hooked{place: place, id: req.Header.Get("webhook-id"), at: time.Now()}
	body, err := io.ReadAll(io.LimitReader(req.Body, 64<<10))
	if err == nil {
		err = h.read(body, req.Header)
	}
	if err != nil {
		h.broken = err.Error()
	}
	r.took(h)
	w.WriteHeader(http.StatusNoContent)
}

// maxHook is how long a message may be.
const maxHook = 20 << 10

// read takes a message apart, and says what no message may be.
func (h *hooked) read(body []byte, header http.Header) error {
	type told struct {
		ID, Status string
		FinishedAt time.Time `json:"finished_at"`
		Options    map[string]any
	}
	var m struct {
		Type      string
		Timestamp time.Time
		Data      struct {
			Job, Batch *told
			Usage      json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("%w: %.200s", err, body)
	}
	h.kind = m.Type
	if of := cmp.Or(m.Data.Job, m.Data.Batch); of != nil {
		h.subject, h.state, h.finished = of.ID, of.Status, of.FinishedAt
	}
	var wrong []error
	if len(body) > maxHook {
		wrong = append(wrong, fmt.Errorf("a message of %d bytes", len(body)))
	}
	for _, b := range body {
		if b < ' ' || b > '~' {
			wrong = append(wrong, fmt.Errorf("a message with byte %#x in it", b))
			break
		}
	}
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature", "X-Tintype-Signature"} {
		if header.Get(name) == "" {
			wrong = append(wrong, fmt.Errorf("a message without %s", name))
		}
	}
	if m.Timestamp.IsZero() || m.Type == "" {
		wrong = append(wrong, fmt.Errorf("a message without type or timestamp: %.200s", body))
	}
	if job := m.Data.Job; job != nil && (m.Type != "job."+job.Status || job.Options["html"] != nil) {
		wrong = append(wrong, fmt.Errorf("%s tells of a job that is %s, or shows its HTML", m.Type, job.Status))
	}
	return errors.Join(wrong...)
}

// close ends it, and whoever still waits for an answer.
func (r *receiver) close() error {
	r.once.Do(func() {
		close(r.quit)
		r.err = r.server.Close()
		<-r.ended
	})
	return r.err
}
