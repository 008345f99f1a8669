-- +goose Up

-- What proves that every event is counted once. Checksums are sums of a 32-bit
-- hash of each event's identity, modulo 2^32: the same for every order, and
-- another one if an event is lost and another counted twice in its place.

-- Control totals: what the rows of an aggregation must add up to, per shard and
-- quarter of an hour of event time. The flush that writes the rows adds to them,
-- from the events themselves and not from what was folded of them.
CREATE TABLE weir.control (
    aggregation text COLLATE "C" NOT NULL, -- its id: Calls, Calls@2
    shard_id    text COLLATE "C" NOT NULL REFERENCES weir.shard (shard_id) ON UPDATE CASCADE,
    period      timestamptz NOT NULL,      -- start of the quarter of an hour, in UTC
    events      bigint NOT NULL CHECK (events >= 0),
    checksum    bigint NOT NULL CHECK (checksum BETWEEN 0 AND 4294967295),
    changed_at  timestamptz NOT NULL DEFAULT now(), -- by the last flush that added to it
    PRIMARY KEY (aggregation, period, shard_id)
) WITH (fillfactor = 50);

-- Up to which bucket the rows of a level may have been purged: below it, they
-- add up to no control totals any more.
CREATE TABLE weir.purged (
    aggregation text COLLATE "C" NOT NULL,
    level       text COLLATE "C" NOT NULL,
    before      timestamptz NOT NULL,
    PRIMARY KEY (aggregation, level)
);

-- What each publisher epoch has said of itself in its newest heartbeat: the one
-- of the greatest number, whatever stream it came through.
CREATE TABLE weir.source (
    source      text COLLATE "C" NOT NULL,
    epoch       text COLLATE "C" NOT NULL,
    next        bigint NOT NULL,   -- the number that it gives next
    acked       bigint NOT NULL,   -- all numbers up to this one were acknowledged by the stream
    dropped     bigint NOT NULL DEFAULT 0, -- events that it gave up
    closed      boolean NOT NULL DEFAULT false, -- it ended in good order; there will be no more
    number      bigint NOT NULL DEFAULT 0, -- of the heartbeat, from 1
    incarnation text COLLATE "C" NOT NULL, -- the stream that has the heartbeat,
    sequence    bigint NOT NULL,           -- and where: all it speaks of was stored before
    told_at     timestamptz NOT NULL,      -- when the stream stored it
    PRIMARY KEY (source, epoch)
);

-- Messages that the stream holds and the ledger lacks, though they were
-- acknowledged: found by the auditor, folded by workers.
CREATE TABLE weir.repair (
    incarnation text COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,
    found_at    timestamptz NOT NULL DEFAULT now(),
    taken_at    timestamptz, -- by a worker, which has some time to do it
    done_at     timestamptz,
    -- folded, or made dead letters; was folded, when a worker came to it; gone from the stream.
    outcome     text CHECK (outcome IN ('folded', 'was folded', 'gone')),
    PRIMARY KEY (incarnation, sequence)
);
CREATE INDEX repair_open ON weir.repair (found_at) WHERE done_at IS NULL;
