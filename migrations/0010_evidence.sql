-- +goose Up

-- Evidence is encoded otherwise now (ADR 24): what an older release has left is not read any more. It holds no more than
-- what was not decided yet when that was stopped.
DELETE FROM weir.alert_evidence;
DELETE FROM weir.alert_batch;
