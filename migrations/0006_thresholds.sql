-- +goose Up

-- The bounds that stand in place of a rule's own for the keys that the
-- dimensions choose; '' chooses any. What a person has set is kept apart from
-- what was learned, which goes back to where it was when the former is unset.
CREATE TABLE weir.threshold (
    rule        text COLLATE "C" NOT NULL,
    rule_case   text COLLATE "C" NOT NULL, -- '': all cases
    api         text COLLATE "C" NOT NULL,
    version     text COLLATE "C" NOT NULL,
    resource    text COLLATE "C" NOT NULL,
    method      text COLLATE "C" NOT NULL,
    application text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL CHECK (source IN ('set', 'learned')),
    value       double precision NOT NULL CHECK (value > '-Infinity' AND value < 'Infinity'), -- NaN is above it
    set_by      text NOT NULL,
    set_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rule, rule_case, api, version, resource, method, application, tenant, source)
);

-- Another version with every statement that writes thresholds, whoever does it:
-- workers look at it once a second. It is no number, so that a database that was
-- restored does not come to one that some worker knows already. Its row is locked by
-- who writes, so that thresholds are written in turn.
CREATE TABLE weir.threshold_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO weir.threshold_version DEFAULT VALUES;

-- +goose StatementBegin
CREATE FUNCTION weir.threshold_written() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE weir.threshold_version SET version = gen_random_uuid();
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER threshold_written BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON weir.threshold
    FOR EACH STATEMENT EXECUTE FUNCTION weir.threshold_written();
