package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// bench is a configuration in the making: a command with all flags, an empty environment and
// a state directory of its own.
type bench struct {
	t *testing.T
	sources
}

func newBench(t *testing.T, args ...string) *bench {
	t.Helper()
	cmd := &cobra.Command{Use: "test"}
	Flags(cmd, NATS, Postgres, API, Shard, Health, Definitions)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	file, _ := cmd.Flags().GetString("config")
	return &bench{t, sources{defaults: Default(), stateDir: t.TempDir(), file: file, flags: cmd.Flags()}}
}

// withFile makes text the YAML file.
func (b *bench) withFile(text string) *bench {
	b.t.Helper()
	b.file = filepath.Join(b.t.TempDir(), "weir.yaml")
	if err := os.WriteFile(b.file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return b
}

func (b *bench) withEnv(lines ...string) *bench {
	b.environ = append(b.environ, lines...)
	return b
}

func (b *bench) withRunning(r Running) *bench {
	b.t.Helper()
	if err := WriteRunning(b.stateDir, r); err != nil {
		b.t.Fatal(err)
	}
	return b
}

func (b *bench) config() Config {
	b.t.Helper()
	r, err := b.load()
	if err != nil {
		b.t.Fatalf("load: %v", err)
	}
	return r.config
}

// problems loads what must be refused; the name of the file is cut to its base.
func (b *bench) problems() Problems {
	b.t.Helper()
	_, err := b.load()
	var problems Problems
	if !errors.As(err, &problems) {
		b.t.Fatalf("load: %v, want Problems", err)
	}
	for i, p := range problems {
		problems[i] = strings.ReplaceAll(p, filepath.Dir(b.file)+string(filepath.Separator), "")
	}
	return problems
}

func TestDefault_IsValid(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	if got, want := newBench(t).config(), Default(); got != want {
		t.Errorf("load without any source = %+v, want the defaults %+v", got, want)
	}
}

func TestLoad_HigherLayerWins(t *testing.T) {
	t.Parallel()
	running := Running{HTTP: "http://running:1", NATS: "nats://running:1", Postgres: "postgres://running/x"}
	file := "nats:\n  url: nats://file:1\nhttp:\n  url: http://file:1\npostgres:\n  url: postgres://file/x\n"
	env := []string{"WEIR_NATS_URL=nats://env:1", "WEIR_POSTGRES_URL=postgres://env/x"}

	got := newBench(t).withRunning(running).config()
	if got.NATS.URL != running.NATS || got.Postgres.URL != running.Postgres || got.HTTP.URL != running.HTTP {
		t.Errorf("running instance over defaults: %#v, %#v, %#v", got.NATS.URL, got.Postgres.URL, got.HTTP.URL)
	}
	got = newBench(t).withRunning(running).withFile(file).config()
	if want := URL("nats://file:1"); got.NATS.URL != want {
		t.Errorf("file over running instance: %v, want %v", got.NATS.URL, want)
	}
	got = newBench(t, "--nats", "nats://flag:1").withRunning(running).withFile(file).withEnv(env...).config()
	if want := URL("nats://flag:1"); got.NATS.URL != want {
		t.Errorf("flag over environment: %v, want %v", got.NATS.URL, want)
	}
	if want := URL("postgres://env/x"); got.Postgres.URL != want {
		t.Errorf("environment over file: %v, want %v", got.Postgres.URL, want)
	}
	if want := URL("http://file:1"); got.HTTP.URL != want {
		t.Errorf("file where nothing is above: %v, want %v", got.HTTP.URL, want)
	}
}

func TestLoad_ReadsEveryKindOfValueFromEveryLayer(t *testing.T) {
	t.Parallel()
	got := newBench(t, "--shard-id", "s-1").
		withFile("postgres:\n  max_open: 7\n  idle_time: 90s\nworker:\n  batch_bytes: 2MiB\nstreams: ./mine\n").
		withEnv("WEIR_POSTGRES_MAX_IDLE=3", "WEIR_STREAM_MAX_AGE=1h30m", "WEIR_STREAM_MAX_BYTES=1048577", "WEIR_LOG_LEVEL=debug").
		config()
	want := Default()
	want.Worker.ShardID = "s-1"
	want.Postgres.MaxOpen, want.Postgres.IdleTime, want.Worker.BatchBytes, want.Streams = 7, 90*time.Second, 2*MiB, "./mine"
	want.Postgres.MaxIdle, want.Stream.MaxAge, want.Stream.MaxBytes, want.Log.Level = 3, 90*time.Minute, MiB+1, "debug"
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoad_TakesTheFileOfWEIRCONFIGUnlessTheFlagNamesOne(t *testing.T) {
	t.Parallel()
	one := newBench(t).withFile("log: {level: warn}").file
	two := newBench(t).withFile("log: {level: error}").file
	if got := newBench(t).withEnv("WEIR_CONFIG=" + one).config().Log.Level; got != "warn" {
		t.Errorf("level = %q, want warn", got)
	}
	if got := newBench(t, "--config", two).withEnv("WEIR_CONFIG=" + one).config().Log.Level; got != "error" {
		t.Errorf("level = %q, want error", got)
	}
	if _, err := newBench(t, "--config", two+".not").load(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("load of a missing file = %v, want os.ErrNotExist", err)
	}
}

func TestLoad_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		file string
		env  []string
		want []string
	}{
		{
			"setting", "postgres:\n  url: postgres://h/d\n  max_opn: 3\n", nil,
			[]string{"weir.yaml:3: postgres.max_opn is not known; did you mean postgres.max_open?"},
		},
		{
			"setting of another section", "nats:\n  max_open: 3\n", nil,
			[]string{"weir.yaml:2: nats.max_open is not known; did you mean postgres.max_open?"},
		},
		{
			"setting without its section", "shard_id: a\n", nil,
			[]string{"weir.yaml:1: shard_id is not known; did you mean worker.shard_id?"},
		},
		{
			"section", "# mine\npostgress:\n  url: x\n", nil,
			[]string{"weir.yaml:2: postgress is not known; did you mean postgres?"},
		},
		{"nothing like it", "xyzzyplugh: 1\n", nil, []string{"weir.yaml:1: xyzzyplugh is not known"}},
		{"short, and nothing like it", "foo: 1\n", nil, []string{"weir.yaml:1: foo is not known"}},
		{"short, and nearly it", "lg:\n", nil, []string{"weir.yaml:1: lg is not known; did you mean log?"}},
		{"given twice", "log:\n  level: info\n  level: debug\n", nil, []string{"weir.yaml:3: log.level is given a second time"}},
		{"no value", "log:\n  level:\n", nil, []string{`weir.yaml:2: log.level has no value; write "" for an empty one, or leave it out`}},
		{"list for a value", "streams: [a, b]\n", nil, []string{"weir.yaml:1: streams must be one value"}},
		{"value for a section", "log: info\n", nil, []string{"weir.yaml:1: log must be a mapping of names to values"}},
		{"list for all", "- log\n", nil, []string{"weir.yaml:1: the configuration must be a mapping of names to values"}},
		{
			"variable", "",
			[]string{"WEIR_POSTGRES_MAXOPEN=3", "PATH=/bin", "WEIR_TEST_ANYTHING=1"},
			[]string{"the environment variable WEIR_POSTGRES_MAXOPEN is not known; did you mean WEIR_POSTGRES_MAX_OPEN?"},
		},
		{
			"variable without its section", "",
			[]string{"WEIR_SHARD_ID=a"},
			[]string{"the environment variable WEIR_SHARD_ID is not known; did you mean WEIR_WORKER_SHARD_ID?"},
		},
		{
			"all at once", "log:\n  levl: info\npostgres:\n  idle_time: 5\n",
			[]string{"WEIR_WORKER_BATCH_MESSAGES=many", "WEIR_NOPE=1"},
			[]string{
				"weir.yaml:2: log.levl is not known; did you mean log.level?",
				"the environment variable WEIR_NOPE is not known",
				`weir.yaml:4: postgres.idle_time: "5" is not a duration; write it as "250ms", "30s", "5m" or "1h30m"`,
				`WEIR_WORKER_BATCH_MESSAGES: worker.batch_messages: "many" is not a whole number`,
			},
		},
		{
			"a wrong form and a wrong value", "postgres:\n  idle_time: 5\nlog:\n  level: loud\n",
			[]string{"WEIR_HTTP_HEALTH=8082"},
			[]string{
				`weir.yaml:2: postgres.idle_time: "5" is not a duration; write it as "250ms", "30s", "5m" or "1h30m"`,
				`WEIR_HTTP_HEALTH: http.health must be host:port or :port, with a port from 0 to 65535, or empty for none; it is "8082"`,
				`weir.yaml:4: log.level must be debug, info, warn or error; it is "loud"`,
			},
		},
		{
			"an empty shard", "",
			[]string{"WEIR_WORKER_SHARD_ID="},
			[]string{"WEIR_WORKER_SHARD_ID: worker.shard_id must not be empty; leave it out for a name made of host name and process id"},
		},
		{
			"a shard and a pool of shards", "worker:\n  shard_pool: 3\n",
			[]string{"WEIR_WORKER_SHARD_ID=a"},
			[]string{"weir.yaml:2: worker.shard_pool must be left out where there is a worker.shard_id, and the other way round; WEIR_WORKER_SHARD_ID gives the id"},
		},
		{
			"a pool of shards with too long names", "worker:\n  shard_pool: 100\n  shard_pool_name: seventeen-letters\n", nil,
			[]string{`weir.yaml:3: worker.shard_pool_name must leave the shard ids at most 20 characters; "seventeen-letters-100" has more`},
		},
		{"a pool of too many", "", []string{"WEIR_WORKER_SHARD_POOL=1001"}, []string{"WEIR_WORKER_SHARD_POOL: worker.shard_pool must be 0 to 1000; it is 1001"}},
		{"neither true nor false", "partition_by_id: yes\n", nil, []string{`weir.yaml:1: partition_by_id: "yes" is not true or false`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := newBench(t).withFile(tt.file).withEnv(tt.env...).problems(); !slices.Equal(got, tt.want) {
				t.Errorf("problems:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

func TestLoad_AFileThatCannotBeReadIsWrongUsage(t *testing.T) {
	t.Parallel()
	broken := newBench(t).withFile("log:\n  level: [info\n")
	missing := newBench(t, "--config", filepath.Join(t.TempDir(), "weir.yaml"))
	for b, want := range map[*bench]string{broken: "weir.yaml: line ", missing: "weir.yaml: no such file"} {
		_, err := b.load()
		var coded interface{ ExitCode() int }
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("load = %v, want %q and exit code 2", err, want)
		}
	}
}

func TestLoad_DefaultOfIdleConnectionsYieldsToTheLimit(t *testing.T) {
	t.Parallel()
	if got := newBench(t).withEnv("WEIR_POSTGRES_MAX_OPEN=3").config().Postgres.MaxIdle; got != 3 {
		t.Errorf("max_idle = %d, want the 3 that may be open", got)
	}
	want := Problems{"WEIR_POSTGRES_MAX_IDLE: postgres.max_idle must not be above postgres.max_open; it is 5 of 3"}
	if got := newBench(t).withEnv("WEIR_POSTGRES_MAX_OPEN=3", "WEIR_POSTGRES_MAX_IDLE=5").problems(); !slices.Equal(got, want) {
		t.Errorf("problems = %q, want %q", got, want)
	}
}

func TestFlags_UnusedOnesAreTakenAndNeedNoValue(t *testing.T) {
	t.Parallel()
	for _, groups := range [][]Group{{Unused}, {NATS, Unused}, {Postgres, Unused}} {
		cmd := &cobra.Command{Use: "test"}
		Flags(cmd, groups...)
		if err := cmd.ParseFlags([]string{"--nats", "nats://h", "--nats-creds", "f", "--postgres", "postgres://h/d"}); err != nil {
			t.Errorf("%v: %v", groups, err)
		}
	}
	cmd := &cobra.Command{Use: "test"}
	Flags(cmd, Unused)
	if got := (result{}).missing(cmd); len(got) > 0 {
		t.Errorf("missing() = %q, want nothing", got)
	}
}

func TestHint_SaysThatNothingRunsWhereADefaultAddressRefuses(t *testing.T) {
	refused := fmt.Errorf("ask the API: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}, Err: syscall.ECONNREFUSED})
	noNATS := errors.New("connect to NATS at nats://127.0.0.1:4222: nats: no servers available for connection")
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for _, tt := range []struct {
		args []string
		err  error
		want string // part of it; "": no hint
	}{
		{nil, refused, "no running instance found on this machine; start `weir up` or give --http URL"},
		{nil, noNATS, "start `weir up` or give --nats URL"},
		{nil, errors.New("other"), ""},
		{[]string{"--http", "http://127.0.0.1:8080"}, refused, ""},
		{[]string{"--nats", "nats://127.0.0.1:4222"}, noNATS, ""},
		{nil, fmt.Errorf("connect to Postgres at 127.0.0.1:5432: %w", syscall.ECONNREFUSED), ""},
	} {
		cmd := &cobra.Command{Use: "test"}
		Flags(cmd, API, NATS)
		if err := cmd.ParseFlags(tt.args); err != nil {
			t.Fatal(err)
		}
		if got := Hint(cmd, tt.err); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
			t.Errorf("Hint(%q, %v) = %q, want %q", tt.args, tt.err, got, tt.want)
		}
	}
}

func TestValidate_ReportsAllProblems(t *testing.T) {
	t.Parallel()
	c := Default()
	c.NATS.URL = "http://u:hidden@nats"
	c.Postgres = PostgresConfig{URL: "postgres://u:hid%zzden@h/d", MaxOpen: 1, MaxIdle: 2, IdleTime: -1, ConnectTimeout: 1500 * time.Millisecond}
	c.HTTP = HTTPConfig{Listen: "8080", URL: "localhost:8080"}
	c.Worker = WorkerConfig{ShardID: "a b"}
	c.Publisher = PublisherConfig{BatchEvents: 10_001, BatchBytes: 9 * MiB, Linger: 2 * time.Minute, MaxInFlight: 5000, Compression: "lz4"}
	c.Stream = StreamConfig{MaxBytes: -1, Replicas: 2}
	c.Log = LogConfig{Level: "loud", Format: "xml"}
	err := c.Validate()
	for _, name := range []string{
		"nats.url", "postgres.url", "postgres.max_open", "postgres.max_idle", "postgres.idle_time", "postgres.connect_timeout",
		"http.listen", "http.url", "worker.shard_id", "worker.batch_messages", "worker.batch_bytes", "worker.memory", "worker.linger",
		"publisher.batch_events", "publisher.batch_bytes", "publisher.linger", "publisher.max_in_flight", "publisher.compression",
		"stream.max_bytes", "stream.replicas", "stream.ack_wait", "stream.max_ack_pending", "log.level", "log.format",
	} {
		if err == nil || !strings.Contains(err.Error(), "\n  "+name+" must ") {
			t.Errorf("Validate() does not report %s:\n%v", name, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "hid") {
		t.Errorf("Validate() shows a password:\n%v", err)
	}
}

func TestShardID_HasAtMost20Characters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		host string
		pid  int
		want string
	}{
		{"gw", 7, "gw-7"},
		{"a-host-with-a-long-name", 4194304, "a-host-with--4194304"},
		{"übermäßig-langer-name", 12345, "übermäßig-lang-12345"},
		{"", 1, "-1"},
	} {
		if got := shardID(tt.host, tt.pid); got != tt.want {
			t.Errorf("shardID(%q, %d) = %q, want %q", tt.host, tt.pid, got, tt.want)
		}
	}
	if got := newBench(t, "--shard-id", "ä2345678901234567890").config().Worker.ShardID; got != "ä2345678901234567890" {
		t.Errorf("a shard id of 20 characters became %q", got)
	}
	want := Problems{`--shard-id: worker.shard_id must have at most 20 characters; "123456789012345678901" has 21`}
	if got := newBench(t, "--shard-id", "123456789012345678901").problems(); !slices.Equal(got, want) {
		t.Errorf("problems = %q, want %q", got, want)
	}
}

func TestShardPool_NamesItsShardsAndTakesThePlaceOfTheID(t *testing.T) {
	t.Parallel()
	want := Problems{"--shard-pool: worker.shard_pool must be at least 1; leave it out for a worker that has a shard id of its own"}
	if got := newBench(t, "--shard-pool", "0").problems(); !slices.Equal(got, want) {
		t.Errorf("a pool of none: got %v, want %v", got, want)
	}
	c := newBench(t, "--shard-pool", "3").withEnv("WEIR_WORKER_SHARD_POOL_NAME=fold").config().Worker
	if want := []string{"fold-1", "fold-2", "fold-3"}; !slices.Equal(c.Pool(), want) || c.ShardID != "" {
		t.Errorf("got %q and the shard %q, want %q and none", c.Pool(), c.ShardID, want)
	}
	if c := newBench(t).config().Worker; len(c.Pool()) != 0 {
		t.Errorf("without a pool: got %q", c.Pool())
	}
}

func TestMissing_NamesWhatTheCommandCannotDoWithout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		group Group
		want  string // part of the only problem; "": none
	}{
		{Postgres, "the database is not known: give --postgres URL, set WEIR_POSTGRES_URL"},
		{Embedded, ""},
		{Listen, ""},
		{Unused, ""},
	}
	for _, tt := range tests {
		t.Run(string(tt.group), func(t *testing.T) {
			t.Parallel()
			cmd := &cobra.Command{Use: "test"}
			Flags(cmd, tt.group)
			got := result{config: Default()}.missing(cmd)
			if (tt.want == "") != (len(got) == 0) || !strings.Contains(strings.Join(got, "\n"), tt.want) {
				t.Errorf("missing() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPrint_ShowsOriginsHidesSecretsAndReadsBack(t *testing.T) {
	t.Parallel()
	r, err := newBench(t, "--nats", "nats://me:hidden@n:1", "--shard-id", "w1").withFile("log:\n  level: warn\n").
		withEnv("WEIR_POSTGRES_URL=postgres://me:hidden@h/d", "WEIR_WORKER_LINGER=1500ms").load()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"  url: nats://me:xxxxx@n:1 ", " # --nats\n", "  url: postgres://me:xxxxx@h/d  # WEIR_POSTGRES_URL\n",
		"weir.yaml:2\n", "  linger: 1.5s ", `  creds: "" `, "  max_open: 10 ", "  statement_timeout: 30s ", "  max_bytes: 10GiB ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	want := r.config
	want.NATS.URL, want.Postgres.URL = "nats://me:xxxxx@n:1", "postgres://me:xxxxx@h/d"
	if got := newBench(t).withFile(out.String()).config(); got != want {
		t.Errorf("read back: %+v\nwant: %+v", got, want)
	}
}
