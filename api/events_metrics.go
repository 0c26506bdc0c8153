package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// eventMetrics are the figures of the streams of events.
type eventMetrics struct {
	open   *prometheus.GaugeVec
	ends   *prometheus.CounterVec
	sent   *prometheus.CounterVec
	behind prometheus.Gauge
}

func newEventMetrics(reg prometheus.Registerer) *eventMetrics {
	m := &eventMetrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tintype_event_streams", Help: "Streams of events that are open, by what they follow: job, batch or account.",
		}, []string{"kind"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_event_streams_ended_total", Help: "Streams of events that have ended, by why: done, client, slow, gap, drain or refused.",
		}, []string{"reason"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_events_sent_total", Help: "Events that were sent down streams, by type.",
		}, []string{"type"}),
		behind: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tintype_events_behind_seconds", Help: "How old the last frame of the ledger was when it came to this replica, while it has streams of events.",
		}),
	}
	reg.MustRegister(m.open, m.ends, m.sent, m.behind)
	return m
}

func (m *eventMetrics) late(by time.Duration) { m.behind.Set(max(by, 0).Seconds()) }
