package alert

import "time"

// State is where an alert is in its life.
type State string

// The states of a published alert.
const (
	Firing   State = "firing"
	Resolved State = "resolved"
)

// Alert is what subscribers receive, as JSON, on alerts.<scope>.<rule>.
type Alert struct {
	// ID is deterministic: the same decision, taken again, has the same id.
	ID string `json:"id"`
	// FiringID is, in an alert that is resolved, the id of the one that had fired.
	FiringID  string            `json:"firing_id,omitempty"`
	Rule      string            `json:"rule"`
	Case      string            `json:"case,omitempty"`
	Scope     Scope             `json:"scope"`
	State     State             `json:"state"`
	Key       map[string]string `json:"key"`
	Severity  int               `json:"severity"` // 1 severe, 2 moderate, 3 mild
	Message   string            `json:"message"`
	Value     float64           `json:"value"`
	Threshold float64           `json:"threshold"`
	// Details are what the rule shows beside the key, Labels what it is labelled with.
	Details map[string]string `json:"details,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	// Stakeholder is whom the alert concerns, where the rule says so.
	Stakeholder Stakeholder `json:"stakeholder,omitzero"`
	// FiredAt is the event time of the event, or of the end of the step, that decided;
	// ResolvedAt that from which the condition no longer held. A local alert is never
	// resolved: it tells of something that happened.
	FiredAt    time.Time `json:"fired_at"`
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	// Reason says why an alert is resolved, where it is not that its condition ended.
	Reason string `json:"reason,omitempty"`
	// ShardID is the shard whose traffic a local alert was decided on.
	ShardID string `json:"shard_id,omitempty"`

	quietBy []string // what it keeps quiet, and is kept quiet by
	quiet   time.Duration
}

// SuppressedBy is what a global alert has in common with those that keep it quiet.
func (a *Alert) SuppressedBy() []string { return a.quietBy }

// Quiet is how long it keeps others quiet.
func (a *Alert) Quiet() time.Duration { return a.quiet }

// Role is in which role somebody is concerned, as in WSO2.
type Role string

// The roles.
const (
	Publisher  Role = "publisher"  // whose API it is
	Subscriber Role = "subscriber" // whose application it is
)

// Stakeholder is the user whom an alert concerns, beside those who are told of all.
type Stakeholder struct {
	Role   Role   `json:"role"`
	User   string `json:"user"`
	Tenant string `json:"tenant,omitempty"`
}
