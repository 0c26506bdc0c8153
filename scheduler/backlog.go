package scheduler

import (
	"time"

	"github.com/tintype/tintype/pkg/stream"
)

// backlog remembers when frames were made that are not in the archive.
type backlog struct {
	// marks are of moments whose frames are not all in the archive, the oldest
	// first: one a second, however far behind the archive is.
	marks []mark
}

// look takes in that this is now the newest frame, and that one the last in
// the archive.
func (b *backlog) look(seq, projected uint64, now time.Time) {
	if n := len(b.marks); n == 0 || b.marks[n-1].seq < seq {
		b.marks = append(b.marks, mark{at: now, seq: seq})
	}
	b.behind(projected, now)
}

// behind is how long ago the oldest frame was made that is not in the archive,
// to about a second.
func (b *backlog) behind(projected uint64, now time.Time) time.Duration {
	for len(b.marks) > 0 && b.marks[0].seq <= projected {
		b.marks = b.marks[1:]
	}
	if len(b.marks) == 0 {
		return 0
	}
	return now.Sub(b.marks[0].at)
}

// bytesBehind is about how many bytes the frames behind this one have in the
// ledger, if they are as large as the others there.
func bytesBehind(ledger stream.State, seq uint64) float64 {
	if ledger.Last < ledger.First || seq >= ledger.Last {
		return 0
	}
	return float64(ledger.Bytes) * float64(ledger.Last-seq) / float64(ledger.Last-ledger.First+1)
}
