package api

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// unzip reads an answer that must be a whole ZIP.
func (a answered) unzip(t testing.TB) (names []string, files map[string]string) {
	t.Helper()
	if a.Code != 200 || a.Header().Get("Content-Type") != "application/zip" {
		t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
	}
	r, err := zip.NewReader(bytes.NewReader(a.Body.Bytes()), int64(a.Body.Len()))
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if _, twice := files[f.Name]; err != nil || twice {
			t.Errorf("%s: %v, twice: %v", f.Name, err, twice)
		}
		names, files[f.Name] = append(names, f.Name), string(data)
	}
	return names, files
}

func TestBatchZIP(t *testing.T) {
	f := newFarm(t)
	f.store.charges = map[job.ID]account.JobCharge{}
	lost := make(chan *pb.Count, 10)
	f.leader.countBy(func(q *pb.Count) *pb.Answer {
		if q.Reason == reasonLost {
			lost <- q
		}
		return new(pb.Answer)
	})
	names := []string{"home", "../../etc/passwd", `C:\a:b`, "日本語", "evil\u202egnp.exe", "", strings.Repeat("é", 200), "home", "a b\tc", ".", "CON"}
	var lines []batch.Line
	for i, name := range names {
		lines = append(lines, line(i+1, name))
	}
	lines = append(lines, line(20, "lost"), line(21, "shorter"), line(22, "other"), line(23, "deleted"), line(24, "failed"), wrong(25, "wrong"), line(26, "large"))
	b := f.batch(lines...)
	for i := range names {
		b.end(i+1, 1, job.Succeeded, fmt.Append(nil, "artifact ", i+1))
	}
	if err := f.bucket.Delete(t.Context(), b.end(20, 1, job.Succeeded, []byte("lost")).Result.Object); err != nil {
		t.Fatal(err)
	}
	f.bucket.set(b.end(21, 1, job.Succeeded, []byte("whole")).Result.Object, []byte("who"))
	f.bucket.set(b.end(22, 1, job.Succeeded, []byte("these")).Result.Object, []byte("those"))
	if _, err := f.store.DropResult(t.Context(), f.acct.ID, b.end(23, 1, job.Succeeded, []byte("x")).ID); err != nil {
		t.Fatal(err)
	}
	b.end(24, 1, job.Failed, nil)
	large := bytes.Repeat([]byte("0123456789abcdef"), zipWhole/16+3)
	b.end(26, 1, job.Succeeded, large).Result.ContentType = "application/pdf"
	b.change(func(b *batch.Batch) { b.State = batch.Completed })

	a := f.do("GET", "/v1/batches/"+b.ID+"/results?format=zip", "")
	got, files := a.unzip(t)
	if want := "attachment; filename=" + b.ID + ".zip"; a.Header().Get("Content-Disposition") != want {
		t.Errorf("%q", a.Header().Get("Content-Disposition"))
	}
	want := []string{
		"0000001-home.png", "0000002-.._.._etc_passwd.png", "0000003-C__a_b.png", "0000004-日本語.png", "0000005-evil_gnp.exe.png", "0000006.png",
		"0000007-" + strings.Repeat("é", 50) + ".png", "0000008-home.png", "0000009-a_b_c.png", "0000010-..png", "0000011-CON.png",
		"0000026-large.pdf", "results.jsonl",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for i := range names {
		if files[want[i]] != fmt.Sprint("artifact ", i+1) {
			t.Errorf("%s holds %q", want[i], files[want[i]])
		}
	}
	if files["0000026-large.pdf"] != string(large) {
		t.Error("the large one holds other bytes")
	}
	results := readResults(t, files["results.jsonl"])
	if got, want := brief(results[len(names):]), "20 succeeded artifact_lost, 21 succeeded artifact_lost, 22 succeeded artifact_lost, "+
		"23 succeeded gone, 24 failed page_crashed, 25 failed invalid_input, 26 succeeded"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for i, r := range results {
		switch {
		case i < len(names) && (r.File == nil || *r.File != want[i] || r.Result == nil), r.Error != nil && (r.File != nil || r.Result != nil):
			t.Errorf("%+v", r)
		}
	}
	for _, number := range []int{20, 21, 22} {
		if q := <-lost; q.Event != lostPrefix+string(batch.JobID(b.ID, b.CreatedAt, number, 1)) {
			t.Errorf("given back: %v", q)
		}
	}
	if h := f.do("HEAD", "/v1/batches/"+b.ID+"/results?format=zip", ""); h.Code != 200 || h.Body.Len() != 0 || h.Header().Get("Content-Type") != "application/zip" {
		t.Errorf("HEAD: %d %v", h.Code, h.Header())
	}
	f.do("GET", "/v1/batches/"+b.ID+"/results?format=zip&order=ended", "").problem(t, 400, "invalid_input")
}

func TestBatchZIPOfNothing(t *testing.T) {
	f := newFarm(t)
	b := f.batch(line(1, "a"))
	names, files := f.do("GET", "/v1/batches/"+b.ID+"/results?format=zip", "").unzip(t)
	if len(names) != 1 || files["results.jsonl"] != "" {
		t.Errorf("%q", files)
	}
}

// An object store that does not answer is no lost artifact: before the first
// byte it is a 503, and later the ZIP has no end.
func TestBatchZIPWithoutTheStore(t *testing.T) {
	b := &torn{after: 1 << 30}
	b.good.Store(1 << 30)
	f := newFarm(t, func(_ *Config, d *Deps) {
		b.memBucket = d.Bucket.(*memBucket)
		d.Bucket = b
	})
	var lines []batch.Line
	for i := range 50 {
		lines = append(lines, line(i+1, ""))
	}
	of := f.batch(lines...)
	for _, l := range lines {
		of.end(l.Number, 1, job.Succeeded, bytes.Repeat([]byte{byte(l.Number)}, 10_000))
	}
	b.good.Store(1)
	f.do("GET", "/v1/batches/"+of.ID+"/results?format=zip", "").problem(t, 503, "unavailable")
	b.good.Store(30)
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // the value itself
				t.Errorf("recovered %v", r)
			}
		}()
		r := httptest.NewRequest("GET", "/v1/batches/"+of.ID+"/results?format=zip", nil)
		r.Header.Set("Authorization", "Bearer "+f.key)
		f.server.Handler().ServeHTTP(w, r)
	}()
	if _, err := zip.NewReader(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len())); err == nil || w.Body.Len() == 0 {
		t.Errorf("%d bytes, and they are a ZIP: %v", w.Body.Len(), err)
	}
}

// In a plan that charges downloads by size a ZIP costs what its artifacts do
// one by one; where the quota ends the rest is named.
func TestBatchZIPIsCharged(t *testing.T) {
	f := newFarm(t, func(c *Config, _ *Deps) {
		c.Policy = account.DefaultPolicy()
		c.Policy.Plans[0].Quota = account.Quota{Unit: account.UnitCredit, Limit: 10, Period: account.MonthUTC, Status: 402}
	})
	b := f.batch(line(1, "a"), line(2, "b"), line(3, "c"), line(4, "d"))
	for i := range 4 {
		b.end(i+1, 1, job.Succeeded, bytes.Repeat([]byte("x"), 30<<10))
	}
	charged, downloads := int64(0), 0
	f.leader.countBy(func(q *pb.Count) *pb.Answer {
		if q.Reason != reasonDownload {
			return new(pb.Answer)
		}
		if downloads++; downloads > 2 {
			return &pb.Answer{Answer: &pb.Answer_Fault{Fault: wire.Fault(fault.New(fault.QuotaExceeded, "the quota is used up"))}}
		}
		charged += q.Units
		return new(pb.Answer)
	})
	_, files := f.do("GET", "/v1/batches/"+b.ID+"/results?format=zip", "").unzip(t)
	if got, want := brief(readResults(t, files["results.jsonl"])), "1 succeeded, 2 succeeded, 3 succeeded quota_exceeded, 4 succeeded quota_exceeded"; got != want || len(files) != 3 {
		t.Errorf("%s, %d files", got, len(files))
	}
	if want := 2 * account.UnitsPerCredit / 15; charged != int64(want) || downloads != 3 {
		t.Errorf("charged %d for %d downloads, want %d", charged, downloads, want)
	}
}

// Two at once for one account, and memory that does not grow with a ZIP.
func TestBatchZIPsAtOnce(t *testing.T) {
	f := newFarm(t)
	var lines []batch.Line
	for i := range 3000 {
		lines = append(lines, line(i+1, fmt.Sprint("name-", i)))
	}
	b := f.batch(lines...)
	data := bytes.Repeat([]byte("0123456789"), 2000)
	for _, l := range lines {
		b.end(l.Number, 1, job.Succeeded, data)
	}
	path := "/v1/batches/" + b.ID + "/results?format=zip"
	reading, read := make(chan bool, 2), make(chan bool)
	var grown atomic.Int64
	floor := heap()
	for range maxPackersAccount {
		go func() {
			r, _ := f.request("GET", path)
			w := &stalling{ResponseRecorder: httptest.NewRecorder(), reading: reading, read: read, sample: func() { grown.Store(max(grown.Load(), heap()-floor)) }}
			f.server.Handler().ServeHTTP(w, r)
			reading <- false
		}()
		if !<-reading {
			t.Fatal("it ended at once")
		}
	}
	f.do("GET", path, "").problem(t, 503, "unavailable")
	grown.Store(0)
	close(read)
	for ended := 0; ended < maxPackersAccount; {
		if !<-reading {
			ended++
		}
	}
	if grown.Load() > 32<<20 {
		t.Errorf("two ZIPs of %d MB took %d MB", len(lines)*len(data)>>20, grown.Load()>>20)
	}
	f.do("GET", path, "").unzip(t)
}

// stalling is a client that says when it got its first bytes, reads on when it
// is told to, and keeps nothing.
type stalling struct {
	*httptest.ResponseRecorder
	reading chan<- bool
	read    <-chan bool
	sample  func()
	writes  int
}

// heap is what is in use, without what nobody holds.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func (s *stalling) Write(p []byte) (int, error) {
	if s.writes == 0 {
		s.reading <- true
	}
	<-s.read
	if s.writes++; s.writes%100 == 0 {
		s.sample()
	}
	return len(p), nil
}
