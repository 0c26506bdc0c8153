package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/webhook"
)

type deliveryRow struct {
	ID        string
	Account   string
	Endpoint  *string
	URL       *string
	Lane      string
	Type      string
	Subject   string
	Data      []byte
	Body      *string
	State     string
	Attempts  int
	Tries     int
	NextAt    time.Time
	Failure   string
	Happened  time.Time
	CreatedAt time.Time
	EndedAt   *time.Time
}

const deliveryColumns = `
d.id, d.account, d.endpoint, d.url, d.lane, d.type, d.subject, d.data, d.body, d.state, d.attempts, d.tries, d.next_at, d.failure,
d.happened, d.created_at, d.ended_at`

func (r deliveryRow) delivery() webhook.Delivery {
	d := webhook.Delivery{
		ID: r.ID, Account: r.Account, Endpoint: or(r.Endpoint), URL: or(r.URL), Lane: r.Lane, Type: webhook.Type(r.Type), Subject: r.Subject,
		Data: json.RawMessage(r.Data), Body: or(r.Body), State: webhook.State(r.State), Attempts: r.Attempts, Tries: r.Tries, Failure: r.Failure,
		Happened: r.Happened.UTC(), CreatedAt: r.CreatedAt.UTC(), EndedAt: deref(r.EndedAt),
	}
	if d.State == webhook.Pending {
		d.NextAt = r.NextAt.UTC()
	}
	return d
}

// shownColumns are those of a list: without bodies, and with the time at which
// something will really be sent.
const shownColumns = `
d.id, d.account, d.endpoint, d.url, d.lane, d.type, d.subject, NULL::json AS data, NULL AS body, d.state, d.attempts, d.tries,
GREATEST(d.next_at, l.open_until) AS next_at, d.failure, d.happened, d.created_at, d.ended_at`

const selectDeliveries = `
SELECT ` + shownColumns + `
FROM deliveries d
LEFT JOIN delivery_lanes l USING (lane)
WHERE d.account = @account
  AND (d.created_at, d.id) < (@before, @before_id)
  AND (@endpoint = '' OR d.endpoint = @endpoint)
  AND (@state = '' OR d.state = @state)
  AND (@type = '' OR d.type = @type)
  AND (@subject = '' OR d.subject = @subject)
ORDER BY d.created_at DESC, d.id DESC
LIMIT @limit`

// Deliveries lists an account's deliveries, newest first, from behind a place in
// that order on, each with every attempt; the zero Place is before all. Their
// bodies are left out.
func (s *Store) Deliveries(ctx context.Context, accountID string, of webhook.Filter, after webhook.Place, limit int) ([]webhook.Delivery, error) {
	if after.At.IsZero() {
		after.At = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	var out []webhook.Delivery
	err := s.atOneMoment(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, selectDeliveries, pgx.NamedArgs{
			"account": accountID, "before": after.At, "before_id": after.ID, "limit": limit,
			"endpoint": of.Endpoint, "state": string(of.State), "type": string(of.Type), "subject": of.Subject,
		})
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[deliveryRow])
		if err != nil {
			return fmt.Errorf("list deliveries: %w", err)
		}
		out = make([]webhook.Delivery, len(list))
		for i, r := range list {
			out[i] = r.delivery()
		}
		return addAttempts(ctx, tx, out)
	})
	return out, err
}

// atOneMoment reads what belongs together: a delivery would be as it was before
// an attempt, and its log as it was after.
func (s *Store) atOneMoment(ctx context.Context, read func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, read)
}

const (
	selectDelivery = `
SELECT d.id, d.account, d.endpoint, d.url, d.lane, d.type, d.subject, d.data, d.body, d.state, d.attempts, d.tries,
    GREATEST(d.next_at, l.open_until) AS next_at, d.failure, d.happened, d.created_at, d.ended_at
FROM deliveries d
LEFT JOIN delivery_lanes l USING (lane)
WHERE d.id = @id AND d.account = @account`

	selectAttempts = `
SELECT delivery, attempt, at, took_ms, status, error, answer
FROM delivery_attempts
WHERE delivery = ANY(@ids)
ORDER BY delivery, attempt`
)

// Delivery finds one of an account's deliveries, with every attempt of it.
func (s *Store) Delivery(ctx context.Context, accountID, id string) (webhook.Delivery, error) {
	one := make([]webhook.Delivery, 1)
	err := s.atOneMoment(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, selectDelivery, pgx.NamedArgs{"account": accountID, "id": id})
		r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[deliveryRow])
		if err != nil {
			return noDelivery(err)
		}
		one[0] = r.delivery()
		return addAttempts(ctx, tx, one)
	})
	return one[0], err
}

// addAttempts fills in the logs.
func addAttempts(ctx context.Context, tx pgx.Tx, list []webhook.Delivery) error {
	ids, at := make([]string, len(list)), make(map[string]int, len(list))
	for i, d := range list {
		ids[i], at[d.ID] = d.ID, i
	}
	rows, _ := tx.Query(ctx, selectAttempts, pgx.NamedArgs{"ids": ids})
	var id string
	var a webhook.Attempt
	var ms int64
	var status *int
	if _, err := pgx.ForEachRow(rows, []any{&id, &a.Number, &a.At, &ms, &status, &a.Error, &a.Answer}, func() error {
		a.At, a.Took, a.Status = a.At.UTC(), time.Duration(ms)*time.Millisecond, or(status)
		list[at[id]].Log = append(list[at[id]].Log, a)
		return nil
	}); err != nil {
		return fmt.Errorf("attempts: %w", err)
	}
	return nil
}

func noDelivery(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.New(fault.NotFound, "there is no such delivery")
	}
	return fmt.Errorf("delivery: %w", err)
}

const (
	// replayDelivery wakes the lane of one that waits for its breaker too: who
	// asks for it wants to know now.
	replayDelivery = `
WITH replayed AS (
    UPDATE deliveries
    SET state = 'pending', next_at = now(), tries = 0, failure = '', ended_at = NULL
    WHERE id = @id AND account = @account
    RETURNING *
), woken AS (
    INSERT INTO delivery_lanes (lane, account, wake_at)
    SELECT lane, account, now()
    FROM replayed
    ON CONFLICT (lane) DO UPDATE
    SET wake_at = LEAST(delivery_lanes.wake_at, EXCLUDED.wake_at), open_until = NULL, touched_at = now()
    WHERE delivery_lanes.holder IS NULL
)
SELECT ` + deliveryColumns + `
FROM replayed d`
)

// Replay has a delivery sent again under its id, whatever became of it: at
// once, and by the whole schedule.
func (s *Store) Replay(ctx context.Context, accountID, id string) (webhook.Delivery, error) {
	one := make([]webhook.Delivery, 1)
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, replayDelivery, pgx.NamedArgs{"account": accountID, "id": id})
		r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[deliveryRow])
		if err != nil {
			return err
		}
		one[0] = r.delivery()
		if _, err := tx.Exec(ctx, notifyOutbox, pgx.NamedArgs{"channel": OutboxChannel}); err != nil {
			return err
		}
		return addAttempts(ctx, tx, one)
	})
	if err != nil {
		return webhook.Delivery{}, noDelivery(err)
	}
	return one[0], nil
}

const insertTest = `
WITH tested AS (
    INSERT INTO deliveries (id, account, endpoint, lane, type, subject, data, body, state, attempts, tries, failure, happened, ended_at)
    VALUES (@id, @account, @endpoint, @lane, @type, '', @data, @body, @state, 1, 1, @failure, @happened, now())
)
INSERT INTO delivery_attempts (delivery, attempt, at, took_ms, status, error, answer)
VALUES (@id, 1, @at, @took, @status, @error, @answer)`

// LogTest writes down a message that was sent once, to see what comes of it.
func (s *Store) LogTest(ctx context.Context, d webhook.Delivery, o webhook.Outcome) error {
	a := o.Attempt
	var status *int
	if a.Status != 0 {
		status = &a.Status
	}
	if _, err := s.pool.Exec(ctx, insertTest, pgx.NamedArgs{
		"id": d.ID, "account": d.Account, "endpoint": d.Endpoint, "lane": d.Lane, "type": string(d.Type), "data": string(d.Data), "body": o.Body,
		"state": string(o.Verdict.State), "failure": o.Verdict.Failure, "happened": d.Happened,
		"at": a.At, "took": a.Took.Milliseconds(), "status": status, "error": a.Error, "answer": a.Answer,
	}); err != nil {
		return fmt.Errorf("log a test: %w", err)
	}
	return nil
}
