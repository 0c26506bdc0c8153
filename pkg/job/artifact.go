package job

import (
	"crypto/sha256"
	"time"
)

// MaxTTL bounds for how long a request may have its result kept for others.
const MaxTTL = 365 * 24 * time.Hour

// An Artifact is a result that answers identical requests.
type Artifact struct {
	Job        ID // that made it
	Result     *Result
	Evidence   *Evidence
	MadeAt     time.Time // end of that job
	FreshUntil time.Time // of its own request's time to live
	ExpiresAt  time.Time // end of that job's retention: the object is there until then
}

// CacheKey is what makes two jobs of an account the same picture: its own hash
// of both. What does not change the picture is left out: the quality where no
// JPEG or WebP is asked for, and the time-outs, which say how long to be patient
// and not what to show. fail_on_timeout is in: it is a promise about the picture.
//
// The key is kept where the secrets are not, so these are in it as digest gives
// them, by which nobody can try what they may be.
func (s *Spec) CacheKey(account string, digest func(secrets []byte) []byte) []byte {
	same := *s
	same.TimeoutMS, same.WaitTimeoutMS, same.NavigationTimeoutMS = 0, 0, 0
	if same.Format != JPEG && same.Format != WebP {
		same.Quality = 0
	}
	sum := sha256.New()
	sum.Write([]byte(account + "\x00"))
	sum.Write(same.Marshal())
	if secrets := same.Secrets.Marshal(); secrets != nil {
		sum.Write(digest(secrets))
	}
	return sum.Sum(nil)
}
