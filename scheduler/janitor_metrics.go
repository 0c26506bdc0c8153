package scheduler

import "github.com/prometheus/client_golang/prometheus"

// janitorMetrics count what the janitor of this process did.
type janitorMetrics struct {
	sweeps  *prometheus.CounterVec
	looked  prometheus.Counter
	objects *prometheus.CounterVec
	bytes   prometheus.Counter
	stayed  prometheus.Counter
	days    prometheus.Counter
	rows    prometheus.Counter
	records *prometheus.CounterVec
	walked  prometheus.Gauge
}

func newJanitorMetrics(r prometheus.Registerer) (*janitorMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "tintype_janitor_" + name, Help: help})
	}
	m := &janitorMetrics{
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_janitor_sweeps_total", Help: "Sweeps of the janitor, by result: done, or failed and to be tried again.",
		}, []string{"result"}),
		looked: counter("objects_looked_total", "Objects of the bucket that were judged."),
		objects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_janitor_objects_deleted_total",
			Help: "Objects deleted, by why: expired (its retention ended, or its account deleted it), orphan (nothing names it), spec (its job has ended or was refused), upload (of a batch or file that is gone).",
		}, []string{"why"}),
		bytes:  counter("bytes_deleted_total", "Bytes of the objects deleted."),
		stayed: counter("delete_failures_total", "Deletions that the object store refused or did not answer, in pages."),
		days:   counter("partitions_dropped_total", "Day partitions of jobs that were dropped."),
		rows:   counter("rows_deleted_total", "Rows of jobs that were deleted one by one, from days that other plans keep."),
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tintype_janitor_records_deleted_total", Help: "Batches, files and deliveries that were deleted, by kind.",
		}, []string{"kind"}),
		walked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tintype_janitor_walked_timestamp_seconds", Help: "When this process last came to the end of the bucket; 0 if it has not yet.",
		}),
	}
	for _, why := range []string{overExpired, overOrphan, overSpec, overUpload} {
		m.objects.WithLabelValues(why)
	}
	for _, kind := range []string{"batch", "file", "delivery"} {
		m.records.WithLabelValues(kind)
	}
	for _, result := range []string{"done", "failed"} {
		m.sweeps.WithLabelValues(result)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sweeps, m.looked, m.objects, m.bytes, m.stayed, m.days, m.rows, m.records, m.walked} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *janitorMetrics) sweep(did swept, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.sweeps.WithLabelValues(result).Inc()
	m.days.Add(float64(did.days))
	m.rows.Add(float64(did.rows))
	m.records.WithLabelValues("batch").Add(float64(did.batches))
	m.records.WithLabelValues("file").Add(float64(did.files))
	m.records.WithLabelValues("delivery").Add(float64(did.deliveries))
	if did.walked {
		m.walked.SetToCurrentTime()
	}
}

func (m *janitorMetrics) deleted(n swept, bytes int64) {
	m.objects.WithLabelValues(overExpired).Add(float64(n.expired))
	m.objects.WithLabelValues(overOrphan).Add(float64(n.orphan))
	m.objects.WithLabelValues(overSpec).Add(float64(n.specs))
	m.objects.WithLabelValues(overUpload).Add(float64(n.uploads))
	m.bytes.Add(float64(bytes))
}
