// Package streams embeds the default pack: the streams, aggregations and alert
// rules of WSO2 API Manager Analytics 3.2.0. Package definition says how the
// files are written and reads them.
package streams

import "embed"

// Files holds the pack, one YAML file per stream and one for the alert rules.
//
//go:embed *.yaml
var Files embed.FS
