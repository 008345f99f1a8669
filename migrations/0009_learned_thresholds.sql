-- +goose Up

-- What the learned thresholds of a rule were learned of, and up to which event
-- time: on the next day they are learned again, and where the definition differs
-- at once.
CREATE TABLE weir.threshold_learning (
    rule       text COLLATE "C" PRIMARY KEY,
    what       text NOT NULL,
    through    timestamptz NOT NULL,
    learned_at timestamptz NOT NULL DEFAULT now()
);
