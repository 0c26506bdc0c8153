package main

import "testing"

// Lines are fed and end once each, whoever is killed on the way: the short form
// of `loadtest batch --kills 3`.
func TestBatchUnderKills(t *testing.T) {
	var out batchReport
	program(t, ownFarm(t), &out, "batch", "--lines", "800", "--kills", "2", "--seats", "12", "--slow", "5ms")
	if out.State != "completed" || out.Counts["succeeded"] != 800 || len(out.Wrong) > 0 {
		t.Errorf("%+v", out)
	}
}

// A batch and jobs beside it, on a farm in one process.
func TestBatchLoad(t *testing.T) {
	var out batchReport
	program(t, ownFarm(t), &out, "batch", "--lines", "1000", "--interactive", "5", "--seats", "8", "--slow", "20ms")
	if out.State != "completed" || out.Counts["succeeded"] != 1000 || len(out.Wrong) > 0 || out.RSS == nil || out.RSS.Validated == 0 ||
		out.Beside == nil || out.Beside.P50 == 0 || out.DryPerS == 0 || out.CheckedPerS == 0 || out.FedPerS == 0 || out.ResultsPerS == 0 {
		t.Errorf("%+v", out)
	}
}

// Messages arrive beside receivers that hang, and all of them.
func TestWebhooksLoad(t *testing.T) {
	var out webhooksReport
	program(t, ownFarm(t), &out, "webhooks", "--endpoints", "20", "--hang", "4", "--accounts", "4", "--rate", "20", "--duration", "1s", "--burst", "20")
	if out.Without.Delivered != 40*4 || out.With.Delivered != 40*4 || out.With.Missing+out.Without.Missing > 0 || out.With.HangedSent == 0 {
		t.Errorf("%+v", out)
	}
}
