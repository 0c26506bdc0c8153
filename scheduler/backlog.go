package scheduler

import (
	"context"
	"time"

	"github.com/tintype/tintype/pkg/stream"
)

const (
	surveyEvery = time.Second
	// storedEvery is how often the streams are asked how large they are.
	storedEvery = 5 * time.Second
)

// survey is what the metrics tell beside the board. It is guarded by the
// leader's mu.
type survey struct {
	// marks are of seconds whose frames are not all in the archive, the oldest
	// first: one a second, however far behind the archive is.
	marks        []mark
	jobs, ledger stream.State // as they were a moment ago
}

// watch keeps the survey up to date.
func (l *leader) watch(ctx context.Context) error {
	t := time.NewTicker(surveyEvery)
	defer t.Stop()
	var asked time.Time
	for {
		l.enter()
		l.survey.look(l.seq, l.s.projected.Load(), l.now)
		l.leave()
		if time.Since(asked) >= storedEvery {
			asked = time.Now()
			l.askStored(ctx)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// look takes in that this is now the newest frame, and that one the last in
// the archive.
func (s *survey) look(seq, projected uint64, now time.Time) {
	if n := len(s.marks); n == 0 || s.marks[n-1].seq < seq {
		s.marks = append(s.marks, mark{at: now, seq: seq})
	}
	s.behind(projected, now)
}

// behind is how long ago the oldest frame was made that is not in the archive,
// to about a second.
func (s *survey) behind(projected uint64, now time.Time) time.Duration {
	for len(s.marks) > 0 && s.marks[0].seq <= projected {
		s.marks = s.marks[1:]
	}
	if len(s.marks) == 0 {
		return 0
	}
	return now.Sub(s.marks[0].at)
}

// bytesFrom is about how many bytes the frames behind this one have in the
// ledger, if they are as large as the others there.
func (s *survey) bytesFrom(seq uint64) float64 {
	st := s.ledger
	if st.Last < st.First || seq >= st.Last {
		return 0
	}
	return float64(st.Bytes) * float64(st.Last-seq) / float64(st.Last-st.First+1)
}

// askStored asks how large the streams are. When they do not answer what they
// said last stands.
func (l *leader) askStored(ctx context.Context) {
	jobs, ledger, err := l.s.states(ctx)
	if err != nil {
		return
	}
	l.enter()
	l.survey.jobs, l.survey.ledger = jobs, ledger
	l.leave()
}
