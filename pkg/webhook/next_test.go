package webhook

import (
	"fmt"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestSchedule(t *testing.T) {
	at, want := noon, []string{"5s", "5m0s", "30m0s", "2h0m0s", "5h0m0s", "10h0m0s", "14h0m0s", "20h0m0s", "24h0m0s"}
	for i, wait := range want {
		v := Next(i+1, at, Answer{Status: 500})
		if v.State != Pending || v.At.Sub(at).String() != wait {
			t.Errorf("after attempt %d: %s in %s, want %s", i+1, v.State, v.At.Sub(at), wait)
		}
		at = v.At
	}
	if v := Next(len(want)+1, at, Answer{Status: 500}); v.State != Failed || v.Failure == "" {
		t.Errorf("after the last attempt: %+v", v)
	}
	if MaxTries != 10 {
		t.Errorf("%d attempts", MaxTries)
	}
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		tries  int
		answer Answer
		want   string // state, and the wait
	}{
		{1, Answer{Status: 200}, "delivered"},
		{10, Answer{Status: 204}, "delivered"},
		{1, Answer{Status: 299}, "delivered"},
		{1, Answer{}, "pending 5s"},
		{1, Answer{Status: 199}, "pending 5s"},
		{1, Answer{Status: 301}, "pending 5s"},
		{1, Answer{Status: 404}, "pending 5s"},
		{1, Answer{Status: 410}, "failed"},
		{2, Answer{Status: 410, RetryAfter: "3"}, "failed"},
		{10, Answer{Status: 503, RetryAfter: "3"}, "failed"},
		// Chance only lengthens.
		{1, Answer{Roll: 1}, "pending 5.5s"},
		{2, Answer{Roll: 0.5}, "pending 5m15s"},
		// Retry-After: as asked, never before the schedule, never after a day.
		{1, Answer{Status: 503, RetryAfter: "60"}, "pending 1m0s"},
		{1, Answer{Status: 503, RetryAfter: " 60 "}, "pending 1m0s"},
		{1, Answer{Status: 503, RetryAfter: "1"}, "pending 5s"},
		{2, Answer{Status: 503, RetryAfter: "60"}, "pending 5m0s"},
		{1, Answer{Status: 503, RetryAfter: "0"}, "pending 5s"},
		{1, Answer{Status: 503, RetryAfter: "-60"}, "pending 5s"},
		{1, Answer{Status: 503, RetryAfter: "soon"}, "pending 5s"},
		{1, Answer{Status: 503, RetryAfter: "86401"}, "pending 24h0m0s"},
		{1, Answer{Status: 503, RetryAfter: "99999999999999999999999999"}, "pending 24h0m0s"},
		{1, Answer{Status: 429, RetryAfter: "Fri, 20 Nov 2026 12:02:00 GMT"}, "pending 2m0s"},
		{1, Answer{Status: 429, RetryAfter: "Fri, 20 Nov 2026 11:00:00 GMT"}, "pending 5s"},
		{1, Answer{Status: 429, RetryAfter: "Sat, 20 Nov 9026 12:00:00 GMT"}, "pending 24h0m0s"},
	} {
		v := Next(c.tries, noon, c.answer)
		got := string(v.State)
		if v.State == Pending {
			got += " " + v.At.Sub(noon).String()
		}
		if got != c.want || (v.State == Failed) != (v.Failure != "") {
			t.Errorf("attempt %d, %+v: %s %q, want %s", c.tries, c.answer, got, v.Failure, c.want)
		}
	}
}

// Whatever a receiver says: the next attempt is neither now nor later than a
// day and a tenth, and there is a last one.
func FuzzNext(f *testing.F) {
	f.Add(1, 503, "120", 0.5)
	f.Add(3, 0, "Fri, 20 Nov 2026 12:02:00 GMT", 1.0)
	f.Fuzz(func(t *testing.T, tries, status int, header string, roll float64) {
		if !(roll >= 0 && roll <= 1) {
			t.Skip()
		}
		v := Next(tries, noon, Answer{Status: status, RetryAfter: header, Roll: roll})
		wait := v.At.Sub(noon)
		if v.State == Pending && (wait < 5*time.Second || wait > 27*time.Hour || tries >= MaxTries) {
			t.Errorf("attempt %d, status %d, %q: in %s", tries, status, header, wait)
		}
	})
}

func TestHealth(t *testing.T) {
	h := Health{Standing: New}
	var got []string
	step := func(status int, retry string) {
		h = h.After(Answer{Status: status, RetryAfter: retry}, noon)
		got = append(got, fmt.Sprintf("%d %s %d %s", status, h.Standing, h.Failures, h.Open))
	}
	for range 9 {
		step(0, "")
	}
	step(200, "")
	step(500, "60")
	step(404, "")
	step(503, "60")
	step(429, "100000")
	step(302, "")
	step(410, "")
	want := []string{
		"0 failing 1 0s", "0 failing 2 0s", "0 failing 3 10s", "0 failing 4 20s", "0 failing 5 40s", "0 failing 6 1m20s",
		"0 failing 7 2m40s", "0 failing 8 5m0s", "0 failing 9 5m0s", "200 proven 0 0s", "500 failing 1 0s", "404 proven 0 0s",
		"503 failing 1 1m0s", "429 failing 2 5m0s", "302 proven 0 0s", "410 proven 0 0s",
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("step %d: %s, want %s", i, got[i], want[i])
		}
	}
}

// A receiver that answers late shares no places with those that answer at once,
// until it does so too.
func TestSlow(t *testing.T) {
	h := Health{Standing: Proven}
	for _, c := range []struct {
		answer Answer
		want   Standing
	}{
		{Answer{Status: 200, Took: slowAfter - 1}, Proven},
		{Answer{Status: 200, Took: slowAfter}, Slow},
		{Answer{Status: 404, Took: 9 * time.Second}, Slow},
		{Answer{Status: 200}, Proven},
		{Answer{Took: 10 * time.Second}, Failing},
		{Answer{Status: 200, Took: 9 * time.Second}, Slow},
	} {
		if h = h.After(c.answer, noon); h.Standing != c.want || (h.Failures > 0) != (c.want == Failing) {
			t.Errorf("%+v: %+v, want %s", c.answer, h, c.want)
		}
	}
}

func TestLane(t *testing.T) {
	for _, c := range [][3]string{
		{"we_1", "", "we_1"},
		{"", "https://e.example:8443/hook?job=1", "acc https://e.example:8443"},
		{"", "https://e.example:8443/hook?job=2", "acc https://e.example:8443"},
		{"", ":", "acc"},
	} {
		if got := Lane("acc", c[0], c[1]); got != c[2] {
			t.Errorf("%q: lane %q, want %q", c[:2], got, c[2])
		}
	}
}
