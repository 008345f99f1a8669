package query

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"weir/pkg/store"
)

// DeadLetter is how the API shows what could not be folded.
type DeadLetter struct {
	ID              int64     `json:"id"`
	State           string    `json:"state"` // open, replay, folded, dropped
	Reason          string    `json:"reason"`
	Source          string    `json:"source"`
	Subject         string    `json:"subject"`
	MsgID           string    `json:"msg_id,omitempty"`
	ContentType     string    `json:"content_type,omitempty"`
	ContentEncoding string    `json:"content_encoding,omitempty"`
	Sequence        uint64    `json:"sequence"`
	Offset          int       `json:"offset"`           // place of the event in its message, -1 for all of it
	Events          int       `json:"events,omitempty"` // of the message, where the letter is for some of them only, or their number is known
	StoredAt        time.Time `json:"stored_at"`
	At              time.Time `json:"at"`
	ShardID         string    `json:"shard_id"`
	Aggregation     string    `json:"aggregation,omitempty"` // the only one that lacks it
	SettledAt       time.Time `json:"settled_at,omitzero"`   // when it was folded or dropped
	Replays         int       `json:"replays"`               // begun
	SplitFrom       int64     `json:"split_from,omitempty"`  // the letter of its whole message
	Size            int       `json:"size"`                  // of what was sent, in bytes
	// Payload is what was sent, or its beginning; if that is no UTF-8 text,
	// PayloadBase64 is.
	Payload       string `json:"payload,omitempty"`
	PayloadBase64 string `json:"payload_base64,omitempty"`
}

// NewDeadLetter describes a stored dead letter.
func NewDeadLetter(l store.DeadLetter) DeadLetter {
	d := DeadLetter{
		ID: l.ID, State: string(l.State), Reason: l.Reason, Source: l.Source, Subject: l.Subject, MsgID: l.MsgID,
		ContentType: l.ContentType, ContentEncoding: l.ContentEncoding,
		Sequence: l.Sequence, Offset: l.Offset, Events: len(l.Events), StoredAt: l.StoredAt.UTC(), At: l.At.UTC(), ShardID: l.ShardID,
		Aggregation: l.Aggregation, Replays: l.Replays, SplitFrom: l.SplitFrom, Size: l.Size,
	}
	if !l.SettledAt.IsZero() {
		d.SettledAt = l.SettledAt.UTC()
	}
	if utf8.Valid(l.Payload) {
		d.Payload = string(l.Payload)
	} else {
		d.PayloadBase64 = base64.StdEncoding.EncodeToString(l.Payload)
	}
	return d
}

func (s *Server) deadLetters(w http.ResponseWriter, r *http.Request, values url.Values) error {
	as, err := takeFormat(r, values)
	if err != nil {
		return err
	}
	if err := only(values, "state", "reason", "source", "limit"); err != nil {
		return err
	}
	filter := store.DeadLetterFilter{State: store.DeadLetterState(values.Get("state")), Reason: values.Get("reason"), Source: values.Get("source")}
	if err = oneOf("state", string(filter.State), store.DeadLetterStates()); err != nil {
		return wrong(err)
	}
	if filter.Limit, err = count(values, 100, MostListed); err != nil {
		return err
	}
	stored, err := s.DB.DeadLetters(r.Context(), filter)
	if err != nil {
		return err
	}
	var letters []DeadLetter
	for _, l := range stored {
		letters = append(letters, NewDeadLetter(l))
	}
	return deadLetterListing().send(s, w, r, as, letters)
}

func (s *Server) deadLetter(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values); err != nil {
		return err
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return wrong(fmt.Errorf("%q is no dead letter's number; GET /api/v1/deadletters lists them", r.PathValue("id")))
	}
	letter, err := s.DB.DeadLetter(r.Context(), id)
	if errors.Is(err, store.ErrNoDeadLetter) {
		return &Error{http.StatusNotFound, fmt.Sprintf("there is no dead letter %d", id)}
	}
	if err != nil {
		return err
	}
	return s.json(w, r, NewDeadLetter(letter))
}
