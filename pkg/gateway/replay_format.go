package gateway

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Format is the format of a log file that can be replayed.
//
// Every line is one request event, in the attribute names of the WSO2 streams. What a log does not
// tell is left out, so that the default of the stream's definition applies.
//
//	attribute            combined, nasa                                       jsonl
//	apiName              first segment of the path; "root" for "/" and "*"    as it is
//	apiContext           "/" + apiName + "/1.0.0"                             as it is
//	apiVersion           "1.0.0"                                              as it is
//	apiResourcePath      the request's path without query and fragment; of    as it is
//	                     an absolute URL without scheme and host
//	apiResourceTemplate  the same                                             as it is
//	apiMethod            the request's method                                 as it is
//	apiHostname          the source of the replay                             as it is
//	applicationName, applicationId, applicationOwner   "anonymous"            as it is
//	username             authenticated user (nasa: logname); "-" becomes      as it is
//	                     "anonymous"
//	userIp               the client, an address or a host name                as it is
//	userAgent            user agent; left out for "-"                         as it is
//	responseCode         status; "-" becomes 0                                as it is
//	responseSize         bytes; "-" becomes 0                                 as it is
//	responseTime         0                                                    as it is
//	requestTimestamp     ms since 1970 UTC, shifted                           as it is, shifted
//
// The referer and the protocol version are not carried. A well-formed line whose request is no HTTP
// request (a time-out logged as "-", a TLS handshake on a plain port) is an event too, because the
// gateway answered it: apiName is "unknown", apiMethod and the resource are "-".
type Format string

// The formats.
const (
	// Combined is the combined log format of Apache httpd and NGINX:
	// host ident user [time] "request" status bytes "referer" "user agent".
	Combined Format = "combined"
	// NASA is tab-separated: host, logname, time (s since 1970 UTC), method, url, response, bytes,
	// referer, useragent; line 1 may be a header with these names.
	NASA Format = "nasa"
	// JSONL is one request event per line, as a JSON object with at least requestTimestamp: ms since 1970,
	// or a text as in the stream's definition.
	JSONL Format = "jsonl"
)

const formatNames = "combined, nasa or jsonl"

func formats() []Format { return []Format{Combined, NASA, JSONL} }

// ParseFormat reads the name of a format. The empty name is no error and gives the empty format,
// which [OpenLog] takes as "find out".
func ParseFormat(name string) (Format, error) {
	if format := Format(name); name == "" || slices.Contains(formats(), format) {
		return format, nil
	}
	return "", fmt.Errorf("unknown log format %q: want %s", name, formatNames)
}

// isHeader reports whether the line names the columns instead of being a record.
func (f Format) isHeader(number int64, line []byte) bool {
	return f == NASA && number == 1 && string(line) == nasaHeader
}

// read turns a line (valid UTF-8, no NUL byte, no line end) into the event of one request: its JSON and
// its time. The event is moved by shift.
// replaced says that escaped bytes which no text can hold were replaced by U+FFFD.
func (f Format) read(line []byte, source string, shift time.Duration) (event []byte, at time.Time, replaced bool, err error) {
	var record accessRecord
	switch f {
	case Combined:
		record, err = parseCombined(string(line))
	case NASA:
		record, err = parseNASA(string(line))
	case JSONL:
		event, at, err = readJSON(line, shift)
		return event, at, false, err
	default:
		err = fmt.Errorf("unknown log format %q", string(f))
	}
	if err != nil {
		return nil, time.Time{}, false, err
	}
	record.Time = record.Time.Add(shift)
	event, err = record.event(source)
	return event, record.Time, record.Replaced, err
}

// resembles reports whether the line has the shape of the format. Any JSON object is JSONL here, so that the log
// of another program is told why its lines are no events, and not that its format is unknown.
func (f Format) resembles(line []byte) bool {
	if f == JSONL {
		_, _, err := findTime(bytes.Trim(line, " \t"))
		return err == nil
	}
	_, _, _, err := f.read(line, "detect", 0)
	return err == nil
}

// identityVersion stands for how lines of the format become events. An epoch numbers events, so that a change
// in which lines are events must change it.
func (f Format) identityVersion() string {
	if f == JSONL {
		return "weir replay 2" // 1 took objects without a time for events
	}
	return "weir replay 1"
}

// detect finds the one format that at least one of the lines resembles. The formats exclude each
// other line by line, so two of them in one file mean that the file is a mixture.
func detect(lines [][]byte) (Format, error) {
	var found []Format
	for _, format := range formats() {
		if slices.ContainsFunc(lines, format.resembles) {
			found = append(found, format)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("cannot tell the log format: none of the first %d lines can be read; give the format: %s",
			len(lines), formatNames)
	}
	names := make([]string, len(found))
	for i, format := range found {
		names[i] = string(format)
	}
	return "", fmt.Errorf("cannot tell the log format: it has lines of %s; give the format: %s",
		strings.Join(names, " and "), formatNames)
}
