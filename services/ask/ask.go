// Package ask puts questions to Weir as the commands do: to the HTTP API, by default that of the instance that
// runs on this machine, to the service weir-query of NATS, or to the database.
package ask

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"weir/pkg/definition"
	"weir/pkg/query"
	"weir/pkg/stream"
	"weir/services/config"
	"weir/services/wire"
)

// Flags gives cmd the flags that say whom [New] asks.
func Flags(cmd *cobra.Command) {
	cmd.Flags().String("nats", "", "ask over NATS at this `URL`, not the HTTP API")
	cmd.Flags().String("postgres", "", "ask the database at this `URL`, not the HTTP API")
	config.Flags(cmd, config.API, config.Definitions)
	cmd.MarkFlagsMutuallyExclusive("nats", "postgres")
}

// Asker puts questions to the API, over HTTP or NATS, or, where it has a
// catalogue, to the database.
type Asker struct {
	cfg      config.Config
	client   query.Client
	overNATS bool
	catalog  *definition.Catalog
}

// New returns who asks what the flags of cmd say; cfg are its settings.
func New(cmd *cobra.Command, cfg config.Config) (a *Asker, err error) {
	a = &Asker{cfg: cfg, client: query.Client{URL: string(cfg.HTTP.URL)}}
	if f := cmd.Flags().Lookup("nats"); f.Changed {
		a.cfg.NATS.URL, a.overNATS = config.URL(f.Value.String()), true
	}
	if f := cmd.Flags().Lookup("postgres"); f.Changed {
		a.cfg.Postgres.URL = config.URL(f.Value.String())
		a.catalog, err = wire.Catalog(cfg)
	}
	return a, err
}

// Aggregation describes the named aggregation, and reports whether there is one;
// a version after the name, as in Calls@1, is left out of account.
func (a *Asker) Aggregation(ctx context.Context, name string) (described query.Aggregation, found bool, err error) {
	all, err := a.Aggregations(ctx)
	name, _, _ = strings.Cut(name, "@")
	i := slices.IndexFunc(all, func(d query.Aggregation) bool { return strings.EqualFold(d.Name, name) })
	if err != nil || i < 0 {
		return described, false, err
	}
	return all[i], true, nil
}

// Zone is where an aggregation cuts its buckets; UTC where there is no such
// aggregation, which Ask tells better.
func (a *Asker) Zone(ctx context.Context, name string) (*time.Location, error) {
	described, found, err := a.Aggregation(ctx, name)
	if err != nil || !found {
		return time.UTC, err
	}
	return time.LoadLocation(described.Zone)
}

// Aggregations describes what can be asked for.
func (a *Asker) Aggregations(ctx context.Context) ([]query.Aggregation, error) {
	if a.catalog != nil {
		return query.NewCatalogue(a.catalog).Aggregations, nil
	}
	if !a.overNATS {
		return a.client.Aggregations(ctx)
	}
	body, err := a.request(ctx, query.CatalogueSubject, nil)
	if err != nil {
		return nil, err
	}
	var catalogue struct {
		Aggregations []query.Aggregation `json:"aggregations"`
	}
	if err := json.Unmarshal(body, &catalogue); err != nil {
		return nil, fmt.Errorf("read the aggregations: %w", err)
	}
	return catalogue.Aggregations, nil
}

// Ask asks an aggregation; values are the parameters of package query.
func (a *Asker) Ask(ctx context.Context, aggregation string, values url.Values) (*query.Answer, error) {
	if a.overNATS {
		body, err := a.request(ctx, query.QuestionSubject, query.NewMessage(aggregation, values))
		if err != nil {
			return nil, err
		}
		return query.ReadAnswer(body)
	}
	if a.catalog == nil {
		return a.client.Ask(ctx, aggregation, values)
	}
	db, err := wire.Store(ctx, a.cfg, "query")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	catalog, err := wire.Bind(ctx, a.catalog, db)
	if err != nil {
		return nil, err
	}
	question, err := query.Parse(catalog, aggregation, values)
	if err != nil {
		return nil, err
	}
	answer, err := question.Ask(ctx, db)
	return answer, wire.Explain(err)
}

// answerTimeout is how long an answer over NATS is waited for; who answers
// gives up before.
const answerTimeout = time.Minute

// request asks the service weir-query.
func (a *Asker) request(ctx context.Context, subject string, request []byte) ([]byte, error) {
	conn, err := wire.Stream(ctx, a.cfg, "query", zap.NewNop())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := conn.Request(ctx, subject, request)
	var refusal *stream.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, &query.Error{Status: refusal.Code, Detail: refusal.Detail}
	case errors.Is(err, stream.ErrNobodyAnswers):
		return nil, fmt.Errorf("%w; questions are answered by `weir api`, `up` and `demo`", err)
	}
	return answer, err
}
