-- +goose Up

-- What signs links in the name of a key. It has to be kept itself: both sides
-- compute the signature. Keys from before have none and sign nothing.
ALTER TABLE api_keys ADD COLUMN signing_secret text;
