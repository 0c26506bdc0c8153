package api

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// policyLeft reads RateLimit-Policy and RateLimit with a parser of structured
// fields that is not ours: the parameters of each entry by its name.
func policyLeft(t testing.TB, h http.Header) (policies, left map[string]map[string]any) {
	t.Helper()
	read := func(name string) map[string]map[string]any {
		out := map[string]map[string]any{}
		if len(h.Values(name)) == 0 {
			return out
		}
		list, err := httpsfv.UnmarshalList(h.Values(name))
		if err != nil {
			t.Fatalf("%s: %q: %v", name, h.Values(name), err)
		}
		for _, member := range list {
			item, ok := member.(httpsfv.Item)
			key, isString := item.Value.(string)
			if !ok || !isString || out[key] != nil {
				t.Fatalf("%s: %q has a member that is no string, or twice: %v", name, h.Values(name), member)
			}
			out[key] = map[string]any{}
			for _, p := range item.Params.Names() {
				out[key][p], _ = item.Params.Get(p)
			}
		}
		return out
	}
	policies, left = read("RateLimit-Policy"), read("RateLimit")
	for name, params := range left {
		if policies[name] == nil {
			t.Fatalf("RateLimit has %q and RateLimit-Policy has not: %v", name, h)
		}
		if r, ok := params["r"].(int64); !ok || r < 0 {
			t.Fatalf("%q has no r, or one below zero: %v", name, params)
		}
	}
	return policies, left
}

func TestLimitHeaders(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 35, 0, 0, time.UTC).UnixMicro()
	rate := &pb.Meter{Kind: pb.Meter_KIND_RATE, Name: "rate", Limit: 60, Remaining: 59, WindowS: 60, ResetUs: now + 1_000_001}
	ip := &pb.Meter{Kind: pb.Meter_KIND_REQUESTS, Name: "requests-api-ip", Limit: 100, Remaining: 0, WindowS: 60, ResetUs: now + 25_000_000}
	key := &pb.Meter{Kind: pb.Meter_KIND_REQUESTS, Name: "requests-api-key", Limit: 10, Remaining: 7, WindowS: 60, ResetUs: now + 25_000_000}
	media := &pb.Meter{Kind: pb.Meter_KIND_REQUESTS, Name: "requests-media-ip", Limit: 5, Remaining: 0, WindowS: 60, ResetUs: now + 25_000_000}
	quota := &pb.Meter{Kind: pb.Meter_KIND_QUOTA, Name: "quota", Limit: 100 * 120, Remaining: 21*120 + 119, WindowS: 2_592_000, ResetUs: now + 9*86_400_000_000}
	threads := &pb.Meter{Kind: pb.Meter_KIND_THREADS, Name: "threads", Limit: 4, Remaining: 3}
	epoch := func(m *pb.Meter) string { return strconv.FormatInt((m.ResetUs+999_999)/1_000_000, 10) }
	for _, test := range []struct {
		name           string
		told           told
		policies, left string
		want           map[string]string // "" is absent
	}{
		{"nothing is known", told{}, "", "", map[string]string{"X-RateLimit-Limit": "", "X-Quota-Limit": ""}},
		{
			"everything",
			told{meters: []*pb.Meter{rate, ip, quota, threads}, class: classAPI},
			`"rate";q=60;w=60, "requests-api-ip";q=100;w=60, "quota";q=100;w=2592000, "threads";q=4;qu="concurrent-requests"`,
			`"rate";r=59;t=2, "requests-api-ip";r=0;t=25, "quota";r=21;t=777600, "threads";r=3`,
			map[string]string{
				"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "59", "X-RateLimit-Reset": epoch(rate),
				"X-Quota-Limit": "100", "X-Quota-Remaining": "21", "X-Quota-Resets-At": epoch(quota),
			},
		},
		{
			"no rate: the tightest limit of the class",
			told{meters: []*pb.Meter{key, ip, media}, class: classAPI},
			`"requests-api-key";q=10;w=60, "requests-api-ip";q=100;w=60, "requests-media-ip";q=5;w=60`,
			`"requests-api-key";r=7;t=25, "requests-api-ip";r=0;t=25, "requests-media-ip";r=0;t=25`,
			map[string]string{"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": epoch(ip), "X-Quota-Limit": ""},
		},
		{
			"refused by a limit of requests",
			told{meters: []*pb.Meter{rate, ip}, class: classAPI, refused: &fault.Error{Kind: fault.RateLimited, Policy: "requests-api-ip"}},
			`"rate";q=60;w=60, "requests-api-ip";q=100;w=60`,
			`"rate";r=59;t=2, "requests-api-ip";r=0;t=25`,
			map[string]string{"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": epoch(ip), "Retry-After": "25"},
		},
		{
			"over the quota, and what came before the period",
			told{meters: []*pb.Meter{{Kind: pb.Meter_KIND_QUOTA, Name: "quota", Limit: 120, Remaining: -5, ResetUs: now - 1}}},
			`"quota";q=1`, `"quota";r=0;t=0`,
			map[string]string{"X-Quota-Remaining": "0", "X-RateLimit-Limit": ""},
		},
	} {
		h := http.Header{}
		if test.told.refused != nil {
			h.Set("Retry-After", "24")
		}
		test.told.nowUS = now
		limitHeaders(h, test.told)
		policyLeft(t, h)
		if got := h.Get("RateLimit-Policy"); got != test.policies {
			t.Errorf("%s: RateLimit-Policy %s", test.name, got)
		}
		if got := h.Get("RateLimit"); got != test.left {
			t.Errorf("%s: RateLimit %s", test.name, got)
		}
		for name, want := range test.want {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", test.name, name, got, want)
			}
		}
	}
}

// The numbers of an answer are those that came with its own question: the
// decision's, the look-up's, or a count's where nothing else is asked.
func TestLimitHeadersOfEveryAnswer(t *testing.T) {
	f := newFarm(t)
	meter := func(n int64) []*pb.Meter {
		return []*pb.Meter{{Kind: pb.Meter_KIND_RATE, Name: "rate", Limit: 60, Remaining: n, WindowS: 60, ResetUs: time.Now().Add(time.Second).UnixMicro()}}
	}
	f.leader.mu.Lock()
	f.leader.decide = func(rec *pb.Record) *pb.Decision {
		d := acceptAll(rec)
		d.Meters = meter(40)
		return d
	}
	f.leader.counting = func(*pb.Count) *pb.Answer { return &pb.Answer{Meters: meter(30)} }
	f.leader.meters = meter(20)
	f.leader.mu.Unlock()
	want := func(a answered, remaining string) {
		t.Helper()
		policyLeft(t, a.Header())
		if got := a.Header().Get("X-RateLimit-Remaining"); got != remaining {
			t.Errorf("%d %s: X-RateLimit-Remaining %q, want %q", a.Code, a.Body, got, remaining)
		}
	}
	submitted := f.do("POST", "/v1/jobs", `{"html":"x"}`)
	want(submitted, "40")
	id := submitted.job(t, 202).Id
	want(f.do("GET", "/v1/jobs/"+id, ""), "20")
	// 409: the leader is asked how the job stands, and what is left beside it.
	if got := f.do("GET", "/v1/jobs/"+id+"/result", "").Header().Get("X-RateLimit-Remaining"); got != "20" && got != "30" {
		t.Errorf("X-RateLimit-Remaining %q", got)
	}
	want(f.do("DELETE", "/v1/jobs/"+id, ""), "20")
	want(f.do("GET", "/v1/usage", ""), "30")
	want(f.do("GET", "/v1/jobs?limit=0", ""), "30") // 400
	f.leader.deciding(func(rec *pb.Record) *pb.Decision {
		d := refuseAll(full)(rec)
		d.Meters = meter(7)
		return d
	})
	want(f.do("POST", "/v1/jobs", `{"html":"x"}`), "7") // 503
	want(f.do("GET", "/healthz", ""), "")
	want(f.do("POST", "/v1/jobs", `{}`), "30") // 400: the leader had nothing to decide
	f.leader.hangUp()
	f.lost()
	want(f.do("GET", "/v1/usage", ""), "") // nobody can tell
}

func FuzzLimitHeaders(f *testing.F) {
	f.Add(int64(60), int64(59), int64(60), int64(1_700_000_000_000_000), int64(1_700_000_000_000_000), uint8(1))
	f.Add(int64(-1), int64(1<<62), int64(-60), int64(-1), int64(1<<62), uint8(3))
	f.Fuzz(func(t *testing.T, limit, remaining, window, reset, now int64, kind uint8) {
		h := http.Header{}
		m := &pb.Meter{Kind: pb.Meter_Kind(kind % 5), Name: "a-limit", Limit: limit, Remaining: remaining, WindowS: window, ResetUs: reset}
		limitHeaders(h, told{meters: []*pb.Meter{m}, class: classAPI, nowUS: now})
		if policies, _ := policyLeft(t, h); len(policies) != 1 {
			t.Fatalf("%v", h)
		}
		for name, values := range h {
			if strings.HasPrefix(name, "X-") && strings.HasPrefix(values[0], "-") {
				t.Fatalf("%s: %s", name, values[0])
			}
		}
	})
}
