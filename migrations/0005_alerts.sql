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

-- What the rules that are decided over all shards need of each batch (ADR 24): written
-- by the flush, read by the evaluator that holds the partition, and deleted when that has
-- saved what it remembers.
CREATE TABLE weir.alert_batch (
    shard         bigint NOT NULL,     -- its number, in weir.shard
    batch         bigint NOT NULL,
    incarnation   text COLLATE "C" NOT NULL, -- of the stream that the messages come from,
    last_sequence bigint NOT NULL,     -- the highest that one has,
    stored        bigint NOT NULL,     -- and when the stream took it; microseconds since 1970
    newest        bigint NOT NULL,     -- time of the newest event, at most stored
    written_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, batch)
);
CREATE TABLE weir.alert_evidence (
    part  smallint NOT NULL,
    shard bigint NOT NULL,
    batch bigint NOT NULL,
    body  bytea NOT NULL,
    PRIMARY KEY (part, shard, batch)
);
ALTER TABLE weir.alert_evidence ALTER COLUMN body SET COMPRESSION lz4;

-- The partitions of the keys. Whoever has one holds an advisory lock; the epoch fences.
CREATE TABLE weir.alert_partition (
    part     smallint PRIMARY KEY,
    owner    text NOT NULL DEFAULT '',
    epoch    bigint NOT NULL DEFAULT 0,
    clock    bigint NOT NULL DEFAULT 0, -- event time up to which was heard of everything, microseconds since 1970
    lag      bigint NOT NULL DEFAULT 0, -- by how much event times were behind the stream's
    saved_at timestamptz
);
INSERT INTO weir.alert_partition (part) SELECT generate_series(0, 7);

-- Up to which batch of each shard a partition's evidence is part of what is remembered,
CREATE TABLE weir.alert_cursor (
    part  smallint NOT NULL,
    shard bigint NOT NULL,
    batch bigint NOT NULL,
    PRIMARY KEY (part, shard)
);
-- and what that is, by key.
CREATE TABLE weir.alert_memory (
    part      smallint NOT NULL,
    id        bytea NOT NULL, -- hash of the next three
    rule      text NOT NULL,
    rule_case text NOT NULL,
    key       text[] NOT NULL,
    state     bytea NOT NULL,
    PRIMARY KEY (part, id)
);
ALTER TABLE weir.alert_memory ALTER COLUMN state SET COMPRESSION lz4;

-- When the last alert of a key was raised over all shards, whoever decided it.
CREATE TABLE weir.alert_suppression (
    id       bytea PRIMARY KEY, -- hash of rule, case and what alerts of it are told apart by
    fired_at timestamptz NOT NULL,
    alert_id text COLLATE "C" NOT NULL
);
