-- +goose Up

-- The outbox: a row for each message and each place that it goes to, inserted
-- in the transaction that makes it true. The id is the message's webhook-id and
-- follows from what it says and to whom, so nothing is in here twice.
CREATE TABLE deliveries (
    id          text        PRIMARY KEY,
    account     text        NOT NULL,
    endpoint    text,        -- null: to url, which a job or a batch named itself
    url         text,        -- null: to the endpoint, wherever it is by then
    lane        text        NOT NULL, -- what fails and waits together: the endpoint, or the account's host
    type        text        NOT NULL,
    subject     text        NOT NULL, -- id of the job or batch that it is about; empty where data says all
    data        json,        -- of messages that are not about a job; of those the archive knows it
    body        text,        -- as it was first sent: it is sent the same each time
    state       text        NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts    integer     NOT NULL DEFAULT 0,
    tries       integer     NOT NULL DEFAULT 0, -- of these, since it was made or last replayed: what the schedule counts
    next_at     timestamptz NOT NULL DEFAULT now(), -- while pending
    failure     text        NOT NULL DEFAULT '', -- why nothing more is tried, in words; set with failed
    happened    timestamptz NOT NULL, -- what it tells of
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    CHECK ((endpoint IS NULL) <> (url IS NULL)),
    CHECK ((state = 'pending') = (ended_at IS NULL))
);

CREATE INDEX deliveries_due ON deliveries (lane, next_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_account ON deliveries (account, created_at DESC, id DESC);
CREATE INDEX deliveries_endpoint ON deliveries (endpoint, created_at DESC, id DESC) WHERE endpoint IS NOT NULL;
CREATE INDEX deliveries_failed ON deliveries (account, created_at DESC, id DESC) WHERE state = 'failed';
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX deliveries_subject ON deliveries (subject) WHERE subject <> '';

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

-- One replica at a time sends what waits in a lane, so that what a receiver
-- does to it is known to all of them, and a lane with a long backlog is one row
-- to whoever looks for work.
CREATE TABLE delivery_lanes (
    lane       text        PRIMARY KEY,
    account    text        NOT NULL,
    standing   text        NOT NULL DEFAULT 'new' CHECK (standing IN ('new', 'proven', 'slow', 'failing')),
    failures   integer     NOT NULL DEFAULT 0, -- in a row
    open_until timestamptz, -- nothing is sent before
    wake_at    timestamptz NOT NULL, -- when something may be due, or the holder is taken for dead; infinity: nothing waits
    holder     text,        -- boot id of the replica that sends it
    touched_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX delivery_lanes_due ON delivery_lanes (standing, wake_at);
