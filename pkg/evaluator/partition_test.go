package evaluator

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"weir/pkg/alert"
)

// What cannot be written of one key is told once, keeps back the alerts of its partition alone, and is made up for when the
// reason is gone.
func TestEvaluator_GoesOnWithTheOthersWhenAPartitionCannotBeWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs NATS and Postgres")
	}
	const keys = 64
	s, err := parseScenario("partition", fmt.Appendf(nil, `definitions
  stream: call
  time: at
  attributes:
    at: {type: time}
    api: string
  rules:
    each:
      type: event
      scope: global
      severity: 3
      value: 1
      above: 0
      key: [api]
      message: "{api}"
load call
  0s x%d every 1s: api=key-%%d
through 2m
`, keys))
	if err != nil {
		t.Fatal(err)
	}
	site := newSite(t, s)
	logged, logs := observer.New(zap.InfoLevel)
	site.log = site.log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return zapcore.NewTee(core, logged) }))
	site.exec(`ALTER TABLE weir.alert ADD CONSTRAINT not_seven CHECK (key->>'api' <> 'key-7')`)
	defer site.start(1, 1)()
	site.publish(rand.New(rand.NewPCG(1, 1))) //nolint:gosec // a test

	count := func() (n int) {
		for _, a := range site.alerts(alert.ScopeGlobal) {
			if a.State == alert.Firing && strings.HasPrefix(a.Key["api"], "key-") {
				n++
			}
		}
		return n
	}
	const notDecided = "alerts of a partition are not decided: it begins again with what was saved, until that helps; the others go on"
	site.await("the other partitions", func() (bool, error) {
		decided := 0
		err := site.sql.QueryRowContext(t.Context(), `SELECT count(*) FROM weir.alert_partition WHERE clock >= $1`, s.through.UnixMicro()).Scan(&decided)
		return decided == alert.Partitions-1, err
	})
	if got := count(); got < keys/2 || got >= keys {
		t.Errorf("%d of %d keys are told of, want those of seven partitions of eight", got, keys)
	}
	told := logs.FilterMessage(notDecided).All()
	if len(told) != 1 || !strings.Contains(fmt.Sprint(told[0].ContextMap()["error"]), "not_seven") {
		t.Errorf("it is told %d times: %v, want once, with the name of the constraint", len(told), told)
	}
	if got := logs.FilterMessage("alerts not decided, beginning again with what was saved").Len(); got != 0 {
		t.Errorf("all partitions began again %d times", got)
	}

	site.exec(`ALTER TABLE weir.alert DROP CONSTRAINT not_seven`)
	site.await("the last partition", func() (bool, error) {
		return logs.FilterMessage("alerts of a partition are decided again").Len() == 1, nil
	})
	if got := count(); got != keys {
		t.Errorf("%d of %d keys are told of", got, keys)
	}
	site.published(site.alerts(alert.ScopeGlobal))
}

func (site *site) exec(statement string) {
	site.t.Helper()
	if _, err := site.sql.ExecContext(site.t.Context(), statement); err != nil {
		site.t.Fatal(err)
	}
}
