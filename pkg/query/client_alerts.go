package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// Alerts lists the alerts that a filter chooses, newest first; limit 0 leaves the
// number to the server.
func (c *Client) Alerts(ctx context.Context, filter store.AlertFilter) ([]alert.Alert, error) {
	return c.AlertsBy(ctx, AlertValues(filter))
}

// AlertsBy is Alerts with the parameters as people write them, see [ParseAlerts].
func (c *Client) AlertsBy(ctx context.Context, values url.Values) ([]alert.Alert, error) {
	var answer struct {
		Alerts []alert.Alert `json:"alerts"`
	}
	err := c.get(ctx, "alerts", values, &answer)
	return answer.Alerts, err
}

// Alert returns all that is known of one alert, by its id or the beginning of it.
func (c *Client) Alert(ctx context.Context, id string) (Alert, error) {
	var known Alert
	err := c.get(ctx, "alerts/"+url.PathEscape(id), nil, &known)
	return known, err
}

// AckAlert says that an alert is looked after, by whom, and perhaps how.
func (c *Client) AckAlert(ctx context.Context, id, by, comment string) (Alert, error) {
	var known Alert
	err := c.send(ctx, http.MethodPost, "alerts/"+url.PathEscape(id)+"/ack", map[string]string{"by": by, "comment": comment}, &known)
	return known, err
}

// Silences lists the silences that are in force or to come, or all that are kept.
func (c *Client) Silences(ctx context.Context, ended bool) ([]alert.Silence, error) {
	var answer struct {
		Silences []alert.Silence `json:"silences"`
	}
	values := url.Values{}
	if ended {
		values.Set("state", store.StateAll)
	}
	err := c.get(ctx, "silences", values, &answer)
	return answer.Silences, err
}

// AddSilence makes a silence; a zero StartsAt is now, by the server's clock.
func (c *Client) AddSilence(ctx context.Context, s alert.Silence) (alert.Silence, error) {
	var added alert.Silence
	err := c.send(ctx, http.MethodPost, "silences", struct {
		Rule     string            `json:"rule,omitempty"`
		Match    map[string]string `json:"match,omitempty"`
		StartsAt time.Time         `json:"starts_at,omitzero"`
		EndsAt   time.Time         `json:"ends_at"`
		By       string            `json:"by"`
		Comment  string            `json:"comment"`
	}{s.Rule, s.Match, s.StartsAt, s.EndsAt, s.By, s.Comment}, &added)
	return added, err
}

// EndSilence ends a silence now.
func (c *Client) EndSilence(ctx context.Context, id int64) (alert.Silence, error) {
	var ended alert.Silence
	err := c.do(ctx, http.MethodDelete, "silences/"+strconv.FormatInt(id, 10), nil, nil, &ended)
	return ended, err
}

// Availability is the availability board of a tenant, of APIs in a state; "" is any.
func (c *Client) Availability(ctx context.Context, tenant string, state APIState) ([]Availability, error) {
	var answer struct {
		APIs []Availability `json:"apis"`
	}
	err := c.get(ctx, "availability", filter(map[string]string{"tenant": tenant, "state": string(state)}, 0), &answer)
	return answer.APIs, err
}

// send sends a value as JSON.
func (c *Client) send(ctx context.Context, method, path string, value, target any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("ask the API: %w", err)
	}
	return c.do(ctx, method, path, nil, body, target)
}
