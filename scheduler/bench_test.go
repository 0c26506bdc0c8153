package scheduler

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// BenchmarkParkedJob measures the leader's memory for a job that it has
// accepted and parked: with the body, which it keeps from the door, of a page
// with a short URL. After a takeover the body is in JOBS alone; loadtest refold
// measures that.
func BenchmarkParkedJob(b *testing.B) {
	spec := job.Defaults()
	spec.URL = "https://www.example.com/some/path/to/a/page?with=a&query=string"
	seq := uint64(0)
	var board *board
	now := time.Now()
	emit := func(ev *pb.Event) uint64 {
		seq++
		board.head(seq, 1, seq, now.UnixMicro())
		board.apply(token(seq, 0), now.UnixMicro(), ev)
		return token(seq, 0)
	}
	board = newBoard(newFacts(), Queue{Length: 10_000, WaitLimit: 24 * time.Hour}, func(string) int { return 1 }, func(string) bool { return false }, emit, now, now.UnixMicro())
	before := inUse()
	for n := 0; b.Loop(); n++ {
		data, err := proto.Marshal(&pb.Record{
			Envelope: &pb.Envelope{
				Id: string(job.NewID()), Account: fmt.Sprintf("acc_%026d", n%100), Api: "0190a0a0-0000-7000-8000-000000000000",
				SentUs: now.UnixMicro(), Host: "www.example.com", ContentType: "image/png",
			},
			Body: &pb.Body{Spec: spec.Marshal(), CustomId: "custom"},
		})
		if err != nil {
			b.Fatal(err)
		}
		rec := new(pb.Record) // as it is read
		if err := proto.Unmarshal(data, rec); err != nil {
			b.Fatal(err)
		}
		board.accept(&pb.Accepted{Envelope: rec.Envelope, JobsSeq: uint64(n + 1), Place: pb.Place_PLACE_PARKED}, rec.Body, now)
	}
	b.ReportMetric(float64(inUse()-before)/float64(len(board.entries)), "bytes/job")
	runtime.KeepAlive(board)
}

// inUse is what the heap holds now.
func inUse() int64 {
	runtime.GC()
	runtime.GC() // what finalizers kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
