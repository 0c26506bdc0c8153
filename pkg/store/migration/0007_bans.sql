-- +goose Up

-- Whom the abuse ladder, or an admin, keeps out. A row stays for seven days
-- after it has ended: blocks of that time are counted.
CREATE TABLE bans (
    subject text          PRIMARY KEY,
    step    text          NOT NULL CHECK (step IN ('blocked', 'banned')),
    since   timestamptz   NOT NULL,
    until   timestamptz,  -- null: until it is lifted
    reason  text          NOT NULL,
    actor   text          NOT NULL,
    blocks  timestamptz[] NOT NULL DEFAULT '{}', -- when the ladder has blocked it
    CHECK ((step = 'blocked') = (until IS NOT NULL))
);

-- What was done to whom. Ids are in order of time.
CREATE TABLE audit (
    id      text        PRIMARY KEY,
    at      timestamptz NOT NULL,
    actor   text        NOT NULL,
    action  text        NOT NULL,
    subject text        NOT NULL,
    detail  json        NOT NULL
);

CREATE INDEX audit_subject ON audit (subject, id DESC);
