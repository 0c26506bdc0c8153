-- +goose Up

-- How far the janitor's walk through the bucket has come: the next leader goes
-- on there.
CREATE TABLE janitor (
    shard integer     PRIMARY KEY,
    after text        NOT NULL, -- the last key it looked at; empty between two walks
    began timestamptz NOT NULL  -- the present walk, or the last one
);

INSERT INTO janitor (shard, after, began) VALUES (0, '', 'epoch');
