-- +goose Up

CREATE TABLE accounts (
    id         text        PRIMARY KEY,
    name       text        NOT NULL UNIQUE,
    plan       text        NOT NULL,
    suspended  boolean     NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id         text        PRIMARY KEY,
    account    text        NOT NULL REFERENCES accounts (id),
    name       text        NOT NULL DEFAULT '',
    hash       bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes     text[]      NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE INDEX api_keys_account ON api_keys (account);

-- Finished jobs, written once by the projector and dropped by day. The day is
-- that of the id, so the id alone finds its partition. Text that came from a
-- page or a client is json, not jsonb: jsonb refuses U+0000.
CREATE TABLE jobs (
    id             text        NOT NULL,
    day            date        NOT NULL,
    account        text        NOT NULL,
    state          text        NOT NULL CHECK (state IN ('succeeded', 'failed', 'canceled', 'expired')),
    tier           integer     NOT NULL,
    accepted_at    timestamptz NOT NULL,
    started_at     timestamptz,
    finished_at    timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    attempts       integer     NOT NULL CHECK (attempts >= 0),
    cached         boolean     NOT NULL,
    billable       boolean     NOT NULL,
    key_hash       bytea,
    fingerprint    bytea,
    custom_id      text        NOT NULL,
    metadata       json        NOT NULL,
    options        json        NOT NULL,
    object         text,
    content_type   text,
    width          integer,
    height         integer,
    pages          integer,
    size_bytes     bigint,
    sha256         bytea,
    result_gone_at timestamptz,
    failure_code   text,
    failure_stage  text,
    failure_detail text,
    timings        json,
    evidence       json,
    PRIMARY KEY (id, day),
    CHECK ((state = 'succeeded') = (object IS NOT NULL)),
    CHECK ((state = 'failed') = (failure_code IS NOT NULL)),
    CHECK (state = 'succeeded' OR NOT billable)
) PARTITION BY RANGE (day);

CREATE INDEX jobs_account ON jobs (account, id DESC);
CREATE INDEX jobs_key ON jobs (account, key_hash) WHERE key_hash IS NOT NULL;

-- One row for each charge; a job's bill has the job's id. One unit is 1/120
-- credit, so that every published price is a whole number of them.
CREATE TABLE usage_events (
    id       text        PRIMARY KEY,
    account  text        NOT NULL,
    period   date        NOT NULL,
    units    bigint      NOT NULL CHECK (units > 0),
    reason   text        NOT NULL,
    happened timestamptz NOT NULL
);

CREATE INDEX usage_events_account ON usage_events (account, period);

CREATE TABLE usage_month (
    account text   NOT NULL,
    period  date   NOT NULL,
    units   bigint NOT NULL,
    PRIMARY KEY (account, period)
);

-- How far the ledger is projected. The update that moves it names where it
-- was, so two projectors cannot both win.
CREATE TABLE projection (
    shard      integer PRIMARY KEY,
    ledger_seq bigint  NOT NULL,
    crc        bigint  NOT NULL
);

INSERT INTO projection (shard, ledger_seq, crc) VALUES (0, 0, 0);
