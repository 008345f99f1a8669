// Package relaytest judges, for tests, what a relay has published.
package relaytest

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"weir/pkg/alert"
)

// BySchema is what the published schema of alerts says of a body; nil where it is one.
func BySchema(body []byte) error {
	schema, err := jsonschema.UnmarshalJSON(strings.NewReader(alert.Schema))
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("alert.schema.json", schema); err != nil {
		return err
	}
	compiled, err := compiler.Compile("alert.schema.json")
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return err
	}
	return compiled.Validate(value)
}
