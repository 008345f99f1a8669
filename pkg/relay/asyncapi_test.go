package relay

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"weir/pkg/alert"
	"weir/pkg/stream"
)

// What subscribers are told is what is published; that alerts are as their schema
// says is for the tests of workers and evaluators, by what these publish.
func TestAsyncAPI_SaysWhatIsPublished(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "asyncapi.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Channels struct {
			Alerts struct {
				Address    string
				Parameters struct{ Scope struct{ Enum []string } }
			}
		}
		Components struct {
			Messages struct {
				Alert struct {
					ContentType string `yaml:"contentType"`
					Payload     struct {
						Ref string `yaml:"$ref"`
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal(data, &said); err != nil {
		t.Fatal(err)
	}
	scopes := []string{string(alert.ScopeLocal), string(alert.ScopeGlobal)}
	if got := said.Channels.Alerts.Parameters.Scope.Enum; !slices.Equal(got, scopes) {
		t.Errorf("scopes are %v, want %v", got, scopes)
	}
	for _, scope := range scopes {
		subject := strings.NewReplacer("{scope}", scope, "{rule}", "tier-crossing").Replace(said.Channels.Alerts.Address)
		if want := stream.AlertSubject(scope, "tier-crossing"); subject != want {
			t.Errorf("the address is %s, alerts are published on %s", subject, want)
		}
	}
	schema, err := os.ReadFile(filepath.Join(filepath.Dir(file), said.Components.Messages.Alert.Payload.Ref))
	if err != nil || string(schema) != alert.Schema || said.Components.Messages.Alert.ContentType != contentType {
		t.Errorf("the payload is said to be %s as %s (%v)", said.Components.Messages.Alert.ContentType, said.Components.Messages.Alert.Payload.Ref, err)
	}
}
