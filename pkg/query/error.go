package query

import "net/http"

// Error is a request that was refused, here or by the server that was asked.
type Error struct {
	// Status is the HTTP status; 400 where the question is wrong.
	Status int
	// Detail is a sentence for the person who asked.
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// ExitCode makes weir end as after any other wrong usage where the question
// is wrong.
func (e *Error) ExitCode() int {
	if e.Status == http.StatusBadRequest {
		return 2
	}
	return 1
}

// wrong is what the asker can mend.
func wrong(err error) error { return &Error{http.StatusBadRequest, err.Error()} }

// problem is the error as problem details (RFC 9457).
func (e *Error) problem() map[string]any {
	return map[string]any{"type": "about:blank", "title": http.StatusText(e.Status), "status": e.Status, "detail": e.Detail}
}
