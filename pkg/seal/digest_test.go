package seal

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

// A digest says that two secrets are one, and nothing to who lacks the key.
func TestDigest(t *testing.T) {
	one, two := newBox(t), newBox(t)
	digest := one.Digest([]byte("user:hunter2"), Request, "acc_a")
	if len(digest) != sha256.Size || !bytes.Equal(digest, one.Digest([]byte("user:hunter2"), Request, "acc_a")) {
		t.Errorf("the digest of a secret is %x and then another one", digest)
	}
	for what, other := range map[string][]byte{
		"another secret":  one.Digest([]byte("user:hunter3"), Request, "acc_a"),
		"another account": one.Digest([]byte("user:hunter2"), Request, "acc_b"),
		"another purpose": one.Digest([]byte("user:hunter2"), Account, "acc_a"),
		"another key":     two.Digest([]byte("user:hunter2"), Request, "acc_a"),
		"a moved border":  one.Digest([]byte("a\x00user:hunter2"), Request, "acc_"),
	} {
		if bytes.Equal(digest, other) {
			t.Errorf("%s has the same digest", what)
		}
	}
	for what, plain := range map[string][]byte{
		"alone": []byte("user:hunter2"), "with its account": []byte("acc_auser:hunter2"),
	} {
		if sum := sha256.Sum256(plain); bytes.Contains(digest, sum[:4]) {
			t.Errorf("the digest can be found by hashing the secret %s", what)
		}
	}
}
