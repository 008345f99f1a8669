package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weir/pkg/embedded"
)

// Problems is everything that is wrong with a configuration, one sentence each, without secrets.
type Problems []string

// Error is the sentence, or all of them on a line each.
func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0]
	}
	return fmt.Sprintf("%d problems with the configuration:\n  %s", len(p), strings.Join(p, "\n  "))
}

// ExitCode makes weir end as after any other wrong usage.
func (Problems) ExitCode() int { return 2 }

// Load returns the settings of a command that was prepared with [Flags]. Its error is [Problems],
// or says that a file could not be read.
func Load(cmd *cobra.Command) (Config, error) {
	r, err := sourcesOf(cmd).load()
	if err != nil {
		return Config{}, err
	}
	if problems := r.missing(cmd); len(problems) > 0 {
		return Config{}, problems
	}
	return r.config, nil
}

// sources is everything a configuration is made from; the tests bring their own.
type sources struct {
	defaults Config
	stateDir string   // of the running instance; "": none is looked for
	file     string   // --config
	environ  []string // NAME=value
	flags    *pflag.FlagSet
}

func sourcesOf(cmd *cobra.Command) sources {
	s := sources{defaults: Default(), environ: os.Environ(), flags: cmd.Flags()}
	s.defaults.Worker.ShardID = defaultShardID()
	s.file, _ = cmd.Flags().GetString("config")
	if hasGroup(cmd, Embedded) {
		s.defaults.HTTP.Listen = "127.0.0.1:0"
		return s
	}
	if dir, err := embedded.DefaultDir(); err == nil { // in a container there may be none, and no instance in it
		s.stateDir = dir
	}
	return s
}

// result is a loaded configuration, with the origin of every setting that is not a default.
type result struct {
	config Config
	origin map[string]string
}

func (s sources) load() (result, error) {
	var names []string
	k, values := koanf.New("."), make(map[string]any)
	for _, d := range settings(s.defaults) {
		names = append(names, d.name)
		values[d.name] = d.value
	}
	if err := k.Load(confmap.Provider(values, "."), nil); err != nil {
		return result{}, fmt.Errorf("load the default settings: %w", err)
	}
	layers, problems, err := s.layers(names)
	if err != nil {
		return result{}, err
	}
	r := result{origin: make(map[string]string)}
	for _, l := range layers {
		typed := make(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(l)) {
			value, err := parse(l[name].text, values[name])
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s: %s: %s", l[name].origin, name, err))
				continue
			}
			typed[name], r.origin[name] = value, l[name].origin
		}
		if err := k.Load(confmap.Provider(typed, "."), nil); err != nil {
			return result{}, fmt.Errorf("merge the settings: %w", err)
		}
	}
	if err := k.Unmarshal("", &r.config); err != nil {
		return result{}, fmt.Errorf("read the settings: %w", err)
	}
	r.settle()
	if problems = append(problems, r.invalid()...); len(problems) > 0 {
		return result{}, Problems(problems)
	}
	return r, nil
}

// settle lets a default yield to what is given.
func (r *result) settle() {
	const idle = "postgres.max_idle"
	if r.origin[idle] == "" && r.config.Postgres.MaxIdle > r.config.Postgres.MaxOpen {
		r.config.Postgres.MaxIdle = max(0, r.config.Postgres.MaxOpen)
		r.origin[idle] = "default, lowered to postgres.max_open"
	}
	if r.config.Worker.ShardPool > 0 && r.origin["worker.shard_id"] == "" {
		r.config.Worker.ShardID = ""
	}
}

// invalid is what no role could work with, each with the place where the setting stands.
func (r *result) invalid() Problems {
	var problems Problems
	_ = errors.As(r.config.Validate(), &problems) // it returns nothing else
	const shard = "worker.shard_id"
	pool := r.config.Worker.ShardPool > 0
	if r.config.Worker.ShardID == "" && r.origin[shard] != "" && !pool {
		problems.add(shard + " must not be empty; leave it out for a name made of host name and process id")
	}
	const size = "worker.shard_pool"
	if r.config.Worker.ShardPool == 0 && strings.HasPrefix(r.origin[size], "--") { // in a file it says that there is no pool
		problems.add(size + " must be at least 1; leave it out for a worker that has a shard id of its own")
	}
	if r.config.Worker.ShardID != "" && pool {
		problems.add("worker.shard_pool must be left out where there is a worker.shard_id, and the other way round; %s gives the id", r.origin[shard])
	}
	for i, p := range problems {
		name, _, _ := strings.Cut(p, " ")
		if origin := r.origin[name]; origin != "" {
			problems[i] = origin + ": " + p
		}
	}
	return problems
}

// layers reads the layers above the defaults, the weakest first.
func (s sources) layers(names []string) ([]layer, []string, error) {
	env, problems := envLayer(s.environ, names)
	path, err := filePath(s.file, s.environ)
	if err != nil {
		return nil, nil, err
	}
	file := layer{}
	if path != "" {
		var more []string
		if file, more, err = fileLayer(path, names); err != nil {
			return nil, nil, err
		}
		problems = append(more, problems...)
	}
	running, err := runningLayer(s.stateDir)
	if err != nil {
		return nil, nil, err
	}
	flags := flagLayer(s.flags)
	// NATS and Postgres of a running instance belong together: half of it is never mixed with
	// a server named by hand.
	for _, l := range []layer{file, env, flags} {
		if _, ok := l["nats.url"]; ok {
			delete(running, "postgres.url")
		}
		if _, ok := l["postgres.url"]; ok {
			delete(running, "nats.url")
		}
	}
	return []layer{running, file, env, flags}, problems, nil
}

// missing says what cmd cannot do without and has not got.
func (r result) missing(cmd *cobra.Command) Problems {
	var problems Problems
	need := func(group Group, value URL, what, flag, name string) {
		if hasGroup(cmd, group) && value == "" {
			problems = append(problems, fmt.Sprintf("%s is not known: give %s, set %s, or start one with `weir up`",
				what, flag, envName(name)))
		}
	}
	need(NATS, r.config.NATS.URL, "the NATS server", "--nats URL", "nats.url")
	need(Postgres, r.config.Postgres.URL, "the database", "--postgres URL", "postgres.url")
	need(API, r.config.HTTP.URL, "the HTTP API", "--http URL", "http.url")
	return problems
}
