package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"weir/pkg/event"
)

// timeAttribute is the attribute by which a JSON object is known as a request event, and which a shift changes.
const timeAttribute = "requestTimestamp"

// latestTime is the end of the year 9999, in microseconds since 1970 UTC; no event is after it.
const latestTime = lastSecond*1_000_000 + 999_999

// readJSON takes one request event as it is; only a shift changes it: the value of requestTimestamp. An object
// without a time is no event, but the line of some other log. Whether the other attributes are right is decided
// by the worker that folds it, which has the definitions.
func readJSON(line []byte, shift time.Duration) ([]byte, time.Time, error) {
	line = bytes.Trim(line, " \t")
	from, to, err := findTime(line)
	if err != nil {
		return nil, time.Time{}, err
	}
	at, err := parseEventTime(line[from:to])
	if err != nil {
		return nil, time.Time{}, err
	}
	if shift == 0 {
		return slices.Clone(line), at, nil
	}
	at = at.Add(shift)
	shifted := slices.Clone(line[:from])
	shifted = strconv.AppendInt(shifted, at.UnixMilli(), 10)
	return append(shifted, line[to:]...), at, nil
}

// errNoObject: the line is JSON, but no object.
var errNoObject = errors.New("no JSON object")

// findTime is where the value of requestTimestamp stands in a JSON object; 0, 0 where it has none. It is as
// strict with the JSON as a worker is (no name twice), so that what is no JSON for one is none for the other.
func findTime(object []byte) (from, to int, err error) {
	decoder := jsontext.NewDecoder(bytes.NewBuffer(object))
	if kind := decoder.PeekKind(); kind != '{' && kind != 0 {
		if err := decoder.SkipValue(); err != nil {
			return 0, 0, brokenJSON(err)
		}
		return 0, 0, errNoObject
	}
	if _, err := decoder.ReadToken(); err != nil {
		return 0, 0, brokenJSON(err)
	}
	for decoder.PeekKind() != '}' {
		name, err := decoder.ReadToken()
		if err != nil {
			return 0, 0, brokenJSON(err)
		}
		isTime := name.String() == timeAttribute
		value, err := decoder.ReadValue()
		if err != nil {
			return 0, 0, brokenJSON(err)
		}
		if isTime {
			to = int(decoder.InputOffset())
			from = to - len(value)
		}
	}
	if _, err := decoder.ReadToken(); err != nil { // the closing brace
		return 0, 0, brokenJSON(err)
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return 0, 0, errors.New("no valid JSON: something follows the object")
	}
	return from, to, nil
}

func brokenJSON(err error) error { return fmt.Errorf("no valid JSON: %w", err) }

// parseEventTime reads the JSON of a time: milliseconds since 1970, or a text. As for a worker, null is none.
func parseEventTime(value []byte) (time.Time, error) {
	if len(value) == 0 || string(value) == "null" {
		return time.Time{}, errors.New(timeAttribute + " is missing: not a request event of Weir")
	}
	var micros int64
	var text string
	if value[0] == '"' && json.Unmarshal(value, &text) == nil {
		var err error
		if micros, err = event.ParseTime(text); err != nil {
			return time.Time{}, fmt.Errorf("%s %s is no time: want milliseconds since 1970, 2006-01-02T15:04:05Z or 2006-01-02 15:04:05[ +hh:mm]",
				timeAttribute, clip(text))
		}
	} else {
		millis, err := strconv.ParseFloat(string(value), 64)
		if err != nil || math.Abs(millis) > lastSecond*1000+999 {
			return time.Time{}, fmt.Errorf("%s %s is no time: want milliseconds since 1970, or a text", timeAttribute, clip(string(value)))
		}
		whole := math.Floor(millis) // apart, because the product of large times is not exact
		micros = int64(whole)*1000 + int64((millis-whole)*1000)
	}
	if micros <= 0 || micros > latestTime {
		return time.Time{}, fmt.Errorf("%s %s is no time of an event: it must lie after 1970-01-01 and before the year 10000",
			timeAttribute, clip(string(value)))
	}
	return time.UnixMicro(micros).UTC(), nil
}
