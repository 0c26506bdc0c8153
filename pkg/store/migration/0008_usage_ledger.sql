-- +goose Up

-- The ledger of charges in the order in which it is read: of one account's
-- period, and of all accounts for a period.
CREATE INDEX usage_events_ledger ON usage_events (period, account, happened, id);

DROP INDEX usage_events_account;

CREATE INDEX usage_month_period ON usage_month (period, account);
