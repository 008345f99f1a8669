package query

import (
	_ "embed" // openapi.yaml
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"go.yaml.in/yaml/v3"

	"weir/pkg/alert"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI describes the HTTP API in JSON, as GET /openapi.json does.
func OpenAPI() []byte {
	var document struct {
		Members    map[string]any `yaml:",inline"`
		Components struct {
			Members map[string]any `yaml:",inline"`
			Schemas map[string]any `yaml:"schemas"`
		} `yaml:"components"`
	}
	var schema map[string]any
	if err := errors.Join(yaml.Unmarshal(openAPI, &document), json.Unmarshal([]byte(alert.Schema), &schema)); err != nil {
		panic("query: openapi.yaml: " + err.Error()) // it is part of the program
	}
	delete(schema, "$id") // it has its place in this document
	delete(schema, "$schema")
	document.Components.Schemas["Alert"] = schema
	document.Components.Members["schemas"] = document.Components.Schemas
	document.Members["components"] = document.Components.Members
	return encode(document.Members)
}

func (s *Server) openAPI(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	return s.lasting(w, r, s.document)
}
