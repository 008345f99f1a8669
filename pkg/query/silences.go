package query

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// CheckSilence refuses a silence that can match no alert of the definitions, or
// that cannot be meant. Its errors are of type *[Error].
func CheckSilence(catalog *definition.Catalog, s *alert.Silence, now time.Time) error {
	if err := s.Check(now); err != nil {
		return wrong(err)
	}
	if err := oneOf("rule", s.Rule, ruleNames(catalog)); err != nil {
		return wrong(err)
	}
	parts := matchable(catalog, s.Rule)
	for name := range s.Match {
		if !slices.Contains(parts, name) {
			of := "of no rule"
			if s.Rule != "" {
				of = "not of " + s.Rule
			}
			return wrong(fmt.Errorf("match: %q is a key part or label %s%s; there are: %s", clip(name), of, didYouMean(name, parts), strings.Join(parts, ", ")))
		}
	}
	return nil
}

// matchable are the names of what alerts of a rule, or of any, can be told by: key
// parts and labels.
func matchable(catalog *definition.Catalog, rule string) (names []string) {
	for _, r := range catalog.Rules {
		if rule != "" && rule != r.Name {
			continue
		}
		names = slices.AppendSeq(names, maps.Keys(r.Labels))
		for i := range r.Cases {
			for _, part := range r.Cases[i].Key {
				names = append(names, part.Name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *Server) silences(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values, "state"); err != nil {
		return err
	}
	state := values.Get("state")
	if err := oneOf("state", state, []string{"active", store.StateAll}); err != nil {
		return wrong(err)
	}
	silences, err := s.DB.Silences(r.Context(), s.Now(), state == store.StateAll)
	if err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"silences": append([]alert.Silence{}, silences...)})
}

func (s *Server) addSilence(w http.ResponseWriter, r *http.Request, values url.Values) error {
	silence, err := readSilence(w, r, s.Now())
	if err = errors.Join(only(values), err); err != nil {
		return err
	}
	added, err := AddSilence(r.Context(), s.Catalog, s.DB, silence, s.Now())
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/silences/"+strconv.FormatInt(added.ID, 10))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	s.write(w, r, added)
	return nil
}

// ParseLong reads how long something is to last: 2h, 30m, 3d, or as definitions say it, 3 days.
func ParseLong(text string) (time.Duration, error) {
	long, err := time.ParseDuration(text)
	if err != nil {
		words := text
		if number, ok := strings.CutSuffix(text, "d"); ok {
			words = number + " days"
		}
		long, err = definition.ParseDuration(words)
	}
	if err != nil || long <= 0 {
		return 0, fmt.Errorf("%.100q is no time that something can last; write it as 2h, 30m, 3d or \"3 days\"", text)
	}
	return long, nil
}

// readSilence reads a silence as people write it: it may say for how long in
// place of until when, and starts now where it does not say.
func readSilence(w http.ResponseWriter, r *http.Request, now time.Time) (alert.Silence, error) {
	var body struct {
		Rule     string            `json:"rule"`
		Match    map[string]string `json:"match"`
		StartsAt time.Time         `json:"starts_at"`
		EndsAt   time.Time         `json:"ends_at"`
		For      string            `json:"for"`
		By       string            `json:"by"`
		Comment  string            `json:"comment"`
	}
	if err := readBody(w, r, &body, `{"rule": "tier-crossing", "match": {"apiName": "Shop"}, "for": "2h", "by": "ops", "comment": "load test"}`); err != nil {
		return alert.Silence{}, err
	}
	silence := alert.Silence{
		Rule: body.Rule, Match: body.Match, StartsAt: body.StartsAt.UTC(), EndsAt: body.EndsAt.UTC(), By: by(r, body.By), Comment: body.Comment,
	}
	if silence.StartsAt.IsZero() {
		silence.StartsAt = now.UTC()
	}
	switch {
	case body.For != "" && !silence.EndsAt.IsZero():
		return silence, wrong(errors.New("give for or ends_at, not both"))
	case body.For != "":
		long, err := ParseLong(body.For)
		if err != nil {
			return silence, wrong(fmt.Errorf("for: %w", err))
		}
		silence.EndsAt = silence.StartsAt.Add(long)
	case silence.EndsAt.IsZero():
		return silence, wrong(errors.New("a silence must end: give for, as 2h, or ends_at"))
	}
	return silence, nil
}

// AddSilence makes a silence, if it can match an alert of the definitions.
func AddSilence(ctx context.Context, catalog *definition.Catalog, db *store.DB, silence alert.Silence, now time.Time) (alert.Silence, error) {
	if err := CheckSilence(catalog, &silence, now); err != nil {
		return alert.Silence{}, err
	}
	return db.AddSilence(ctx, silence)
}

// EndSilence ends a silence now.
func EndSilence(ctx context.Context, db *store.DB, id int64, now time.Time) (alert.Silence, error) {
	ended, err := db.EndSilence(ctx, id, now)
	if errors.Is(err, store.ErrNoSilence) {
		err = &Error{http.StatusNotFound, fmt.Sprintf("there is no silence %d, or it has ended", id)}
	}
	return ended, err
}

func (s *Server) endSilence(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return wrong(fmt.Errorf("%.100q is no silence's number; GET /api/v1/silences lists them", r.PathValue("id")))
	}
	ended, err := EndSilence(r.Context(), s.DB, id, s.Now())
	if err != nil {
		return err
	}
	return s.json(w, r, ended)
}
