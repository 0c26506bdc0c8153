package scheduler

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/stream"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

const secretsOfAJob = `{"headers":{"X-Token":"marker-of-a-header"},"authorization":"Bearer marker"}`

func newBox(t *testing.T) *seal.Box {
	t.Helper()
	box, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// messages are all of a stream, as they are stored.
func (f *farm) messages(name string) (all [][]byte) {
	f.t.Helper()
	js, err := jetstream.New(f.nats)
	if err != nil {
		f.t.Fatal(err)
	}
	s, err := js.Stream(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	info, err := s.Info(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for seq := max(info.State.FirstSeq, 1); seq <= info.State.LastSeq; seq++ {
		m, err := s.GetMsg(f.t.Context(), seq)
		if err != nil {
			f.t.Fatalf("message %d of %s: %v", seq, name, err)
		}
		all = append(all, m.Data)
	}
	return all
}

// rows are those of a job and all that is kept beside it, as JSON.
func (f *farm) rows(ctx context.Context) (text string) {
	f.t.Helper()
	conn, err := pgx.Connect(ctx, f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, table := range []string{"jobs", "deliveries"} {
		var rows string
		if err := conn.QueryRow(ctx, "SELECT COALESCE(json_agg(t)::text, '') FROM "+table+" t").Scan(&rows); err != nil {
			f.t.Fatal(err)
		}
		text += rows
	}
	return text
}

// A worker is told what its job says to the page's server, in each attempt and
// by each leader; nobody else is, and of a job that is over it is kept nowhere.
func TestSecretsReachTheWorkerAlone(t *testing.T) {
	t.Parallel() // it waits, mostly
	f, box := newFarm(t), newBox(t)
	n := f.start("a", Config{Alone: true, Secrets: box})
	api := n.front(t, &pb.FrontHello{Api: "api"})
	w := n.worker(t, &pb.Hello{Worker: "w1", Boot: "b1", Seats: 1})
	w.send(&pb.WorkUp{Credit: 1})

	rec := f.record()
	rec.Body.Secrets = box.Seal([]byte(secretsOfAJob), seal.Request, f.account)
	id := rec.Envelope.Id
	f.publish(rec)
	first := assigned(w)
	if first.Job != id || string(first.Secrets) != secretsOfAJob {
		t.Fatalf("%s was assigned with %q", first.Job, first.Secrets)
	}
	api.send(&pb.FrontUp{Lookups: []*pb.Lookup{{Call: 1, Id: id}}})
	if j := answer(api, 1).GetJob(); j.GetBody() == nil || len(j.Body.Secrets) > 0 {
		t.Errorf("a look-up of the running job gives %v", j)
	}
	w.send(&pb.WorkUp{Credit: 1, Failed: []*pb.Failed{{Token: first.Token, Job: id, Failure: &pb.Failure{Code: string(job.BrowserCrashed), Stage: "capture"}}}})
	if again := assigned(w); string(again.Secrets) != secretsOfAJob {
		t.Fatalf("the second attempt was assigned with %q", again.Secrets)
	}
	n.stop()

	n = f.start("b", Config{Alone: true, Secrets: box})
	w = n.worker(t, &pb.Hello{Worker: "w1", Boot: "b2", Seats: 1})
	w.send(&pb.WorkUp{Credit: 1})
	last := assigned(w)
	if last.Job != id || string(last.Secrets) != secretsOfAJob {
		t.Fatalf("the next leader assigned %s with %q", last.Job, last.Secrets)
	}
	w.send(done(last))
	committed(w, last.Token)
	f.archived(n.Scheduler, id)

	for _, name := range []string{stream.JobsName, stream.LedgerName} {
		for _, data := range f.messages(name) {
			if bytes.Contains(data, []byte("marker")) {
				t.Errorf("a message of %s holds a secret", name)
			}
		}
	}
	ended := false
	ledger, err := f.streams.LedgerState(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for seq := max(ledger.First, 1); seq <= ledger.Last; seq++ {
		frame, err := f.streams.Frame(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range frame.Events {
			if fin := e.GetFinished(); fin != nil {
				ended = true
				if len(fin.Job.GetBody().GetSpec()) == 0 || len(fin.Job.Body.Secrets) > 0 {
					t.Errorf("the end of the job is filed as %v", fin.Job.Body)
				}
			}
		}
	}
	if !ended {
		t.Error("the ledger has no end of the job")
	}
	rows := f.rows(t.Context())
	if !strings.Contains(rows, id) || strings.Contains(rows, "marker") || strings.Contains(rows, "secrets") {
		t.Errorf("the archive has %s", rows)
	}
}

// What this scheduler cannot open is not rendered without it.
func TestSecretsThatDoNotOpen(t *testing.T) {
	box, other := newBox(t), newBox(t)
	for what, c := range map[string]struct {
		box    *seal.Box
		sealed []byte
	}{
		"no key":          {nil, box.Seal([]byte(secretsOfAJob), seal.Request, "acc_acme")},
		"another key":     {other, box.Seal([]byte(secretsOfAJob), seal.Request, "acc_acme")},
		"another account": {box, box.Seal([]byte(secretsOfAJob), seal.Request, "acc_b")},
		"another purpose": {box, box.Seal([]byte(secretsOfAJob), seal.Account, "acc_acme")},
		"damaged":         {box, []byte("marker")},
	} {
		s := &Scheduler{cfg: Config{Secrets: c.box}}
		plain, err := s.openSecrets(&entry{account: "acc_acme", body: &pb.Body{Secrets: c.sealed}})
		if err == nil || plain != nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: %q, %v", what, plain, err)
		}
	}
	s := &Scheduler{}
	if plain, err := s.openSecrets(&entry{body: &pb.Body{}}); plain != nil || err != nil {
		t.Errorf("none: %q, %v", plain, err)
	}
	body := &pb.Body{Spec: []byte("{}"), Secrets: []byte("sealed"), CustomId: "mine"}
	if shown := withoutSecrets(body); len(shown.Secrets) > 0 || string(shown.Spec) != "{}" || shown.CustomId != "mine" || len(body.Secrets) == 0 {
		t.Errorf("shown as %v, and kept as %v", shown, body)
	}
}
