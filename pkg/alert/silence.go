package alert

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Silence keeps notifiers from sending the alerts that it matches, for some
// time. Silenced alerts are recorded and published as ever.
type Silence struct {
	ID int64 `json:"id"`
	// Rule is the one whose alerts are meant; "" means those of any.
	Rule string `json:"rule,omitempty"`
	// Match are parts of an alert's key, by name, or labels where the key has no such
	// part: an alert is meant if it has all of them with just these values.
	Match map[string]string `json:"match,omitempty"`
	// From StartsAt on until before EndsAt, by the clock.
	StartsAt time.Time `json:"starts_at"`
	EndsAt   time.Time `json:"ends_at"`
	// By says who made it, and Comment why.
	By        string    `json:"by"`
	Comment   string    `json:"comment"`
	CreatedAt time.Time `json:"created_at"`
}

// Ack is somebody's word that an alert is being looked after.
type Ack struct {
	By      string    `json:"by"`
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
}

// MaxSilence is how long a silence may last: one that nobody remembers hides
// what it was not made for.
const MaxSilence = 366 * 24 * time.Hour

// Most characters of what people write.
const (
	maxName    = 100
	maxComment = 1000
	maxMatches = 20
)

// Active reports whether the silence is in force at a time.
func (s *Silence) Active(at time.Time) bool {
	return !at.Before(s.StartsAt) && at.Before(s.EndsAt)
}

// Matches reports whether the silence is in force at a time, of the clock, and
// means the alert.
func (s *Silence) Matches(a *Alert, at time.Time) bool {
	return s.Active(at) && s.Means(a)
}

// Means reports whether the silence, when it is in force, means the alert.
func (s *Silence) Means(a *Alert) bool {
	if s.Rule != "" && s.Rule != a.Rule {
		return false
	}
	for name, value := range s.Match {
		has, ok := a.Key[name]
		if !ok {
			has, ok = a.Labels[name]
		}
		if !ok || has != clip(value) { // an alert shows no more of a long value
			return false
		}
	}
	return true
}

// Silencing are those of the silences that keep quiet about the alert at a time.
func Silencing(silences []Silence, a *Alert, at time.Time) []Silence {
	return slices.DeleteFunc(slices.Clone(silences), func(s Silence) bool { return !s.Matches(a, at) })
}

// Check refuses what cannot be meant, in a sentence for who wrote it: a silence
// of every alert, one without a reason, one that is over or never ends.
func (s *Silence) Check(now time.Time) error {
	switch {
	case s.Rule == "" && len(s.Match) == 0:
		return errors.New("a silence must say whose alerts are meant: give a rule, or a match as apiName=Shop, or both")
	case len(s.Match) > maxMatches:
		return fmt.Errorf("match: %d parts are too many; at most %d are possible", len(s.Match), maxMatches)
	case !s.StartsAt.Before(s.EndsAt):
		return fmt.Errorf("a silence must end after it starts; this one starts at %s and ends at %s", s.StartsAt.UTC().Format(time.RFC3339), s.EndsAt.UTC().Format(time.RFC3339))
	case !now.Before(s.EndsAt):
		return fmt.Errorf("a silence must end in the future; this one ends at %s", s.EndsAt.UTC().Format(time.RFC3339))
	case s.EndsAt.Sub(s.StartsAt) > MaxSilence:
		return fmt.Errorf("a silence lasts at most %d days: make another one then", MaxSilence/(24*time.Hour))
	}
	if strings.ContainsRune(s.Rule, 0) {
		return errors.New("rule: no rule has such a name")
	}
	for name, value := range s.Match {
		if err := errors.Join(checkText("match", name, 1, maxName), checkText("match "+name, value, 0, maxText+1)); err != nil {
			return err
		}
	}
	return errors.Join(checkText("by", s.By, 1, maxName), checkText("comment", s.Comment, 1, maxComment))
}

// Check refuses an acknowledgement that names nobody.
func (a *Ack) Check() error {
	return errors.Join(checkText("by", a.By, 1, maxName), checkText("comment", a.Comment, 0, maxComment))
}

// checkText refuses what is too short, too long, or no text that can be stored.
func checkText(what, text string, least, most int) error {
	switch n := utf8.RuneCountInString(text); {
	case n < least || least > 0 && strings.TrimSpace(text) == "":
		return fmt.Errorf("%s is missing", what)
	case n > most:
		return fmt.Errorf("%s: %d characters are too many; at most %d are possible", what, n, most)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return fmt.Errorf("%s is no text", what)
	}
	return nil
}
