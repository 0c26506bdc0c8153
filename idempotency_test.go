package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/needtest"
)

// keyed is what a submission under an Idempotency-Key was answered with.
type keyed struct {
	code   int
	replay bool
	ID     string
	Status any    // of a job its state
	Code   string // of a problem
}

// submitKeyed submits with the first key; wrote, if there is one, is called
// when the request is on its way.
func (w *world) submitKeyed(url, key, body string, wrote func()) (keyed, error) {
	resp, text, err := w.postKeyed(url+"/v1/jobs", key, body, wrote)
	if err != nil {
		return keyed{}, err
	}
	k := keyed{code: resp.StatusCode, replay: resp.Header.Get("X-Idempotent-Replay") == "true"}
	if err := json.Unmarshal(text, &k); err != nil {
		return keyed{}, fmt.Errorf("%s: %w", text, err)
	}
	return k, nil
}

// shotKeyed asks for the picture itself.
func (w *world) shotKeyed(url, key, body string, wrote func()) (keyed, error) {
	resp, text, err := w.postKeyed(url+"/v1/screenshot", key, body, wrote)
	if err != nil {
		return keyed{}, err
	}
	k := keyed{code: resp.StatusCode, replay: resp.Header.Get("X-Idempotent-Replay") == "true", ID: resp.Header.Get("X-Job-Id")}
	if k.code == 200 && !strings.HasPrefix(string(text), "\x89PNG") {
		return k, fmt.Errorf("%.40q is no PNG", text)
	}
	return k, nil
}

// postKeyed posts under a key and reads the answer whole.
func (w *world) postKeyed(to, key, body string, wrote func()) (*http.Response, []byte, error) {
	secret, err := os.ReadFile(filepath.Join(w.data(), "first.key"))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if wrote != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { wrote() }})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}

// listed waits until the account has so many jobs.
func (w *world) listed(url string, want int) {
	w.t.Helper()
	secret, err := os.ReadFile(filepath.Join(w.data(), "first.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var list struct{ Data []struct{ ID string } }
	for len(list.Data) != want {
		<-tick.C
		req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url+"/v1/jobs", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(secret)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		err = json.NewDecoder(resp.Body).Decode(&list)
		_ = resp.Body.Close()
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// One key is one job and one bill, through kills at any moment: while its
// submission is in flight, while it runs, and after it was filed (I10).
func TestKeySurvivesKill(t *testing.T) {
	needtest.Farm(t)
	w := newWorld(t)
	const slow, quick, shown = `{"html": "<h1>Hello</h1>", "delay_ms": 2000}`, `{"html": "<h1>Bye</h1>"}`, `{"html": "<h1>Look</h1>", "delay_ms": 1500}`
	must := func(k keyed, err error) keyed {
		t.Helper()
		if err != nil || k.code >= 300 {
			t.Fatalf("%+v, %v", k, err)
		}
		return k
	}

	f := w.up()
	one := must(w.submitKeyed(f.url, "one", slow, nil))
	if again := must(w.submitKeyed(f.url, "one", slow, nil)); one.replay || one.code != 202 || !again.replay || again.code != 202 || again.ID != one.ID {
		t.Errorf("%+v, then %+v", one, again)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for status := ""; status != "running"; _, status, _ = w.ask(http.MethodGet, f.url+"/v1/jobs/"+one.ID, "") {
		<-tick.C
	}
	// A call that waits for its bytes is cut off by the kill, with its job accepted.
	cutOff := make(chan struct{})
	go func() {
		defer close(cutOff)
		if k, err := w.shotKeyed(f.url, "three", shown, nil); err == nil {
			t.Errorf("a call that was killed: %+v", k)
		}
	}()
	w.listed(f.url, 2)
	// Killed as the request reaches it: accepted or not, nobody can tell.
	wrote, ended := make(chan struct{}, 1), make(chan keyed, 1)
	go func() {
		k, err := w.submitKeyed(f.url, "two", quick, func() { wrote <- struct{}{} })
		if err != nil {
			k = keyed{}
		}
		ended <- k
	}()
	<-wrote
	f.stop(t, syscall.SIGKILL)
	cut := <-ended
	<-cutOff
	w.noStrays()

	f = w.up()
	if again := must(w.submitKeyed(f.url, "one", slow, nil)); !again.replay || again.ID != one.ID {
		t.Errorf("after a kill while it ran: %+v, want %s", again, one.ID)
	}
	two := must(w.submitKeyed(f.url, "two", quick, nil))
	if cut.ID != "" && two.ID != cut.ID {
		t.Errorf("after a kill during its submission: %s, but %s was answered before", two.ID, cut.ID)
	}
	three := must(w.shotKeyed(f.url, "three", shown, nil))
	if three.code != 200 || !three.replay {
		t.Errorf("the bytes after a kill while it waited for them: %+v", three)
	}
	ids := []string{one.ID, two.ID, three.ID}
	for _, id := range ids {
		if _, status, _ := w.ask(http.MethodGet, f.url+"/v1/jobs/"+id+"?wait=60", ""); status != "succeeded" {
			t.Errorf("%s is %s", id, status)
		}
		for rows, _, _ := w.archived(id); rows != 1; rows, _, _ = w.archived(id) {
			<-tick.C
		}
	}
	f.stop(t, syscall.SIGKILL)
	w.noStrays()

	f = w.up()
	if again := must(w.shotKeyed(f.url, "three", shown, nil)); again.code != 200 || !again.replay || again.ID != three.ID {
		t.Errorf("the bytes after a kill when it was filed: %+v, want those of %s", again, three.ID)
	}
	if other, err := w.shotKeyed(f.url, "three", quick, nil); err != nil || other.code != 422 {
		t.Errorf("another call under the key: %+v, %v", other, err)
	}
	for i, body := range []string{slow, quick} {
		key := []string{"one", "two"}[i]
		if again := must(w.submitKeyed(f.url, key, body, nil)); !again.replay || again.code != 200 || again.ID != ids[i] || again.Status != "succeeded" {
			t.Errorf("after a kill when it was filed: %+v, want %s", again, ids[i])
		}
		if other, err := w.submitKeyed(f.url, key, `{"html": "other"}`, nil); err != nil || other.code != 422 || other.Code != "idempotency_key_reused" {
			t.Errorf("another request under the key: %+v, %v", other, err)
		}
		if rows, events, units := w.archived(ids[i]); rows != 1 || events != 1 || units != 360 {
			t.Errorf("%s has %d rows and %d charges, the account %d units; want one of each and 360", ids[i], rows, events, units)
		}
	}
	if code := f.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	w.noStrays()
}
