package audit

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const kindCertificate = "certificate"

// Certificate says what was verified when an hour was over. Its bytes are the
// JSON of this struct, in the order of its fields, without white space.
type Certificate struct {
	Number   int64           `json:"number"` // from 1, without gaps
	Hour     time.Time       `json:"hour"`   // its start
	Since    time.Time       `json:"since"`  // Hour, or an earlier one, if those from there on have no certificate of their own
	At       time.Time       `json:"at"`     // when it was written
	Weir     string          `json:"weir"`   // version of the program
	Stream   string          `json:"stream"` // its incarnation,
	Verified uint64          `json:"verified"`
	Balance  Balance         `json:"balance"`
	Sources  int             `json:"sources"`
	Totals   map[string]sums `json:"totals"` // all events of each aggregation; encoding/json sorts them
	Residue  []string        `json:"residue"`
	Previous string          `json:"previous"` // hash of the one before; "" for the first
}

// Chain is what there is of certificates.
type Chain struct {
	Count int64  `json:"count"`
	Head  string `json:"head"` // hash of the newest: whoever keeps it can tell whether those up to it were changed
	Hour  string `json:"hour"` // of the newest
}

func (a *Auditor) chain(ctx context.Context) (c Chain, err error) {
	err = a.db.QueryRowContext(ctx, `
		SELECT number, hash, to_char(hour, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM weir.audit_certificate ORDER BY number DESC LIMIT 1`).Scan(&c.Count, &c.Head, &c.Hour)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return c, wrap(err, "read the certificates")
}

// reach notes when the stream was first verified up to the end of an hour, which
// is then to be certified. While one is, no later one is begun with: the next
// certificate says that it is of several hours.
func (a *Auditor) reach(ctx context.Context, through time.Time) error {
	if !a.hour.IsZero() {
		return nil
	}
	now, err := a.now(ctx)
	if err != nil {
		return err
	}
	if end := now.UTC().Truncate(time.Hour); !through.Before(end) {
		a.hour, a.reached = end, now
	}
	return nil
}

// certify writes the certificate of an hour once every level was verified after
// the stream was up to its end: not all in the same pass, for under load a pass
// hardly gets through.
func (a *Auditor) certify(ctx context.Context, r *Report, all []*aggregate) error {
	if a.hour.IsZero() || !a.verifiedThrough(a.reached, all) {
		return nil
	}
	hour := a.hour.Add(-time.Hour)
	a.hour = time.Time{}
	chain, err := a.chain(ctx)
	if err != nil || chain.Hour >= hour.Format(time.RFC3339) {
		return err
	}
	if early, err := a.beforeWeir(ctx, chain, hour.Add(time.Hour)); err != nil || early {
		return err
	}
	if err := a.verifyBalance(ctx, true); err != nil {
		return err
	}
	c := Certificate{
		Number: chain.Count + 1, Hour: hour, Since: hour, Weir: a.cfg.Version, Stream: r.Stream.Incarnation, Verified: r.Stream.Verified,
		Balance: a.balance, Totals: map[string]sums{}, Residue: []string{}, Previous: chain.Head,
	}
	if c.At, err = a.now(ctx); err != nil {
		return err
	}
	c.At = c.At.UTC()
	if before, err := time.Parse(time.RFC3339, chain.Hour); err == nil {
		c.Since = before.Add(time.Hour)
	}
	if err := a.sumUp(ctx, &c); err != nil {
		return err
	}
	body, hash, err := c.seal()
	if err != nil {
		return err
	}
	_, err = a.db.ExecContext(ctx, `INSERT INTO weir.audit_certificate (number, hour, body, hash) VALUES ($1, $2, $3, $4)`, c.Number, c.Hour, body, hash)
	return wrap(err, "write a certificate")
}

// verifiedThrough reports whether what was changed by that time is verified, of every level.
func (a *Auditor) verifiedThrough(at time.Time, all []*aggregate) bool {
	for _, agg := range all {
		for level := range agg.levels {
			if a.through[part{agg, level}.key()].Before(at) {
				return false
			}
		}
	}
	return true
}

// sumUp adds to a certificate what it says of the tables: sources, totals and residue.
func (a *Auditor) sumUp(ctx context.Context, c *Certificate) error {
	if err := a.db.QueryRowContext(ctx, `SELECT count(*) FROM weir.source`).Scan(&c.Sources); err != nil {
		return wrap(err, "count the sources")
	}
	open, err := a.findings(ctx)
	if err != nil {
		return err
	}
	for i := range open {
		if open[i].Residue() {
			c.Residue = append(c.Residue, open[i].Detail)
		}
	}
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var id string
		var checksum int64
		var t sums
		err := scan(&id, &t.Events, &checksum)
		t.Checksum = uint32(checksum) //nolint:gosec // below 2^32
		c.Totals[id] = t
		return err
	}, `SELECT aggregation, sum(events)::bigint, mod(sum(checksum), 4294967296)::bigint FROM weir.control GROUP BY aggregation`)
	return wrap(err, "add up the control totals")
}

// seal returns the bytes of the certificate and their hash.
func (c *Certificate) seal() (body, hash string, err error) {
	b, err := json.Marshal(c)
	if err != nil {
		return "", "", fmt.Errorf("seal a certificate: %w", err)
	}
	sum := sha256.Sum256(b)
	return string(b), hex.EncodeToString(sum[:]), nil
}

// Certificates calls f for each certificate, the oldest first, with the hash that
// is kept with it, and looks whether they are what was written: each holds the
// hash of the one before, and none is missing. wrong says what is not right with
// it, problem what that is of the first that is not.
func (a *Auditor) Certificates(ctx context.Context, f func(c *Certificate, hash, wrong string)) (problem string, err error) {
	previous, number := "", int64(0)
	err = each(ctx, a.db, func(scan func(...any) error) error {
		var n int64
		var hour time.Time
		var body, hash string
		if err := scan(&n, &hour, &body, &hash); err != nil {
			return err
		}
		var c Certificate
		sum := sha256.Sum256([]byte(body))
		number++
		wrong := ""
		switch err := json.Unmarshal([]byte(body), &c); {
		case err != nil:
			wrong = fmt.Sprintf("certificate %d cannot be read: %v", n, err)
			c.Number, c.Hour = n, hour.UTC()
		case hex.EncodeToString(sum[:]) != hash:
			wrong = fmt.Sprintf("certificate %d was changed: its hash is another", n)
		case n != number || c.Number != n:
			wrong = fmt.Sprintf("certificate %d is missing", number)
		case c.Previous != previous:
			wrong = fmt.Sprintf("certificate %d does not follow from certificate %d: one of them was changed", n, n-1)
		case !c.Hour.Equal(hour):
			wrong = fmt.Sprintf("certificate %d is not of the hour it is kept under", n)
		}
		if problem == "" {
			problem = wrong
		}
		previous, number = hash, n
		f(&c, hash, wrong)
		return nil
	}, `SELECT number, hour, body, hash FROM weir.audit_certificate ORDER BY number`)
	return problem, wrap(err, "read the certificates")
}
