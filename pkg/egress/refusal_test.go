package egress

import (
	"net"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestRefusalTellsNothing: whether something listens behind a refused address,
// and on which port, shows neither in what the proxy answers nor in its time.
func TestRefusalTellsNothing(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dns := nameServer(t, func(name string, _ int) []string {
		return map[string][]string{"open.test": {"127.0.0.1"}, "dead.test": {"10.255.255.1"}}[name]
	})
	g := guard(t, Config{DNS: dns})
	_, open, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 60
	for _, pair := range [][2]string{
		{"10.0.0.1:80", "10.0.0.1:81"},
		{"127.0.0.1:" + open, "10.255.255.1:" + open}, // one listens, the other is a black hole
		{"open.test:" + open, "dead.test:" + open},
		{"open.test:80", "dead.test:80"},
	} {
		var times [2][]time.Duration
		var said [2]string
		for i := range 2 * rounds {
			p := OpenOn(listenLocal(t), g) // a proxy counts, and a job has only so many
			began := time.Now()
			resp, _ := get(t, through(t, p), "http://"+pair[i%2]+"/")
			times[i%2] = append(times[i%2], time.Since(began))
			why, ok := p.Marked(resp.Header.Get(MarkerHeader))
			if resp.StatusCode != http.StatusForbidden || !ok || why != Refused {
				t.Fatalf("%s: %d %q", pair[i%2], resp.StatusCode, why)
			}
			resp.Header.Del(MarkerHeader) // the nonce is the job's
			said[i%2] = resp.Status + resp.Header.Get("Content-Length")
			p.Close()
		}
		if said[0] != said[1] {
			t.Errorf("%v answer %q", pair, said)
		}
		if a, b := median(times[0]), median(times[1]); (a - b).Abs() > 5*time.Millisecond {
			t.Errorf("%v take %s and %s", pair, a, b)
		}
	}
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
