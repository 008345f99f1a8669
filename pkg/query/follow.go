package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"weir/pkg/alert"
	"weir/pkg/store"
)

// FollowLimits bound what it takes that clients follow alerts.
type FollowLimits struct {
	Clients int           // at a time; 0 is 100
	Poll    time.Duration // between looks for new alerts, of all clients together; 0 is 500 ms
	Beat    time.Duration // between signs of life where there are no alerts; 0 is 15 s
	Write   time.Duration // for a client to take what is sent, or it is left; 0 is 10 s
}

func (l FollowLimits) withDefaults() FollowLimits {
	return FollowLimits{
		Clients: cmp.Or(l.Clients, 100), Poll: cmp.Or(l.Poll, 500*time.Millisecond),
		Beat: cmp.Or(l.Beat, 15*time.Second), Write: cmp.Or(l.Write, 10*time.Second),
	}
}

const (
	followPage  = 32              // alerts that one follower has in memory
	followRetry = 2 * time.Second // after which a client connects again
	lastEventID = "Last-Event-ID" // a header that browsers send when they connect again
)

// followers are the clients that follow alerts. They share one look at whether
// there is anything new; what is new each reads for itself, a page at a time, so that
// one that is slow costs a page of memory, and delays nobody.
type followers struct {
	number  atomic.Int64
	looking chan struct{} // holds one while somebody looks; it guards what follows
	looked  time.Time
	last    int64
}

func newFollowers() *followers { return &followers{looking: make(chan struct{}, 1)} }

// enter reports whether there is room for one more; leave makes room.
func (f *followers) enter(most int) bool {
	if f.number.Add(1) > int64(most) {
		f.leave()
		return false
	}
	return true
}

func (f *followers) leave() { f.number.Add(-1) }

// newest is the number of the newest alert, as of at most every ago.
func (f *followers) newest(ctx context.Context, db *store.DB, every time.Duration) (int64, error) {
	select {
	case f.looking <- struct{}{}:
		defer func() { <-f.looking }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	now := time.Now()
	if now.Sub(f.looked) < every {
		return f.last, nil
	}
	last, err := db.LastAlert(ctx)
	if err == nil {
		f.last, f.looked = last, now
	}
	return f.last, err
}

// follow sends alerts as they come, as server-sent events: the id of each is its
// number, the data are the alert. Without Last-Event-ID, or the parameter
// after, which says the same, it begins with the next one. An id that is beyond all there are
// counts as the last one's.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, values url.Values) error {
	from, err := s.followFrom(r, values)
	if err != nil {
		return err
	}
	if !s.followers.enter(s.Follow.Clients) {
		w.Header().Set("Retry-After", strconv.Itoa(int(followRetry/time.Second)))
		return &Error{http.StatusServiceUnavailable, fmt.Sprintf("%d clients follow alerts here already, and no more can; ask again later", s.Follow.Clients)}
	}
	defer s.followers.leave()
	newest, err := s.newest(r.Context(), 0)
	if err != nil {
		return err
	}
	if from.at = min(from.at, newest); from.at < 0 {
		from.at = newest
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	if r.Method == http.MethodHead {
		return nil
	}
	from.s, from.w, from.control = s, w, http.NewResponseController(w)
	from.run(r.Context(), r.URL.Path)
	return nil
}

// follower is one client.
type follower struct {
	s       *Server
	w       http.ResponseWriter
	control *http.ResponseController
	filter  store.AlertFilter
	at      int64 // all up to this number are sent, or not chosen; below 0: not known yet
	told    int64 // the last id that was sent
}

func (s *Server) followFrom(r *http.Request, values url.Values) (*follower, error) {
	if err := only(values, "rule", "scope", "severity", "key", "after"); err != nil {
		return nil, err
	}
	from := &follower{at: -1}
	after := values.Get("after")
	if id := r.Header.Get(lastEventID); id != "" {
		after = id
	}
	if after != "" {
		number, err := strconv.ParseInt(after, 10, 64)
		if err != nil || number < 0 {
			return nil, wrong(fmt.Errorf("%q is no alert's number; after, and the header %s, are the id of an event of this stream, or 0 for all alerts", clip(after), lastEventID))
		}
		from.at = number
	}
	chosen := url.Values{}
	for name, given := range values {
		if name != "after" {
			chosen[name] = given
		}
	}
	var err error
	from.filter, err = ParseAlerts(s.Catalog, chosen, s.Now())
	from.filter.Limit = followPage
	return from, err
}

// newest is followers.newest, in time.
func (s *Server) newest(ctx context.Context, every time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	return s.followers.newest(ctx, s.DB, every)
}

// run sends until the client goes or does not take what is sent, or the server
// is to stop. While Postgres is away it goes on trying: the client has nothing to
// do about it, and misses nothing.
func (f *follower) run(ctx context.Context, path string) {
	poll, beat := time.NewTicker(f.s.Follow.Poll), time.NewTicker(f.s.Follow.Beat)
	defer poll.Stop()
	defer beat.Stop()
	if f.send(fmt.Appendf(nil, "retry: %d\nid: %d\n\n", followRetry.Milliseconds(), f.at)) != nil {
		return
	}
	f.told = f.at
	trouble := false
	for {
		switch unsent, err := f.catchUp(ctx); {
		case unsent != nil || ctx.Err() != nil:
			return
		case err != nil && !trouble:
			f.s.OnError(path, err)
			trouble = true
		default:
			trouble = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-f.s.Done:
			return
		case <-poll.C:
		case <-beat.C:
			if f.beat() != nil {
				return
			}
		}
	}
}

// catchUp sends what is new. unsent says that the client does not take it; err,
// that it could not be read.
func (f *follower) catchUp(ctx context.Context) (unsent, err error) {
	newest, err := f.s.newest(ctx, f.s.Follow.Poll)
	for err == nil && f.at < newest {
		var page []store.NumberedAlert
		if page, err = f.page(ctx); err != nil {
			break
		}
		for i := range page {
			if unsent = f.sendAlert(&page[i]); unsent != nil {
				return unsent, nil
			}
			f.at, f.told = page[i].Number, page[i].Number
		}
		if len(page) < followPage { // what is left of it was not chosen
			f.at = max(f.at, newest)
		}
		select {
		case <-f.s.Done:
			return nil, nil
		default:
		}
	}
	return nil, err
}

func (f *follower) page(ctx context.Context) ([]store.NumberedAlert, error) {
	ctx, cancel := context.WithTimeout(ctx, f.s.Timeout)
	defer cancel()
	return f.s.DB.AlertsAfter(ctx, f.at, f.filter)
}

func (f *follower) sendAlert(a *store.NumberedAlert) error {
	text, err := alert.Encode(&a.Alert) // in one line
	if err != nil {
		return err
	}
	return f.send(fmt.Appendf(nil, "id: %d\ndata: %s\n\n", a.Number, text))
}

// beat is a comment, so that whatever is between here and the client keeps the
// connection; and the place of what was not chosen, not to be looked through again.
func (f *follower) beat() error {
	out := []byte(": nothing new\n\n")
	if f.told != f.at {
		out = fmt.Appendf(nil, ": nothing new\nid: %d\n\n", f.at)
		f.told = f.at
	}
	return f.send(out)
}

// send sends what is to be seen at once. The time that the server has for an
// answer is for those that end: each write has its own.
func (f *follower) send(text []byte) error {
	if err := f.control.SetWriteDeadline(time.Now().Add(f.s.Follow.Write)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := f.w.Write(text); err != nil {
		return err
	}
	return f.control.Flush()
}
