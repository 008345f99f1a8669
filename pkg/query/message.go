package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	strict "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Where questions are asked over NATS. The requests and answers are those of
// [Server.Message] and [Server.Catalogue].
const (
	MessageService    = "weir-query"
	QuestionSubject   = "weir.query"
	CatalogueSubject  = "weir.aggregations"
	questionInMessage = `{"aggregation": "…", "within": "START,END", "per": "hours"}`
)

// Message answers a question that is a JSON object: the name of the aggregation
// and the parameters of the package comment, texts all, numbers also as numbers:
//
//	{"aggregation": "ApiExeTime", "within": "2026-11-** **:**:**", "per": "hours", "limit": 10}
//
// The answer is that of GET /api/v1/aggregations/{name}. An error is the status
// and the sentence that HTTP would give, and the problem that is its body; one
// of its own is 413, for an answer of more than so many bytes.
func (s Server) Message(ctx context.Context, request []byte, most int) (answer []byte, problem []byte, refused *Error) {
	server := s.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, server.Timeout)
	defer cancel()
	out := &atMost{most: most}
	question, err := server.parseMessage(request)
	if err == nil {
		question, err = server.limited(ctx, question)
	}
	if err == nil {
		err = server.answer(ctx, question, server.completeThrough(ctx, QuestionSubject), formatJSON.to(out))
	}
	if err == nil {
		return out.taken, nil, nil
	}
	refused = server.explain(ctx, QuestionSubject, err)
	return nil, encode(refused.problem()), refused
}

// Catalogue lists what can be asked for, as GET /api/v1/aggregations does.
func (s Server) Catalogue() []byte {
	return encode(map[string]any{"aggregations": NewCatalogue(s.Catalog).Aggregations})
}

// encode writes what is known to be JSON.
func encode(value any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(fmt.Sprintf("query: %v", err))
	}
	return out.Bytes()
}

// parseMessage reads a question that is a JSON object.
func (s *Server) parseMessage(request []byte) (*Question, error) {
	var members map[string]jsontext.Value // no name is there twice
	if err := strict.Unmarshal(request, &members); err != nil || members == nil {
		return nil, wrong(errors.New("the request is no JSON object in which every name is there once; a question is " + questionInMessage))
	}
	values := url.Values{}
	for name, member := range members {
		var text string
		switch member.Kind() {
		case '0':
			text = member.String()
		case '"':
			if err := strict.Unmarshal(member, &text); err != nil {
				return nil, wrong(fmt.Errorf("%s: it is no text", clip(name)))
			}
		default:
			return nil, wrong(fmt.Errorf("%s: write it as a text, as in %s", clip(name), questionInMessage))
		}
		values.Set(name, text)
	}
	name := values.Get("aggregation")
	if name == "" {
		return nil, wrong(errors.New("aggregation is missing: say which one is asked, as in " + questionInMessage))
	}
	values.Del("aggregation")
	return Parse(s.Catalog, name, values)
}

// NewMessage is the request of a question: the parameters of the package
// comment.
func NewMessage(aggregation string, values url.Values) []byte {
	members := map[string]string{"aggregation": aggregation}
	for name := range values {
		members[name] = values.Get(name)
	}
	return encode(members)
}

// atMost takes no more than so many bytes.
type atMost struct {
	taken []byte
	most  int
}

func (l *atMost) Write(p []byte) (int, error) {
	if len(l.taken)+len(p) > l.most {
		return 0, &Error{http.StatusRequestEntityTooLarge, fmt.Sprintf(
			"the answer is larger than the %d bytes that this NATS server lets through: ask for less of it with limit and offset, or over HTTP", l.most)}
	}
	l.taken = append(l.taken, p...)
	return len(p), nil
}

// ReadAnswer reads an answer as JSON, as HTTP and NATS give it. Each of its rows
// has a cell for each column.
func ReadAnswer(body []byte) (*Answer, error) {
	answer := &Answer{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(answer); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	return answer, answer.check()
}

// check finds rows that cannot be printed.
func (a *Answer) check() error {
	for i, cells := range a.Rows {
		if len(cells) != len(a.Columns) {
			return fmt.Errorf("read an answer: row %d has %d cells for %d columns", i+1, len(cells), len(a.Columns))
		}
	}
	return nil
}
