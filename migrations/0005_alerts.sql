-- +goose Up

-- What alerts tell beside their key, and the life of those that are decided
-- over all shards: one row when it fires, one when it is resolved, which also
-- writes resolved_at into the first.
ALTER TABLE weir.alert
    ADD COLUMN firing_id   text COLLATE "C" NOT NULL DEFAULT '', -- of a resolved one: the row that fired
    ADD COLUMN details     jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN labels      jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN stakeholder jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN reason      text NOT NULL DEFAULT '';
CREATE INDEX alert_open ON weir.alert (rule, rule_case) WHERE scope = 'global' AND state = 'firing' AND resolved_at IS NULL;
