package dashboard

func applicationsPage() page {
	return page{
		path: "/applications", title: "Applications", about: "Who calls. Click one to see it alone.",
		panels: []panel{
			sums(),
			byApplication(),
			{
				id: "busiest", title: "Calls of the busiest applications", form: lines, wide: true, of: outcomes, group: "applicationId", as: "applicationName",
				columns: []column{{name: "calls", ask: calls, title: "Calls", unit: number}},
			},
			{
				id: "used", title: "APIs they call", form: table, of: outcomes, group: "applicationId, apiName, apiVersion", order: "calls desc",
				columns: append(hidden(appColumns()[1:]), appColumns()[0], apiColumn(), versionColumn(), callsColumn(), rateColumn()),
			},
			{
				id: "failing", title: "Faults by application", form: table, of: "ApiFaultyInvocationAgg", group: "applicationId", order: "faults desc",
				columns: append(appColumns(), column{name: "faults", ask: "totalFaultCount", title: "Faults", unit: number, bar: true, tone: faulty}),
			},
			byResource(),
			{
				id: "users", title: "Users", form: table, of: users, group: "applicationId, username, userTenantDomain", order: "calls desc",
				columns: append(hidden(appColumns()[1:]), column{name: "user", ask: "username", title: "User"}, column{name: "tenant", ask: "userTenantDomain", title: "Tenant"},
					appColumns()[0], servedColumn("totalRequestCount")),
			},
		},
	}
}
