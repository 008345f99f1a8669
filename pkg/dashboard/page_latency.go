package dashboard

func latencyPage() page {
	return page{
		path: "/latency", title: "Latency", about: "How long served calls take, from request to response, and where the time goes.",
		panels: []panel{
			speeds(),
			percentiles(true),
			partsOverTime(),
			{
				id: "slow", title: "p95 of the slowest APIs", form: lines, of: latencies, group: "apiName",
				columns: []column{{name: "p95", title: "p95", unit: millis}},
			},
			{
				id: "apis", title: "By API", form: table, wide: true, of: latencies, group: "apiName, apiVersion", order: "p95 desc", limit: 20,
				columns: append([]column{apiColumn(), versionColumn()}, append(percentileColumns(),
					column{name: "longest", title: "Longest", unit: millis},
					column{name: "calls", ask: "totalCount", title: "Served calls", unit: number},
					column{name: "sent", title: "Sent", unit: octets},
					column{name: "cached", ask: "100 * cacheHits / totalCount", title: "From the cache", unit: percent})...),
			},
			slowest(true),
		},
	}
}
