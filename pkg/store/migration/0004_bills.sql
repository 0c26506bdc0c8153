-- +goose Up

-- What is given back is a charge of its own, below zero. Calls are charged
-- many at a time.
ALTER TABLE usage_events DROP CONSTRAINT usage_events_units_check;
ALTER TABLE usage_events
    ADD CONSTRAINT usage_events_units_check CHECK (units <> 0),
    ADD COLUMN count bigint NOT NULL DEFAULT 1 CHECK (count > 0);

-- Jobs by how they ended, on the day they did, and the calls that were charged.
ALTER TABLE usage_day
    ADD COLUMN succeeded bigint NOT NULL DEFAULT 0, -- rendered for this job
    ADD COLUMN cached    bigint NOT NULL DEFAULT 0, -- answered by another one's artifact
    ADD COLUMN failed    bigint NOT NULL DEFAULT 0,
    ADD COLUMN canceled  bigint NOT NULL DEFAULT 0,
    ADD COLUMN expired   bigint NOT NULL DEFAULT 0,
    ADD COLUMN calls     bigint NOT NULL DEFAULT 0;

INSERT INTO usage_day (account, period, day, units, renders, succeeded, cached, failed, canceled, expired)
SELECT account, date_trunc('month', accepted_at AT TIME ZONE 'UTC')::date, (finished_at AT TIME ZONE 'UTC')::date, 0, 0,
    count(*) FILTER (WHERE state = 'succeeded' AND NOT cached), count(*) FILTER (WHERE state = 'succeeded' AND cached),
    count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'canceled'), count(*) FILTER (WHERE state = 'expired')
FROM jobs
GROUP BY 1, 2, 3
ON CONFLICT (account, period, day) DO UPDATE
SET succeeded = EXCLUDED.succeeded, cached = EXCLUDED.cached, failed = EXCLUDED.failed,
    canceled = EXCLUDED.canceled, expired = EXCLUDED.expired;

-- How much of its quota an account had used, once for each step of a period:
-- for it to be told.
CREATE TABLE quota_events (
    account   text        NOT NULL,
    period    date        NOT NULL,
    percent   integer     NOT NULL CHECK (percent > 0),
    used      bigint      NOT NULL,
    "limit"   bigint      NOT NULL,
    resets_at timestamptz NOT NULL,
    happened  timestamptz NOT NULL,
    PRIMARY KEY (account, period, percent)
);

-- The day on which an account's periods begin, where its plan bills by it.
-- Last of all: nobody is let in while this table is locked, and to go through all
-- jobs takes a while.
ALTER TABLE accounts
    ADD COLUMN billing_day integer NOT NULL DEFAULT extract(day FROM now() AT TIME ZONE 'UTC')::integer
        CHECK (billing_day BETWEEN 1 AND 31);

UPDATE accounts SET billing_day = extract(day FROM created_at AT TIME ZONE 'UTC')::integer;
