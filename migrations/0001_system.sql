-- +goose Up

-- weir: Weir's own tables, and what people may query.
-- weir_data: the rows of aggregations, packed; made by `weir apply`.
CREATE SCHEMA weir;
CREATE SCHEMA weir_data;

-- One row per shard: who writes it, and its control totals. Every flush
-- updates it first, under the owner's epoch: a worker that lost its shard
-- finds no row and stops (fencing).
CREATE TABLE weir.shard (
    shard_id     text COLLATE "C" PRIMARY KEY CHECK (length(shard_id) BETWEEN 1 AND 20),
    number       integer NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    owner        text NOT NULL,
    aggregations text[] COLLATE "C" NOT NULL DEFAULT '{}', -- that the holder of the epoch folds into
    epoch        bigint NOT NULL DEFAULT 1,
    last_batch   bigint NOT NULL DEFAULT 0,
    messages     bigint NOT NULL DEFAULT 0 CHECK (messages >= 0),
    events       bigint NOT NULL DEFAULT 0 CHECK (events >= 0),
    dead_letters bigint NOT NULL DEFAULT 0 CHECK (dead_letters >= 0),
    claims       bigint NOT NULL DEFAULT 0 CHECK (claims >= 0), -- identities that its flushes put into the ledger
    other_events bigint NOT NULL DEFAULT 0 CHECK (other_events >= 0), -- that lost the name of their group to __other__, for each aggregation anew
    created_at   timestamptz NOT NULL DEFAULT now(),
    flushed_at   timestamptz,
    retired_at   timestamptz, -- nobody may write it any more
    -- Rows of other shards that were moved here have the batch numbers
    -- -1 … -moved_in: below every watermark, so nothing lacks them.
    moved_in     bigint NOT NULL DEFAULT 0 CHECK (moved_in >= 0),
    moved_to     text COLLATE "C" -- where all its rows are now; only its empty tables are left
) WITH (fillfactor = 50);

-- The lowest version of the protocol between workers and this database whose
-- workers may write. One row. A release whose tables older workers would spoil
-- raises it in its migration, by weir.require_protocol.
CREATE TABLE weir.protocol (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    min_version integer NOT NULL CHECK (min_version >= 1)
);
INSERT INTO weir.protocol (min_version) VALUES (1);

-- require_protocol refuses every flush and every lease of workers that speak
-- less. It waits for the flushes that are open, and holds up those that come
-- until it is committed: they look at the version after they have the lock that
-- this one takes. So what its transaction does besides, no older worker spoils.
-- +goose StatementBegin
CREATE FUNCTION weir.require_protocol(version integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    LOCK TABLE weir.shard IN SHARE ROW EXCLUSIVE MODE;
    UPDATE weir.protocol SET min_version = version WHERE min_version < version;
END
$$;
-- +goose StatementEnd

-- The ledger: which numbers of a publisher epoch are folded. A page holds
-- 4,096 numbers, the first of page p being p * 4096 + 1, one bit each. The
-- scope '' is the fold itself; an aggregation that is being backfilled has a
-- scope of its name, with what of the former is in that aggregation.
CREATE TABLE weir.ledger_page (
    scope  text COLLATE "C" NOT NULL DEFAULT '',
    source text COLLATE "C" NOT NULL,
    epoch  text COLLATE "C" NOT NULL,
    page   bigint NOT NULL CHECK (page >= 0),
    bits   bit(4096) NOT NULL,
    PRIMARY KEY (scope, source, epoch, page)
) WITH (fillfactor = 50);

-- Full pages, compacted to runs.
CREATE TABLE weir.ledger_full (
    scope      text COLLATE "C" NOT NULL DEFAULT '',
    source     text COLLATE "C" NOT NULL,
    epoch      text COLLATE "C" NOT NULL,
    first_page bigint NOT NULL,
    last_page  bigint NOT NULL CHECK (last_page >= first_page),
    PRIMARY KEY (scope, source, epoch, first_page)
);

-- Messages without an identity of their own: known by where and when the
-- stream stored them. The time is part of the key, so that a sequence number
-- that is used again, after a lost tail, is another message.
CREATE TABLE weir.ledger_foreign (
    scope       text COLLATE "C" NOT NULL DEFAULT '',
    incarnation text COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,
    stored      bigint NOT NULL, -- microseconds since 1970 UTC
    PRIMARY KEY (scope, incarnation, sequence, stored)
);

-- What the coarser levels have: everything of the shard up to the batch. A
-- reader takes the rest from the next finer level. No row: nothing yet.
CREATE TABLE weir.watermark (
    shard_id    text COLLATE "C" NOT NULL REFERENCES weir.shard (shard_id) ON UPDATE CASCADE,
    aggregation text COLLATE "C" NOT NULL,
    level       text COLLATE "C" NOT NULL,
    batch_no    bigint NOT NULL,
    PRIMARY KEY (aggregation, level, shard_id)
) WITH (fillfactor = 50);

-- Up to which batch the rows of a level are compacted to one per bucket and
-- group key. No row: nothing yet.
CREATE TABLE weir.compacted (
    shard_id     text COLLATE "C" NOT NULL REFERENCES weir.shard (shard_id) ON UPDATE CASCADE ON DELETE CASCADE,
    aggregation  text COLLATE "C" NOT NULL,
    level        text COLLATE "C" NOT NULL,
    batch_no     bigint NOT NULL,
    compacted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (aggregation, level, shard_id)
) WITH (fillfactor = 50);

-- What could not be folded, with the reason, and all that is needed to fold it
-- after all. Rows stay, whatever becomes of them, so that they add up to the
-- dead letters of weir.shard.
CREATE TABLE weir.dead_letter (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason       text NOT NULL,
    source       text NOT NULL,
    subject      text NOT NULL,
    msg_id       text NOT NULL,
    -- How to read the payload of a whole message.
    content_type     text NOT NULL DEFAULT '',
    content_encoding text NOT NULL DEFAULT '',
    incarnation  text COLLATE "C" NOT NULL DEFAULT '', -- the stream that took the message,
    sequence     bigint NOT NULL,                      -- and where
    event_offset integer NOT NULL CHECK (event_offset >= -1), -- -1: the whole message,
    events       integer[], -- or of it the events at these offsets; NULL: all. The others were folded with another message
    stored_at    timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    shard_id     text COLLATE "C" NOT NULL,
    aggregation  text COLLATE "C" NOT NULL DEFAULT '', -- the only one that lacks it, by a backfill; '': all lack it
    payload      bytea NOT NULL,          -- its beginning, where it is very large
    payload_size bigint NOT NULL,
    -- open; replay, to be folded by the next worker that comes by; folded; dropped by somebody.
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replay', 'folded', 'dropped')),
    settled_at   timestamptz, -- when it was folded or dropped
    taken_at     timestamptz, -- by a worker that replays it, which has some time to do it
    replays      integer NOT NULL DEFAULT 0, -- how often one was begun
    split_from   bigint, -- the letter of a whole message that was folded but for this event
    folded_into  text[] COLLATE "C" NOT NULL DEFAULT '{}' -- aggregations, by id
);
CREATE INDEX dead_letter_replay ON weir.dead_letter (id) WHERE state = 'replay';
CREATE INDEX dead_letter_split ON weir.dead_letter (split_from) WHERE split_from IS NOT NULL;
CREATE INDEX dead_letter_sequence ON weir.dead_letter (sequence);

-- Every alert, and those that subscribers have not been told of yet.
CREATE TABLE weir.alert (
    id         text COLLATE "C" PRIMARY KEY,
    rule       text NOT NULL,
    rule_case  text NOT NULL,
    scope      text NOT NULL CHECK (scope IN ('local', 'global')),
    state      text NOT NULL CHECK (state IN ('firing', 'resolved')),
    key        jsonb NOT NULL,
    severity   integer NOT NULL CHECK (severity BETWEEN 1 AND 3),
    message    text NOT NULL,
    value      double precision NOT NULL,
    threshold  double precision NOT NULL,
    fired_at   timestamptz NOT NULL,
    shard_id   text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_newest ON weir.alert (fired_at DESC, id);
CREATE INDEX alert_rule ON weir.alert (rule, fired_at DESC);

CREATE TABLE weir.alert_outbox (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id text COLLATE "C" NOT NULL REFERENCES weir.alert (id)
);

-- The definitions that the tables in weir_data were made for. One name has
-- several versions where a change did not fit into the tables that were there.
CREATE TABLE weir.aggregation (
    name       text COLLATE "C" NOT NULL,
    version    integer NOT NULL CHECK (version >= 1),
    current    boolean NOT NULL, -- the one that is defined now, or was last
    definition jsonb NOT NULL,   -- columns, levels, zone, retention
    -- How it is named among all: Calls, and from the second version on Calls@2.
    id         text COLLATE "C" NOT NULL GENERATED ALWAYS AS (CASE version WHEN 1 THEN name ELSE name || '@' || version::text END) STORED UNIQUE,
    -- Whether events of before it was added are, or were, brought in from the stream.
    backfill   text NOT NULL DEFAULT '' CHECK (backfill IN ('', 'running', 'done')),
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, version)
);
CREATE UNIQUE INDEX aggregation_current ON weir.aggregation (name) WHERE current;

-- plain_statistics keeps ANALYZE from looking into the arrays of a table: it would
-- count the elements of thousands of them, which nothing ever asks for, and
-- keep the commonest.
-- +goose StatementBegin
CREATE FUNCTION weir.plain_statistics(part text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    arrays text;
BEGIN
    SELECT string_agg(format('ALTER %I SET STATISTICS 0', a.attname), ', ') INTO arrays
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = format('weir_data.%I', part)::regclass AND a.attnum > 0 AND t.typcategory = 'A';
    IF arrays IS NOT NULL THEN
        EXECUTE format('ALTER TABLE weir_data.%I %s', part, arrays);
    END IF;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION weir.plain_statistics(text) FROM PUBLIC;

-- add_partition gives one shard its part of one table: a partition of its
-- own, which for fine levels is itself partitioned by time, so that purging
-- can drop whole spans. It is made aside and then attached, because that lets
-- other shards go on writing. SECURITY DEFINER: workers may add shards without
-- owning the tables.
-- +goose StatementBegin
CREATE FUNCTION weir.add_partition(parent text, new_shard text, by_time boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    part text;
BEGIN
    SELECT parent || '_s' || number INTO STRICT part FROM weir.shard WHERE shard_id = new_shard;
    IF to_regclass(format('weir_data.%I', part)) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('weir.add_partition.' || part, 0));
    -- A table's lock lets this session learn what others have made meanwhile; an
    -- advisory lock does not, and the next look would find what the first found.
    EXECUTE format('LOCK TABLE ONLY weir_data.%I IN ACCESS SHARE MODE', parent);
    IF to_regclass(format('weir_data.%I', part)) IS NOT NULL THEN
        RETURN;
    END IF;
    IF by_time THEN
        EXECUTE format('CREATE TABLE weir_data.%I (LIKE weir_data.%I INCLUDING ALL) PARTITION BY RANGE (bucket)', part, parent);
        EXECUTE format('CREATE TABLE weir_data.%I PARTITION OF weir_data.%I DEFAULT', part || '_rest', part);
        PERFORM weir.plain_statistics(part || '_rest');
    ELSE
        EXECUTE format('CREATE TABLE weir_data.%I (LIKE weir_data.%I INCLUDING ALL)', part, parent);
        PERFORM weir.plain_statistics(part);
    END IF;
    EXECUTE format('ALTER TABLE weir_data.%I ATTACH PARTITION weir_data.%I FOR VALUES IN (%L)', parent, part, new_shard);
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION weir.add_partition(text, text, boolean) FROM PUBLIC;

-- add_span gives a shard's part of one table, where that is by time, a
-- partition for the span that holds an instant: so many hours, aligned to 1970
-- UTC, and named by the hours since then at its start. A span stays with the
-- default partition if that has rows of it already, if its name would be too
-- long, or if it overlaps another of another width. Attaching locks the default
-- partition, and so waits for who reads or writes it, but not for long: if
-- there is nothing to be had now, the next call tries again.
-- +goose StatementBegin
CREATE FUNCTION weir.add_span(parent text, of_shard text, hours integer, at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '300ms' AS $$
DECLARE
    first  bigint := floor(extract(epoch FROM at) / 3600 / hours) * hours;
    lowest timestamptz := to_timestamp(first * 3600);
    beyond timestamptz := to_timestamp((first + hours) * 3600);
    part   text;
    span   text;
    taken  boolean;
BEGIN
    SELECT parent || '_s' || number INTO STRICT part FROM weir.shard WHERE shard_id = of_shard;
    span := part || '_' || first;
    IF octet_length(span) > 63 OR to_regclass(format('weir_data.%I', span)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM weir_data.%I WHERE bucket >= $1 AND bucket < $2)', part || '_rest') INTO taken USING lowest, beyond;
    IF taken THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE weir_data.%I (LIKE weir_data.%I INCLUDING ALL)', span, part);
    PERFORM weir.plain_statistics(span);
    EXECUTE format('ALTER TABLE weir_data.%I ATTACH PARTITION weir_data.%I FOR VALUES FROM (%L) TO (%L)', part, span, lowest, beyond);
EXCEPTION
    WHEN lock_not_available OR check_violation OR invalid_object_definition THEN
        RETURN; -- and the table made aside is gone
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION weir.add_span(text, text, integer, timestamptz) FROM PUBLIC;

-- drop_span drops such a partition, unless it has rows past a batch, or cannot
-- be had soon. It locks the shard's part first, as everybody does who reads or
-- writes it, so that there is nothing to deadlock with, and nobody writes
-- between the look and the drop.
-- +goose StatementBegin
CREATE FUNCTION weir.drop_span(parent text, of_shard text, start timestamptz, through bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '300ms' AS $$
DECLARE
    part text;
    span text;
    kept boolean;
BEGIN
    SELECT parent || '_s' || number INTO STRICT part FROM weir.shard WHERE shard_id = of_shard;
    span := part || '_' || floor(extract(epoch FROM start) / 3600)::bigint;
    EXECUTE format('LOCK TABLE ONLY weir_data.%I IN ACCESS EXCLUSIVE MODE', part);
    EXECUTE format('SELECT EXISTS (SELECT FROM weir_data.%I WHERE batch_no > $1)', span) INTO kept USING through;
    IF NOT kept THEN
        EXECUTE format('DROP TABLE weir_data.%I', span);
    END IF;
    RETURN NOT kept;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN false;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION weir.drop_span(text, text, timestamptz, bigint) FROM PUBLIC;
