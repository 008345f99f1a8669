package query

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"weir/pkg/store"
)

// Source is how the API shows what a publisher has said of one of its epochs
// in its newest heartbeat.
type Source struct {
	Source  string    `json:"source"`
	Epoch   string    `json:"epoch"`
	Next    uint64    `json:"next"`     // the number of its next message
	Acked   uint64    `json:"acked"`    // all up to this one were acknowledged by the stream
	Dropped uint64    `json:"dropped"`  // events that it gave up
	Closed  bool      `json:"closed"`   // there will be no more messages
	HeardAt time.Time `json:"heard_at"` // when the stream stored the heartbeat
}

// Sources are the epochs of a source, or of all, of the limit that were heard last.
func Sources(ctx context.Context, db *store.DB, source string, limit int) ([]Source, error) {
	stored, err := db.Sources(ctx, source, limit)
	all := []Source{}
	for _, s := range stored {
		all = append(all, Source{s.Source, s.Epoch, s.Next, s.Acked, s.Dropped, s.Closed, s.ToldAt})
	}
	return all, err
}

// ListedSources is how many epochs are listed unless a limit is given.
const ListedSources = 100

func (s *Server) sources(w http.ResponseWriter, r *http.Request, values url.Values) error {
	if err := only(values, "source", "limit"); err != nil {
		return err
	}
	limit, err := count(values, ListedSources, MostListed)
	if err != nil {
		return err
	}
	all, err := Sources(r.Context(), s.DB, values.Get("source"), limit)
	if err != nil {
		return err
	}
	return s.json(w, r, map[string]any{"sources": all})
}

// Sources lists what publishers say of their epochs, by source, the epoch that
// was heard last first; source "" is all of them, and limit 0 leaves the number to
// the server.
func (c *Client) Sources(ctx context.Context, source string, limit int) ([]Source, error) {
	var answer struct {
		Sources []Source `json:"sources"`
	}
	values := url.Values{}
	if source != "" {
		values.Set("source", source)
	}
	if limit > 0 {
		values.Set("limit", strconv.Itoa(limit))
	}
	err := c.get(ctx, "sources", values, &answer)
	return answer.Sources, err
}
