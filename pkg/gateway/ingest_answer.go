package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"weir/pkg/event"
)

// verdict is what decoding a body says of its events, before a worker says the same.
type verdict struct {
	Events   int         `json:"events"`   // in the body
	Valid    int         `json:"valid"`    // of these
	Rejected []rejection `json:"rejected"` // the first of the others
}

type rejection struct {
	Offset int    `json:"offset"` // of the event in the body, from 0
	Reason string `json:"reason"`
}

// judge decodes the body as a worker will. A body without any valid event is a problem.
func (g *Ingest) judge(ctx context.Context, body event.Body, schema *event.Schema) (verdict, *problem) {
	var decoder *event.Decoder
	select {
	case decoder = <-g.decoders:
		defer func() { g.decoders <- decoder }()
	case <-ctx.Done():
		return verdict{}, refuse(http.StatusServiceUnavailable, "the request has ended")
	}
	columns := event.NewColumns(schema, event.NewDictionary())
	events, rejects, err := decoder.Decode(body, event.Origin{Stored: time.Now().UnixMicro()}, columns)
	if err != nil {
		reason := strings.TrimPrefix(err.Error(), event.ErrUndecodable.Error()+": ")
		return verdict{}, refuse(http.StatusBadRequest, "the body cannot be read as events: "+shorten(reason))
	}
	v := verdict{Events: events, Valid: events - len(rejects), Rejected: []rejection{}}
	for _, reject := range rejects[:min(len(rejects), listedRejects)] {
		v.Rejected = append(v.Rejected, rejection{reject.Offset, shorten(reject.Reason)})
	}
	if v.Valid == 0 {
		p := refuse(http.StatusUnprocessableEntity, fmt.Sprintf("not one of %d events is valid for the stream %s; the first: %s",
			events, schema.Name, v.Rejected[0].Reason))
		p.Rejected = v.Rejected
		return verdict{}, p
	}
	return v, nil
}

// shorten cuts a reason, which may quote what was sent.
func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + "…"
}

// problem is an answer that says what is wrong, as RFC 9457 has it.
type problem struct {
	Type     string      `json:"type"`
	Title    string      `json:"title"`
	Status   int         `json:"status"`
	Detail   string      `json:"detail"`
	Rejected []rejection `json:"rejected,omitempty"`

	retry bool // the same request may succeed in a moment
}

func refuse(status int, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func (p *problem) write(w http.ResponseWriter) {
	if p.retry {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, "application/problem+json", p.Status, p)
}

func writeJSON(w http.ResponseWriter, contentType string, status int, value any) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) // who asked is gone
}
