package account

import (
	"strings"
	"testing"
	"time"
)

func TestKey(t *testing.T) {
	k, text := NewKey("acc_1", "ci")
	id, err := KeyID(text)
	if err != nil || id != k.ID || !strings.HasPrefix(text, "tt_live_"+id+"_") {
		t.Fatalf("%q has id %q, %v; want %q", text, id, err, k.ID)
	}
	if !k.Matches(text) || k.Matches(text[:len(text)-1]) || k.Matches("") {
		t.Error("a key must match its own text and no other")
	}
	if strings.Contains(string(k.Hash), text) || len(k.Hash) != 32 {
		t.Error("the key's text is kept")
	}
	if _, other := NewKey("acc_1", "ci"); other == text {
		t.Error("two keys are the same")
	}
	for _, bad := range []string{
		"", "tt_live_", "tt_live_abc_def", "tt_test_" + text[8:], text + strings.Repeat("x", 200), "tt_live_" + id + "_short",
		strings.ToUpper(text), "tt_live_" + strings.Repeat("\xff", 12) + text[20:], "tt_live_aaaaaaaaaaa\x00" + text[20:], "tt_live_aaaaaaaaaaa1" + text[20:], text + "\xff", text + "_x",
	} {
		if _, err := KeyID(bad); err == nil {
			t.Errorf("%q passed as a key", bad)
		}
	}
}

func TestKeyLives(t *testing.T) {
	now := time.Now()
	for want, k := range map[bool]Key{
		true:  {ExpiresAt: now.Add(time.Second)},
		false: {ExpiresAt: now},
	} {
		if k.Live(now) != want {
			t.Errorf("%+v: live is %v", k, !want)
		}
	}
	if (&Key{RevokedAt: now}).Live(now) || !(&Key{}).Live(now) {
		t.Error("a revoked key lives, or a plain one does not")
	}
}
