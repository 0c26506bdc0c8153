package api

import (
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/webhook"
)

// The contract tells of every message that is sent, and of no other, with the
// headers that sign it.
func TestWebhooksAreTheContracts(t *testing.T) {
	var told []webhook.Type
	for name, item := range contract(t).Webhooks {
		op := item.Post
		if op == nil || op.Security == nil || len(*op.Security) != 0 {
			t.Errorf("%s is no POST without a key", name)
			continue
		}
		for _, h := range webhook.Sign("msg_1", time.Now(), nil, webhook.NewSecret()) {
			if p := op.Parameters.GetByInAndName("header", h.Name); p == nil || !p.Required {
				t.Errorf("%s has no header %s", name, h.Name)
			}
		}
		schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
		if !slices.Equal(schema.Required, []string{"type", "timestamp", "data"}) {
			t.Errorf("%s needs %v", name, schema.Required)
		}
		for _, kind := range schema.Properties["type"].Value.Enum {
			told = append(told, webhook.Type(kind.(string)))
		}
	}
	want := append(slices.Clone(webhook.Types), webhook.Test)
	slices.Sort(told)
	slices.Sort(want)
	if !slices.Equal(told, want) {
		t.Errorf("the contract tells of %v, sent are %v", told, want)
	}
}
