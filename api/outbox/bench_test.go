package outbox

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// BenchmarkDeliveries is one replica, its archive and its receivers on one
// machine: 900 endpoints of 90 accounts that answer at once, beside none and 100
// that never do.
func BenchmarkDeliveries(b *testing.B) {
	for _, hanging := range []int{0, 100} {
		b.Run(fmt.Sprintf("hanging=%d", hanging), func(b *testing.B) {
			f := newFarm(b)
			over := make(chan struct{})
			b.Cleanup(func() { close(over) })
			came := make(chan string, 1<<16)
			healthy := f.counts(func(w http.ResponseWriter, r *http.Request) { came <- r.Header.Get("webhook-id") })
			hangs := f.counts(func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-over:
				}
			})
			var accounts []string
			for i := range 100 {
				accounts = append(accounts, fmt.Sprintf("acc_%02d", i))
				for j := range 10 {
					to := healthy
					if j == 0 {
						if hanging == 0 {
							continue
						}
						to = hangs
					}
					f.exec(`INSERT INTO webhook_endpoints (id, account, url, events, secret) VALUES ($1, $2, $3, $4, $5)`,
						fmt.Sprintf("we_%02d_%d", i, j), accounts[i], to, []webhook.Type{webhook.JobFailed}, []byte(secretText))
				}
			}
			f.sends("one")
			f.ends(some(accounts, 100)...) // each lane is known then, or hangs
			for range 900 {
				<-came
			}
			var took []time.Duration
			b.ResetTimer()
			for n := 0; n < b.N; n += 900 {
				began := time.Now()
				f.ends(some(accounts, 100)...)
				for range 900 {
					<-came
					took = append(took, time.Since(began))
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "deliveries/s")
			b.ReportMetric(float64(took[len(took)/2].Milliseconds()), "p50-ms")
			b.ReportMetric(float64(took[len(took)*95/100].Milliseconds()), "p95-ms")
		})
	}
}

func some(accounts []string, n int) []*job.Job {
	jobs := make([]*job.Job, n)
	for i := range jobs {
		jobs[i] = failed(accounts[i%len(accounts)])
	}
	return jobs
}

// counts is a receiver that keeps nothing.
func (f *farm) counts(answer http.HandlerFunc) string {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the sender gave up
		answer(w, r)
	}))
	f.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	f.roots.AddCert(srv.Certificate())
	f.permit(srv.URL)
	return srv.URL
}
