package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"weir/pkg/alert"
	"weir/pkg/definition"
	"weir/pkg/store"
)

// alertParameters are those of an alert filter: a list of alerts has all of
// them, a stream all but state, since, until and limit.
func alertParameters() []string {
	return []string{"rule", "scope", "severity", "key", "state", "since", "until", "limit"}
}

// ParseAlerts reads the parameters of a list of alerts, as in GET /api/v1/alerts.
// Its errors are of type *[Error]. Times are as in questions, or a time before
// now, as 2h or 90m.
func ParseAlerts(catalog *definition.Catalog, values url.Values, now time.Time) (store.AlertFilter, error) {
	if err := only(values, alertParameters()...); err != nil {
		return store.AlertFilter{}, err
	}
	for name, given := range values {
		if name != "key" && len(given) > 1 {
			return store.AlertFilter{}, wrong(fmt.Errorf("%s is given %d times", name, len(given)))
		}
	}
	f := store.AlertFilter{Rule: values.Get("rule"), Scope: values.Get("scope"), State: values.Get("state")}
	err := errors.Join(
		oneOf("rule", f.Rule, ruleNames(catalog)),
		oneOf("scope", f.Scope, []string{string(alert.ScopeLocal), string(alert.ScopeGlobal)}),
		oneOf("state", f.State, []string{string(alert.Firing), string(alert.Resolved), store.StateAll}),
		oneOf("severity", values.Get("severity"), []string{"1", "2", "3"}))
	if err != nil {
		return store.AlertFilter{}, wrong(err)
	}
	f.Severity, _ = strconv.Atoi(values.Get("severity")) // "" is 0
	if f.Limit, err = count(values, 100, MostListed); err != nil {
		return store.AlertFilter{}, err
	}
	if f.Since, err = parseMoment("since", values.Get("since"), now); err == nil {
		f.Until, err = parseMoment("until", values.Get("until"), now)
	}
	if err == nil && !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		err = fmt.Errorf("since must be before until; it is %s", f.Since.UTC().Format(time.RFC3339))
	}
	if err == nil {
		f.Key, err = ParseMatch("key", values["key"])
	}
	if err != nil {
		return store.AlertFilter{}, wrong(err)
	}
	return f, nil
}

// AlertValues are the parameters of a filter, as ParseAlerts reads them.
func AlertValues(f store.AlertFilter) url.Values {
	values := filter(map[string]string{"rule": f.Rule, "scope": f.Scope, "state": f.State}, f.Limit)
	if f.Severity > 0 {
		values.Set("severity", strconv.Itoa(f.Severity))
	}
	for name, t := range map[string]time.Time{"since": f.Since, "until": f.Until} {
		if !t.IsZero() {
			values.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	for name, value := range f.Key {
		values.Add("key", name+"="+value)
	}
	return values
}

// parseMoment reads a time, or how long before now it was; "" is none.
func parseMoment(name, text string, now time.Time) (time.Time, error) {
	if text = strings.TrimSpace(text); text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := parseInstant(text)
	if err != nil {
		return t, fmt.Errorf("%s: %w; or how long ago, as 2h", name, err)
	}
	return t, nil
}

// ParseMatch reads parts of a key, each written as apiName=Shop; what names the
// parameter in errors.
func ParseMatch(what string, texts []string) (map[string]string, error) {
	parts := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fmt.Errorf("%s: %.100q is no part of a key; write it as NAME=VALUE, for example apiName=Shop", what, text)
		}
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("%s: %.100q is no text", what, text)
		}
		if _, twice := parts[name]; twice {
			return nil, fmt.Errorf("%s: %s is given twice; an alert has one", what, name)
		}
		parts[name] = value
	}
	if len(parts) == 0 {
		return nil, nil
	}
	return parts, nil
}

func ruleNames(catalog *definition.Catalog) (names []string) {
	for _, rule := range catalog.Rules {
		names = append(names, rule.Name)
	}
	return names
}

func (s *Server) alerts(w http.ResponseWriter, r *http.Request, values url.Values) error {
	as, err := takeFormat(r, values)
	if err != nil {
		return err
	}
	f, err := ParseAlerts(s.Catalog, values, s.Now())
	if err != nil {
		return err
	}
	alerts, err := s.DB.Alerts(r.Context(), f)
	if err != nil {
		return err
	}
	return alertListing().send(s, w, r, as, alerts)
}

// Alert is how the API shows all that is known of one alert.
type Alert struct {
	Alert      alert.Alert `json:"alert"`
	RecordedAt time.Time   `json:"recorded_at"`
	Published  bool        `json:"published"` // on NATS
	// Resolution is, of one that has fired, the alert that says that it is over; Fired is, of that one, what had fired.
	Resolution *alert.Alert    `json:"resolution,omitempty"`
	Fired      *alert.Alert    `json:"fired,omitempty"`
	Ack        *alert.Ack      `json:"ack,omitempty"`
	Silences   []alert.Silence `json:"silences"` // that keep quiet about it now
	// Notifications are what notifiers have done about it, or are to do.
	Notifications []store.Notification `json:"notifications"`
}

// DescribeAlert looks up all that is known of one alert, by its id or the
// beginning of it.
func DescribeAlert(ctx context.Context, db *store.DB, id string, now time.Time) (Alert, error) {
	record, err := db.Alert(ctx, id)
	if err != nil {
		return Alert{}, noAlert(err, id)
	}
	silences, err := db.Silences(ctx, now, false)
	if err != nil {
		return Alert{}, err
	}
	notifications, err := db.Notifications(ctx, record.Alert.ID)
	if err != nil {
		return Alert{}, err
	}
	return Alert{
		Alert: record.Alert, RecordedAt: record.RecordedAt, Published: record.Published,
		Resolution: record.Resolution, Fired: record.Fired, Ack: record.Ack,
		Silences:      append([]alert.Silence{}, alert.Silencing(silences, &record.Alert, now)...),
		Notifications: append([]store.Notification{}, notifications...),
	}, nil
}

// AckAlert records that an alert is looked after, and describes it.
func AckAlert(ctx context.Context, db *store.DB, id string, ack alert.Ack) (Alert, error) {
	if err := ack.Check(); err != nil {
		return Alert{}, wrong(err)
	}
	if err := db.AckAlert(ctx, id, ack); err != nil {
		return Alert{}, noAlert(err, id)
	}
	return DescribeAlert(ctx, db, id, ack.At)
}

// noAlert says of an error of the store what is to be done, where it is that
// the id is of no alert, or of several.
func noAlert(err error, id string) error {
	switch {
	case errors.Is(err, store.ErrNoAlert):
		return &Error{http.StatusNotFound, fmt.Sprintf("there is no alert %.100q", id)}
	case errors.Is(err, store.ErrManyAlerts):
		return wrong(fmt.Errorf("the ids of several alerts begin with %q; give more of it", id))
	}
	return err
}

// readableID refuses what no id can be.
func readableID(id string) error {
	if id == "" || len(id) > 200 || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		return &Error{http.StatusNotFound, fmt.Sprintf("there is no alert %.100q", id)}
	}
	return nil
}

func (s *Server) alert(w http.ResponseWriter, r *http.Request, values url.Values) error {
	id := r.PathValue("id")
	if err := errors.Join(only(values), readableID(id)); err != nil {
		return err
	}
	known, err := DescribeAlert(r.Context(), s.DB, id, s.Now())
	if err != nil {
		return err
	}
	return s.json(w, r, known)
}

func (s *Server) ack(w http.ResponseWriter, r *http.Request, values url.Values) error {
	id := r.PathValue("id")
	if err := errors.Join(only(values), readableID(id)); err != nil {
		return err
	}
	ack, err := readAck(w, r, s.Now())
	if err != nil {
		return err
	}
	known, err := AckAlert(r.Context(), s.DB, id, ack)
	if err != nil {
		return err
	}
	return s.json(w, r, known)
}

func readAck(w http.ResponseWriter, r *http.Request, now time.Time) (alert.Ack, error) {
	var body struct {
		By      string `json:"by"`
		Comment string `json:"comment"`
	}
	err := readBody(w, r, &body, `{"by": "ops", "comment": "looking into it"}`)
	return alert.Ack{By: by(r, body.By), Comment: body.Comment, At: now.UTC()}, err
}

// by is who does something: as the body says, else as who has logged in before a
// proxy that passes that on.
func by(r *http.Request, given string) string {
	if user, _, ok := r.BasicAuth(); ok && given == "" {
		return user
	}
	return given
}
