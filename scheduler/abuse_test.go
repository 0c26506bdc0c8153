package scheduler

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// banShelf keeps bans in memory, as the archive does.
type banShelf struct {
	mu    sync.Mutex
	away  bool
	bans  map[account.Subject]account.Ban
	audit []account.Audit
}

func newBanShelf() *banShelf { return &banShelf{bans: map[account.Subject]account.Ban{}} }

func (s *banShelf) goAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *banShelf) Bans(context.Context) ([]account.Ban, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, errors.New("away")
	}
	var out []account.Ban
	for _, b := range s.bans {
		out = append(out, b)
	}
	return out, nil
}

func (s *banShelf) FileBans(_ context.Context, steps []account.Ban, audit []account.Audit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errors.New("away")
	}
	for _, b := range steps {
		switch b.Step {
		case account.StepBlocked, account.StepBanned:
			s.bans[b.Subject] = b
		case account.StepLifted:
			delete(s.bans, b.Subject)
		}
	}
	s.audit = append(s.audit, audit...)
	return nil
}

func (s *banShelf) TrimBans(context.Context) error { return nil }

// actions are what the audit says was done.
func (s *banShelf) actions() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.audit {
		out = append(out, a.Actor+" "+a.Action+" "+a.Subject)
	}
	return out
}

func block(p *frontPeer, subject string) *pb.Block {
	p.t.Helper()
	return await(p, "block of "+subject, func(m *pb.FrontDown) (*pb.Block, bool) {
		return take(&m.Blocks, func(b *pb.Block) bool { return b.Subject == subject })
	})
}

func strikes(subject string, n uint32) *pb.FrontUp {
	return &pb.FrontUp{Strikes: []*pb.Strikes{{Subject: subject, Address: "203.0.113.7", Count: n}}}
}

// frontOf is another replica than "api".
func (b *bubble) frontOf(s *Scheduler, api string) *frontPeer {
	b.leading(s)
	p, _ := connect(b, func(p *pipe[pb.FrontUp, pb.FrontDown]) error { return frontService{s: s}.Connect(p) },
		&pb.FrontUp{Hello: &pb.FrontHello{Api: api}})
	return p
}

// SEED-WEBSHOT-9 to 12, at the leader: each step is told to every replica, kept
// in the archive, audited, logged and in force for submissions and requests.
func TestLadder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		var log bytes.Buffer
		shelf, registry := newBanShelf(), prometheus.NewRegistry()
		cfg := rated(perMinute(60, account.ByIP, account.ChargeAll))
		cfg.Bans, cfg.Metrics, cfg.Log = shelf, registry, slog.New(slog.NewTextHandler(&log, nil))
		s, _ := b.start("a", cfg)
		api, other := b.front(s), b.frontOf(s, "other")
		const who = "address:203.0.113.7"
		env := func() *pb.Envelope { return &pb.Envelope{Account: "acc_acme", Key: "k1", Address: "203.0.113.7"} }
		refused := func() *pb.Fault {
			t.Helper()
			return decision(api, b.submitAs(env())).GetRefused()
		}
		if f := refused(); f != nil {
			t.Fatalf("before anything: %v", f)
		}
		for n, cool := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute} {
			api.send(strikes(who, 10))
			for _, p := range []*frontPeer{api, other} {
				if got := block(p, who); got.Step != pb.Block_STEP_COOLING || got.UntilUs != time.Now().Add(cool).UnixMicro() {
					t.Errorf("offence %d: %v", n+1, got)
				}
			}
			if f := refused(); f.GetCode() != "rate_limit_exceeded" || f.GetPolicy() != "cooling" || f.GetRetryAfterMs() != cool.Milliseconds() {
				t.Errorf("while cooling: %v", f)
			}
			time.Sleep(10 * time.Second)
		}
		api.send(strikes(who, 10))
		synctest.Wait()
		for _, p := range []*frontPeer{api, other, b.frontOf(s, "late")} {
			if got := block(p, who); got.Step != pb.Block_STEP_BLOCKED || got.UntilUs != time.Now().Add(time.Hour).UnixMicro() {
				t.Errorf("the fourth offence: %v", got)
			}
		}
		if f := refused(); f.GetKind() != "blocked" || f.GetRetryAfterMs() != time.Hour.Milliseconds() {
			t.Errorf("blocked: %v", f)
		}
		if f := reported(api, &pb.Count{Class: "api", Address: "203.0.113.7"}).GetFault(); f.GetKind() != "blocked" {
			t.Errorf("a request while blocked: %v", f)
		}
		for range 2 {
			time.Sleep(time.Hour)
			if f := refused(); f != nil {
				t.Errorf("after the block: %v", f)
			}
			api.send(strikes(who, 1000))
			block(api, who)
		}
		if f := refused(); f.GetKind() != "forbidden" || f.GetCode() != "banned" || f.GetRetryAfterMs() != 0 {
			t.Errorf("banned: %v", f)
		}
		synctest.Wait()
		want := []string{"cooling", "cooling", "cooling", "blocked", "blocked", "banned"}
		for i := range want {
			want[i] = "ladder " + want[i] + " " + who
		}
		if got := shelf.actions(); !slices.Equal(got, want) {
			t.Errorf("the audit says %q", got)
		}
		if ban := shelf.bans[account.Subject{Kind: account.SubjectAddress, ID: "203.0.113.7"}]; ban.Step != account.StepBanned || len(ban.Blocks) != 3 {
			t.Errorf("the archive has %+v", ban)
		}
		if n := strings.Count(log.String(), `msg="abuse ladder" subject=`+who); n != 6 {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
		got := gathered(t, registry)
		if got["tintype_bans banned"] != 1 || got["tintype_bans blocked"] != 0 || got["tintype_ladder_steps_total cooling"] != 3 || got["tintype_throttled_total cooling"] != 3 {
			t.Errorf("metrics: %v", got)
		}
	})
}

// A cool-down is of the limit that was not heeded; a block is of all that its
// subject does.
func TestCoolingIsOfOneLimit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		free := bubblePlan()
		free.Name, free.Rate = "free", perMinute(60, account.ByIP, account.ChargeAll)
		cfg := Config{Alone: true, Policy: policyOf(account.Policy{
			Plans: []account.Plan{bubblePlan(), free}, AnonymousPlan: "free",
			HTTPLimits: []account.HTTPLimit{{Class: "api", By: account.ByKey, Requests: 100, Window: time.Minute}},
		})}
		s, _ := b.start("a", cfg)
		api := b.front(s)
		api.send(strikes("address:203.0.113.7", 10))
		block(api, "address:203.0.113.7")
		if !b.passes(api, &pb.Envelope{Account: "acc_premium", Key: "k1", Address: "203.0.113.7"}) {
			t.Error("a key with a plan of its own cools down with its address")
		}
		if f := decision(api, b.submitAs(&pb.Envelope{Account: "anon_cb007107", Address: "203.0.113.7"})).GetRefused(); f.GetPolicy() != "cooling" {
			t.Errorf("without a key: %v", f)
		}
		if f := reported(api, &pb.Count{Class: "api", Account: "acc_premium", Key: "k1", Address: "203.0.113.7"}).GetFault(); f != nil {
			t.Errorf("a request of the key: %v", f)
		}
		api.send(strikes("key:k1", 10))
		block(api, "key:k1")
		if f := reported(api, &pb.Count{Class: "api", Account: "acc_premium", Key: "k1", Address: "203.0.113.8"}).GetFault(); f.GetPolicy() != "cooling" || f.GetRetryAfterMs() != 30_000 {
			t.Errorf("a request of the key that cools down: %v", f)
		}
		api.send(strikes("nonsense", 10_000)) // is logged
		api.send(strikes("account:acc_premium", 1000))
		if got := block(api, "account:acc_premium"); got.Step != pb.Block_STEP_BLOCKED {
			t.Errorf("the account: %v", got)
		}
		if f := decision(api, b.submitAs(&pb.Envelope{Account: "acc_premium", Key: "k2", Address: "198.51.100.1"})).GetRefused(); f.GetKind() != "blocked" {
			t.Errorf("another key of the account: %v", f)
		}
	})
}

// Blocks and bans are the next leader's too, cool-downs are not.
func TestBansOutliveAReign(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		shelf := newBanShelf()
		cfg := Config{Alone: true, Bans: shelf}
		s, kill := b.start("a", cfg)
		api := b.front(s)
		for _, who := range []string{"key:blocked", "key:cooling"} {
			n := uint32(1000)
			if who == "key:cooling" {
				n = 10
			}
			api.send(strikes(who, n))
			block(api, who)
		}
		api.send(&pb.FrontUp{Bans: []*pb.BanChange{{Call: 1, Subject: "key:banned", Reason: "scraper"}}})
		if a := answer(api, 1); !a.GetDone() {
			t.Errorf("banned by hand: %v", a)
		}
		synctest.Wait()
		kill()

		s, _ = b.start("b", cfg)
		api = b.front(s)
		if got := block(api, "key:blocked"); got.Step != pb.Block_STEP_BLOCKED || got.UntilUs == 0 {
			t.Errorf("told at the welcome: %v", got)
		}
		if got := block(api, "key:banned"); got.Step != pb.Block_STEP_BANNED || got.UntilUs != 0 {
			t.Errorf("told at the welcome: %v", got)
		}
		for key, want := range map[string]string{"blocked": "blocked", "banned": "forbidden", "cooling": ""} {
			if f := decision(api, b.submitAs(&pb.Envelope{Account: "acc_acme", Key: key})).GetRefused(); f.GetKind() != want {
				t.Errorf("key:%s: %v, want %q", key, f, want)
			}
		}
	})
}

// A step is in force although the archive is away, and written down when it is
// back.
func TestBansWithoutArchive(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		shelf := newBanShelf()
		s, _ := b.start("a", Config{Alone: true, Bans: shelf})
		api := b.front(s)
		shelf.goAway(true)
		api.send(strikes("key:k1", 1000))
		block(api, "key:k1")
		api.send(&pb.FrontUp{Bans: []*pb.BanChange{{Call: 1, Subject: "key:k2", UntilUs: time.Now().Add(time.Hour).UnixMicro()}}})
		if f := answer(api, 1).GetFault(); f.GetKind() != "unavailable" {
			t.Errorf("a block that could not be written down: %v", f)
		}
		for _, key := range []string{"k1", "k2"} {
			if f := decision(api, b.submitAs(&pb.Envelope{Account: "acc_acme", Key: key})).GetRefused(); f.GetKind() != "blocked" {
				t.Errorf("key:%s: %v", key, f)
			}
		}
		time.Sleep(time.Minute)
		if got := shelf.actions(); len(got) != 0 {
			t.Errorf("written down: %q", got)
		}
		shelf.goAway(false)
		time.Sleep(2 * bansRest)
		if got := shelf.actions(); !slices.Equal(got, []string{"ladder blocked key:k1", "admin blocked key:k2"}) {
			t.Errorf("when it is back: %q", got)
		}
	})
}

// A cold start accepts nothing until it knows who is banned; a hot standby goes
// by what it has read.
func TestReignWithoutArchive(t *testing.T) {
	banned := account.Subject{Kind: account.SubjectKey, ID: "bad"}
	t.Run("cold", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			shelf := newBanShelf()
			shelf.bans[banned] = account.Ban{Subject: banned, Step: account.StepBanned, Since: time.Now()}
			shelf.goAway(true)
			s, _ := b.start("a", Config{Alone: true, Bans: shelf})
			api := b.front(s)
			if f := decision(api, b.submit()).GetRefused(); f.GetKind() != "unavailable" {
				t.Errorf("nobody knows who is banned: %v", f)
			}
			shelf.goAway(false)
			if got := block(api, "key:bad"); got.Step != pb.Block_STEP_BANNED {
				t.Errorf("when the archive is back: %v", got)
			}
			if d := decision(api, b.submit()); d.GetAccepted() == nil {
				t.Errorf("when the archive is back: %v", d)
			}
		})
	})
	t.Run("hot", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			shelf := newBanShelf()
			first, kill := b.start("a", Config{Alone: true, Bans: shelf})
			b.leading(first)
			second, _ := b.start("b", Config{Bans: shelf})
			api := b.front(first)
			b.passes(api, &pb.Envelope{Account: "acc_acme"})
			api.send(strikes("key:bad", 1000))
			block(api, "key:bad")
			time.Sleep(2 * bansFresh)
			shelf.goAway(true)
			kill()
			api = b.front(second)
			if f := decision(api, b.submitAs(&pb.Envelope{Account: "acc_acme", Key: "bad"})).GetRefused(); f.GetKind() != "blocked" {
				t.Errorf("who was banned: %v", f)
			}
			if !b.passes(api, &pb.Envelope{Account: "acc_acme"}) {
				t.Error("who was not was refused")
			}
		})
	})
}

func TestBanChange(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		shelf := newBanShelf()
		s, _ := b.start("a", Config{Alone: true, Bans: shelf})
		api := b.front(s)
		call := uint64(0)
		change := func(c *pb.BanChange) *pb.Answer {
			call++
			c.Call = call
			api.send(&pb.FrontUp{Bans: []*pb.BanChange{c}})
			return answer(api, call)
		}
		for _, c := range []*pb.BanChange{
			{Subject: "203.0.113.7"},
			{Subject: "network:10.0.0.0/8"},
			{Subject: "address:203.0.113.7", UntilUs: time.Now().Add(-time.Second).UnixMicro()},
		} {
			if f := change(c).GetFault(); f.GetKind() != "invalid" || f.GetDetail() == "" {
				t.Errorf("%v: %v", c, f)
			}
		}
		if a := change(&pb.BanChange{Subject: "address:203.0.113.7", Lift: true}); a.GetFault() != nil || a.GetDone() {
			t.Errorf("nothing to lift: %v", a)
		}
		if a := change(&pb.BanChange{Subject: "network:203.0.113.0/24", UntilUs: time.Now().Add(time.Hour).UnixMicro(), Reason: "scrapers"}); !a.GetDone() {
			t.Errorf("blocked: %v", a)
		}
		block(api, "network:203.0.113.0/24")
		if len(shelf.actions()) != 1 {
			t.Error("answered before it was written down")
		}
		env := &pb.Envelope{Account: "acc_acme", Address: "203.0.113.9"}
		if f := decision(api, b.submitAs(env)).GetRefused(); f.GetKind() != "blocked" {
			t.Errorf("an address of the network: %v", f)
		}
		if a := change(&pb.BanChange{Subject: "network:203.0.113.0/24", Lift: true, Reason: "sorry"}); !a.GetDone() {
			t.Errorf("lifted: %v", a)
		}
		if got := block(api, "network:203.0.113.0/24"); got.Step != pb.Block_STEP_UNSPECIFIED {
			t.Errorf("told: %v", got)
		}
		if !b.passes(api, env) {
			t.Error("still blocked")
		}
		// A cool-down is lifted as well.
		api.send(strikes("key:k1", 10))
		block(api, "key:k1")
		if a := change(&pb.BanChange{Subject: "key:k1", Lift: true}); !a.GetDone() {
			t.Errorf("a cool-down lifted: %v", a)
		}
		want := []string{"admin blocked network:203.0.113.0/24", "admin lifted network:203.0.113.0/24", "ladder cooling key:k1", "admin lifted key:k1"}
		if got := shelf.actions(); !slices.Equal(got, want) {
			t.Errorf("the audit says %q", got)
		}
	})
}
