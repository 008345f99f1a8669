-- +goose Up

-- The place of an alert in the order in which followers get alerts. It is given
-- once the alert is committed, by one transaction at a time (the row below is
-- locked until it commits). A number that is taken when a row is inserted becomes
-- visible when its transaction commits, which may be after a higher one: whoever
-- had read up to that would never see it.
ALTER TABLE weir.alert ADD COLUMN number bigint;
CREATE UNIQUE INDEX alert_number ON weir.alert (number);
CREATE INDEX alert_unnumbered ON weir.alert (created_at) WHERE number IS NULL;

CREATE TABLE weir.alert_numbered (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    last bigint NOT NULL -- number given
);
INSERT INTO weir.alert_numbered (last) VALUES (0);

CREATE INDEX alert_resolution ON weir.alert (firing_id) WHERE firing_id <> '';
CREATE INDEX alert_key_parts ON weir.alert USING gin (key jsonb_path_ops);
CREATE INDEX alert_over ON weir.alert (resolved_at) WHERE state = 'firing' AND resolved_at IS NOT NULL;
CREATE INDEX alert_suppression_alert ON weir.alert_suppression (alert_id);
CREATE INDEX alert_created ON weir.alert (created_at);

-- The last word of somebody who looks after an alert.
CREATE TABLE weir.alert_ack (
    alert_id text COLLATE "C" PRIMARY KEY REFERENCES weir.alert (id) ON DELETE CASCADE, -- one that fired
    acked_at timestamptz NOT NULL DEFAULT now(),
    acked_by text NOT NULL,
    comment  text NOT NULL
);

-- What notifiers do not send.
CREATE TABLE weir.silence (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule       text NOT NULL, -- '' is any
    match      jsonb NOT NULL,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL CHECK (ends_at >= starts_at),
    made_by    text NOT NULL,
    comment    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (rule <> '' OR match <> '{}')
);
CREATE INDEX silence_ends ON weir.silence (ends_at);
