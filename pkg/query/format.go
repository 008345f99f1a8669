package query

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// format is how an answer is written.
type format string

// The formats, the one that is taken where nothing is said first.
const (
	formatJSON   format = "json"
	formatCSV    format = "csv"
	formatNDJSON format = "ndjson"
)

func formats() []format { return []format{formatJSON, formatCSV, formatNDJSON} }

func (f format) mediaType() string {
	switch f {
	case formatCSV:
		return "text/csv"
	case formatNDJSON:
		return "application/x-ndjson"
	case formatJSON:
	}
	return "application/json"
}

// contentType is the media type with what is to be known of it.
func (f format) contentType() string {
	if f == formatCSV {
		return "text/csv; charset=utf-8; header=present"
	}
	return f.mediaType()
}

// takeFormat takes the parameter format out of the others and says what it asks
// for; without it, the header Accept does.
func takeFormat(r *http.Request, values url.Values) (format, error) {
	given, there := values["format"]
	if !there {
		return acceptable(r.Header.Values("Accept"))
	}
	delete(values, "format")
	if len(given) == 1 && slices.Contains(formats(), format(given[0])) {
		return format(given[0]), nil
	}
	return "", wrong(fmt.Errorf("format: it is one of json, csv and ndjson, given once, not %q", clip(strings.Join(given, ", "))))
}

// acceptable chooses the format that a client likes best by its header Accept
// (RFC 9110, 12.5.1).
func acceptable(headers []string) (format, error) {
	ranges := strings.Split(strings.Join(headers, ","), ",")
	if len(headers) == 0 || strings.TrimSpace(strings.Join(headers, "")) == "" {
		return formatJSON, nil
	}
	var best format
	var liked float64
	for _, f := range formats() {
		if q := quality(ranges, f.mediaType()); q > liked {
			best, liked = f, q
		}
	}
	if best == "" {
		return "", &Error{http.StatusNotAcceptable, "an answer is application/json, text/csv or application/x-ndjson, and Accept has none of them; the parameter format=json, csv or ndjson goes before it"}
	}
	return best, nil
}

// quality is how much a media type is liked, from 0 to 1: as the range says that
// fits it best.
func quality(ranges []string, mediaType string) float64 {
	kind, _, _ := strings.Cut(mediaType, "/")
	q, fits := 0.0, -1
	for _, text := range ranges {
		name, parameters, err := mime.ParseMediaType(text)
		at := slices.Index([]string{"*/*", kind + "/*", mediaType}, name)
		if err != nil || at <= fits {
			continue
		}
		fits, q = at, 1
		if given, there := parameters["q"]; there {
			if q, err = strconv.ParseFloat(given, 64); err != nil {
				q = 0
			}
		}
	}
	return q
}
