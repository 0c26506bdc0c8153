package limit

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

func addressOf(text string) account.Subject {
	return account.Subject{Kind: account.SubjectAddress, ID: text}
}

// steps are what happened, in short.
func stepsOf(bans []account.Ban) (out []string) {
	for _, b := range bans {
		text := string(b.Step) + " " + b.Subject.String()
		if !b.Until.IsZero() {
			text += " for " + b.Until.Sub(b.Since).String()
		}
		out = append(out, text)
	}
	return out
}

// climber strikes on a ladder at moments of its own clock.
type climber struct {
	t   *testing.T
	l   *Ladder
	now time.Time
}

func newClimber(t *testing.T) *climber { return &climber{t: t, l: NewLadder(), now: start} }

func (c *climber) wait(d time.Duration) { c.now = c.now.Add(d) }

func (c *climber) strike(who account.Subject, n int, want ...string) {
	c.t.Helper()
	if got := stepsOf(c.l.Strike(c.now, who, n)); !slices.Equal(got, want) {
		c.t.Errorf("after %s, %d strikes of %s: %q, want %q", c.now.Sub(start), n, who, got, want)
	}
}

func TestLadderCoolsDown(t *testing.T) {
	c, me := newClimber(t), addressOf("203.0.113.7")
	c.strike(me, 9)
	if _, cooling := c.l.Cooling(c.now, me); cooling {
		t.Error("nine strikes are an offence")
	}
	c.strike(me, 1, "cooling address:203.0.113.7 for 30s")
	b, cooling := c.l.Cooling(c.now.Add(30*time.Second-time.Nanosecond), me)
	if !cooling || !b.Until.Equal(c.now.Add(30*time.Second)) {
		t.Errorf("cooling: %+v, %v", b, cooling)
	}
	if _, cooling := c.l.Cooling(c.now.Add(30*time.Second), me); cooling {
		t.Error("the cool-down goes on after its end")
	}
	if _, blocked := c.l.Blocked(c.now, "", "", me.ID); blocked {
		t.Error("a cool-down is a block")
	}
	c.wait(10*time.Second - 1)
	c.strike(me, 500) // one offence, however many
	c.wait(1)
	c.strike(me, 1, "cooling address:203.0.113.7 for 1m0s")
	c.wait(10 * time.Second)
	c.strike(me, 10, "cooling address:203.0.113.7 for 2m0s")
	c.wait(10 * time.Second)
	c.strike(me, 10, "blocked address:203.0.113.7 for 1h0m0s")
	c.strike(me, 5000) // a replica that has not heard of it
	if b, blocked := c.l.Blocked(c.now, "acc_1", "k1", me.ID); !blocked || b.Step != account.StepBlocked || !b.Until.Equal(c.now.Add(time.Hour)) {
		t.Errorf("blocked: %+v, %v", b, blocked)
	}
	for _, other := range [][3]string{{"acc_1", "k1", "203.0.113.8"}, {"", "", ""}} {
		if b, blocked := c.l.Blocked(c.now, other[0], other[1], other[2]); blocked {
			t.Errorf("%q is blocked by %+v", other, b)
		}
	}
	c.wait(time.Hour)
	if b, blocked := c.l.Blocked(c.now, "", "", me.ID); blocked {
		t.Errorf("after its end: %+v", b)
	}
	c.strike(me, 10, "cooling address:203.0.113.7 for 30s") // from the beginning
}

// A strike counts half after a minute.
func TestLadderDecays(t *testing.T) {
	c, me := newClimber(t), addressOf("203.0.113.7")
	c.strike(me, 9)
	c.wait(time.Minute)
	c.strike(me, 5) // 9.5
	c.wait(time.Minute)
	c.strike(me, 5) // 9.75
	c.strike(me, 1, "cooling address:203.0.113.7 for 30s")
	// Four a minute are no offence, for however long.
	other := addressOf("203.0.113.8")
	for range 60 {
		c.strike(other, 4)
		c.wait(time.Minute)
	}
}

// Who is quiet after a cool-down for as long as it lasted begins anew.
func TestLadderForgives(t *testing.T) {
	for _, test := range []struct {
		quiet time.Duration // after the cool-down
		want  string
	}{
		{30 * time.Second, "cooling address:203.0.113.7 for 30s"},
		{30*time.Second - 1, "cooling address:203.0.113.7 for 1m0s"},
	} {
		c, me := newClimber(t), addressOf("203.0.113.7")
		c.strike(me, 10, "cooling address:203.0.113.7 for 30s")
		c.wait(30*time.Second + test.quiet)
		c.strike(me, 10, test.want)
	}
	// Quiet is counted from the last strike, if that comes later.
	c, me := newClimber(t), addressOf("203.0.113.7")
	c.strike(me, 10, "cooling address:203.0.113.7 for 30s")
	c.wait(45 * time.Second)
	c.strike(me, 1)
	c.wait(29 * time.Second)
	c.strike(me, 10, "cooling address:203.0.113.7 for 1m0s")
}

func TestCoolFor(t *testing.T) {
	for offence, want := range map[int]time.Duration{
		1: 30 * time.Second, 2: time.Minute, 3: 2 * time.Minute, 5: 8 * time.Minute, 6: 15 * time.Minute, 7: 15 * time.Minute, 100: 15 * time.Minute,
	} {
		if got := coolFor(offence); got != want {
			t.Errorf("offence %d: %s, want %s", offence, got, want)
		}
	}
}

// A thousand strikes within a minute are a block at once, whatever the
// offences.
func TestLadderTightLoop(t *testing.T) {
	c, me := newClimber(t), addressOf("203.0.113.7")
	c.strike(me, 999, "cooling address:203.0.113.7 for 30s")
	c.wait(9 * time.Second)
	c.strike(me, 1, "blocked address:203.0.113.7 for 1h0m0s")

	c, me = newClimber(t), addressOf("203.0.113.7")
	c.strike(me, 999, "cooling address:203.0.113.7 for 30s")
	c.wait(time.Minute)
	c.strike(me, 1) // another minute
}

func TestLadderNetwork(t *testing.T) {
	for _, test := range []struct{ address, network, other string }{
		{"203.0.113.%d", "203.0.113.0/24", "203.0.114.1"},
		{"2001:db8:7:%d::/64", "2001:db8:7::/48", "2001:db8:8::/64"},
	} {
		c := newClimber(t)
		for n := 1; n <= 3; n++ {
			who := addressOf(fmt.Sprintf(test.address, n))
			c.strike(who, 1000, "blocked "+who.String()+" for 1h0m0s")
			c.wait(10 * time.Minute)
		}
		fifth := fmt.Sprintf(test.address, 5)
		if _, blocked := c.l.Blocked(c.now, "", "", fifth); blocked {
			t.Errorf("with three addresses blocked, %s is too", fifth)
		}
		// Keys and accounts are in no network.
		c.strike(account.Subject{Kind: account.SubjectKey, ID: "k1"}, 1000, "blocked key:k1 for 1h0m0s")
		who := addressOf(fmt.Sprintf(test.address, 4))
		c.strike(who, 1000, "blocked "+who.String()+" for 1h0m0s", "blocked network:"+test.network+" for 1h0m0s")
		if b, blocked := c.l.Blocked(c.now, "", "", fifth); !blocked || b.Subject.String() != "network:"+test.network {
			t.Errorf("with four addresses blocked, %s is by %+v", fifth, b)
		}
		c.strike(addressOf(fifth), 1000) // it is blocked with its network
		if _, blocked := c.l.Blocked(c.now, "", "", test.other); blocked {
			t.Errorf("%s is blocked with another network", test.other)
		}
		if got := len(slices.Collect(c.l.InForce(c.now))); got != 6 {
			t.Errorf("%d blocks are in force, want 6", got)
		}
		// One of four blocks has ended.
		c.wait(59 * time.Minute)
		c.strike(addressOf(test.other), 1000, "blocked address:"+test.other+" for 1h0m0s")
		c.wait(time.Minute)
		c.strike(addressOf(fifth), 1000, "blocked address:"+fifth+" for 1h0m0s")
	}
}

func TestLadderBans(t *testing.T) {
	c, me := newClimber(t), account.Subject{Kind: account.SubjectAccount, ID: "acc_1"}
	c.strike(me, 1000, "blocked account:acc_1 for 1h0m0s")
	c.wait(7 * 24 * time.Hour) // the first one is too long ago
	c.strike(me, 1000, "blocked account:acc_1 for 1h0m0s")
	c.wait(24 * time.Hour)
	c.strike(me, 1000, "blocked account:acc_1 for 1h0m0s")
	c.wait(24 * time.Hour)
	c.strike(me, 1000, "banned account:acc_1")
	c.wait(365 * 24 * time.Hour)
	c.l.Turn(c.now)
	if b, blocked := c.l.Blocked(c.now, "acc_1", "", "203.0.113.7"); !blocked || b.Step != account.StepBanned {
		t.Errorf("after a year: %+v, %v", b, blocked)
	}
	lifted, was := c.l.Lift(c.now, me)
	if !was || lifted.Step != account.StepLifted {
		t.Errorf("lifted: %+v, %v", lifted, was)
	}
	if _, was := c.l.Lift(c.now, me); was {
		t.Error("lifted twice")
	}
	if b, blocked := c.l.Blocked(c.now, "acc_1", "", ""); blocked {
		t.Errorf("after it was lifted: %+v", b)
	}
	c.strike(me, 1000, "blocked account:acc_1 for 1h0m0s") // the blocks before are forgiven
}

// The ladder never bans a network; an admin may.
func TestLadderNeverBansNetworks(t *testing.T) {
	c := newClimber(t)
	for day := range 5 {
		for n := range 4 {
			who := addressOf(fmt.Sprintf("203.0.113.%d", 10*day+n))
			want := []string{"blocked " + who.String() + " for 1h0m0s"}
			if n == 3 {
				want = append(want, "blocked network:203.0.113.0/24 for 1h0m0s")
			}
			c.strike(who, 1000, want...)
		}
		c.wait(24 * time.Hour)
	}
	c.l.Set(c.now, addressOf("203.0.113.7").Network(), time.Time{}, "scrapers")
	if b, blocked := c.l.Blocked(c.now, "", "", "203.0.113.200"); !blocked || b.Step != account.StepBanned || b.Actor != account.ActorAdmin {
		t.Errorf("banned by an admin: %+v, %v", b, blocked)
	}
}

// The last to end of several is told.
func TestLadderTellsTheLongest(t *testing.T) {
	c := newClimber(t)
	c.l.Set(c.now, account.Subject{Kind: account.SubjectKey, ID: "k1"}, c.now.Add(time.Hour), "")
	c.l.Set(c.now, addressOf("203.0.113.7"), c.now.Add(2*time.Hour), "")
	if b, _ := c.l.Blocked(c.now, "acc_1", "k1", "203.0.113.7"); b.Subject.Kind != account.SubjectAddress {
		t.Errorf("told of %s", b.Subject)
	}
	c.l.Set(c.now, account.Subject{Kind: account.SubjectAccount, ID: "acc_1"}, time.Time{}, "")
	if b, _ := c.l.Blocked(c.now, "acc_1", "k1", "203.0.113.7"); b.Subject.Kind != account.SubjectAccount {
		t.Errorf("told of %s", b.Subject)
	}
}

// What the archive has is taken over, but for what is known better; blocks of
// before are counted.
func TestLadderLoads(t *testing.T) {
	c := newClimber(t)
	a, b, d := addressOf("203.0.113.1"), addressOf("203.0.113.2"), addressOf("203.0.113.3")
	c.l.Set(c.now, a, c.now.Add(time.Hour), "known better")
	ago := func(d time.Duration) time.Time { return c.now.Add(-d) }
	fresh := c.l.Load(c.now, []account.Ban{
		{Subject: a, Step: account.StepBanned, Since: ago(time.Hour)},
		{Subject: b, Step: account.StepBanned, Since: ago(time.Hour)},
		{Subject: d, Step: account.StepBlocked, Since: ago(48 * time.Hour), Until: ago(47 * time.Hour), Blocks: []time.Time{ago(49 * time.Hour), ago(48 * time.Hour)}},
	})
	if got := stepsOf(fresh); !slices.Equal(got, []string{"banned address:203.0.113.2"}) {
		t.Errorf("fresh: %q", got)
	}
	if got, _ := c.l.Blocked(c.now, "", "", a.ID); got.Reason != "known better" {
		t.Errorf("replaced by an older word: %+v", got)
	}
	c.l.Turn(c.now)
	c.strike(d, 1000, "banned address:203.0.113.3")
}

// Nothing is kept of those who have been quiet for long enough.
func TestLadderForgets(t *testing.T) {
	c := newClimber(t)
	for n := range 2000 {
		c.strike(account.Subject{Kind: account.SubjectKey, ID: fmt.Sprint("a", n)}, 1)
		c.strike(account.Subject{Kind: account.SubjectKey, ID: fmt.Sprint("b", n)}, 1000, "blocked key:b"+fmt.Sprint(n)+" for 1h0m0s")
	}
	network := account.Subject{Kind: account.SubjectNetwork, ID: "203.0.113.0/24"}
	for range 2 {
		c.l.Set(c.now, network, c.now.Add(time.Hour), "")
	}
	for range 4 {
		c.wait(4 * 24 * time.Hour)
		c.l.Turn(c.now)
	}
	if n := len(c.l.young) + len(c.l.old) + len(c.l.held) + len(c.l.blocked) + c.l.networks; n != 0 {
		t.Errorf("%d subjects are still known", n)
	}
	if _, blocked := c.l.Blocked(c.now, "", "b1", ""); blocked {
		t.Error("still blocked")
	}
}
