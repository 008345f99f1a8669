package dashboard

func errorsPage() page {
	// What has no error is no row of a table of errors.
	some := func(p panel, id, title string) panel {
		p.id, p.title, p.order, p.having, p.limit = id, title, "failed desc", "failed > 0", 10
		return p
	}
	figures := func(first ...column) []column {
		return append(first,
			column{name: "failed", ask: failed, title: "Errors", unit: number, bar: true, tone: bad},
			column{name: "c4xx", ask: "_4xx", title: "4xx", unit: number, tone: warn},
			column{name: "c5xx", ask: "_5xx", title: "5xx", unit: number, tone: bad},
			column{name: "faults", ask: "faultCount", title: "Faults", unit: number, tone: bad},
			rateColumn())
	}
	resource := column{name: "resource", ask: "apiResourceTemplate", title: "Resource"}
	return page{
		path: "/errors", title: "Errors", about: "Answers of 400 and above, and faults: calls that the gateway could not get answered.",
		panels: []panel{
			{
				id: "sums", form: tiles, wide: true, of: outcomes,
				columns: []column{
					{name: "failed", ask: failed, title: "Errors", unit: number, tone: bad},
					rateColumn(),
					{name: "c4xx", ask: "_4xx", title: "4xx", unit: number, tone: warn},
					{name: "c5xx", ask: "_5xx", title: "5xx", unit: number, tone: bad},
					{name: "faults", ask: "faultCount", title: "Faults", unit: number, tone: bad},
				},
			},
			errorsOverTime(),
			{
				id: "rates", title: "Error rate by class", form: lines, of: outcomes,
				columns: []column{
					{name: "r4xx", ask: "100 * _4xx" + ofCalls, title: "4xx", unit: percent, tone: warn},
					{name: "r5xx", ask: "100 * _5xx" + ofCalls, title: "5xx", unit: percent, tone: bad},
					{name: "rfault", ask: "100 * faultCount" + ofCalls, title: "Faults", unit: percent, tone: faulty},
				},
			},
			{
				id: "worst", title: "Errors of the APIs that have most", form: lines, of: outcomes, group: "apiName",
				columns: []column{{name: "failed", ask: failed, title: "Errors", unit: number}},
			},
			some(panel{form: table, wide: true, of: outcomes, group: "apiName, apiVersion", columns: figures(apiColumn(), versionColumn())}, "apis", "By API"),
			some(panel{form: table, wide: true, of: outcomes, group: "applicationId", columns: figures(appColumns()...)}, "applications", "By application"),
			some(panel{form: table, wide: true, of: outcomes, group: "apiName, apiVersion, apiResourceTemplate", columns: figures(apiColumn(), versionColumn(), resource)}, "resources", "By resource"),
			byCode(),
			byFault(),
		},
	}
}
