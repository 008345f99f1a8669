package query

import "context"

// Explain says in a sentence, and a status, what an error of a question or of
// any other reading means to who asked, as the HTTP API does, and tells OnError
// of those that are not the asker's. The context is that of the request.
func (s Server) Explain(ctx context.Context, request string, err error) *Error {
	return s.withDefaults().explain(ctx, request, err)
}
