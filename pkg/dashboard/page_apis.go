package dashboard

func apisPage() page {
	return page{
		path: "/apis", title: "APIs", about: "Who is called, how often, and with what result.",
		panels: []panel{
			sums(),
			byOutcome(),
			byAPI(),
			{
				id: "busiest", title: "Calls of the busiest APIs", form: lines, of: outcomes, group: "apiName",
				columns: []column{{name: "calls", ask: calls, title: "Calls", unit: number}},
			},
			byKey("destinations", "Destinations", destinations, "destination", "Backend", "totalRequestCount"),
			byResource(),
			byUser(),
		},
	}
}

// apiPage is about one API, which the filter names.
func apiPage() page {
	return page{
		path: "/apis/one", title: "API", within: "/apis", needs: "api", otherwise: "/apis",
		panels: []panel{
			sums(),
			speeds(),
			byOutcome(),
			percentiles(false),
			partsOverTime(),
			{
				id: "versions", title: "Versions", form: table, wide: true, of: outcomes, group: "apiName, apiVersion", order: "calls desc",
				columns: append([]column{{name: "api", ask: "apiName", title: "API", hidden: true}, versionColumn(), callsColumn()}, outcomeColumns()...),
			},
			{
				id: "usage-version", title: "Calls by version", form: lines, of: outcomes, group: "apiVersion",
				columns: []column{{name: "calls", ask: calls, title: "Calls", unit: number}},
			},
			{
				id: "usage-app", title: "Calls by application", form: lines, of: outcomes, group: "applicationId", as: "applicationName",
				columns: []column{{name: "calls", ask: calls, title: "Calls", unit: number}},
			},
			byApplication(),
			byResource(),
			byKey("destinations", "Destinations", destinations, "destination", "Backend", "totalRequestCount"),
			slowest(true),
			byCode(),
			byFault(),
			byReason(),
			byUser(),
			byPlatform(),
			byBrowser(),
			byCountry(),
		},
	}
}
