package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// combinedTime is the time of an access log, which is always 26 characters long.
const combinedTime = "02/Jan/2006:15:04:05 -0700"

const replacement = string(utf8.RuneError) // U+FFFD

// parseCombined reads one line of the combined log format. It is strict: one space between fields,
// nothing after the last. Quoted fields may hold the escapes that Apache httpd and NGINX write: \" \\
// \n \r \t \b \v \f and \xHH; any other backslash is kept as it is.
func parseCombined(line string) (accessRecord, error) {
	r := accessRecord{}
	var err error
	if line, err = r.client(line); err != nil {
		return accessRecord{}, err
	}
	request, line, err := quoted(line, "the request")
	if err != nil {
		return accessRecord{}, err
	}
	if line, err = r.outcome(line); err != nil {
		return accessRecord{}, err
	}
	_, line, err = quoted(line, "the referer")
	if err != nil {
		return accessRecord{}, err
	}
	line, ok := strings.CutPrefix(line, " ")
	if !ok {
		return accessRecord{}, errors.New("no user agent after the referer")
	}
	agent, line, err := quoted(line, "the user agent")
	if err != nil {
		return accessRecord{}, err
	}
	if line != "" {
		return accessRecord{}, fmt.Errorf("something follows the user agent: %s", clip(line))
	}
	r.setRequest(r.unescape(request))
	if agent != absent {
		r.Agent = r.unescape(agent)
	}
	return r, nil
}

// client reads `host ident user [time] `.
func (r *accessRecord) client(line string) (rest string, err error) {
	host, line, ok := strings.Cut(line, " ")
	if !ok || host == "" {
		return "", errors.New("does not begin with a client and a space")
	}
	ident, line, ok := strings.Cut(line, " ")
	if !ok || ident == "" {
		return "", errors.New("no identity after the client")
	}
	user, line, ok := strings.Cut(line, " [") // the name of a user may hold spaces
	if !ok || user == "" {
		return "", errors.New("no user and [time] after the identity")
	}
	text, line, ok := strings.Cut(line, "] ")
	if !ok {
		return "", errors.New("the time is never closed")
	}
	if len(text) != len(combinedTime) {
		return "", fmt.Errorf("%s is no time: want it like 17/May/2015:10:05:03 +0000", clip(text))
	}
	if r.Time, err = time.Parse(combinedTime, text); err != nil {
		return "", fmt.Errorf("%s is no time: want it like 17/May/2015:10:05:03 +0000", clip(text))
	}
	r.Time = r.Time.UTC()
	r.Host = host
	if user != absent && user != `""` {
		r.User = r.unescape(user)
	}
	return line, nil
}

// outcome reads ` status bytes `.
func (r *accessRecord) outcome(line string) (rest string, err error) {
	line, ok := strings.CutPrefix(line, " ")
	if !ok {
		return "", errors.New("no space after the request")
	}
	status, line, ok := strings.Cut(line, " ")
	if !ok {
		return "", errors.New("ends after the status")
	}
	if r.Status, err = parseStatus(status); err != nil {
		return "", err
	}
	size, line, ok := strings.Cut(line, " ")
	if r.Bytes, err = parseSize(size); err != nil {
		return "", err
	}
	if !ok {
		return "", errors.New("ends after the bytes: no referer and no user agent (is it the common log format?)")
	}
	return line, nil
}

// parseStatus reads a status of three digits; "-" is 0.
func parseStatus(text string) (int, error) {
	if text == absent {
		return 0, nil
	}
	status, err := strconv.ParseUint(text, 10, 16)
	if err != nil || len(text) != 3 {
		return 0, fmt.Errorf("%s is no status: want three digits", clip(text))
	}
	return int(status), nil
}

// parseSize reads a number of bytes; "-" is -1.
func parseSize(text string) (int64, error) {
	if text == absent {
		return -1, nil
	}
	size, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%s is no number of bytes", clip(text))
	}
	return int64(size), nil
}

// quoted takes the quoted field off the front of the line and returns it with its escapes.
func quoted(line, what string) (field, rest string, err error) {
	if !strings.HasPrefix(line, `"`) {
		return "", "", fmt.Errorf("%s is not in quotes", what)
	}
	for i := 1; i < len(line); i++ {
		switch line[i] {
		case '\\':
			i++ // whatever is escaped, it does not close the field
		case '"':
			return line[1:i], line[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("the quote of %s is never closed", what)
}

// unescape undoes the escapes of a quoted field. Bytes that no text can hold, a NUL or broken UTF-8,
// become U+FFFD.
func (r *accessRecord) unescape(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	var plain strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] != '\\' || i+1 == len(field) {
			plain.WriteByte(field[i])
			continue
		}
		if at := strings.IndexByte(`"\nrtbvf`, field[i+1]); at >= 0 {
			plain.WriteByte("\"\\\n\r\t\b\v\f"[at])
			i++
			continue
		}
		if field[i+1] == 'x' && i+3 < len(field) {
			if b, err := strconv.ParseUint(field[i+2:i+4], 16, 8); err == nil {
				plain.WriteByte(byte(b))
				i += 3
				continue
			}
		}
		plain.WriteByte('\\')
	}
	text := plain.String()
	clean := strings.ReplaceAll(strings.ToValidUTF8(text, replacement), "\x00", replacement)
	r.Replaced = r.Replaced || clean != text
	return clean
}

// clip quotes a piece of a line for an error, cut to a readable length.
func clip(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}
