package aggregation

import "time"

// What clocks show is counted here as instants are, in microseconds since they
// showed the start of 1970: an instant and the zone's offset to UTC at it.

// offset returns how far the clocks of the zone are ahead of UTC at t.
func offset(t int64, zone *time.Location) int64 {
	_, seconds := time.UnixMicro(t).In(zone).Zone()
	return int64(seconds) * micros
}

// nextChange returns the first instant after t, and not after until, at which
// the zone's offset to UTC becomes another.
func nextChange(t, until int64, zone *time.Location) (change int64, ok bool) {
	for {
		_, end := time.UnixMicro(t).In(zone).ZoneBounds()
		if end.IsZero() {
			return 0, false
		}
		change = end.UnixMicro()
		if change <= t {
			// Where a zone goes by a rule ZoneBounds gives every year 365 days:
			// on the last of 366 that end has passed.
			change = floor(t, dayWidth) + dayWidth
		}
		switch {
		case change > until:
			return 0, false
		case offset(change, zone) != offset(change-1, zone):
			return change, true // else only a name changes
		}
		t = change
	}
}

// lastShown returns the latest that clocks have shown up to t: what they show,
// or what they showed before they went back.
func lastShown(t int64, zone *time.Location) int64 {
	latest := t + offset(t, zone)
	at := t - dayWidth // no clock ever went back by more
	for {
		change, ok := nextChange(at, t, zone)
		if !ok {
			return latest
		}
		latest = max(latest, change-1+offset(change-1, zone))
		at = change
	}
}

// firstShowing returns the first instant at which clocks show label or
// something later.
func firstShowing(label int64, zone *time.Location) int64 {
	t := label - dayWidth - dayWidth/2 // before it in every zone
	for {
		at := max(t, label-offset(t, zone))
		change, ok := nextChange(t, at, zone)
		if !ok {
			return at
		}
		t = change
	}
}
