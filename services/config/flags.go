package config

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Group is a part of the configuration a role takes: it decides which flags the role has, and which
// settings must have a value.
type Group string

// The groups. A role that gives NATS or Postgres needs the URL of it; see Embedded for the exception.
const (
	NATS        Group = "nats"        // --nats, --nats-creds, --nats-monitor
	Postgres    Group = "postgres"    // --postgres
	Listen      Group = "listen"      // --http ADDR: the role serves the API
	API         Group = "api"         // --http URL: the role is a client of the API
	Health      Group = "health"      // --health ADDR: the role can be asked for its health
	Shard       Group = "shard"       // --shard-id, --shard-pool
	Definitions Group = "definitions" // --streams, --partition-by-id
	Alerts      Group = "alerts"      // --alert-retention
	Publisher   Group = "publisher"   // --batch-events, --batch-bytes, --linger, --max-in-flight, --compression
	// Embedded is for a role that starts its own servers (up, demo): --postgres becomes an alternative to
	// the private server, --http is a free port unless given, and the running instance is not looked at.
	Embedded Group = "embedded" // --http ADDR, --postgres
	// Unused gives a role the flags of NATS and Postgres that it does not use, so that one set of flags fits
	// all roles. It comes last.
	Unused Group = "unused" // --nats, --nats-creds, --nats-monitor, --postgres
)

const (
	settingAnnotation = "weir-setting" // on a flag: the setting it stands for
	groupsAnnotation  = "weir-groups"  // on a command: its groups
)

// setter is a flag that stands for a setting.
type setter struct{ flag, setting, usage string }

// settersOf returns the flags of each group.
func settersOf() map[Group][]setter {
	return map[Group][]setter{
		NATS: {
			{"nats", "nats.url", "`URL` of the NATS server, several separated by commas"},
			{"nats-creds", "nats.creds", "NATS credentials `file`"},
			{"nats-monitor", "nats.monitor", "`URL` of the NATS servers' monitoring ports, to see how durable they are; several separated by commas"},
		},
		Postgres: {
			{"postgres", "postgres.url", "`URL` of the database, postgres://user:password@host:port/database"},
		},
		Listen: {
			{"http", "http.listen", "`address` the HTTP API listens at, host:port"},
		},
		API: {
			{"http", "http.url", "`URL` of the HTTP API"},
		},
		Health: {
			{"health", "http.health", "`address` to answer /healthz and /readyz at, host:port; by default none"},
		},
		Shard: {
			{"shard-id", "worker.shard_id", "`name` of the worker's shard, at most 20 characters; by default host name and process id"},
			{"shard-pool", "worker.shard_pool", "in place of --shard-id: take the first free of this `number` of shards, pool-1, pool-2, …"},
		},
		Definitions: {
			{"streams", "streams", "`directory` of definitions to use in place of the built-in ones"},
			{"geoip", "geoip", "`file` of countries and cities (.mmdb) by which workers place client addresses; by default they are Unknown"},
			{"partition-by-id", "partition_by_id", "`true` or false: shard_id is a column of answers, where a definition does not say; by default true"},
		},
		Alerts: {
			{"alert-retention", "alerts.retention", "keep alerts for this `long` once they are recorded, as 9600h; 0 is for ever"},
		},
		Publisher: {
			{"batch-events", "publisher.batch_events", "`number` of events in a message, at most; by default 100"},
			{"batch-bytes", "publisher.batch_bytes", "`bytes` of a message before compression, at most, as 64KiB; by default 256KiB"},
			{"linger", "publisher.linger", "`time` for which the first event of a message waits for others; by default 20ms"},
			{"max-in-flight", "publisher.max_in_flight", "`number` of messages that may wait for the stream to acknowledge them; by default 256"},
			{"compression", "publisher.compression", "compress messages by this `method`: none, gzip or zstd; by default none"},
		},
		Embedded: {
			{"http", "http.listen", "`address` the HTTP API listens at, host:port; by default a free port of this machine"},
			{"postgres", "postgres.url", "`URL` of a database to use in place of a private one"},
		},
		Unused: {
			{"nats", "nats.url", "`URL` of the NATS server" + notUsed},
			{"nats-creds", "nats.creds", "NATS credentials `file`" + notUsed},
			{"nats-monitor", "nats.monitor", "`URL` of the NATS servers' monitoring ports" + notUsed},
			{"postgres", "postgres.url", "`URL` of the database" + notUsed},
		},
	}
}

const notUsed = "; not used by this role, but taken so that one set of flags fits all"

// Flags gives cmd the flags of the groups, and --config, --log-level and --log-format.
// Every setting without a flag is set in the file or the environment.
func Flags(cmd *cobra.Command, groups ...Group) {
	flags := cmd.Flags()
	flags.String("config", "", "read the settings from this YAML `file` (also "+fileVariable+")")
	add := func(s setter) {
		flags.String(s.flag, "", s.usage+" ("+envName(s.setting)+")")
		flags.Lookup(s.flag).Annotations = map[string][]string{settingAnnotation: {s.setting}}
	}
	add(setter{"log-level", "log.level", "log from this `level` on: debug, info, warn or error"})
	add(setter{"log-format", "log.format", "`format` of the log: console, json, or auto for console on a terminal"})
	words(cmd, "log-level", "debug", "info", "warn", "error")
	words(cmd, "log-format", "console", "json", "auto")
	setters, names := settersOf(), make([]string, len(groups))
	for i, group := range groups {
		names[i] = string(group)
		for _, s := range setters[group] {
			if group != Unused || flags.Lookup(s.flag) == nil {
				add(s)
			}
		}
	}
	if f := flags.Lookup("partition-by-id"); f != nil {
		f.NoOptDefVal = "true"
	}
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	cmd.Annotations[groupsAnnotation] = strings.Join(names, ",")
}

// words lets the shell complete a flag that Flags has given.
func words(cmd *cobra.Command, flag string, list ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// hasGroup reports whether Flags gave cmd the group.
func hasGroup(cmd *cobra.Command, group Group) bool {
	return slices.Contains(strings.Split(cmd.Annotations[groupsAnnotation], ","), string(group))
}
