-- +goose Up

-- The secrets among the fields for all lines, sealed; null: there are none.
ALTER TABLE batches ADD COLUMN sealed bytea;
