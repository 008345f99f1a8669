package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// Threshold is how the API shows a threshold.
type Threshold struct {
	alert.Threshold

	By string    `json:"by,omitempty"` // who set it, as that one has said
	At time.Time `json:"at"`           // when it was set or learned
}

// NewThreshold describes a stored threshold.
func NewThreshold(t store.Threshold) Threshold { return Threshold{t.Threshold, t.By, t.At} }

// CheckThreshold returns as an Error what of a threshold that is to be set is
// wrong for these rules, or nil.
func CheckThreshold(rules []*alert.Rule, t alert.Threshold) error {
	names := make([]string, len(rules))
	for i, rule := range rules {
		names[i] = rule.Name
	}
	at := slices.Index(names, t.Rule)
	switch {
	case t.Rule == "":
		return wrong(errors.New("rule is missing; there are: " + strings.Join(names, ", ")))
	case at < 0:
		return wrong(oneOf("rule", t.Rule, names))
	}
	var cases []string
	for i := range rules[at].Cases {
		if name := rules[at].Cases[i].Name; name != "" {
			cases = append(cases, name)
		}
	}
	if t.Case != "" && len(cases) == 0 {
		return wrong(fmt.Errorf("case: %s has no cases: leave it out", t.Rule))
	}
	if err := oneOf("case", t.Case, cases); err != nil {
		return wrong(err)
	}
	if err := t.Check(rules[at]); err != nil {
		return wrong(err)
	}
	return nil
}

// thresholdNames are the texts that tell a threshold from others.
func thresholdNames() []string { return append([]string{"rule", "case"}, alert.DimensionNames()...) }

// thresholdOf is the threshold that these texts tell.
func thresholdOf(text func(name string) string) alert.Threshold {
	return alert.Threshold{Rule: text("rule"), Case: text("case"), Dimensions: alert.Dimensions{
		API: text("api"), Version: text("version"), Resource: text("resource"),
		Method: text("method"), Application: text("application"), Tenant: text("tenant"),
	}}
}

func (s *Server) thresholds(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values, "rule"); err != nil {
		return err
	}
	list, err := Thresholds(r.Context(), s.DB, s.Catalog.Rules, values.Get("rule"))
	if err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"thresholds": list})
}

// Thresholds lists all thresholds, or those of a rule: one that is defined, or has
// some still.
func Thresholds(ctx context.Context, db *store.DB, rules []*alert.Rule, rule string) ([]Threshold, error) {
	stored, _, err := db.Thresholds(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	list := []Threshold{}
	for _, t := range stored {
		if names = append(names, t.Rule); rule == "" || rule == t.Rule {
			list = append(list, NewThreshold(t))
		}
	}
	slices.Sort(names)
	if err := oneOf("rule", rule, slices.Compact(names)); err != nil {
		return nil, wrong(err)
	}
	return list, nil
}

func (s *Server) setThreshold(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	t, by, err := readThreshold(http.MaxBytesReader(w, r.Body, mostThreshold))
	if err == nil {
		err = CheckThreshold(s.Catalog.Rules, t)
	}
	if err != nil {
		return err
	}
	if user, _, ok := r.BasicAuth(); ok && by == "" {
		by = user
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && by == "" {
		by = host
	}
	stored, err := s.DB.SetThreshold(r.Context(), t, clip(by))
	if err != nil {
		return err
	}
	return s.json(w, r, NewThreshold(stored))
}

// mostThreshold is how long the body may be that sets one.
const mostThreshold = 64 << 10

const exampleThreshold = `{"rule": "abnormal-response-time", "api": "pizza", "value": 2000}`

// readThreshold reads what a person sets, and who says to have set it. Nothing in
// it may be unknown, given twice, or of another kind.
func readThreshold(body io.Reader) (t alert.Threshold, by string, err error) {
	data, err := io.ReadAll(body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return t, "", &Error{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over %d bytes", tooLarge.Limit)}
	}
	var members map[string]jsontext.Value
	if err != nil || json.Unmarshal(data, &members) != nil || members == nil {
		return t, "", wrong(errors.New("the body must be one JSON object in which every name is there once, as in " + exampleThreshold))
	}
	names := append(thresholdNames(), "value", "by")
	texts := map[string]string{}
	for name, member := range members {
		var text string
		switch kind := member.Kind(); {
		case !slices.Contains(names, name):
			return t, "", wrong(fmt.Errorf("there is no member %q%s; there are: %s", clip(name), didYouMean(name, names), strings.Join(names, ", ")))
		case name == "value" && kind != '0':
			return t, "", wrong(errors.New("value: write it as a number, as in " + exampleThreshold))
		case name == "value":
			text = string(member)
		case json.Unmarshal(member, &text) != nil || kind != '"':
			return t, "", wrong(fmt.Errorf("%s: write it as a text, as in %s", name, exampleThreshold))
		}
		texts[name] = text
	}
	if texts["value"] == "" {
		return t, "", wrong(errors.New("value is missing: the bound, a number"))
	}
	t = thresholdOf(func(name string) string { return texts[name] })
	if t.Value, err = strconv.ParseFloat(texts["value"], 64); err != nil {
		return t, "", wrong(fmt.Errorf("value: %s is too large", clip(texts["value"])))
	}
	return t, texts["by"], nil
}

func (s *Server) unsetThreshold(w http.ResponseWriter, r *http.Request, values url.Values) error {
	names := thresholdNames()
	if err := only(values, names...); err != nil {
		return err
	}
	for _, name := range names {
		if len(values[name]) > 1 {
			return wrong(fmt.Errorf("%s is given %d times", name, len(values[name])))
		}
	}
	t := thresholdOf(values.Get)
	if err := UnsetThreshold(r.Context(), s.DB, s.Catalog.Rules, t); err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"unset": t.Rule})
}

// UnsetThreshold removes a threshold that somebody has set, also one of a rule that
// is not defined any more. An Error says what is wrong.
func UnsetThreshold(ctx context.Context, db *store.DB, rules []*alert.Rule, t alert.Threshold) error {
	err := t.Storable()
	if err != nil {
		return wrong(err)
	}
	err = db.UnsetThreshold(ctx, t)
	if !errors.Is(err, store.ErrNoThreshold) {
		return err
	}
	if err := CheckThreshold(rules, t); err != nil {
		return err
	}
	of := ""
	if t.Case != "" {
		of = "case " + t.Case + " of "
	}
	return &Error{http.StatusNotFound, fmt.Sprintf("nobody has set a threshold for exactly this: %s of %s%s; `weir thresholds list` shows those that are set", t.Text(), of, t.Rule)}
}

// Thresholds lists what is set or learned for a rule; "" is all of them.
func (c *Client) Thresholds(ctx context.Context, rule string) ([]Threshold, error) {
	var answer struct {
		Thresholds []Threshold `json:"thresholds"`
	}
	err := c.get(ctx, "thresholds", filter(map[string]string{"rule": rule}, 0), &answer)
	return answer.Thresholds, err
}

// SetThreshold sets a threshold, in place of one that was set for exactly its
// dimensions; workers go by it within two seconds. by says who does it; "" leaves
// that to the server.
func (c *Client) SetThreshold(ctx context.Context, t alert.Threshold, by string) (Threshold, error) {
	t.Learned = false
	body, err := json.Marshal(struct {
		alert.Threshold

		By string `json:"by,omitzero"`
	}{t, by})
	if err != nil {
		return Threshold{}, fmt.Errorf("set a threshold: %w", err)
	}
	var stored Threshold
	err = c.do(ctx, http.MethodPut, "thresholds", nil, body, &stored)
	return stored, err
}

// UnsetThreshold removes what somebody has set for exactly these dimensions. The
// value does not matter.
func (c *Client) UnsetThreshold(ctx context.Context, t alert.Threshold) error {
	values := filter(map[string]string{"rule": t.Rule, "case": t.Case}, 0)
	for i, text := range t.Values() {
		if text != "" {
			values.Set(alert.DimensionNames()[i], text)
		}
	}
	var answer struct{}
	return c.do(ctx, http.MethodDelete, "thresholds", values, nil, &answer)
}
