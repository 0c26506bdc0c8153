-- +goose Up

-- The outbox: a row for each message and each place that it goes to, inserted
-- in the transaction that makes it true. The id is the message's webhook-id and
-- follows from what it says and to whom, so nothing is in here twice.
CREATE TABLE deliveries (
    id          text        PRIMARY KEY,
    account     text        NOT NULL,
    endpoint    text,        -- null: to url, which a job or a batch named itself
    url         text,        -- null: to the endpoint, wherever it is by then
    lane        text        NOT NULL, -- what fails and waits together: the endpoint, or the account's url
    type        text        NOT NULL,
    subject     text        NOT NULL, -- id of the job or batch that it is about; empty where data says all
    data        json,        -- of messages that are about neither
    body        text,        -- as it was first sent: it is sent the same each time
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts    integer     NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL DEFAULT now(), -- while pending
    claimed_by  text,        -- boot id of the replica that sends it
    claimed_until timestamptz,
    happened    timestamptz NOT NULL, -- what it tells of
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    CHECK ((endpoint IS NULL) <> (url IS NULL))
);

CREATE INDEX deliveries_due ON deliveries (lane, next_at) WHERE state = 'pending';
CREATE INDEX deliveries_account ON deliveries (account, created_at DESC, id DESC);

CREATE TABLE delivery_attempts (
    delivery text        NOT NULL,
    attempt  integer     NOT NULL,
    at       timestamptz NOT NULL,
    took_ms  integer     NOT NULL,
    status   integer,     -- null: there was no answer
    error    text        NOT NULL DEFAULT '',
    answer   text        NOT NULL DEFAULT '', -- its first bytes
    PRIMARY KEY (delivery, attempt)
);
