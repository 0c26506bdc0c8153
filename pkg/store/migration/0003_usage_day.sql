-- +goose Up

-- The charges of a month by the day they happened on (UTC), summed up with the
-- month: what an account used is read without walking through its charges.
CREATE TABLE usage_day (
    account text   NOT NULL,
    period  date   NOT NULL,
    day     date   NOT NULL,
    units   bigint NOT NULL,
    renders bigint NOT NULL,
    PRIMARY KEY (account, period, day)
);

INSERT INTO usage_day (account, period, day, units, renders)
SELECT account, period, (happened AT TIME ZONE 'UTC')::date, sum(units), count(*) FILTER (WHERE reason = 'render')
FROM usage_events
GROUP BY 1, 2, 3;
