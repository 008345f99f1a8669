package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Finding is something that does not add up.
type Finding struct {
	ID          int64     `json:"id"`
	Kind        string    `json:"kind"`
	Subject     string    `json:"subject"`
	Lost        int64     `json:"lost"`       // events, or messages where nobody knows how many events they had
	Duplicated  int64     `json:"duplicated"` // events
	Detail      string    `json:"detail"`
	Aggregation string    `json:"aggregation,omitempty"`
	Level       string    `json:"level,omitempty"`
	FoundAt     time.Time `json:"found_at"`
	Accepted    bool      `json:"accepted"` // somebody knows of it, and nothing can be done

	part span // of findings in aggregates
}

// Residue reports whether the finding means that events are not accounted for,
// or that nobody can say whether they are. What is not, is for people to know.
func (f *Finding) Residue() bool {
	return !f.Accepted && f.Kind != kindReused && f.Kind != kindReplaced && f.Kind != kindBorder
}

// note writes a finding. One that was accepted and has changed is a new one.
func (a *Auditor) note(ctx context.Context, f Finding) error {
	var aggregation, level, begins, ends *string
	if f.Aggregation != "" {
		from, until := instant(f.part.from), instant(f.part.until)
		aggregation, level, begins, ends = &f.Aggregation, &f.Level, &from, &until
	}
	// One that is there is changed, not inserted in vain: that would take a number each time.
	result, err := a.db.ExecContext(ctx, `
		UPDATE weir.audit_finding SET lost = $3, duplicated = $4, detail = $5, seen_at = now(), settled_at = NULL, begins = $6, ends = $7,
			found_at = CASE WHEN settled_at IS NULL THEN found_at ELSE now() END,
			accepted_at = CASE WHEN settled_at IS NULL AND lost = $3 AND duplicated = $4 THEN accepted_at END
		WHERE kind = $1 AND subject = $2`, f.Kind, f.Subject, f.Lost, f.Duplicated, f.Detail, begins, ends)
	var known int64
	if err == nil {
		known, err = result.RowsAffected()
	}
	if err == nil && known == 0 {
		_, err = a.db.ExecContext(ctx, `
			INSERT INTO weir.audit_finding (kind, subject, lost, duplicated, detail, aggregation, level, begins, ends)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, f.Kind, f.Subject, f.Lost, f.Duplicated, f.Detail, aggregation, level, begins, ends)
	}
	if err != nil {
		return fmt.Errorf("note a finding: %w", err)
	}
	return nil
}

// settle says that something adds up, perhaps again.
func (a *Auditor) settle(ctx context.Context, f Finding) error {
	_, err := a.db.ExecContext(ctx, `UPDATE weir.audit_finding SET settled_at = now() WHERE kind = $1 AND subject = $2 AND settled_at IS NULL`, f.Kind, f.Subject)
	if err != nil {
		return fmt.Errorf("settle a finding: %w", err)
	}
	return nil
}

// findings lists what does not add up now, the oldest first.
func (a *Auditor) findings(ctx context.Context) (all []Finding, err error) {
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var f Finding
		err := scan(&f.ID, &f.Kind, &f.Subject, &f.Lost, &f.Duplicated, &f.Detail, &f.Aggregation, &f.Level, &f.FoundAt, &f.Accepted)
		f.FoundAt = f.FoundAt.UTC()
		all = append(all, f)
		return err
	}, `
		SELECT id, kind, subject, lost, duplicated, detail, coalesce(aggregation, ''), coalesce(level, ''), found_at, accepted_at IS NOT NULL
		FROM weir.audit_finding WHERE settled_at IS NULL ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("read the findings: %w", err)
	}
	return all, nil
}

// Accept says of a finding that somebody knows of it: it is still shown, and
// does not count as unaccounted for any more, unless it changes. The result is
// what it says.
func (a *Auditor) Accept(ctx context.Context, id int64) (detail string, err error) {
	err = a.db.QueryRowContext(ctx, `
		UPDATE weir.audit_finding SET accepted_at = coalesce(accepted_at, now()) WHERE id = $1 AND settled_at IS NULL RETURNING detail`, id).Scan(&detail)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("there is no open finding %d: `weir audit` shows those that there are", id)
	}
	return detail, wrap(err, fmt.Sprintf("accept finding %d", id))
}

// Plural writes a number and what it counts: "1 finding", "1,204 findings".
func Plural(n int64, one, many string) string { return plural(n, one, many) }

// plural writes a number and what it counts.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Grouped(n) + " " + many
}

func isAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// Grouped writes a number with commas: 1,204,331,870.
func Grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(text) - 3; i > start; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
