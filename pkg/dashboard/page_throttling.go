package dashboard

func throttlingPage() page {
	throttled := column{name: "throttled", ask: "throttledCount", title: "Throttled", unit: number, bar: true, tone: refused}
	share := column{name: "share", ask: "100 * throttledCount" + ofCalls, title: "Of all calls", unit: percent}
	list := func(id, title, group string, first ...column) panel {
		return panel{
			id: id, title: title, form: table, of: outcomes, group: group, order: "throttled desc", having: "throttled > 0",
			columns: append(first, throttled, share),
		}
	}
	return page{
		path: "/throttling", title: "Throttling", about: "Calls that were refused because a limit was reached, and those that were let through above it.",
		panels: []panel{
			{
				id: "sums", form: tiles, wide: true, of: outcomes,
				columns: []column{
					{name: "throttled", ask: "throttledCount", title: "Throttled", unit: number, tone: warn},
					share,
					{name: "calls", ask: calls, title: "Calls", unit: number},
				},
			},
			{
				id: "over", title: "Throttled by reason, over time", form: lines, wide: true, of: reasons, group: "throttledOutReason",
				columns: []column{{name: "throttled", ask: "throttledOutCount", title: "Throttled", unit: number}},
			},
			list("apis", "By API", "apiName, apiVersion", apiColumn(), versionColumn()),
			list("applications", "By application", "applicationId", appColumns()...),
			byReason(),
			{
				id: "above", title: "Let through above the quota", form: table, of: traffic, group: "applicationId", order: "above desc", having: "above > 0",
				columns: append(appColumns(),
					column{name: "above", ask: "aboveQuotaCount", title: "Above quota", unit: number, bar: true, tone: warn},
					column{name: "share", ask: "100 * aboveQuotaCount / totalRequestCount", title: "Of served", unit: percent}),
			},
		},
	}
}
