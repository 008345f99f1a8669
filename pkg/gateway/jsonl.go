package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"weir/pkg/event"
)

// timeAttribute is the attribute of a request event that a shift changes.
const timeAttribute = "requestTimestamp"

// readJSON takes one request event as it is. Only a shift changes it: the value of requestTimestamp, which
// it then must have. Whether the attributes are right is decided by the worker that folds it.
func readJSON(line []byte, shift time.Duration) ([]byte, time.Time, error) {
	line = bytes.Trim(line, " \t")
	if !json.Valid(line) {
		return nil, time.Time{}, errors.New("no valid JSON")
	}
	if line[0] != '{' {
		return nil, time.Time{}, errors.New("no JSON object")
	}
	from, to, err := findTime(line)
	if err != nil {
		return nil, time.Time{}, err
	}
	at, err := parseEventTime(line[from:to])
	if shift == 0 {
		return slices.Clone(line), at, nil // a time that is no time is the worker's to reject
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("cannot be shifted: %w", err)
	}
	at = at.Add(shift)
	shifted := slices.Clone(line[:from])
	shifted = strconv.AppendInt(shifted, at.UnixMilli(), 10)
	return append(shifted, line[to:]...), at, nil
}

// findTime is where the value of requestTimestamp stands in a JSON object; 0, 0 where it has none.
func findTime(object []byte) (from, to int, err error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil { // the opening brace
		return 0, 0, err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return 0, 0, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return 0, 0, err
		}
		if name == timeAttribute {
			to := int(decoder.InputOffset())
			return to - len(value), to, nil
		}
	}
	return 0, 0, nil
}

// parseEventTime reads the JSON of a time: milliseconds since 1970, or a text.
func parseEventTime(value []byte) (time.Time, error) {
	if len(value) == 0 {
		return time.Time{}, errors.New("has no " + timeAttribute)
	}
	var text string
	if json.Unmarshal(value, &text) == nil && value[0] == '"' {
		micros, err := event.ParseTime(text)
		if err != nil {
			return time.Time{}, fmt.Errorf("%s %w", timeAttribute, err)
		}
		return time.UnixMicro(micros).UTC(), nil
	}
	millis, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || millis < 0 || millis > lastSecond*1000 {
		return time.Time{}, fmt.Errorf("%s %s is no time", timeAttribute, clip(string(value)))
	}
	return time.UnixMilli(millis).UTC(), nil
}
