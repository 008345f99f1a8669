package query

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// revalidated is the Cache-Control of what may be kept, but never shown without asking
// whether it is still so.
const revalidated = "private, no-cache"

// known sets what tells a version of an answer from others, and answers 304 if the
// client has just that one (RFC 9110, 13.1.2). tag is the inside of the ETag.
func known(w http.ResponseWriter, r *http.Request, tag string) bool {
	tag = `W/"` + tag + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", revalidated)
	for _, header := range r.Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(header, ",") {
			if one = strings.TrimSpace(one); one == tag || one == "*" || "W/"+one == tag {
				w.WriteHeader(http.StatusNotModified)
				return true
			}
		}
	}
	return false
}

func hashOf(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(hash, "%d %s\n", len(part), part) // it never fails
	}
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// unchanged answers 304 if the client has this answer, and nothing that it is made of
// has changed. A question in an address whose time is over can have been answered
// before; others are not worth the look. That its time is over does not make its
// numbers final: events may come late, letters be replayed, rows be purged. So the
// tag is that of the control totals, which change with any of these. It is read before
// the answer, and is at worst that of an older one, which no later answer has again.
func (s *Server) unchanged(w http.ResponseWriter, r *http.Request, question *Question, as format, through time.Time) (bool, error) {
	over := !through.IsZero() && question.plan.End() <= through.UnixMicro()
	if r.Method == http.MethodPost || !over {
		return false, nil
	}
	fingerprint, err := s.DB.Fingerprint(r.Context(), &question.plan)
	if err != nil {
		return false, err
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false, err
	}
	values.Del("format")
	tag := hashOf(fingerprint, question.plan.Aggregation.Versioned(), values.Encode(), string(as), strings.Join(question.Columns, "\x00"))
	return known(w, r, tag), nil
}

// lasting answers with JSON that changes only with what is defined.
func (s *Server) lasting(w http.ResponseWriter, r *http.Request, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	if !known(w, r, hashOf(string(body))) {
		_, _ = w.Write(body) // who asked may have gone
	}
	return nil
}
