package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// memDeliveries is an outbox in memory, which nobody sends.
type memDeliveries struct {
	dmu        sync.Mutex
	deliveries []webhook.Delivery // guarded by dmu
}

func (m *memDeliveries) put(list ...webhook.Delivery) {
	m.dmu.Lock()
	defer m.dmu.Unlock()
	m.deliveries = append(m.deliveries, list...)
}

func (m *memDeliveries) Deliveries(_ context.Context, accountID string, of webhook.Filter, after webhook.Place, limit int) ([]webhook.Delivery, error) {
	m.dmu.Lock()
	defer m.dmu.Unlock()
	var out []webhook.Delivery
	for _, d := range m.deliveries {
		if d.Account == accountID && (of.Endpoint == "" || d.Endpoint == of.Endpoint) && (of.State == "" || d.State == of.State) &&
			(of.Type == "" || d.Type == of.Type) && (of.Subject == "" || d.Subject == of.Subject) &&
			(after.ID == "" || d.CreatedAt.Before(after.At) || d.CreatedAt.Equal(after.At) && d.ID < after.ID) {
			d.Body = ""
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b webhook.Delivery) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return out[:min(limit, len(out))], nil
}

func (m *memDeliveries) change(accountID, id string, do func(*webhook.Delivery)) (webhook.Delivery, error) {
	m.dmu.Lock()
	defer m.dmu.Unlock()
	for i := range m.deliveries {
		if d := &m.deliveries[i]; d.ID == id && d.Account == accountID {
			do(d)
			return *d, nil
		}
	}
	return webhook.Delivery{}, fault.New(fault.NotFound, "there is no such delivery")
}

func (m *memDeliveries) Delivery(_ context.Context, accountID, id string) (webhook.Delivery, error) {
	return m.change(accountID, id, func(*webhook.Delivery) {})
}

func (m *memDeliveries) Replay(_ context.Context, accountID, id string) (webhook.Delivery, error) {
	return m.change(accountID, id, func(d *webhook.Delivery) {
		d.State, d.NextAt, d.EndedAt, d.Failure, d.Tries = webhook.Pending, time.Now(), time.Time{}, "", 0
	})
}

func (m *memDeliveries) LogTest(_ context.Context, d webhook.Delivery, o webhook.Outcome) error {
	o.Attempt.Number = 1
	d.State, d.Attempts, d.Failure, d.EndedAt, d.Body, d.Log = o.Verdict.State, 1, o.Verdict.Failure, time.Now(), o.Body, []webhook.Attempt{o.Attempt}
	d.CreatedAt = time.Now()
	m.put(d)
	return nil
}

// newDelivery is one of the farm's account, that was tried once.
func (f *farm) newDelivery(change ...func(*webhook.Delivery)) webhook.Delivery {
	at := time.Now().UTC().Truncate(time.Microsecond)
	d := webhook.Delivery{
		Account: f.acct.ID, Endpoint: webhook.NewEndpointID(), Type: webhook.JobFailed, Subject: string(job.NewID()), Happened: at, CreatedAt: at,
		State: webhook.Pending, Attempts: 1, Tries: 1, NextAt: at.Add(5 * time.Second), Body: `{"type":"job.failed"}`,
		Log: []webhook.Attempt{{Number: 1, At: at, Took: 1500 * time.Microsecond, Status: 500, Answer: "not now"}},
	}
	d.ID = webhook.DeliveryID(d.Type, d.Account, d.Subject, "", d.Endpoint)
	for _, c := range change {
		c(&d)
	}
	f.store.memDeliveries.put(d)
	return d
}
