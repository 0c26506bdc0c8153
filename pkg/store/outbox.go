package store

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/webhook"
)

// A told is what an account is told of.
type told struct {
	kind     webhook.Type
	account  string
	subject  string
	of       string // tells apart what has the same type and subject
	line     bool   // it is about a line of a batch
	url      string // told beside the endpoints; empty: nobody is
	data     json.RawMessage
	happened time.Time
}

// tell writes what has come of a filing to whom it is to be told.
func tell(ctx context.Context, tx pgx.Tx, ends []Ended, reached []QuotaReached) error {
	var list []told
	for _, e := range ends {
		j := e.Job
		t := told{kind: webhook.OfEnd(j.State), account: j.Account, subject: string(j.ID), line: j.Batch != "", happened: j.FinishedAt}
		if w := j.Webhook; w != nil && (len(w.Events) == 0 || slices.Contains(w.Events, string(t.kind))) {
			t.url = w.URL
		}
		list = append(list, t)
	}
	for _, q := range reached {
		list = append(list, told{
			kind: webhook.OfQuota(q.Percent), account: q.Account, of: q.Period.UTC().Format(time.DateOnly) + " " + strconv.Itoa(q.Percent), happened: q.Happened,
			data: webhook.QuotaData(q.Period, q.Percent, q.Used, q.Limit, q.ResetsAt),
		})
	}
	return tellAll(ctx, tx, list)
}

// TellBatchEnded writes the end of a batch to whom it is to be told, in the
// transaction that ends it: the endpoints that want to know, and the batch's own
// webhook. data is {"batch": …}, the batch as GET shows it at its end: it may
// run again before the message is sent.
func TellBatchEnded(ctx context.Context, tx pgx.Tx, b *batch.Batch, data json.RawMessage, at time.Time) error {
	t := told{
		kind: webhook.BatchCompleted, account: b.Account, subject: b.ID, of: strconv.Itoa(b.Pass), data: data, happened: at,
	}
	if b.Webhook != nil {
		t.url = b.Webhook.URL
	}
	return tellAll(ctx, tx, []told{t})
}

const selectListeners = `
SELECT id, account, events, batch_line_events
FROM webhook_endpoints
WHERE account = ANY(@accounts) AND disabled_at IS NULL`

type listener struct {
	ID              string
	Account         string
	Events          []string
	BatchLineEvents bool
}

func (l listener) wants(t told) bool {
	return (l.BatchLineEvents || !t.line) && slices.Contains(l.Events, string(t.kind))
}

func tellAll(ctx context.Context, tx pgx.Tx, list []told) error {
	if len(list) == 0 {
		return nil
	}
	var accounts []string
	for _, t := range list {
		accounts = append(accounts, t.account)
	}
	slices.Sort(accounts)
	rows, _ := tx.Query(ctx, selectListeners, pgx.NamedArgs{"accounts": slices.Compact(accounts)})
	found, err := pgx.CollectRows(rows, pgx.RowToStructByName[listener])
	if err != nil {
		return err
	}
	listeners := map[string][]listener{}
	for _, l := range found {
		listeners[l.Account] = append(listeners[l.Account], l)
	}
	var out []webhook.Delivery
	for _, t := range list {
		add := func(endpoint, url string) {
			out = append(out, webhook.Delivery{
				ID:      webhook.DeliveryID(t.kind, t.account, t.subject, t.of, cmp.Or(endpoint, url)),
				Account: t.account, Endpoint: endpoint, URL: url, Lane: webhook.Lane(t.account, endpoint, url),
				Type: t.kind, Subject: t.subject, Data: t.data, Happened: t.happened,
			})
		}
		for _, l := range listeners[t.account] {
			if l.wants(t) {
				add(l.ID, "")
			}
		}
		// The API lets no other URL in; one that the database refuses would
		// stop everything behind it.
		if t.url != "" && utf8.ValidString(t.url) && !strings.Contains(t.url, "\x00") {
			add("", t.url)
		}
	}
	return insertDeliveries(ctx, tx, out)
}

// OutboxChannel is what senders listen on: there is something to send.
const OutboxChannel = "outbox_written"

const (
	// insertDeliveryList wakes the lanes too. One that somebody holds is looked
	// at again when it is let go, behind the lock that this takes on it.
	insertDeliveryList = `
WITH written AS (
    INSERT INTO deliveries (id, account, endpoint, url, lane, type, subject, data, happened)
    SELECT id, account, endpoint, url, lane, type, subject, data::json, happened
    FROM unnest(@ids::text[], @accounts::text[], @endpoints::text[], @urls::text[], @lanes::text[], @types::text[], @subjects::text[], @data::text[], @happened::timestamptz[])
        AS told (id, account, endpoint, url, lane, type, subject, data, happened)
    ON CONFLICT DO NOTHING
    RETURNING lane, account
)
INSERT INTO delivery_lanes (lane, account, wake_at)
SELECT lane, min(account), now()
FROM written
GROUP BY lane
ORDER BY lane
ON CONFLICT (lane) DO UPDATE
SET wake_at = LEAST(delivery_lanes.wake_at, GREATEST(delivery_lanes.open_until, EXCLUDED.wake_at)), touched_at = now()
WHERE delivery_lanes.holder IS NULL`

	notifyOutbox = `SELECT pg_notify(@channel, '')`
)

// insertDeliveries writes what is not there yet and wakes senders with the
// commit.
func insertDeliveries(ctx context.Context, tx pgx.Tx, list []webhook.Delivery) error {
	if len(list) == 0 {
		return nil
	}
	var ids, accounts, lanes, types, subjects []string
	var endpoints, urls, data []*string
	var happened []time.Time
	for _, d := range list {
		ids, accounts, lanes, types, subjects = append(ids, d.ID), append(accounts, d.Account), append(lanes, d.Lane), append(types, string(d.Type)), append(subjects, d.Subject)
		endpoints, urls, happened = append(endpoints, orNothing(d.Endpoint)), append(urls, orNothing(d.URL)), append(happened, d.Happened)
		data = append(data, orNothing(string(d.Data)))
	}
	if _, err := tx.Exec(ctx, insertDeliveryList, pgx.NamedArgs{
		"ids": ids, "accounts": accounts, "endpoints": endpoints, "urls": urls, "lanes": lanes, "types": types, "subjects": subjects, "data": data, "happened": happened,
	}); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, notifyOutbox, pgx.NamedArgs{"channel": OutboxChannel})
	return err
}

// orNothing is NULL for an empty text.
func orNothing(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
