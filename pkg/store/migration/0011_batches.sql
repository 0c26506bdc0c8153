-- +goose Up

-- Uploads that batches may be made of.
CREATE TABLE files (
    id         text        PRIMARY KEY,
    account    text        NOT NULL,
    name       text        NOT NULL DEFAULT '',
    object     text        NOT NULL,
    size_bytes bigint      NOT NULL,
    sha256     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

CREATE INDEX files_account ON files (account, id DESC);
CREATE INDEX files_expires_at ON files (expires_at);

-- A batch, as its feeder and its account's requests leave it. How its jobs
-- ended is counted by the projector, in batch_ends, so that the two never wait
-- for each other.
CREATE TABLE batches (
    id            text        PRIMARY KEY,
    account       text        NOT NULL,
    key           text        NOT NULL, -- that submitted it: its lines count as that key's
    address       text        NOT NULL,
    state         text        NOT NULL CHECK (state IN
        ('validating', 'running', 'paused', 'finalizing', 'completed', 'canceling', 'canceled', 'expired', 'failed')),
    paused_reason text        NOT NULL DEFAULT '',
    resume_at     timestamptz, -- of a pause that ends by itself
    failure       text        NOT NULL DEFAULT '', -- why it failed, in words
    key_hash      bytea,       -- of its Idempotency-Key
    fingerprint   bytea,
    format        text        NOT NULL CHECK (format IN ('jsonl', 'csv', 'text')),
    gzip          boolean     NOT NULL DEFAULT false,
    on_error      text        NOT NULL CHECK (on_error IN ('reject', 'skip')),
    defaults      json        NOT NULL DEFAULT '{}',
    webhook       json,        -- of the batch itself
    line_events   boolean     NOT NULL DEFAULT false, -- its lines' own webhooks are told
    custom_id     text        NOT NULL DEFAULT '',
    metadata      json        NOT NULL DEFAULT '{}',
    file          text,        -- the uploaded file that it was made of; null where the body was it
    input         text        NOT NULL, -- object: what was uploaded
    input_bytes   bigint      NOT NULL,
    lines         text        NOT NULL DEFAULT '', -- object: one batch.Line a line of input; set once validated
    total         bigint      NOT NULL DEFAULT 0,  -- lines of input, as far as they are known
    invalid       bigint      NOT NULL DEFAULT 0,  -- of these, lines that no job can be made of
    refused       bigint      NOT NULL DEFAULT 0,  -- of these, lines that the farm refused for good: batch_refusals
    pass          integer     NOT NULL DEFAULT 1,
    pass_object   text        NOT NULL DEFAULT '', -- object: the lines of this pass; that of lines in the first
    pass_total    bigint      NOT NULL DEFAULT 0,  -- jobs to be made in this pass
    fed           bigint      NOT NULL DEFAULT 0,  -- of these, decided
    fed_offset    bigint      NOT NULL DEFAULT 0,  -- in pass_object, bytes: behind the last line fed
    left_out      bigint      NOT NULL DEFAULT 0,  -- lines that a cancel or the expiry left unfed: canceled or expired like the batch
    feeder        text,        -- boot id of the replica that works on it
    feed_until    timestamptz, -- and until when nobody else may
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz, -- its first line was fed
    finished_at   timestamptz,
    expires_at    timestamptz NOT NULL, -- what is not finished by then is left out
    kept_until    timestamptz  -- end of retention; set with finished_at. Before created_at: its account deleted it
);

CREATE INDEX batches_account ON batches (account, id DESC);
CREATE UNIQUE INDEX batches_key ON batches (account, key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX batches_kept_until ON batches (kept_until) WHERE kept_until IS NOT NULL;
CREATE INDEX batches_input ON batches (input);
CREATE INDEX batches_work ON batches (id) WHERE state IN ('validating', 'running', 'paused', 'finalizing', 'canceling');

-- How the jobs of a batch ended; of those that were tried again, the last.
CREATE TABLE batch_ends (
    batch     text   PRIMARY KEY,
    succeeded bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    canceled  bigint NOT NULL DEFAULT 0,
    expired   bigint NOT NULL DEFAULT 0
);

-- Lines that no job was made of because the farm refused them for good.
CREATE TABLE batch_refusals (
    batch  text    NOT NULL,
    line   integer NOT NULL,
    pass   integer NOT NULL,
    code   text    NOT NULL,
    detail text    NOT NULL,
    PRIMARY KEY (batch, line, pass)
);

ALTER TABLE jobs
    ADD COLUMN batch text,
    ADD COLUMN line  integer,
    ADD COLUMN pass  integer;

CREATE INDEX jobs_batch ON jobs (batch, line, pass) WHERE batch IS NOT NULL;
CREATE INDEX jobs_batch_ends ON jobs (batch, finished_at, id) WHERE batch IS NOT NULL;
