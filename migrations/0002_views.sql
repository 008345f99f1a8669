-- +goose Up

-- weir_view: what people may query. A view per aggregation and level, made by
-- `weir apply`, and the functions that they need. A reader is given USAGE of
-- this schema and SELECT on views in it, and nothing else: the views read the
-- tables with the rights of their owner.
CREATE SCHEMA weir_view;
COMMENT ON SCHEMA weir_view IS 'Weir''s answers as views: one per aggregation and level, merged over shards and batches, as of the last commit.';

-- The views as they were made, to know which have to be made anew.
CREATE TABLE weir.view (
    name text COLLATE "C" PRIMARY KEY,
    hash text NOT NULL -- of the statements that made it
);

-- replace_view makes a view, or makes it anew. Where its columns moved, so that
-- it has to be dropped for that, the rights on it are kept.
-- +goose StatementBegin
CREATE FUNCTION weir.replace_view(view_name text, definition text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made  text := format('VIEW weir_view.%I AS ', view_name) || definition;
    kept  aclitem[];
    grant_ record;
BEGIN
    BEGIN
        EXECUTE 'CREATE OR REPLACE ' || made;
    EXCEPTION WHEN invalid_table_definition THEN
        SELECT relacl INTO kept FROM pg_class WHERE oid = format('weir_view.%I', view_name)::regclass;
        EXECUTE format('DROP VIEW weir_view.%I', view_name);
        EXECUTE 'CREATE ' || made;
        FOR grant_ IN
            SELECT privilege_type, is_grantable, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role_
            FROM aclexplode(kept) WHERE grantee <> grantor
        LOOP
            EXECUTE format('GRANT %s ON weir_view.%I TO %s', grant_.privilege_type, view_name, grant_.role_)
                || CASE WHEN grant_.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END;
        END LOOP;
    END;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION weir.replace_view(text, text) FROM PUBLIC;

-- texts returns one text per group of a packed row's column, which has each
-- different text once and before them, as its first element, which group has
-- which: "" for each its own; "A", "B" … the same as that text key, the first
-- elements of which follow; else the number of each group's text.
-- +goose StatementBegin
CREATE FUNCTION weir_view.numbered(packed text[], keys text[]) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    -- A character for so many digits of each number, and the digits, of 6 bits.
    of bytea := convert_to(CASE octet_length(packed[1]) WHEN 1 THEN keys[ascii(packed[1]) - 64] ELSE packed[1] END, 'UTF8');
    n  integer := octet_length(of) - 1;
BEGIN
    CASE get_byte(of, 0) - 48
        WHEN 1 THEN
            RETURN ARRAY(SELECT packed[2 + (get_byte(of, i) & 63)] FROM generate_series(1, n) AS i);
        WHEN 2 THEN
            RETURN ARRAY(SELECT packed[2 + (((get_byte(of, i) & 63) << 6) | (get_byte(of, i + 1) & 63))] FROM generate_series(1, n, 2) AS i);
        WHEN 3 THEN
            RETURN ARRAY(SELECT packed[2 + (((get_byte(of, i) & 63) << 12) | ((get_byte(of, i + 1) & 63) << 6) | (get_byte(of, i + 2) & 63))] FROM generate_series(1, n, 3) AS i);
    END CASE;
END
$$;
-- +goose StatementEnd
CREATE FUNCTION weir_view.texts(packed text[], VARIADIC keys text[] DEFAULT '{}') RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN packed[1] = '' THEN packed[2:] ELSE weir_view.numbered(packed, keys) END;
COMMENT ON FUNCTION weir_view.texts(text[], text[]) IS
    'One text per group of a column of texts in weir_data, of the finest level; of a measure, the first elements of the text keys follow.';

-- numbers is the same of a column of numbers that lie close together. There are
-- two elements more: to the first is added how often each has the second.
-- +goose StatementBegin
CREATE FUNCTION weir_view.offsets(packed text[]) RETURNS bigint[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    of    bytea := convert_to(packed[1], 'UTF8');
    n     integer := octet_length(of) - 1;
    base  bigint := packed[2];
    step  bigint := packed[3];
BEGIN
    CASE get_byte(of, 0) - 48
        WHEN 1 THEN
            RETURN ARRAY(SELECT base + step * (get_byte(of, i) & 63) FROM generate_series(1, n) AS i);
        WHEN 2 THEN
            RETURN ARRAY(SELECT base + step * (((get_byte(of, i) & 63) << 6) | (get_byte(of, i + 1) & 63)) FROM generate_series(1, n, 2) AS i);
        WHEN 3 THEN
            RETURN ARRAY(SELECT base + step * (((get_byte(of, i) & 63) << 12) | ((get_byte(of, i + 1) & 63) << 6) | (get_byte(of, i + 2) & 63)) FROM generate_series(1, n, 3) AS i);
        WHEN 4 THEN
            RETURN ARRAY(SELECT base + step * (((get_byte(of, i) & 63) << 18) | ((get_byte(of, i + 1) & 63) << 12) | ((get_byte(of, i + 2) & 63) << 6) | (get_byte(of, i + 3) & 63)) FROM generate_series(1, n, 4) AS i);
    END CASE;
END
$$;
-- +goose StatementEnd
CREATE FUNCTION weir_view.numbers(packed text[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN packed[1] = '' THEN packed[2:]::bigint[] ELSE weir_view.offsets(packed) END;
COMMENT ON FUNCTION weir_view.numbers(text[]) IS 'One number per group of weir_first_time, weir_last_time and the like in weir_data, where rows are packed.';

-- zone_offset is how many seconds the clocks of a zone are ahead of UTC. Not
-- STRICT, here as elsewhere, so that Postgres can put it into the caller.
CREATE FUNCTION weir_view.zone_offset(at bigint, zone text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_part('epoch', to_timestamp(at) AT TIME ZONE zone)::bigint - at;
COMMENT ON FUNCTION weir_view.zone_offset(bigint, text) IS 'Seconds that clocks in the zone are ahead of UTC, so many seconds after 1970 UTC.';

-- zone_change returns the first instant after one, and not after another, at
-- which the zone's offset becomes another; NULL without. No zone has ever changed
-- it twice within three days, or by a rule will.
-- +goose StatementBegin
CREATE FUNCTION weir_view.zone_change(after bigint, until bigint, zone text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    was  bigint := weir_view.zone_offset(after, zone);
    low  bigint := after;
    high bigint := least(after + 259200, until);
    mid  bigint;
BEGIN
    WHILE weir_view.zone_offset(high, zone) = was LOOP
        IF high >= until THEN
            RETURN NULL;
        END IF;
        low := high;
        high := least(low + 259200, until);
    END LOOP;
    WHILE high - low > 1 LOOP
        mid := (low + high) / 2;
        IF weir_view.zone_offset(mid, zone) = was THEN
            low := mid;
        ELSE
            high := mid;
        END IF;
    END LOOP;
    RETURN high;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.zone_change(bigint, bigint, text) IS 'First change of the zone''s offset after one instant and not after another, in seconds since 1970 UTC; NULL without.';

-- bucket_start returns the start of the bucket that holds an instant, as
-- Granularity.Truncate does.
-- +goose StatementBegin
CREATE FUNCTION weir_view.bucket_start(at timestamptz, unit text, n integer, zone text) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    kind   text := rtrim(lower(unit), 's');
    number bigint := n;
    place  text := CASE zone
        -- Postgres takes these for abbreviations of times without summer time. They
        -- are zones, which have it, and other names of these places.
        WHEN 'CET' THEN 'Europe/Brussels' WHEN 'MET' THEN 'Europe/Brussels'
        WHEN 'EET' THEN 'Europe/Athens' WHEN 'WET' THEN 'Europe/Lisbon' ELSE zone END;
    t      bigint := floor(extract(epoch FROM at));
    width  bigint;    -- in seconds, of buckets below a day
    ahead  bigint;    -- of UTC, at t
    start  bigint;
    change bigint;
    shown  bigint;    -- by clocks, in seconds since they showed the start of 1970
    wall   timestamp; -- the same
    day    integer;
    month  integer;
BEGIN
    IF n < 1 THEN
        RAISE EXCEPTION 'a bucket of % % has no width', n, unit USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF kind = 'quarter' THEN
        kind := 'month';
        number := 3 * number;
    END IF;
    width := number * CASE kind WHEN 'second' THEN 1 WHEN 'minute' THEN 60 WHEN 'hour' THEN 3600 END;
    IF width % 86400 = 0 THEN
        kind := 'day';
        number := width / 86400;
        width := NULL;
    END IF;
    ahead := weir_view.zone_offset(t, place);
    IF width <= 3600 OR width % 3600 <> 0 OR 86400 % width <> 0 THEN
        -- Counted by the offset; a bucket ends where that changes.
        start := t - ((t + ahead) % width + width) % width;
        LOOP
            change := weir_view.zone_change(start, t, place);
            EXIT WHEN change IS NULL;
            start := change;
        END LOOP;
        RETURN to_timestamp(start);
    END IF;
    -- By the latest that clocks have shown; none ever went back by more than a day.
    shown := t + ahead;
    start := t - 86400;
    LOOP
        change := weir_view.zone_change(start, t, place);
        EXIT WHEN change IS NULL;
        shown := greatest(shown, change - 1 + weir_view.zone_offset(change - 1, place));
        start := change;
    END LOOP;
    wall := to_timestamp(shown) AT TIME ZONE 'UTC';
    IF width IS NOT NULL THEN
        shown := shown - (shown % width + width) % width;
    ELSE
        day := wall::date - DATE '1970-01-01';
        month := extract(year FROM wall)::integer * 12 + extract(month FROM wall)::integer - 1;
        CASE kind
            WHEN 'day' THEN
                wall := wall::date - ((day % number + number) % number)::integer;
            WHEN 'week' THEN -- 1970-01-01 was a Thursday
                wall := wall::date - (((day + 3) % (7 * number) + 7 * number) % (7 * number))::integer;
            WHEN 'month' THEN
                month := month - month % number::integer;
                wall := make_timestamp(month / 12, month % 12 + 1, 1, 0, 0, 0);
            WHEN 'year' THEN
                month := month / 12;
                wall := make_timestamp((month - month % number)::integer, 1, 1, 0, 0, 0);
            ELSE
                RAISE EXCEPTION '"%" is no unit of buckets: use seconds, minutes, hours, days, weeks, months, quarters or years', unit
                    USING ERRCODE = 'invalid_parameter_value';
        END CASE;
        shown := date_part('epoch', wall);
    END IF;
    -- The first instant at which clocks show that or something later.
    start := shown - 129600;
    LOOP
        t := greatest(start, shown - weir_view.zone_offset(start, place));
        change := weir_view.zone_change(start, t, place);
        EXIT WHEN change IS NULL;
        start := change;
    END LOOP;
    RETURN to_timestamp(t);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.bucket_start(timestamptz, text, integer, text) IS
    'Start of the bucket of n units (seconds … years, weeks, quarters) that holds the instant, in an IANA time zone, exactly as Weir cuts buckets.';
