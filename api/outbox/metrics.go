package outbox

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tintype/tintype/pkg/webhook"
)

type metrics struct {
	attempts *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	wait     prometheus.Histogram
	ended    *prometheus.CounterVec
	disabled *prometheus.CounterVec
	due      *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, held func(webhook.Standing) float64) *metrics {
	buckets := []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_delivery_attempts_total", Help: "Webhook messages that were sent, by what was answered.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tintype_delivery_attempt_seconds", Help: "Time that attempts to deliver a webhook message took.", Buckets: buckets,
		}, []string{"result"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tintype_delivery_wait_seconds", Help: "From what a webhook message tells of to its first attempt.",
			Buckets: append(append([]float64{}, buckets...), 30, 60, 300, 1800),
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_deliveries_total", Help: "Webhook messages that were delivered, or are not tried any more.",
		}, []string{"result"}),
		disabled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_webhook_endpoints_disabled_total", Help: "Webhook endpoints that were disabled because they answered 410 or failed for five days.",
		}, []string{"kind"}),
		due: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tintype_deliveries_due", Help: "Webhook messages that are due, at most 1,000 counted for each receiver, by whether the receiver fails.",
		}, []string{"receiver"}),
	}
	reg.MustRegister(m.attempts, m.seconds, m.wait, m.ended, m.disabled, m.due)
	for _, standing := range webhook.Standings {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "tintype_delivery_lanes", Help: "Receivers that this replica is sending to, by what is known of them.",
			ConstLabels: prometheus.Labels{"kind": string(standing)},
		}, func() float64 { return held(standing) }))
	}
	return m
}

func (m *metrics) attempted(d webhook.Delivery, o webhook.Outcome) {
	result := resultOf(o.Answer)
	m.attempts.WithLabelValues(result).Inc()
	m.seconds.WithLabelValues(result).Observe(o.Attempt.Took.Seconds())
	if d.Attempts == 0 {
		m.wait.Observe(max(o.Attempt.At.Sub(d.Happened).Seconds(), 0))
	}
}

// resultOf is what an answer is counted as.
func resultOf(a webhook.Answer) string {
	switch {
	case a.OK():
		return "delivered"
	case a.Status == 0:
		return "no_answer"
	case a.Status == http.StatusTooManyRequests:
		return "throttled"
	case a.Status >= 500:
		return "error"
	}
	return "refused"
}

func (m *metrics) backlog(due, failing int64) {
	m.due.WithLabelValues("working").Set(float64(due - failing))
	m.due.WithLabelValues("failing").Set(float64(failing))
}
