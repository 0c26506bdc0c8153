package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

var update = flag.Bool("update", false, "write golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminToken = "the-admin-token"

// farm is an API replica with everything around it in memory.
type farm struct {
	t      testing.TB
	store  *memStore
	bucket *memBucket
	leader *leader
	server *Server
	acct   account.Account
	key    string
	stop   func() error // ends Run and waits for it
}

// newFarm starts a replica that a leader has welcomed. change may bend the
// configuration.
func newFarm(t testing.TB, change ...func(*Config, *Deps)) *farm {
	f := newLonelyFarm(t, change...)
	f.leader.serve(t, f.server)
	f.welcomed()
	return f
}

// newLonelyFarm starts a replica that has heard of no leader.
func newLonelyFarm(t testing.TB, change ...func(*Config, *Deps)) *farm {
	t.Helper()
	f := &farm{t: t, store: newMemStore(), bucket: newMemBucket()}
	f.leader = newLeader(t)
	cfg := Config{AdminToken: adminToken}
	deps := Deps{Door: f.leader, Heartbeats: f.leader.heartbeats, Store: f.store, Bucket: f.bucket}
	for _, c := range change {
		c(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	f.server = s
	s.front.dial = f.leader.dial
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	f.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	f.acct, f.key = f.store.newAccount("tester")
	return f
}

// welcomed waits until the replica has a stream.
func (f *farm) welcomed() {
	f.t.Helper()
	d, err := f.server.front.expect(f.t.Context(), job.NewID())
	for ; err != nil; d, err = f.server.front.expect(f.t.Context(), job.NewID()) {
		if f.t.Context().Err() != nil {
			f.t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
	d.forget()
}

// answered is what a request was answered with.
type answered struct {
	*httptest.ResponseRecorder
}

func (a answered) json(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.Body.Bytes(), v); err != nil {
		t.Fatalf("answer %d %q: %v", a.Code, a.Body, err)
	}
}

func (a answered) problem(t testing.TB, status int, code string) Problem {
	t.Helper()
	var p Problem
	if a.Code != status {
		t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	a.json(t, &p)
	if p.Code != code || p.Status != status {
		t.Fatalf("code %q, want %q: %s", p.Code, code, a.Body)
	}
	if got := a.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q", got)
	}
	if p.RequestId == "" || p.RequestId != a.Header().Get("X-Request-Id") {
		t.Fatalf("request_id %q, X-Request-Id %q", p.RequestId, a.Header().Get("X-Request-Id"))
	}
	return p
}

func (a answered) job(t testing.TB, status int) Job {
	t.Helper()
	if a.Code != status {
		t.Fatalf("status %d, want %d: %s", a.Code, status, a.Body)
	}
	var j Job
	a.json(t, &j)
	return j
}

type header map[string]string

// do sends a request with the account's key.
func (f *farm) do(method, target, body string, headers ...header) answered {
	f.t.Helper()
	return f.doContext(f.t.Context(), method, target, body, headers...)
}

func (f *farm) doContext(ctx context.Context, method, target, body string, headers ...header) answered {
	f.t.Helper()
	r := httptest.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	r.RemoteAddr = "192.0.2.1:5000"
	r.Header.Set("Authorization", "Bearer "+f.key)
	for _, h := range headers {
		for k, v := range h {
			r.Header.Del(k)
			if v != "" {
				r.Header.Set(k, v)
			}
		}
	}
	w := httptest.NewRecorder()
	f.server.Handler().ServeHTTP(w, r)
	return answered{w}
}

// admin sends a request with the admin token.
func (f *farm) admin(method, target, body string) answered {
	f.t.Helper()
	return f.do(method, target, body, header{"Authorization": "Bearer " + adminToken})
}

// submit submits a job that must be accepted.
func (f *farm) submit(body string) Job {
	f.t.Helper()
	return f.do("POST", "/v1/jobs", body).job(f.t, http.StatusAccepted)
}

// leader is a scheduler in memory: it decides what is published and answers
// Front as the .proto says, from a map.
type leader struct {
	pb.UnimplementedFrontServer
	t     testing.TB
	beats chan *pb.Heartbeat
	token string

	mu       sync.Mutex
	epoch    uint64
	listener *bufconn.Listener
	grpc     *grpc.Server
	decide   func(rec *pb.Record) *pb.Decision // nil answer: no decision
	publish  func(ctx context.Context, rec *pb.Record) (uint64, error)
	seq      uint64
	records  []*pb.Record
	jobs     map[string]*pb.Job
	waiting  map[uint64]string // call → job
	streams  map[string]pb.Front_ConnectServer
	hellos   chan *pb.FrontHello
	forgot   chan uint64
	looked   chan *pb.Lookup
	canceled chan *pb.Cancel
	mute     bool // answers no look-ups and cancels
	follow   string
}

func newLeader(t testing.TB) *leader {
	return &leader{
		t: t, beats: make(chan *pb.Heartbeat), epoch: 7, token: "front-token", decide: acceptAll,
		jobs: make(map[string]*pb.Job), waiting: make(map[uint64]string), streams: make(map[string]pb.Front_ConnectServer),
		hellos: make(chan *pb.FrontHello, 100), forgot: make(chan uint64, 100), looked: make(chan *pb.Lookup, 1000), canceled: make(chan *pb.Cancel, 100),
	}
}

func acceptAll(rec *pb.Record) *pb.Decision {
	return &pb.Decision{Id: rec.Envelope.Id, Verdict: &pb.Decision_Accepted{Accepted: &pb.Verdict{
		Place: pb.Place_PLACE_QUEUE, AcceptedUs: time.Now().UnixMicro(),
	}}}
}

func refuseAll(f *pb.Fault) func(*pb.Record) *pb.Decision {
	return func(rec *pb.Record) *pb.Decision {
		return &pb.Decision{Id: rec.Envelope.Id, Verdict: &pb.Decision_Refused{Refused: f}}
	}
}

// serve listens and beats until the test ends.
func (l *leader) serve(t testing.TB, s *Server) {
	l.listen()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			l.mu.Lock()
			hb := &pb.Heartbeat{Epoch: l.epoch, Scheduler: "s1", Address: "leader", TimeUs: time.Now().UnixMicro(), FrontToken: l.token}
			l.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case l.beats <- hb:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done; l.hangUp() })
}

func (l *leader) listen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener = bufconn.Listen(1 << 20)
	l.grpc = grpc.NewServer()
	pb.RegisterFrontServer(l.grpc, l)
	go l.grpc.Serve(l.listener) //nolint:errcheck // ends with hangUp
}

// hangUp ends every stream, as a crash does.
func (l *leader) hangUp() {
	l.mu.Lock()
	g := l.grpc
	l.grpc = nil
	l.mu.Unlock()
	if g != nil {
		g.Stop()
	}
}

func (l *leader) heartbeats(ctx context.Context, heard func(*pb.Heartbeat)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case hb := <-l.beats:
			heard(hb)
		}
	}
}

func (l *leader) dial(string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///leader", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			l.mu.Lock()
			listener := l.listener
			l.mu.Unlock()
			if listener == nil {
				return nil, errors.New("connection refused")
			}
			return listener.DialContext(ctx)
		}))
}

// Publish is the door: it stores, and the leader decides.
func (l *leader) Publish(ctx context.Context, rec *pb.Record) (uint64, error) {
	l.mu.Lock()
	publish := l.publish
	l.mu.Unlock()
	if publish != nil {
		return publish(ctx, rec)
	}
	return l.store(rec), nil
}

func (l *leader) store(rec *pb.Record) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.records = append(l.records, rec)
	d := l.decide(rec)
	if d == nil {
		return l.seq
	}
	if v := d.GetAccepted(); v != nil {
		state, waiting := "queued", "worker"
		if v.Place == pb.Place_PLACE_PARKED {
			waiting = "slot"
		}
		l.jobs[rec.Envelope.Id] = &pb.Job{
			Id: rec.Envelope.Id, Account: rec.Envelope.Account, State: state, WaitingFor: waiting,
			Tier: v.Tier, AcceptedUs: v.AcceptedUs, Body: rec.Body,
		}
	}
	l.tell(rec.Envelope.Api, &pb.FrontDown{Decisions: []*pb.Decision{d}})
	return l.seq
}

// tell writes down a replica's stream. l.mu is held: streams have one writer.
func (l *leader) tell(api string, m *pb.FrontDown) {
	if s := l.streams[api]; s != nil {
		_ = s.Send(m)
	}
}

func (l *leader) record() *pb.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 {
		l.t.Fatal("nothing was published")
	}
	return l.records[len(l.records)-1]
}

// change changes a job and answers whoever waits for its end.
func (l *leader) change(id string, fn func(*pb.Job)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l.jobs[id])
	if !job.State(l.jobs[id].State).Terminal() {
		return
	}
	for n, waitsFor := range l.waiting {
		if waitsFor == id {
			delete(l.waiting, n)
			l.broadcast(&pb.FrontDown{Answers: []*pb.Answer{l.answer(n, id)}})
		}
	}
}

func (l *leader) broadcast(m *pb.FrontDown) {
	for api := range l.streams {
		l.tell(api, m)
	}
}

func (l *leader) answer(n uint64, id string) *pb.Answer {
	if j := l.jobs[id]; j != nil {
		return &pb.Answer{Call: n, Answer: &pb.Answer_Job{Job: j}}
	}
	return &pb.Answer{Call: n, Answer: &pb.Answer_Unknown{Unknown: true}}
}

func (l *leader) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, id)
}

// Connect is the Front service.
func (l *leader) Connect(stream pb.Front_ConnectServer) error {
	l.mu.Lock()
	follow := l.follow
	l.mu.Unlock()
	if follow != "" {
		return stream.Send(&pb.FrontDown{NotLeader: &pb.NotLeader{Address: follow}})
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.streams[first.Hello.Api] = stream
	_ = stream.Send(&pb.FrontDown{Welcome: &pb.FrontWelcome{Epoch: l.epoch}})
	for _, p := range first.Hello.Pending {
		if j := l.jobs[p.Id]; j != nil {
			l.tell(first.Hello.Api, &pb.FrontDown{Decisions: []*pb.Decision{{Id: p.Id, Verdict: &pb.Decision_Accepted{
				Accepted: &pb.Verdict{AcceptedUs: j.AcceptedUs, Place: pb.Place_PLACE_QUEUE},
			}}}})
		}
	}
	l.mu.Unlock()
	l.hellos <- first.Hello
	for {
		m, err := stream.Recv()
		if err != nil {
			l.mu.Lock()
			if l.streams[first.Hello.Api] == stream {
				delete(l.streams, first.Hello.Api)
			}
			l.mu.Unlock()
			return nil
		}
		l.heard(stream, m)
	}
}

func (l *leader) heard(stream pb.Front_ConnectServer, m *pb.FrontUp) {
	for _, q := range m.Lookups {
		select {
		case l.looked <- q:
		default: // nobody watches
		}
	}
	for _, c := range m.Cancels {
		l.canceled <- c
	}
	for _, n := range m.Forget {
		l.forgot <- n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mute {
		return
	}
	down := new(pb.FrontDown)
	for _, q := range m.Lookups {
		j := l.jobs[q.Id]
		if j == nil || q.WaitMs == 0 || job.State(j.State).Terminal() {
			down.Answers = append(down.Answers, l.answer(q.Call, q.Id))
			continue
		}
		l.waiting[q.Call] = q.Id
		time.AfterFunc(time.Duration(q.WaitMs)*time.Millisecond, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if _, ok := l.waiting[q.Call]; ok {
				delete(l.waiting, q.Call)
				l.broadcast(&pb.FrontDown{Answers: []*pb.Answer{l.answer(q.Call, q.Id)}})
			}
		})
	}
	for _, n := range m.Forget {
		delete(l.waiting, n)
	}
	for _, c := range m.Cancels {
		j := l.jobs[c.Id]
		if j == nil || j.Account != c.Account {
			down.Answers = append(down.Answers, l.answer(c.Call, ""))
			continue
		}
		if !job.State(j.State).Terminal() {
			j.State, j.FinishedUs, j.WaitingFor = "canceled", time.Now().UnixMicro(), ""
		}
		down.Answers = append(down.Answers, l.answer(c.Call, c.Id))
	}
	if len(down.Answers) > 0 {
		_ = stream.Send(down)
	}
}

// memStore is the archive in memory. down makes every method fail as a
// database that does not answer does.
type memStore struct {
	mu       sync.Mutex
	down     bool
	asked    int // how often Key was called
	accounts map[string]account.Account
	keys     map[string]account.Key
	jobs     map[job.ID]*job.Job
}

func newMemStore() *memStore {
	return &memStore{accounts: map[string]account.Account{}, keys: map[string]account.Key{}, jobs: map[job.ID]*job.Job{}}
}

func (m *memStore) lock() (func(), error) {
	m.mu.Lock()
	if m.down {
		m.mu.Unlock()
		return nil, errors.New("connection refused")
	}
	return m.mu.Unlock, nil
}

func (m *memStore) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *memStore) newAccount(name string) (account.Account, string) {
	a := account.Account{ID: "acc_" + strings.TrimPrefix(string(job.NewID()), "job_"), Name: name, Plan: "default", CreatedAt: time.Now()}
	k, text := account.NewKey(a.ID, "first")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[a.ID], m.keys[k.ID] = a, k
	return a, text
}

func (m *memStore) setAccount(a account.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[a.ID] = a
}

func (m *memStore) put(j *job.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs[j.ID] = j
}

func (m *memStore) Job(_ context.Context, id job.ID) (*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if j := m.jobs[id]; j != nil {
		return j, nil
	}
	return nil, fault.New(fault.NotFound, "there is no such job")
}

func (m *memStore) Jobs(_ context.Context, accountID string, state job.State, before job.ID, limit int) ([]*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []*job.Job
	ids := slices.Sorted(maps.Keys(m.jobs))
	slices.Reverse(ids)
	for _, id := range ids {
		j := m.jobs[id]
		if j.Account == accountID && (state == "" || j.State == state) && (before == "" || id < before) && len(out) < limit {
			out = append(out, j)
		}
	}
	return out, nil
}

func (m *memStore) DropResult(_ context.Context, id job.ID) (string, error) {
	unlock, err := m.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	j := m.jobs[id]
	if j == nil || j.Result == nil {
		return "", fault.New(fault.NotFound, "the job has no result")
	}
	gone, res := *j, *j.Result
	res.Gone = true
	gone.Result = &res
	m.jobs[id] = &gone
	return res.Object, nil
}

func (m *memStore) CreateAccount(_ context.Context, a account.Account, k account.Key) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, other := range m.accounts {
		if other.Name == a.Name {
			return fault.New(fault.Conflict, "name: an account named %q exists already; choose another name", a.Name)
		}
	}
	m.accounts[a.ID], m.keys[k.ID] = a, k
	return nil
}

func (m *memStore) Accounts(_ context.Context, after string, limit int) ([]account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Account
	for _, id := range slices.Sorted(maps.Keys(m.accounts)) {
		if id > after && len(out) < limit {
			out = append(out, m.accounts[id])
		}
	}
	return out, nil
}

func (m *memStore) Account(_ context.Context, id string) (account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return account.Account{}, err
	}
	defer unlock()
	a, ok := m.accounts[id]
	if !ok {
		return a, fault.New(fault.NotFound, "there is no such account")
	}
	return a, nil
}

func (m *memStore) CreateKey(_ context.Context, k account.Key) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	m.keys[k.ID] = k
	return nil
}

func (m *memStore) Keys(_ context.Context, accountID string) ([]account.Key, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Key
	for _, id := range slices.Sorted(maps.Keys(m.keys)) {
		if m.keys[id].Account == accountID {
			out = append(out, m.keys[id])
		}
	}
	return out, nil
}

func (m *memStore) RevokeKey(_ context.Context, accountID, keyID string) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	k, ok := m.keys[keyID]
	if !ok || k.Account != accountID {
		return fault.New(fault.NotFound, "the account has no such key")
	}
	k.RevokedAt = time.Now()
	m.keys[keyID] = k
	return nil
}

func (m *memStore) Key(_ context.Context, keyID string) (account.Key, account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return account.Key{}, account.Account{}, err
	}
	defer unlock()
	m.asked++
	k, ok := m.keys[keyID]
	if !ok {
		return account.Key{}, account.Account{}, fault.New(fault.NotFound, "there is no such key")
	}
	return k, m.accounts[k.Account], nil
}

// memBucket is a bucket in memory.
type memBucket struct {
	mu      sync.Mutex
	down    bool
	objects map[string][]byte
}

func newMemBucket() *memBucket { return &memBucket{objects: map[string][]byte{}} }

func (b *memBucket) fail() error {
	if b.down {
		return errors.New("connection refused")
	}
	return nil
}

func (b *memBucket) setDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *memBucket) set(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = data
}

func (b *memBucket) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

func (b *memBucket) Put(_ context.Context, key string, body io.Reader, _ int64, _ string) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return err
	}
	b.objects[key] = data
	return nil
}

func (b *memBucket) Get(_ context.Context, key string) (io.ReadCloser, object.Info, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return nil, object.Info{}, err
	}
	data, ok := b.objects[key]
	if !ok {
		return nil, object.Info{}, fmt.Errorf("get %s: %w", key, object.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(data)), object.Info{Key: key, SizeBytes: int64(len(data))}, nil
}

func (b *memBucket) Stat(ctx context.Context, key string) (object.Info, error) {
	_, info, err := b.Get(ctx, key)
	return info, err
}

func (b *memBucket) Delete(_ context.Context, keys ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return err
	}
	for _, k := range keys {
		delete(b.objects, k)
	}
	return nil
}

func (b *memBucket) PresignGet(key string, _ time.Duration, disposition string) (string, error) {
	return "https://s3.example.com/" + key + "?disposition=" + disposition, nil
}

// succeed ends a job of the leader with these bytes as its artifact.
func (f *farm) succeed(id string, data []byte) {
	f.t.Helper()
	sum := sha256.Sum256(data)
	key := "r/" + f.acct.ID + "/" + id + "/1.png"
	f.bucket.set(key, data)
	f.leader.change(id, func(j *pb.Job) {
		now := time.Now().UnixMicro()
		j.State, j.WaitingFor, j.Attempts, j.Billable = "succeeded", "", 1, true
		j.StartedUs, j.FinishedUs, j.ExpiresUs = now, now, now+int64(time.Hour/time.Microsecond)
		j.Result = &pb.Result{Object: key, ContentType: "image/png", Width: 1280, Height: 1024, SizeBytes: int64(len(data)), Sha256: sum[:]}
		j.Timings = &pb.Timings{QueueMs: 1, NavigateMs: 20, WaitMs: 30, CaptureMs: 40, UploadMs: 5, TotalMs: 96}
		j.Evidence = []byte(`{"final_url":"https://example.com/","status_code":200,"title":"Example"}`)
	})
}

// fail ends a job of the leader with a failure.
func (f *farm) fail(id string, code job.Code, stage job.Stage, detail string) {
	f.leader.change(id, func(j *pb.Job) {
		j.State, j.WaitingFor, j.Attempts = "failed", "", 1
		j.StartedUs, j.FinishedUs = time.Now().UnixMicro(), time.Now().UnixMicro()
		j.Failure = &pb.Failure{Code: string(code), Stage: string(stage), Detail: detail}
	})
}

// filed is a finished job of the archive.
func (f *farm) filed(id job.ID, state job.State, data []byte) *job.Job {
	spec := job.Defaults()
	spec.URL = "https://example.com/"
	no := false
	j := &job.Job{
		ID: id, Account: f.acct.ID, State: state, CreatedAt: id.Time(), FinishedAt: id.Time().Add(time.Second),
		ExpiresAt: time.Now().Add(time.Hour), Attempts: 1, Billable: &no, Options: spec.Marshal(),
	}
	if state == job.Succeeded {
		sum := sha256.Sum256(data)
		key := "r/" + f.acct.ID + "/" + string(id) + "/1.png"
		f.bucket.set(key, data)
		j.Result = &job.Result{
			Object: key, ContentType: "image/png", Width: 1280, Height: 1024, SizeBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
		}
	}
	f.store.put(j)
	return j
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (run with -update to accept):\n%s", path, got)
	}
}

// request is a request with the account's key and where its answer goes.
func (f *farm) request(method, target string) (*http.Request, *httptest.ResponseRecorder) {
	r := httptest.NewRequestWithContext(f.t.Context(), method, target, nil)
	r.Header.Set("Authorization", "Bearer "+f.key)
	return r, httptest.NewRecorder()
}
