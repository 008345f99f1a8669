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
CREATE INDEX control_changed ON weir.control (aggregation, changed_at); -- what the auditor has not seen yet

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

-- How far the auditor has verified the stream: every message up to the sequence
-- is in the ledger, or a hole below.
CREATE TABLE weir.audit_stream (
    incarnation text COLLATE "C" PRIMARY KEY,
    opened_at   timestamptz NOT NULL DEFAULT now(),
    began       bigint NOT NULL,            -- the first message that there was when the auditor first looked
    sequence    bigint NOT NULL,            -- began - 1: nothing yet
    stored      bigint NOT NULL DEFAULT 0,  -- when that message was stored, in microseconds since 1970 UTC; 0: not known
    highest     bigint NOT NULL DEFAULT 0,  -- the highest that was ever verified: it may have been read again from the start
    unverified  bigint NOT NULL DEFAULT 0   -- messages that the stream dropped before they were verified
);

-- Messages that were acknowledged and not in the ledger when the auditor came
-- by. Numbers are 0 where the message is foreign.
CREATE TABLE weir.audit_hole (
    incarnation  text COLLATE "C" NOT NULL,
    sequence     bigint NOT NULL,
    stored       bigint NOT NULL,
    source       text COLLATE "C" NOT NULL DEFAULT '',
    epoch        text COLLATE "C" NOT NULL DEFAULT '',
    first_number bigint NOT NULL DEFAULT 0,
    last_number  bigint NOT NULL DEFAULT 0,
    found_at     timestamptz NOT NULL DEFAULT now(),
    repaired_at  timestamptz, -- the ledger has it now
    PRIMARY KEY (incarnation, sequence, stored)
);

-- Up to which number the ledger has all of a publisher epoch, without a gap.
CREATE TABLE weir.audit_source (
    source  text COLLATE "C" NOT NULL,
    epoch   text COLLATE "C" NOT NULL,
    checked bigint NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT now(), -- when it was looked at last
    PRIMARY KEY (source, epoch)
);

-- How far the rows of a level have been added up. What has changed is added up in
-- rounds, piece by piece, from the oldest bucket on.
CREATE TABLE weir.audit_aggregation (
    aggregation text COLLATE "C" NOT NULL,
    level       text COLLATE "C" NOT NULL,
    changed_at  timestamptz NOT NULL, -- what was changed before is verified
    round_at    timestamptz,          -- when the round that is under way began
    done_to     timestamptz NOT NULL, -- up to where it has come
    rotated_to  timestamptz NOT NULL, -- the old periods before have been added up again in this turn
    PRIMARY KEY (aggregation, level)
);

-- What does not add up, or did not. One row per thing that is wrong.
CREATE TABLE weir.audit_finding (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,
    lost        bigint NOT NULL DEFAULT 0, -- events, or messages where nobody knows how many events they had
    duplicated  bigint NOT NULL DEFAULT 0,
    detail      text NOT NULL,
    aggregation text COLLATE "C",          -- of findings in aggregates: in which level and which part of it
    level       text COLLATE "C",
    begins      timestamptz,
    ends        timestamptz,
    found_at    timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz,               -- it was not so any more
    accepted_at timestamptz,               -- somebody knows of it, and nothing can be done
    UNIQUE (kind, subject)
);

-- The last pass, for everybody who wants to know how things stand.
CREATE TABLE weir.audit_pass (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    at     timestamptz NOT NULL,
    passes bigint NOT NULL DEFAULT 1,
    through       timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00', -- what the stream had stored by then is verified
    drill_at      timestamptz,
    drill_problem text NOT NULL DEFAULT ''
);

-- What was verified, hour by hour. Each certificate holds the hash of the one
-- before, so that none can be changed, or taken out, unnoticed.
CREATE TABLE weir.audit_certificate (
    number bigint PRIMARY KEY,
    hour   timestamptz NOT NULL UNIQUE,
    body   text NOT NULL, -- JSON, the bytes that were hashed
    hash   text NOT NULL  -- SHA-256 of the body, hexadecimal
);

-- +goose StatementBegin
CREATE FUNCTION weir.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'certificates are never changed or deleted';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER only_appended BEFORE UPDATE OR DELETE OR TRUNCATE ON weir.audit_certificate
    FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change();
