package scheduler

import (
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
	"github.com/tintype/tintype/pkg/store"
)

// An object that answers other requests stays, whatever became of its job's
// row; when nothing names it any more, it goes.
func TestSharedObjectsStay(t *testing.T) {
	id := job.NewID()
	key := "r/acc_acme/" + string(id) + "/1.png"
	i, ok := parseKey(object.Info{Key: key, ModTime: id.Time()})
	if !ok {
		t.Fatal("no artifact's key")
	}
	j := &Janitor{cfg: JanitorConfig{OrphanAge: time.Hour}}
	acme := map[string]bool{"acc_acme": true}
	for name, row := range map[string]map[job.ID]store.Kept{
		overOrphan:  {},
		overExpired: {id: {Object: key, Over: true}},
	} {
		shared := store.Retained{At: time.Now().Add(48 * time.Hour), Jobs: row, Accounts: acme, Shared: map[string]bool{key: true}}
		if why := j.verdict(i, false, shared); why != "" {
			t.Errorf("%s, and it answers others: over for %q", name, why)
		}
		shared.Shared = nil
		if why := j.verdict(i, false, shared); why != name {
			t.Errorf("%s, and it answers nobody: over for %q", name, why)
		}
	}
}
