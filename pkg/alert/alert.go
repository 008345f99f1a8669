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
	ID        string            `json:"id"`
	Rule      string            `json:"rule"`
	Case      string            `json:"case,omitempty"`
	Scope     Scope             `json:"scope"`
	State     State             `json:"state"`
	Key       map[string]string `json:"key"`
	Severity  int               `json:"severity"`
	Message   string            `json:"message"`
	Value     float64           `json:"value"`
	Threshold float64           `json:"threshold"`
	// FiredAt is the event time of the event that decided.
	FiredAt time.Time `json:"fired_at"`
	// ShardID is the shard whose traffic a local alert was decided on.
	ShardID string `json:"shard_id,omitempty"`
}
