package query

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Client asks the HTTP API. It is safe for concurrent use.
type Client struct {
	// URL is where the API is, for example http://127.0.0.1:8080. A user and
	// password in it are sent as basic authentication.
	URL string
	// HTTP makes the requests; nil is http.DefaultClient.
	HTTP *http.Client
}

// Ask answers a question; values are the parameters of the package comment.
func (c *Client) Ask(ctx context.Context, aggregation string, values url.Values) (*Answer, error) {
	var answer struct {
		Answer

		Rows *[][]any `json:"rows"`
	}
	if err := c.get(ctx, "aggregations/"+url.PathEscape(aggregation), values, &answer); err != nil {
		return nil, err
	}
	if answer.Rows == nil {
		return nil, errors.New("the question has no parameters: give at least within and per")
	}
	answer.Answer.Rows = *answer.Rows
	return &answer.Answer, answer.check()
}

// Aggregations lists what can be asked for.
func (c *Client) Aggregations(ctx context.Context) ([]Aggregation, error) {
	var answer struct {
		Aggregations []Aggregation `json:"aggregations"`
	}
	err := c.get(ctx, "aggregations", nil, &answer)
	return answer.Aggregations, err
}

// DeadLetters lists the newest dead letters, newest first; empty parameters
// choose all, reason by a part of it, and limit 0 leaves the number to the server.
func (c *Client) DeadLetters(ctx context.Context, state, reason, source string, limit int) ([]DeadLetter, error) {
	var answer struct {
		DeadLetters []DeadLetter `json:"dead_letters"`
	}
	err := c.get(ctx, "deadletters", filter(map[string]string{"state": state, "reason": reason, "source": source}, limit), &answer)
	return answer.DeadLetters, err
}

// filter is the parameters of a list.
func filter(chosen map[string]string, limit int) url.Values {
	values := url.Values{}
	for name, value := range chosen {
		if value != "" {
			values.Set(name, value)
		}
	}
	if limit > 0 {
		values.Set("limit", strconv.Itoa(limit))
	}
	return values
}

// DeadLetter returns one dead letter.
func (c *Client) DeadLetter(ctx context.Context, id int64) (DeadLetter, error) {
	var letter DeadLetter
	err := c.get(ctx, "deadletters/"+strconv.FormatInt(id, 10), nil, &letter)
	return letter, err
}

// get reads the JSON at a path of the API into target. An Error says what the
// server says.
func (c *Client) get(ctx context.Context, path string, values url.Values, target any) error {
	return c.do(ctx, http.MethodGet, path, values, nil, target)
}

// do is get by another method, with a body that is JSON; nil is none.
func (c *Client) do(ctx context.Context, method, path string, values url.Values, body []byte, target any) error {
	base := strings.TrimSuffix(c.URL, "/")
	request, err := http.NewRequestWithContext(ctx, method, base+"/api/v1/"+path+"?"+values.Encode(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the API: %w", err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := cmp.Or(c.HTTP, http.DefaultClient).Do(request)
	if err != nil {
		return fmt.Errorf("ask the API: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // only read from
	if response.StatusCode/100 != 2 {
		return problemOf(response)
	}
	decoder := json.NewDecoder(response.Body)
	decoder.UseNumber()
	if err := decoder.Decode(target); err != nil {
		return fmt.Errorf("read the answer of the API at %s: %w", request.URL.Redacted(), err)
	}
	return nil
}

func problemOf(response *http.Response) error {
	var problem struct {
		Detail string `json:"detail"`
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &problem) != nil || problem.Detail == "" {
		problem.Detail = fmt.Sprintf("%s answered %s", response.Request.URL.Redacted(), response.Status)
	}
	return &Error{Status: response.StatusCode, Detail: problem.Detail}
}
