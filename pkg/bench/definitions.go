package bench

import (
	"fmt"
	"io/fs"

	"weir/streams"
)

// oneAggregation is the name of the peers' work: one aggregation of four granularities.
const oneAggregation = "CallsByResource"

const oneDefinition = `
stream: request
description: What the stream processors that Weir is compared with were given to do.
time: requestTimestamp
future: 24 hours
attributes:
  apiName:             {type: string}
  apiVersion:          {type: string}
  apiResourceTemplate: {type: string}
  requestTimestamp:    {type: time, unit: ms}
  responseTime:        {type: int, min: 0}
  responseCode:        {type: int, min: 0}
derived:
  failed: {value: "responseCode >= 500 ? 1 : 0"}
aggregations:
  CallsByResource:
    group_by: [apiName, apiVersion, apiResourceTemplate]
    select:
      requests: count()
      total:    sum(responseTime)
      fastest:  min(responseTime)
      slowest:  max(responseTime)
      errors:   sum(failed)
    every: [seconds, minutes, hours, days]
    retention: {seconds: 2 days, minutes: 1 month, hours: 1 year, days: all}
`

func oneFiles() map[string]string { return map[string]string{"one.yaml": oneDefinition} }

// rulesFile has all rules of the pack, and nothing else.
const rulesFile = "alerts.yaml"

// dashboardFile has what WSO2 does not count; the pack that is measured is WSO2's.
const dashboardFile = "dashboard.yaml"

// packFiles are those of WSO2's pack, with a longer retention.
func packFiles() (map[string]string, error) {
	names, err := fs.Glob(streams.Files, "*.yaml")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, name := range names {
		if name == dashboardFile {
			continue
		}
		text, err := streams.Files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the built-in definitions: %w", err)
		}
		files[name] = keepLong(string(text))
	}
	return files, nil
}
