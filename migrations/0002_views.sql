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

-- zone_offset is how many seconds the clocks of a zone are ahead of UTC. Not
-- STRICT, here as elsewhere, so that Postgres can put it into the caller.
CREATE FUNCTION weir_view.zone_offset(at bigint, zone text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN date_part('epoch', to_timestamp(at) AT TIME ZONE zone)::bigint - at;
COMMENT ON FUNCTION weir_view.zone_offset(bigint, text) IS 'Seconds that clocks in the zone are ahead of UTC, so many seconds after 1970 UTC.';

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
    shift  bigint := 0;
    wall   timestamp; -- what clocks in the zone show when the bucket starts
    day    integer;
    month  integer;
    shown  bigint;    -- wall, in seconds since what they showed at the start of 1970
    before bigint;
    after  bigint;
    low    bigint;
    high   bigint;
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
    wall := to_timestamp(t + weir_view.zone_offset(t, place)) AT TIME ZONE 'UTC';
    IF width > 3600 AND width % 3600 = 0 AND 86400 % width = 0 THEN
        wall := date_trunc('day', wall) + make_interval(hours => (extract(hour FROM wall)::bigint / (width / 3600) * (width / 3600))::integer);
    ELSIF width IS NOT NULL THEN
        -- Minutes and seconds are the same everywhere, and what does not divide
        -- the day counts from 1970 UTC. Up to an hour the offset at the instant
        -- counts: both hours of an autumn clock change stay apart.
        IF width NOT IN (1, 60) AND 86400 % width = 0 THEN
            shift := weir_view.zone_offset(t, place);
        END IF;
        t := t + shift;
        RETURN to_timestamp(t - ((t % width) + width) % width - shift);
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
    END IF;
    -- The first instant at which clocks show that; the greater offset has the
    -- earlier one.
    shown := date_part('epoch', wall);
    before := weir_view.zone_offset(shown - 86400, place);
    after := weir_view.zone_offset(shown + 86400, place);
    IF weir_view.zone_offset(shown - greatest(before, after), place) = greatest(before, after) THEN
        RETURN to_timestamp(shown - greatest(before, after));
    ELSIF weir_view.zone_offset(shown - least(before, after), place) = least(before, after) THEN
        RETURN to_timestamp(shown - least(before, after));
    END IF;
    -- They never show it: it starts where they went forward over it.
    low := shown - 86400;
    high := shown - before;
    WHILE high - low > 1 LOOP
        IF weir_view.zone_offset((low + high) / 2, place) = before THEN
            low := (low + high) / 2;
        ELSE
            high := (low + high) / 2;
        END IF;
    END LOOP;
    RETURN to_timestamp(high);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.bucket_start(timestamptz, text, integer, text) IS
    'Start of the bucket of n units (seconds … years, weeks, quarters) that holds the instant, in an IANA time zone, exactly as Weir cuts buckets.';
