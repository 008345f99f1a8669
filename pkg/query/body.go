package query

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
)

// maxBody is how much of a body is read.
const maxBody = 64 << 10

// readBody reads the one JSON object that is sent; example shows what is wanted.
// Members that target does not have, or that are there twice, are refused.
func readBody(w http.ResponseWriter, r *http.Request, target any, example string) error {
	data, err := receive(w, r)
	if err != nil {
		return err
	}
	err = json.Unmarshal(data, target, json.RejectUnknownMembers(true))
	if err == nil && strings.TrimSpace(string(data)) == "null" {
		err = errors.New("it is null")
	}
	if err != nil {
		return wrong(fmt.Errorf("the body must be one JSON object as %s: %s", example, clip(atMember(err))))
	}
	return nil
}

// receive reads a body.
func receive(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return nil, &Error{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is over %d bytes", large.Limit)}
	}
	if err != nil {
		return nil, wrong(errors.New("the body does not arrive whole"))
	}
	return data, nil
}

// atMember says what is wrong with which member, without the names of Go.
func atMember(err error) string {
	var refused *json.SemanticError
	if !errors.As(err, &refused) {
		return strings.TrimPrefix(err.Error(), "jsontext: ")
	}
	where := strings.Trim(string(refused.JSONPointer), "/")
	switch {
	case errors.Is(err, json.ErrUnknownName):
		return fmt.Sprintf("there is no member %q", where)
	case where == "":
		return "it is none"
	case refused.Err != nil:
		return where + ": " + refused.Err.Error()
	}
	return where + " is of another kind"
}
