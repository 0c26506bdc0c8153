package farm

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

const (
	siegeQuota      = 60
	siegeSubmitters = 100
	siegePolicy     = `version: 1
plans:
- {name: default, threads: 8, quota: {unit: render, limit: 60}}
`
)

// flakySeat renders one pixel, and nothing of a page whose address says so.
type flakySeat struct{ ready chan struct{} }

func flakySeats(n int) []worker.Renderer {
	ready := make(chan struct{})
	close(ready)
	seats := make([]worker.Renderer, n)
	for i := range seats {
		seats[i] = flakySeat{ready}
	}
	return seats
}

func (flakySeat) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s flakySeat) Ready() <-chan struct{} { return s.ready }

func (flakySeat) Render(_ context.Context, _ job.ID, spec *job.Spec) capture.Outcome {
	if strings.Contains(spec.URL, "fail") {
		return capture.Outcome{Failure: job.Fail(job.ConnectionRefused, job.StageNavigate, "nobody listens there")}
	}
	return capture.Outcome{
		Artifact: &capture.Artifact{Body: []byte("\x89PNG\r\n\x1a\n"), Width: 1, Height: 1},
		Evidence: &job.Evidence{FinalURL: spec.URL, StatusCode: http.StatusOK},
	}
}

// siege is a farm of two replicas and one leader under a policy.
type siege struct {
	t     *testing.T
	doors []string
	s3    config.S3
	http  *http.Client
	next  atomic.Int64
}

func layTo(t *testing.T, policy string) *siege {
	t.Helper()
	stores := foreignStores(t)
	if err := process(t, "migrate").Migrate(t.Context(), config.Migrate{DatabaseURL: stores.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	file := config.Policy{File: filepath.Join(t.TempDir(), "policy.yaml")}
	if err := os.WriteFile(file.File, []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	leads, drain := freeAddress(t), config.Drain{DrainLimit: 10 * time.Second}
	p := process(t, "scheduler")
	start(t, "scheduler", func(ctx context.Context) error {
		return p.Scheduler(ctx, config.Scheduler{
			Cluster: config.Cluster{ClusterListen: leads}, Join: config.Join{WorkerToken: "join"}, Sealing: testSealing, Backends: stores, Policy: file,
		})
	})
	w := process(t, "worker")
	w.Seats = flakySeats
	start(t, "worker", func(ctx context.Context) error {
		return w.Worker(ctx, config.Worker{
			Schedulers: []string{leads}, Name: "w1", Join: config.Join{WorkerToken: "join"}, Render: config.Render{Seats: 8}, Drain: drain,
		})
	})
	s := &siege{t: t, s3: stores.S3, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: siegeSubmitters}, Timeout: time.Minute}}
	t.Cleanup(s.http.CloseIdleConnections)
	for i := range 2 {
		door := freeAddress(t)
		a := process(t, fmt.Sprint("api ", i))
		start(t, "api", func(ctx context.Context) error {
			return a.API(ctx, config.API{HTTP: config.HTTP{Listen: door}, Admin: config.Admin{AdminToken: "admin"}, Sealing: testSealing, Drain: drain, Backends: stores, Policy: file})
		})
		s.doors = append(s.doors, door)
	}
	for _, door := range s.doors {
		if err := ready(t.Context(), "http://"+door); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// ask is one request, at one replica or the other in turn; out may be nil.
func (s *siege) ask(method, path, key, idempotency string, body, out any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	door := s.doors[int(s.next.Add(1))%len(s.doors)]
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+door+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	if idempotency != "" {
		req.Header.Set("Idempotency-Key", idempotency)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return resp, err
}

func (s *siege) account(name string) (id, key string) {
	s.t.Helper()
	var made struct{ ID, Key string }
	resp, err := s.ask("POST", "/admin/v1/accounts", "admin", "", map[string]string{"name": name}, &made)
	if err != nil || resp.StatusCode != http.StatusCreated {
		s.t.Fatalf("account %s: %v, %v", name, resp, err)
	}
	return made.ID, made.Key
}

// reply is what a job or a refusal of one says. A problem's status is a
// number, a job's is a word.
type reply struct {
	ID    string
	Code  string
	Used  float64
	Limit float64
}

// submit asks for one render until it is answered with anything but "try again".
func (s *siege) submit(key, idempotency, url string) (reply, int) {
	for {
		var a reply
		resp, err := s.ask("POST", "/v1/jobs", key, idempotency, map[string]string{"url": url}, &a)
		switch {
		case err != nil:
			s.t.Errorf("submit: %v", err)
			return a, 0
		case resp.StatusCode != http.StatusServiceUnavailable:
			return a, resp.StatusCode
		}
	}
}

// used is what the account's usage says, and its headers.
type used struct {
	Used, Pending *float64
	Limit         int64
	Remaining     int64
	Units         int64
	Outcomes      map[string]int64
}

func (s *siege) usage(key string) (u used, quota http.Header) {
	s.t.Helper()
	resp, err := s.ask("GET", "/v1/usage", key, "", nil, &u)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("usage: %v, %v", resp, err)
	}
	return u, resp.Header
}

// A hundred clients at once, at two replicas, use exactly their quota and never
// more; what is refused is refused for it; and all who say what was used say the
// same.
func TestQuotaUnderSiege(t *testing.T) {
	needtest.Farm(t)
	noLeaks(t)
	s := layTo(t, siegePolicy)
	t.Run("all succeed", func(t *testing.T) { exactly(t, s) })
	t.Run("a third fails", func(t *testing.T) { failing(t, s) })
	t.Run("a result is lost", func(t *testing.T) { losing(t, s) })
	t.Run("kept out", func(t *testing.T) { keptOut(t, s) })
}

// losing: what a result cost that the bucket has lost comes back once, however
// often and at whichever replica it is asked for.
func losing(t *testing.T, s *siege) {
	id, key := s.account("luckless")
	var ids []string
	for _, page := range []string{"kept", "lost"} {
		a, status := s.submit(key, "", "https://example.com/"+page)
		if status != http.StatusAccepted {
			t.Fatalf("%d %+v", status, a)
		}
		ids = append(ids, a.ID)
	}
	s.ended(key, ids)
	bucket, err := object.New(object.Config{
		Endpoint: s.s3.S3Endpoint, Bucket: s.s3.S3Bucket, Region: s.s3.S3Region, AccessKey: s.s3.S3AccessKey, SecretKey: s.s3.S3SecretKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	for o, err := range bucket.List(t.Context(), "r/"+id+"/"+ids[1]+"/") {
		if err == nil {
			err = bucket.Delete(t.Context(), o.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // before and after all of it is filed
		for range 4 {
			var p struct{ Code string }
			if resp, err := s.ask("GET", "/v1/jobs/"+ids[1]+"/result", key, "", nil, &p); err != nil || resp.StatusCode != http.StatusGone || p.Code != "artifact_lost" {
				t.Fatalf("%v, %+v, %v", resp, p, err)
			}
		}
		s.addsUp(id, key, 1)
	}
}

func exactly(t *testing.T, s *siege) {
	id, key := s.account("acme")

	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { // while it goes on, nobody sees more than the quota
		for {
			select {
			case <-over:
				return
			default:
			}
			if u, _ := s.usage(key); *u.Used > siegeQuota || u.Remaining < 0 || u.Pending != nil && *u.Used+*u.Pending > siegeQuota {
				t.Errorf("in between: %+v", u)
			}
		}
	})

	var mu sync.Mutex
	accepted, refused := map[string]bool{}, map[string]int{}
	var all sync.WaitGroup
	for n := range siegeSubmitters {
		all.Go(func() {
			for i := range 3 {
				idempotency, times := "", 1
				if n%4 == 0 { // twice, as after an answer that was lost, and one job all the same
					idempotency, times = fmt.Sprintf("k-%d-%d", n, i), 2
				}
				for range times {
					a, status := s.submit(key, idempotency, fmt.Sprintf("https://example.com/%d/%d", n, i))
					mu.Lock()
					if status == http.StatusAccepted || status == http.StatusOK {
						accepted[a.ID] = true
					} else {
						refused[fmt.Sprint(status, " ", a.Code)]++
					}
					if a.Code == "quota_exceeded" && (a.Used != siegeQuota || a.Limit != siegeQuota) {
						t.Errorf("refused with %+v", a)
					}
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	close(over)
	watching.Wait()
	if len(accepted) != siegeQuota || len(refused) != 1 || refused["402 quota_exceeded"] == 0 {
		t.Fatalf("%d accepted, refused %v; want %d accepted and the rest refused for the quota", len(accepted), refused, siegeQuota)
	}
	s.ended(key, slices.Collect(maps.Keys(accepted)))
	s.addsUp(id, key, siegeQuota)
}

// failing: what fails costs nothing, so that others may come, and in the end
// there are as many successes as the quota has.
func failing(t *testing.T, s *siege) {
	id, key := s.account("zeta")
	rounds, successes := 0, 0
	for ; ; rounds++ {
		var mu sync.Mutex
		var ids []string
		var all sync.WaitGroup
		for n := range siegeSubmitters {
			all.Go(func() {
				path := "ok"
				if n%3 == 0 {
					path = "fail"
				}
				if a, status := s.submit(key, "", fmt.Sprintf("https://example.com/%s/%d/%d", path, rounds, n)); status == http.StatusAccepted {
					mu.Lock()
					ids = append(ids, a.ID)
					mu.Unlock()
				} else if a.Code != "quota_exceeded" {
					t.Errorf("%d %+v", status, a)
				}
			})
		}
		all.Wait()
		if successes += s.ended(key, ids)["succeeded"]; successes > siegeQuota {
			t.Fatalf("%d successes, the quota is %d", successes, siegeQuota)
		}
		if len(ids) == 0 {
			break
		}
	}
	if successes != siegeQuota || rounds < 2 {
		t.Fatalf("%d successes in %d rounds", successes, rounds)
	}
	u := s.addsUp(id, key, siegeQuota)
	if u.Outcomes["succeeded"] != siegeQuota || u.Outcomes["failed"] == 0 {
		t.Errorf("%+v", u)
	}
}

// ended waits for the ends of jobs and counts them by state.
func (s *siege) ended(key string, ids []string) map[string]int {
	s.t.Helper()
	states := map[string]int{}
	for _, id := range ids {
		var j struct {
			Status   string
			Billable *bool
		}
		for j.Billable == nil {
			if _, err := s.ask("GET", "/v1/jobs/"+id+"?wait=30", key, "", nil, &j); err != nil {
				s.t.Fatal(err)
			}
		}
		if *j.Billable != (j.Status == "succeeded") {
			s.t.Errorf("%s ended as %s, billable %t", id, j.Status, *j.Billable)
		}
		states[j.Status]++
	}
	return states
}

// addsUp waits until everything is filed and compares all who say what an
// account used: the answer, its headers, the ledger of charges as JSON and CSV,
// and the admin's sums.
func (s *siege) addsUp(id, key string, credits int64) used {
	s.t.Helper()
	t := s.t
	var u used
	var quota http.Header
	for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // until the projector has been
		u, quota = s.usage(key)
		if u.Units == credits*120 && quota.Get("X-Quota-Remaining") != "" || time.Now().After(until) {
			break
		}
	}
	if u.Units != credits*120 || *u.Used != float64(credits) || u.Limit != siegeQuota || u.Remaining != siegeQuota-credits {
		t.Errorf("%+v, want %d", u, credits)
	}
	if left, limit := quota.Get("X-Quota-Remaining"), quota.Get("X-Quota-Limit"); left != strconv.FormatInt(siegeQuota-credits, 10) || limit != strconv.Itoa(siegeQuota) {
		t.Errorf("X-Quota-Remaining %q of %q", left, limit)
	}
	var units, sum int64
	seen := map[string]bool{}
	for after := ""; ; {
		var page struct {
			Data []struct {
				ID    string
				Units int64
			}
			HasMore bool   `json:"has_more"`
			Next    string `json:"next_cursor"`
		}
		if _, err := s.ask("GET", "/v1/usage/events?limit=17&after="+after, key, "", nil, &page); err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Data {
			units += e.Units
			if seen[e.ID] {
				t.Errorf("%s is charged twice", e.ID)
			}
			seen[e.ID] = true
		}
		if after = page.Next; !page.HasMore {
			break
		}
	}
	resp, err := s.get("/v1/usage/events?format=csv", key)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(resp)).ReadAll()
	if err != nil || len(rows) != len(seen)+1 {
		t.Fatalf("%d rows of %d events, %v", len(rows), len(seen), err)
	}
	for _, row := range rows[1:] {
		n, err := strconv.ParseInt(row[slices.Index(rows[0], "units")], 10, 64)
		if err != nil {
			t.Error(err)
		}
		sum += n
	}
	var bills struct {
		Data []struct {
			Account     string
			Units       int64
			EventsUnits int64 `json:"events_units"`
		}
	}
	if _, err := s.ask("GET", "/admin/v1/usage", "admin", "", nil, &bills); err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, b := range bills.Data {
		if b.Account == id && b.Units == u.Units && b.EventsUnits == u.Units {
			ours++
		}
	}
	if ours != 1 || units != u.Units || sum != u.Units {
		t.Errorf("used %d units; the events are %d, as CSV %d; the admin sees %+v", u.Units, units, sum, bills)
	}
	return u
}

func (s *siege) get(path, key string) ([]byte, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.doors[0]+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return body, errors.Join(err, resp.Body.Close())
}
