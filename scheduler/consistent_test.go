package scheduler

import (
	"context"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// errorLog hands on what is logged as an error.
type errorLog chan string

func (errorLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (l errorLog) WithAttrs([]slog.Attr) slog.Handler         { return l }
func (l errorLog) WithGroup(string) slog.Handler              { return l }

func (l errorLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += ": " + a.Value.String(); return true })
	select {
	case l <- text:
	default:
	}
	return nil
}

// refuses starts a scheduler that says why it does not lead.
func (f *farm) refuses() string {
	f.t.Helper()
	log := make(errorLog, 1)
	cfg := alone()
	cfg.Log = slog.New(log)
	n := f.start("a", cfg)
	defer n.kill()
	select {
	case why := <-log:
		if n.Leading() {
			f.t.Error("it leads all the same")
		}
		return why
	case <-time.After(20 * time.Second):
		f.t.Fatal("it does not refuse")
	}
	return ""
}

// frames appends so many frames; the last one says that it decided up to jobs.
func (f *farm) frames(n int, jobs uint64) {
	f.t.Helper()
	var chain stream.Chain
	for seq := 1; seq <= n; seq++ {
		fr := &pb.Frame{Epoch: 1, TimeUs: int64(seq)}
		if seq == n {
			fr.Jobs = jobs
		}
		data, next, err := stream.Seal(chain, fr)
		if err != nil {
			f.t.Fatal(err)
		}
		if err := f.streams.Settle(f.t.Context(), stream.Sealed{Seq: uint64(seq), Data: data}, nil); err != nil {
			f.t.Fatal(err)
		}
		chain = next
	}
}

func (f *farm) exec(sql string) {
	f.t.Helper()
	conn, err := pgx.Connect(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(f.t.Context())
	tag, err := conn.Exec(f.t.Context(), sql)
	if err != nil || tag.RowsAffected() != 1 {
		f.t.Fatalf("%s: %v, %v", sql, tag, err)
	}
}

// TestStoresOfDifferentAge has each store be older than another: nobody leads,
// the refusal names the older one, and the command that it names makes the farm
// go on: a job comes through to the archive.
func TestStoresOfDifferentAge(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*farm)
		says    string
	}{
		"jobs": {func(f *farm) { f.frames(2, 7) }, "JOBS_0 is the older store"},
		"ledger": {func(f *farm) {
			f.frames(3, 0)
			f.exec("UPDATE projection SET ledger_seq = 9, crc = 5 WHERE shard = 0")
		}, "LEDGER_0 is the older store"},
		"database": {func(f *farm) {
			f.frames(4, 0)
			if err := f.streams.PurgeLedger(f.t.Context(), 3); err != nil {
				f.t.Fatal(err)
			}
			f.exec("UPDATE projection SET ledger_seq = 1, crc = 5 WHERE shard = 0")
		}, "the database is the older store"},
		"history": {func(f *farm) {
			f.frames(3, 0)
			f.exec("UPDATE projection SET ledger_seq = 2, crc = 5 WHERE shard = 0")
		}, "frame 2 of LEDGER_0 is not the one"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t)
			c.prepare(f)
			why := f.refuses()
			if !strings.Contains(why, c.says) {
				t.Fatalf("it says %s", why)
			}
			if m := regexp.MustCompile(`psql "\S+ "\$TINTYPE_DATABASE_URL_FILE"\)}" -c "(.*)"$`).FindStringSubmatch(why); m != nil {
				f.exec(m[1])
			} else if m := regexp.MustCompile(`nats stream purge JOBS_0 --seq=(\d+) --force$`).FindStringSubmatch(why); m != nil {
				seq, err := strconv.ParseUint(m[1], 10, 64)
				if err != nil {
					t.Fatal(err)
				}
				if err := f.streams.PurgeJobs(t.Context(), seq); err != nil {
					t.Fatal(err)
				}
			} else {
				t.Fatalf("no command in %s", why)
			}
			n := f.start("b", alone())
			api := n.front(t, &pb.FrontHello{Api: "api"})
			rec := f.record()
			f.publish(rec)
			if d := decision(api, rec.Envelope.Id); d.GetAccepted() == nil {
				t.Fatalf("%v", d)
			}
			api.send(&pb.FrontUp{Cancels: []*pb.Cancel{{Call: 1, Id: rec.Envelope.Id, Account: f.account}}})
			if j := f.archived(n.Scheduler, rec.Envelope.Id); j.State != job.Canceled {
				t.Errorf("archived %+v", j)
			}
		})
	}
}

// A frame that is not what its writer wrote, and one that is missing, keep
// everybody from leading, and are named.
func TestBrokenLedger(t *testing.T) {
	for name, says := range map[string]string{"flipped": "frame 2", "missing": "frames 2 to 2 are missing"} {
		t.Run(name, func(t *testing.T) {
			f := newFarm(t)
			if name == "missing" {
				f.frames(3, 0)
				if err := f.deleteFrame(2); err != nil {
					t.Fatal(err)
				}
			} else {
				f.frames(1, 0)
				data, _, err := stream.Seal(12345, &pb.Frame{Epoch: 1})
				if err != nil {
					t.Fatal(err)
				}
				if err := f.streams.Settle(t.Context(), stream.Sealed{Seq: 2, Data: data}, nil); err != nil {
					t.Fatal(err)
				}
			}
			if why := f.refuses(); !strings.Contains(why, says) || !strings.Contains(why, stream.ErrCorrupt.Error()) {
				t.Errorf("it says %s", why)
			}
		})
	}
}
