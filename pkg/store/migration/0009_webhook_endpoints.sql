-- +goose Up

-- Whom an account wants told of what. Secrets are sealed with the
-- installation's key (pkg/seal).
CREATE TABLE webhook_endpoints (
    id                text        PRIMARY KEY,
    account           text        NOT NULL,
    url               text        NOT NULL,
    description       text        NOT NULL DEFAULT '',
    events            text[]      NOT NULL,
    batch_line_events boolean     NOT NULL DEFAULT false, -- also of jobs that are lines of a batch
    secret            bytea       NOT NULL,
    old_secret        bytea,       -- signs too, until old_until
    old_until         timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    failing_since     timestamptz, -- of the first failure since the last success
    disabled_at       timestamptz, -- nothing is made for it or sent to it
    disabled_reason   text         -- by_owner, gone, failing; set with disabled_at
);

CREATE INDEX webhook_endpoints_account ON webhook_endpoints (account, id);

-- What signs deliveries to a job's own webhook_url.
CREATE TABLE webhook_secrets (
    account    text        PRIMARY KEY,
    secret     bytea       NOT NULL,
    old_secret bytea,
    old_until  timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- By what a start knows whether its secret key is the one that secrets are
-- sealed with: there is one row, sealed by the first start.
CREATE TABLE secret_check (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    sealed     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- signing_secret, sealed. The plain one of older keys is sealed and taken out
-- by the next start that has the key.
ALTER TABLE api_keys ADD COLUMN signing_sealed bytea;
