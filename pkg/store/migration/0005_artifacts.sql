-- +goose Up

-- What answers identical requests: an account's last fresh result of each
-- picture. The result itself stands in the row of its job; the day is that of
-- the job's id.
CREATE TABLE artifacts (
    account     text        NOT NULL,
    cache_key   bytea       NOT NULL CHECK (octet_length(cache_key) = 32),
    job         text        NOT NULL,
    day         date        NOT NULL,
    object      text        NOT NULL,
    made_at     timestamptz NOT NULL,
    fresh_until timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL, -- of the job's retention: the object is there until then
    PRIMARY KEY (account, cache_key)
);

CREATE INDEX artifacts_job ON artifacts (job);
CREATE INDEX artifacts_fresh_until ON artifacts (fresh_until);
