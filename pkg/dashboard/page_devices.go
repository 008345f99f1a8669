package dashboard

func devicesPage() page {
	city := panel{
		id: "cities", title: "Cities", form: table, of: places, group: "country, city", order: "calls desc",
		columns: []column{{name: "city", title: "City"}, {name: "country", title: "Country"}, servedColumn("totalCount")},
	}
	return page{
		path: "/devices", title: "Devices", about: "What calls come from: by the User-Agent header, and by the client's address.",
		panels: []panel{
			{
				id: "over", title: "Served calls by platform", form: lines, of: agents, group: "operatingSystem",
				columns: []column{{name: "calls", ask: "totalRequestCount", title: "Calls", unit: number}},
			},
			{
				id: "over-agents", title: "Served calls by user agent", form: lines, of: agents, group: "browser",
				columns: []column{{name: "calls", ask: "totalRequestCount", title: "Calls", unit: number}},
			},
			byPlatform(),
			byBrowser(),
			byCountry(),
			city,
		},
	}
}
