package api

import (
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func TestAccount(t *testing.T) {
	f := newFarm(t)
	soon := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	key, text := account.NewKey(f.acct.ID, "ci")
	key.Scopes, key.ExpiresAt, key.CreatedAt = []account.Scope{"read"}, soon, soon.Add(-time.Hour)
	if err := f.store.CreateKey(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	var self Self
	f.do("GET", "/v1/account", "", header{"Authorization": "Bearer " + text}).json(t, &self)
	if self.Id != f.acct.ID || *self.Name != "tester" || self.Anonymous || self.Plan.Name != "default" || self.Limits == nil {
		t.Errorf("%+v", self)
	}
	if k := self.Key; k == nil || k.Id != key.ID || k.Name != "ci" || len(k.Scopes) != 1 || !k.ExpiresAt.Equal(soon) {
		t.Errorf("%+v", self.Key)
	}
}

func TestMeters(t *testing.T) {
	at := time.UnixMicro(1_795_000_000_000_000)
	got := toJSON(t, presentMeters([]*pb.Meter{
		{Kind: pb.Meter_KIND_RATE, Name: "rate", Limit: 60, Remaining: 59, WindowS: 60, ResetUs: at.UnixMicro()},
		{Kind: pb.Meter_KIND_REQUESTS, Name: "requests-api-ip", Limit: 5, WindowS: 60, ResetUs: at.UnixMicro()},
		{Kind: pb.Meter_KIND_QUOTA, Name: "quota", Limit: 1200, Remaining: 1079, WindowS: 2592000, ResetUs: at.UnixMicro()},
		{Kind: pb.Meter_KIND_THREADS, Name: "threads", Limit: 3, Remaining: 2},
		{Kind: 99, Name: "of tomorrow"},
	}))
	const reset = `"resets_at":"2026-11-18T11:06:40.000Z"`
	want := `[{"name":"rate","kind":"rate","limit":60,"remaining":59,"window_s":60,` + reset + `},` +
		`{"name":"requests-api-ip","kind":"requests","limit":5,"remaining":0,"window_s":60,` + reset + `},` +
		`{"name":"quota","kind":"quota","limit":10,"remaining":8,"window_s":2592000,` + reset + `},` +
		`{"name":"threads","kind":"threads","limit":3,"remaining":2,"window_s":null,"resets_at":null}]`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
