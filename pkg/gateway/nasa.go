package gateway

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	nasaHeader  = "host\tlogname\ttime\tmethod\turl\tresponse\tbytes\treferer\tuseragent"
	nasaColumns = 9
	// lastSecond is the end of the year 9999, in seconds since 1970 UTC.
	lastSecond = 253_402_300_799
)

// parseNASA reads one tab-separated record of the NASA logs of 1995.
func parseNASA(line string) (accessRecord, error) {
	columns := strings.Split(line, "\t")
	if len(columns) != nasaColumns {
		return accessRecord{}, fmt.Errorf("has %d columns: want %d separated by tabs", len(columns), nasaColumns)
	}
	host, user, method, target := columns[0], columns[1], columns[3], columns[4]
	if host == "" {
		return accessRecord{}, errors.New("no host")
	}
	if method == "" || target == "" {
		return accessRecord{}, errors.New("no method or no url")
	}
	seconds, err := strconv.ParseUint(columns[2], 10, 63)
	if err != nil || seconds > lastSecond {
		return accessRecord{}, fmt.Errorf("%s is no time: want seconds since 1970", clip(columns[2]))
	}
	r := accessRecord{Host: host, Time: time.Unix(int64(seconds), 0).UTC()}
	if r.Status, err = parseStatus(columns[5]); err != nil {
		return accessRecord{}, err
	}
	if r.Bytes, err = parseSize(columns[6]); err != nil {
		return accessRecord{}, err
	}
	if user != absent {
		r.User = user
	}
	if agent := columns[8]; agent != absent {
		r.Agent = agent
	}
	r.Method, r.Target = method, target
	if !isMethod(method) {
		r.Method, r.Target = absent, absent
	}
	return r, nil
}
