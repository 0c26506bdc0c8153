package outbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("thank you")) }

// A message arrives, to the endpoint and to the job's own URL, as the standard
// says, with the job as its row is.
func TestDelivery(t *testing.T) {
	f := newFarm(t)
	at, own := f.receives(ok), f.receives(ok)
	f.endpoint("we_a", at.url+"/hook?secret=1")
	f.sends("one")
	j := failed("acc_a")
	j.CustomID, j.Options = "Zürich 🚀", []byte(`{"html":"<p>`+strings.Repeat("x", 30_000)+`</p>","format":"png"}`)
	j.Webhook = &job.Webhook{URL: own.url + "/own"}
	f.ends(j)
	ids := map[string]bool{}
	for _, r := range []*receiver{at, own} {
		g := f.next(r)
		m := f.verify(g)
		if m.Type != "job.failed" || m.Timestamp != j.FinishedAt.Format("2006-01-02T15:04:05.000Z") || m.Data.Job["id"] != string(j.ID) || m.Data.Job["custom_id"] != j.CustomID {
			t.Errorf("%s", g.body)
		}
		if options := m.Data.Job["options"].(map[string]any); len(options) != 1 || options["format"] != "png" {
			t.Errorf("options %v: the markup is left out and the rest is not", options)
		}
		for _, b := range g.body {
			if b < ' ' || b > '~' {
				t.Fatalf("not ASCII alone: %q", g.body)
			}
		}
		if g.header.Get("Content-Type") != "application/json" || g.header.Get("Accept-Encoding") != "" || g.header.Get("Idempotency-Key") != "" {
			t.Errorf("headers %v", g.header)
		}
		ids[g.header.Get("webhook-id")] = true
	}
	if len(ids) != 2 {
		t.Errorf("ids %v: two messages", ids)
	}
	for {
		list, err := f.store.Deliveries(t.Context(), "acc_a", webhook.Filter{State: webhook.Delivered}, webhook.Place{}, 9)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) < 2 {
			<-time.After(10 * time.Millisecond)
			continue
		}
		for _, d := range list {
			attempts := d.Log
			if len(attempts) != 1 || attempts[0].Status != 200 || attempts[0].Answer != "thank you" || attempts[0].Error != "" || !ids[d.ID] {
				t.Errorf("%+v", d)
			}
		}
		return
	}
}

// The same id and the same body each time, another timestamp and signature.
func TestRetry(t *testing.T) {
	f := newFarm(t)
	n := 0
	r := f.receives(func(w http.ResponseWriter, req *http.Request) {
		if n++; n == 1 {
			http.Error(w, "not now", http.StatusInternalServerError)
		}
	})
	f.endpoint("we_a", r.url)
	f.sends("one")
	f.ends(failed("acc_a"))
	first := f.next(r)
	d, attempts := f.tried("acc_a", 1)
	if wait := d.NextAt.Sub(attempts[0].At); d.State != webhook.Pending || attempts[0].Status != 500 || wait < 5*time.Second || wait > 9*time.Second {
		t.Errorf("again in %s: %+v %+v", wait, d, attempts)
	}
	f.exec(`UPDATE jobs SET custom_id = 'another'`) // the body was made, and stays
	f.hurry("acc_a")
	second := f.next(r)
	f.verify(first)
	f.verify(second)
	if first.header.Get("webhook-id") != second.header.Get("webhook-id") || string(first.body) != string(second.body) {
		t.Errorf("first %v %s\nthen %v %s", first.header, first.body, second.header, second.body)
	}
	if d, attempts := f.delivered("acc_a"); len(attempts) != 2 || d.Attempts != 2 || d.EndedAt.IsZero() {
		t.Errorf("%+v %+v", d, attempts)
	}
}

// Receivers that do not play: each has its words in the log, and a healthy one
// beside them does not notice.
func TestHostileReceivers(t *testing.T) {
	f := newFarm(t)
	inside := f.receives(ok) // what a redirect may not reach
	type want struct {
		state  webhook.State
		status int
		error  string // begins with
		answer string
		wait   time.Duration // at least, to the next attempt
		took   [2]time.Duration
	}
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	hang := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}
	quick, slow := [2]time.Duration{0, 8 * time.Second}, [2]time.Duration{9 * time.Second, 14 * time.Second}
	receivers := map[string]struct {
		url    func() string
		answer http.HandlerFunc
		want   want
	}{
		"hang": {answer: hang, want: want{webhook.Pending, 0, "no answer within 10 seconds", "", 5 * time.Second, slow}},
		"drip": {answer: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("."))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(100 * time.Millisecond):
				case <-r.Context().Done():
				}
			}
		}, want: want{webhook.Delivered, 200, "", "..", 0, quick}},
		"drip of headers": {url: f.drips, want: want{webhook.Pending, 0, "no answer within 10 seconds", "", 5 * time.Second, slow}},
		"reset": {answer: func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler)
		}, want: want{webhook.Pending, 0, "it broke the connection off", "", 5 * time.Second, quick}},
		"no HTTP":   {url: f.babbles, want: want{webhook.Pending, 0, "what it sent is not an HTTP answer", "", 5 * time.Second, quick}},
		"closes":    {url: f.closes, want: want{webhook.Pending, 0, "it ", "", 5 * time.Second, quick}},
		"nobody":    {url: f.nobody, want: want{webhook.Pending, 0, "127.0.0.1:", "", 5 * time.Second, quick}},
		"forbidden": {url: func() string { return "https://127.0.0.1:1/" }, want: want{webhook.Pending, 0, "127.0.0.1:1 is not a destination that webhooks may go to", "", 5 * time.Second, quick}},
		"plain":     {url: func() string { return "http://127.0.0.1:1/" }, want: want{webhook.Pending, 0, "the address is http", "", 5 * time.Second, quick}},
		"stranger":  {url: f.stranger, want: want{webhook.Pending, 0, "its certificate is not accepted: nobody known has signed it", "", 5 * time.Second, quick}},
		"no TLS":    {url: f.noTLS, want: want{webhook.Pending, 0, "what answers there does not speak TLS", "", 5 * time.Second, quick}},
		"redirect": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.url, http.StatusMovedPermanently)
		}, want: want{webhook.Pending, 301, "redirects are not followed", "", 5 * time.Second, quick}},
		"gone": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusGone)
		}, want: want{webhook.Failed, 410, "", "", 0, quick}},
		"patience": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "9999999999")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, want: want{webhook.Pending, 503, "", "", 24 * time.Hour, quick}},
		"huge": {answer: func(w http.ResponseWriter, r *http.Request) {
			for range 64 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, want: want{webhook.Delivered, 200, "", "", 0, quick}},
		"bomb": {answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("not unpacked \x00\x01\xff"))
		}, want: want{webhook.Delivered, 200, "", "not unpacked \uFFFD", 0, quick}},
		"teapot": {answer: func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "I'm a teapot", http.StatusTeapot)
		}, want: want{webhook.Pending, 418, "", "I'm a teapot\n", 5 * time.Second, quick}},
	}
	slugs := map[string]string{}
	var jobs []*job.Job
	for name, r := range receivers {
		slug := strings.ReplaceAll(strings.ToLower(name), " ", "_")
		slugs[name] = slug
		to := ""
		if r.url != nil {
			to = r.url()
		} else {
			to = f.receives(r.answer).url
		}
		f.endpoint("we_"+slug, to)
		jobs = append(jobs, failed("acc_"+slug))
	}
	healthy := f.receives(ok)
	f.endpoint("we_healthy", healthy.url)
	f.sends("one")
	f.ends(jobs...)
	f.tried("acc_teapot", 1)
	for range 20 { // each comes while the others hang, or wait
		f.ends(failed("acc_healthy"))
		f.verify(f.next(healthy))
	}
	if list, err := f.store.Deliveries(t.Context(), "acc_hang", webhook.Filter{}, webhook.Place{}, 1); err != nil || list[0].Attempts != 0 {
		t.Logf("the one that hangs was through before: %+v, %v: the machine is busy", list, err)
	}
	for name, r := range receivers {
		d, attempts := f.tried("acc_"+slugs[name], 1)
		a, want := attempts[0], r.want
		wait := d.NextAt.Sub(a.At.Add(a.Took))
		if d.State != want.state || a.Status != want.status || !strings.HasPrefix(a.Error, want.error) || !strings.HasPrefix(a.Answer, want.answer) ||
			a.Took < want.took[0] || d.State == webhook.Pending && wait < want.wait-time.Second || len(a.Answer) > answerKept {
			t.Errorf("%s: %s after %s, again in %s, %+v; want %+v", name, d.State, a.Took, wait, a, want)
		}
		if want.status == 0 && a.Error == "" {
			t.Errorf("%s: no answer, and no word why", name)
		}
		t.Logf("%-16s %-9s %3d %6s %q %.20q", name, d.State, a.Status, a.Took.Round(time.Millisecond), a.Error, a.Answer)
	}
	if len(inside.hits) > 0 {
		t.Error("a redirect was followed")
	}
	var reason string
	if err := f.conn.QueryRow(t.Context(), `SELECT disabled_reason FROM webhook_endpoints WHERE id = 'we_gone'`).Scan(&reason); err != nil || reason != "gone" {
		t.Errorf("the endpoint that answered 410 is disabled as %q, %v", reason, err)
	}
}

// raw is a listener that says something of its own to whoever connects.
func (f *farm) raw(scheme string, say func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				say(c)
			}()
		}
	}()
	f.Cleanup(func() { l.Close(); <-done })
	to := scheme + "://" + l.Addr().String()
	f.permit(to)
	return to
}

// trusted is TLS that the sender accepts.
func (f *farm) trusted(say func(net.Conn)) string {
	like := httptest.NewTLSServer(nil)
	defer like.Close()
	f.roots.AddCert(like.Certificate())
	cfg := like.TLS.Clone()
	cfg.NextProtos = nil
	return f.raw("https", func(c net.Conn) {
		tc := tls.Server(c, cfg)
		if tc.Handshake() == nil {
			say(tc)
		}
	})
}

func (f *farm) drips() string {
	return f.trusted(func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1<<16)) // an answer before it would be another fault
		for _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nX: ")); err == nil; _, err = c.Write([]byte("x")) {
			<-time.After(100 * time.Millisecond)
		}
	})
}

func (f *farm) babbles() string {
	return f.trusted(func(c net.Conn) {
		_, _ = c.Write([]byte("220 mail.example ESMTP\r\n"))
		_, _ = c.Read(make([]byte, 1<<16))
	})
}

func (f *farm) closes() string {
	return f.trusted(func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<16)) })
}

func (f *farm) noTLS() string {
	return f.raw("https", func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })
}

func (f *farm) nobody() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	to := "https://" + l.Addr().String()
	f.permit(to)
	l.Close()
	return to
}

// stranger has a certificate that nobody has signed.
func (f *farm) stranger() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	srv.StartTLS()
	f.Cleanup(srv.Close)
	f.permit(srv.URL)
	return srv.URL
}

// A job that was deleted before its message was sent is told of no more, and an
// endpoint that is gone by then gets nothing.
func TestNothingToSend(t *testing.T) {
	f := newFarm(t)
	r := f.receives(ok)
	for _, id := range []string{"we_forgotten", "we_deleted", "we_off"} {
		f.endpoint(id, r.url)
		f.ends(failed("acc_" + strings.TrimPrefix(id, "we_")))
	}
	f.exec(`DELETE FROM jobs WHERE account = 'acc_forgotten'`)
	f.exec(`DELETE FROM webhook_endpoints WHERE id = 'we_deleted'`)
	f.exec(`UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'by_owner' WHERE id = 'we_off'`)
	f.sends("one")
	for account, words := range map[string]string{
		"acc_forgotten": "the job is not kept any more", "acc_deleted": "the endpoint was deleted", "acc_off": "the endpoint is disabled: by_owner",
	} {
		d, _ := f.until(account, "given up", func(d webhook.Delivery, _ []webhook.Attempt) bool { return d.State == webhook.Failed })
		if d.Failure != words {
			t.Errorf("%s: %+v", account, d)
		}
	}
	if n := len(r.hits); n > 0 {
		t.Errorf("%d messages were sent", n)
	}
}

// A lane that fails is left alone for a while, and what works beside it is not.
func TestBreaker(t *testing.T) {
	f := newFarm(t)
	r := f.receives(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	f.endpoint("we_a", r.url)
	var jobs []*job.Job
	for range 50 {
		jobs = append(jobs, failed("acc_a"))
	}
	f.ends(jobs...)
	f.sends("one")
	for i := range 3 {
		f.verify(f.next(r))
		if i < 2 {
			continue
		}
		for open := false; !open; {
			if err := f.conn.QueryRow(t.Context(), `SELECT COALESCE(open_until > now() AND wake_at >= open_until, false) FROM delivery_lanes`).Scan(&open); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(r.hits); n > 0 {
		t.Errorf("%d more were sent to a receiver that had failed three times", n)
	}
	list, err := f.store.Deliveries(t.Context(), "acc_a", webhook.Filter{}, webhook.Place{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if wait := time.Until(d.NextAt); wait < time.Second {
			t.Errorf("%s is said to be sent in %s, and is not", d.ID, wait)
		}
	}
}
