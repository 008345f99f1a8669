-- +goose Up

-- Sketches in SQL: the functions by which views give distinct counts, quantiles
-- and standard deviations. They read the blocks that pkg/aggregation writes
-- (sketch.go says what blocks are) and return what Measure.Finish returns.

-- sketch_blocks returns the payloads of a sketch's blocks.
-- +goose StatementBegin
CREATE FUNCTION weir_view.sketch_blocks(sketch bytea) RETURNS SETOF bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at     integer := 0;
    size   bigint;
    shift  integer;
    digit  integer;
BEGIN
    sketch := sketch || ''::bytea; -- out of its storage once, not for every byte
    WHILE at < length(sketch) LOOP
        size := 0;
        shift := 0;
        LOOP
            IF at >= length(sketch) OR shift > 28 THEN
                RAISE EXCEPTION 'corrupted sketch: a block is cut short' USING ERRCODE = 'data_corrupted';
            END IF;
            digit := get_byte(sketch, at);
            size := size | ((digit & 127)::bigint << shift);
            at := at + 1;
            shift := shift + 7;
            EXIT WHEN digit < 128;
        END LOOP;
        IF size = 0 OR size > length(sketch) - at THEN
            RAISE EXCEPTION 'corrupted sketch: a block is cut short' USING ERRCODE = 'data_corrupted';
        END IF;
        RETURN NEXT substring(sketch FROM at + 1 FOR size::integer);
        at := at + size;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- sketch_numbers reads uvarints: seven bits a byte, lowest first, the last one
-- below 128.
-- +goose StatementBegin
CREATE FUNCTION weir_view.sketch_numbers(bytes bytea) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    numbers bigint[] := '{}';
    n       integer := 0;
    v       bigint := 0;
    shift   integer := 0;
    digit   integer;
BEGIN
    FOR i IN 0 .. length(bytes) - 1 LOOP
        digit := get_byte(bytes, i);
        v := v | ((digit & 127)::bigint << shift);
        IF digit < 128 THEN
            n := n + 1;
            numbers[n] := v;
            v := 0;
            shift := 0;
        ELSE
            shift := shift + 7;
            IF shift > 56 THEN -- no number that is stored is that great
                RAISE EXCEPTION 'corrupted sketch: a number is too long' USING ERRCODE = 'data_corrupted';
            END IF;
        END IF;
    END LOOP;
    IF shift > 0 THEN
        RAISE EXCEPTION 'corrupted sketch: it is cut short' USING ERRCODE = 'data_corrupted';
    END IF;
    RETURN numbers;
END
$$;
-- +goose StatementEnd

-- sketch_word reads 8 bytes, lowest first.
CREATE FUNCTION weir_view.sketch_word(bytes bytea, at integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN get_byte(bytes, at)::bigint | (get_byte(bytes, at + 1)::bigint << 8)
    | (get_byte(bytes, at + 2)::bigint << 16) | (get_byte(bytes, at + 3)::bigint << 24)
    | (get_byte(bytes, at + 4)::bigint << 32) | (get_byte(bytes, at + 5)::bigint << 40)
    | (get_byte(bytes, at + 6)::bigint << 48) | (get_byte(bytes, at + 7)::bigint << 56);

-- sketch_float returns the number that has these 64 bits.
-- +goose StatementBegin
CREATE FUNCTION weir_view.sketch_float(bits bigint) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    exponent integer := (bits >> 52) & 2047;
    fraction bigint := bits & 4503599627370495; -- 2^52 - 1
    size     double precision;
BEGIN
    IF exponent = 2047 THEN
        RETURN CASE WHEN fraction > 0 THEN 'NaN' WHEN bits < 0 THEN '-Infinity' ELSE 'Infinity' END;
    ELSIF exponent > 0 THEN
        size := (4503599627370496 + fraction)::double precision * power(2::double precision, exponent - 1075);
    ELSE
        size := fraction::double precision * power(2::double precision, -1074);
    END IF;
    RETURN CASE WHEN bits < 0 THEN -size ELSE size END;
END
$$;
-- +goose StatementEnd

-- stddev: a block is how many values there are, their mean, and the sum of the
-- squares of their distances from it. They add up by Chan's formula.
-- +goose StatementBegin
CREATE FUNCTION weir_view.stddev(sketch bytea) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    block   bytea;
    size    integer;
    n       double precision := 0;
    mean    double precision := 0;
    squares double precision := 0;
    n2      double precision;
    mean2   double precision;
    more    double precision;
    delta   double precision;
    term    double precision;
BEGIN
    FOR block IN SELECT * FROM weir_view.sketch_blocks(sketch) LOOP
        size := length(block) - 16;
        IF get_byte(block, 0) <> 4 OR size < 2 THEN
            RAISE EXCEPTION 'corrupted sketch: it is none of a standard deviation' USING ERRCODE = 'data_corrupted';
        END IF;
        n2 := (weir_view.sketch_numbers(substring(block FROM 2 FOR size - 1)))[1];
        mean2 := weir_view.sketch_float(weir_view.sketch_word(block, size));
        more := weir_view.sketch_float(weir_view.sketch_word(block, size + 8));
        IF more < 0 THEN
            RAISE EXCEPTION 'corrupted sketch: a negative sum of squares' USING ERRCODE = 'data_corrupted';
        END IF;
        IF n = 0 THEN
            n := n2;
            mean := mean2;
            squares := more;
        ELSIF n2 > 0 THEN
            delta := mean2 / 2 - mean / 2; -- half of it always is a number
            -- Postgres stops where a product is too large or too small for a number.
            IF abs(delta) > 1e-300 THEN
                mean := mean + delta * (2 * n2 / (n + n2));
            END IF;
            IF 'Infinity' IN (squares, more) OR abs(delta) > 1e160 THEN
                squares := 'Infinity';
            ELSIF abs(delta) > 1e145 THEN
                term := 4 * (delta * 1e-20) * (delta * 1e-20) * (n * n2 / (n + n2));
                squares := CASE WHEN greatest(squares, 1) * 1e-40 + greatest(more, 1) * 1e-40 + term < 1.7976e268
                    THEN squares + (more + term * 1e40) ELSE 'Infinity' END;
            ELSIF abs(delta) > 1e-140 THEN
                squares := squares + (more + 4 * delta * delta * (n * n2 / (n + n2)));
            ELSIF abs(delta) > 1e-162 THEN
                term := 4 * (delta * 1e150) * (delta * 1e150) * (n * n2 / (n + n2));
                squares := squares + (more + CASE WHEN term > 5e-24 THEN term * 1e-300 ELSE 0 END);
            ELSE
                squares := squares + more;
            END IF;
            n := n + n2;
        END IF;
    END LOOP;
    RETURN CASE WHEN n > 0 THEN sqrt(squares) / sqrt(n) END;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.stddev(bytea) IS 'Population standard deviation of a sketch, or of several joined by string_agg(sketch, '''').';

-- quantile: a block is the number of zeros, and for the positive and for the
-- negative values how many bins there are, and of each how far it is from the
-- one before, and how many values it has.
-- +goose StatementBegin
CREATE FUNCTION weir_view.quantile(sketch bytea, percent double precision) RETURNS double precision
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The bins: log2 of a factor that grows by cubic interpolation, 0.5 % wide
    -- to either side (DDSketch's cubically interpolated mapping).
    multiplier CONSTANT double precision := 69.999416662778046;
    accuracy   CONSTANT double precision := 0.0049999999999998934;
    a          CONSTANT double precision := 6.0::double precision / 35;
    b          CONSTANT double precision := -3.0::double precision / 5;
    c          CONSTANT double precision := 10.0::double precision / 7;
    far        CONSTANT bigint := 1000000; -- greater than any bin's number
    block    bytea;
    numbers  bigint[];
    at       integer;
    bin      bigint;
    places   bigint[] := '{}'; -- of bins; they sort as their values do
    counts   bigint[] := '{}';
    n        integer := 0;
    total    double precision;
    place    bigint;
    x        double precision;
    d0       double precision;
    d1       double precision;
    p        double precision;
BEGIN
    IF NOT percent BETWEEN 0 AND 100 THEN
        RAISE EXCEPTION 'a quantile is from 0 to 100 percent, not %', percent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR block IN SELECT * FROM weir_view.sketch_blocks(sketch) LOOP
        IF get_byte(block, 0) <> 3 THEN
            RAISE EXCEPTION 'corrupted sketch: it is none of a quantile' USING ERRCODE = 'data_corrupted';
        END IF;
        numbers := weir_view.sketch_numbers(substring(block FROM 2));
        n := n + 1;
        places[n] := 0;
        counts[n] := numbers[1];
        at := 2;
        FOR side IN 1 .. 2 LOOP
            bin := 0;
            IF at > cardinality(numbers) OR numbers[at] > (cardinality(numbers) - at) / 2 THEN
                RAISE EXCEPTION 'corrupted sketch: bins are missing' USING ERRCODE = 'data_corrupted';
            END IF;
            FOR i IN 1 .. numbers[at] LOOP
                bin := bin + ((numbers[at + 2 * i - 1] >> 1) # -(numbers[at + 2 * i - 1] & 1));
                n := n + 1;
                places[n] := CASE side WHEN 1 THEN far + bin ELSE -far - bin END;
                counts[n] := numbers[at + 2 * i];
            END LOOP;
            at := at + 2 * numbers[at] + 1;
        END LOOP;
        IF at <> cardinality(numbers) + 1 THEN
            RAISE EXCEPTION 'corrupted sketch: there are bytes too many' USING ERRCODE = 'data_corrupted';
        END IF;
    END LOOP;
    SELECT sum(v) INTO total FROM unnest(counts) AS v;
    SELECT o.v INTO place FROM (
        SELECT u.v, sum(sum(u.number)) OVER (ORDER BY u.v) AS through FROM unnest(places, counts) AS u (v, number) GROUP BY u.v
    ) o WHERE o.through > floor(percent / 100 * (total - 1)) ORDER BY o.v LIMIT 1;
    IF total = 0 OR place = 0 THEN
        RETURN CASE WHEN total > 0 THEN 0 END;
    END IF;
    -- The bin's lower bound, by Cardano's formula, and its middle.
    x := (abs(place) - far) / multiplier;
    d0 := b * b - 3 * a * c;
    d1 := 2 * b * b * b - 9 * a * b * c - 27 * a * a * (x - floor(x));
    p := cbrt((d1 - sqrt(d1 * d1 - 4 * d0 * d0 * d0)) / 2);
    RETURN sign(place) * ((1 - (b + p + d0 / p) / (3 * a)) * power(2::double precision, floor(x)) * (1 + accuracy));
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.quantile(bytea, double precision) IS
    'The value that so many percent of all do not exceed, within 1 %, of a sketch, or of several joined by string_agg(sketch, '''').';

-- sketch_key returns the sparse key of a 64-bit hash: its first 25 bits, and
-- where the last nine of them are zero, how many zeros follow.
CREATE FUNCTION weir_view.sketch_key(hash bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN ((hash >> 39) & 511) <> 0 THEN ((hash >> 39) & 33554431) << 1
    ELSE (((hash >> 39) & 33554431) << 7) | (coalesce(nullif(position('1' IN (hash & 549755813887)::bit(39)::text), 0), 40) << 1) | 1
END;

-- sketch_keys returns the sparse keys of a block: a list of those that came
-- last, of 4 bytes each, and the list of the others, as distances.
-- +goose StatementBegin
CREATE FUNCTION weir_view.sketch_keys(block bytea) RETURNS SETOF bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last_came bigint := ('x' || encode(substring(block FROM 6 FOR 4), 'hex'))::bit(32)::bigint;
    head      bigint := 9 + 4 * last_came; -- of the list: its length, its last key, its bytes
    number    bigint;
    bytes     bigint;
    steps     bigint[];
BEGIN
    IF head + 12 > length(block) THEN
        RAISE EXCEPTION 'corrupted sketch: keys are missing' USING ERRCODE = 'data_corrupted';
    END IF;
    number := ('x' || encode(substring(block FROM head::integer + 1 FOR 4), 'hex'))::bit(32)::bigint;
    bytes := ('x' || encode(substring(block FROM head::integer + 9 FOR 4), 'hex'))::bit(32)::bigint;
    steps := weir_view.sketch_numbers(substring(block FROM head::integer + 13));
    IF head + 12 + bytes <> length(block) OR cardinality(steps) <> number THEN
        RAISE EXCEPTION 'corrupted sketch: keys are missing' USING ERRCODE = 'data_corrupted';
    END IF;
    RETURN QUERY SELECT ('x' || encode(substring(block FROM 10 + 4 * i FOR 4), 'hex'))::bit(32)::bigint
        FROM generate_series(0, last_came::integer - 1) AS i;
    -- Floats are exact here, and add up faster than what bigints would.
    RETURN QUERY SELECT (sum(u.step::double precision) OVER (ORDER BY u.i))::bigint FROM unnest(steps) WITH ORDINALITY AS u (step, i);
END
$$;
-- +goose StatementEnd

-- distinct_count: a block has the hashes of a few values, or what HyperLogLog
-- (axiomhq/hyperloglog, 2^16 registers) keeps of many: sparse keys, or the
-- registers themselves. Up to 512 hashes are counted; more are keys; and keys
-- whose list would be longer than the registers are registers.
-- +goose StatementBegin
CREATE FUNCTION weir_view.distinct_count(sketch bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    m      CONSTANT double precision := 65536;
    blocks bytea[] := ARRAY(SELECT * FROM weir_view.sketch_blocks(sketch));
    dense  bytea[] := '{}';
    wrong  integer;
    hashes bigint[];
    keys   bigint[];
    bytes  bigint;
    zeros  double precision;
    powers double precision;
    l      double precision;
BEGIN
    SELECT count(*) INTO wrong FROM unnest(blocks) AS b WHERE CASE get_byte(b, 0)
        WHEN 1 THEN length(b) % 8 <> 1
        WHEN 2 THEN CASE WHEN substring(b FROM 2 FOR 4) = '\x02100001' THEN length(b) < 21 -- its version, 2^16 registers, sparse
            ELSE substring(b FROM 2 FOR 8) <> '\x0210000000010000' OR length(b) <> 65545 END
        ELSE true END;
    IF wrong > 0 THEN
        RAISE EXCEPTION 'corrupted sketch: it is none of a distinct count' USING ERRCODE = 'data_corrupted';
    END IF;
    hashes := ARRAY(SELECT DISTINCT weir_view.sketch_word(b, i)
        FROM unnest(blocks) AS b, generate_series(1, length(b) - 8, 8) AS i WHERE get_byte(b, 0) = 1);
    IF cardinality(hashes) <= 512 AND NOT EXISTS (SELECT FROM unnest(blocks) AS b WHERE get_byte(b, 0) = 2) THEN
        RETURN cardinality(hashes);
    END IF;
    dense := ARRAY(SELECT b FROM unnest(blocks) AS b WHERE get_byte(b, 0) = 2 AND get_byte(b, 4) = 0);
    keys := ARRAY(
        SELECT weir_view.sketch_key(h) FROM unnest(hashes) AS h
        UNION
        SELECT k FROM unnest(blocks) AS b, weir_view.sketch_keys(b) AS k WHERE get_byte(b, 0) = 2 AND get_byte(b, 4) = 1
        ORDER BY 1);
    SELECT sum(1 + (step >= 128)::integer + (step >= 16384)::integer + (step >= 2097152)::integer + (step >= 268435456)::integer)
        INTO bytes FROM (SELECT k - lag(k, 1, 0::bigint) OVER (ORDER BY k) AS step FROM unnest(keys) AS k) AS s;
    IF cardinality(dense) = 0 AND bytes <= m THEN
        RETURN floor(33554432 * ln(33554432::double precision / (33554432 - cardinality(keys)))); -- as if of 2^25 registers
    END IF;
    SELECT m - count(*), m - count(*) + sum(power(2::double precision, -r)) INTO zeros, powers FROM (
        SELECT max(r) AS r FROM (
            SELECT CASE k & 1 WHEN 1 THEN (k >> 16) & 65535 ELSE (k >> 10) & 65535 END AS i,
                CASE k & 1 WHEN 1 THEN ((k >> 1) & 63) + 9 ELSE position('1' IN ((k >> 1) & 511)::bit(9)::text) END AS r
            FROM unnest(keys) AS k
            UNION ALL
            SELECT i, get_byte(d, i + 9) FROM unnest(dense) AS d, generate_series(0, 65535) AS i
        ) AS all_ GROUP BY i
    ) AS registers WHERE r > 0;
    l := ln(zeros + 1);
    RETURN floor(0.72128812454397007 * m * (m - zeros) / (powers
        + (-0.37331876643753059 * zeros - 1.41704077448122989 * l + 0.40729184796612533 * power(l, 2)
        + 1.56152033906584164 * power(l, 3) - 0.99242233534286128 * power(l, 4) + 0.26064681399483092 * power(l, 5)
        - 0.03053811369682807 * power(l, 6) + 0.00155770210179105 * power(l, 7))) + 0.5);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION weir_view.distinct_count(bytea) IS
    'How many different values a sketch has, or several joined by string_agg(sketch, ''''): exact up to 512, within 2 % beyond.';
