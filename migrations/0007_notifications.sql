-- +goose Up

-- Who is told of alerts beside the subscribers of NATS: mailboxes, webhooks,
-- Alertmanager. A notifier is here from the first time that some process had it
-- in its file, and from then on whatever records an alert of its scopes makes a
-- row for it in the next table, in the same transaction.
CREATE TABLE weir.notifier (
    name       text COLLATE "C" PRIMARY KEY,
    scopes     text[] NOT NULL,
    holder     text COLLATE "C" NOT NULL, -- the process that sends for it; '': none
    held_until timestamptz NOT NULL,      -- then another one may, or when the last one ended
    since      timestamptz NOT NULL DEFAULT now()
);

-- What a notifier has to say, and what it has said: its queue and its log.
CREATE TABLE weir.notification (
    alert_id   text COLLATE "C" NOT NULL REFERENCES weir.alert (id) ON DELETE CASCADE,
    notifier   text COLLATE "C" NOT NULL,
    number     bigint NOT NULL GENERATED ALWAYS AS IDENTITY, -- its turn among those that are due at one time
    -- waiting: never accepted so far; sent: accepted at least once.
    state      text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'silenced', 'not concerned', 'given up')),
    due_at     timestamptz DEFAULT now(), -- when to look at it (again); NULL: there is nothing more to do
    sends      integer NOT NULL DEFAULT 0, -- how often it was accepted
    attempts   integer NOT NULL DEFAULT 0, -- how often it was not, since the last time that it was
    sent_at    timestamptz,                -- the last time that it was accepted
    failing_since timestamptz,             -- the first of these attempts
    last_error text NOT NULL DEFAULT '',   -- of the last one; or what went wrong although it was accepted
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (alert_id, notifier)
);
CREATE INDEX notification_due ON weir.notification (notifier, due_at, number) WHERE due_at IS NOT NULL;
-- Later alerts of the same key.
CREATE INDEX alert_key ON weir.alert USING hash (key) WHERE scope = 'global' AND state = 'firing';
CREATE INDEX notification_created ON weir.notification (created_at);
