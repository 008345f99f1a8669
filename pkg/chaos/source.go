package chaos

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"weir/pkg/stream"
)

// history is what the sources did, and what came back. It is the oracle's only witness of what was published.
type history struct {
	mu        sync.Mutex
	byID      map[string]*message
	foreign   map[[32]byte]*message
	acked     map[*message]bool
	attempted int                  // events
	confirmed int                  // events of acknowledged messages, each once
	trouble   int                  // publishes whose outcome is unknown
	floors    map[[2]string]*floor // by source and epoch
}

// floor is up to which number everything of an epoch is acknowledged.
type floor struct {
	acked uint64
	ahead map[uint64]uint64 // last numbers of acknowledged messages, by their first
}

// raise notes that a message is acknowledged.
func (h *history) raise(m *message) {
	if !m.own || m.copyOf || m.beat {
		return
	}
	key := [2]string{m.source, m.epoch}
	f := h.floors[key]
	if f == nil {
		f = &floor{ahead: map[uint64]uint64{}}
		h.floors[key] = f
	}
	f.ahead[m.first] = m.last()
	for last, ok := f.ahead[f.acked+1]; ok; last, ok = f.ahead[f.acked+1] {
		delete(f.ahead, f.acked+1)
		f.acked = last
	}
}

// floor is what a source may say of its epoch in a heartbeat.
func (h *history) floor(source, epoch string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.floors[[2]string{source, epoch}]; f != nil {
		return f.acked
	}
	return 0
}

func newHistory() *history {
	return &history{byID: map[string]*message{}, foreign: map[[32]byte]*message{}, acked: map[*message]bool{}, floors: map[[2]string]*floor{}}
}

func (h *history) attempt(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.own {
		h.byID[m.out.MsgID] = m
	} else {
		h.foreign[m.sum] = m
	}
	if !m.copyOf {
		h.attempted += len(m.events)
	}
}

func (h *history) done(m *message, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.trouble++
	} else if !h.acked[m] {
		h.acked[m] = true
		h.raise(m)
		if !m.copyOf {
			h.confirmed += len(m.events)
		}
	}
}

func (h *history) counts() (attempted, confirmed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.attempted, h.confirmed
}

// source publishes what its generator makes, through links of its own.
type source struct {
	name    string
	url     string
	gen     *generator
	history *history
	rate    float64 // events a second
	events  int     // to be made
	links   []*link

	mu      sync.Mutex
	end     context.CancelFunc // ends the life of the present publisher
	unknown []*message         // of publishers that ended
	repeats []again
	closing sync.WaitGroup
	active  atomic.Int64 // publishes under way
}

const (
	inFlight   = 256              // messages of one source under way
	beatEvery  = time.Second      // a gateway's are every ten seconds
	settleTime = 60 * time.Second // to get the last messages acknowledged after all is healed
)

// kill ends the publisher with messages under way: some were stored without its knowing. The next one starts at once.
func (s *source) kill() {
	for _, l := range s.links {
		l.set(cut, both, 0, 0)
	}
	s.mu.Lock()
	if s.end != nil {
		s.end()
	}
	s.mu.Unlock()
	for _, l := range s.links {
		l.heal()
	}
}

// run publishes until all is made and known, life after life.
func (s *source) run(ctx context.Context) {
	defer s.closing.Wait()
	begin, made := time.Now(), 0
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			s.gen.newEpoch()
		}
		if s.live(ctx, begin, &made) {
			return
		}
	}
}

// live is one publisher, from its start to its end by kill, or until all is done.
func (s *source) live(ctx context.Context, begin time.Time, made *int) (done bool) {
	conn := s.connect(ctx)
	if conn == nil {
		return true
	}
	life, end := context.WithCancel(ctx)
	s.mu.Lock()
	s.end = end
	spooled := s.unknown
	s.unknown = nil
	s.mu.Unlock()
	defer func() {
		end()
		s.closing.Go(conn.Close)
	}()
	if s.gen.random.IntN(2) == 0 { // else nobody kept them: whether they are there, only the stream knows
		for _, m := range spooled {
			s.publish(life, conn, m)
		}
	}
	beaten := time.Now()
	for *made < s.events && life.Err() == nil {
		s.repeat(life, conn, false)
		if time.Since(beaten) >= beatEvery {
			beaten = time.Now()
			s.beat(life, conn, false)
		}
		due := begin.Add(time.Duration(float64(*made) / s.rate * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			pause(life, wait)
			continue
		}
		m := s.gen.message(time.Now().UnixMilli(), s.events-*made)
		s.history.attempt(m)
		if !m.copyOf {
			*made += len(m.events)
		}
		s.publish(life, conn, m)
		s.planRepeat(m)
	}
	s.repeat(life, conn, true)
	if s.settle(life) { // it ends in good order
		s.beat(life, conn, true)
		return s.settle(life) || ctx.Err() != nil
	}
	return ctx.Err() != nil
}

// beat says of the epoch what is acknowledged: the audit holds the stream to it.
func (s *source) beat(life context.Context, conn *stream.Conn, closed bool) {
	m := s.gen.heartbeat(s.history.floor(s.name, s.gen.epoch), closed)
	s.history.attempt(m)
	s.publish(life, conn, m)
}

func (s *source) connect(ctx context.Context) *stream.Conn {
	for ctx.Err() == nil {
		conn, err := stream.Connect(ctx, stream.Config{URL: s.url, Name: s.name, MaxInFlight: inFlight, AckTimeout: 2 * time.Second})
		if err == nil {
			return conn
		}
		pause(ctx, restartPause)
	}
	return nil
}

func (s *source) publish(life context.Context, conn *stream.Conn, m *message) {
	s.active.Add(1)
	err := conn.PublishAsync(life, m.out, func(_ uint64, _ bool, err error) { s.ended(m, err) })
	if err != nil {
		s.ended(m, err)
	}
}

// ended is what became of a publish. After an error the message may be stored.
func (s *source) ended(m *message, err error) {
	defer s.active.Add(-1)
	s.history.done(m, err)
	if err != nil {
		s.mu.Lock()
		s.unknown = append(s.unknown, m)
		s.mu.Unlock()
	}
}

// planRepeat lets one message of a hundred be published once more, at once or past the window.
func (s *source) planRepeat(m *message) {
	if s.gen.random.IntN(100) != 0 || !m.own {
		return
	}
	wait := time.Duration(0)
	if s.gen.random.IntN(3) > 0 {
		wait = dedupWindow + time.Second + time.Duration(s.gen.random.IntN(3000))*time.Millisecond
	}
	s.repeats = append(s.repeats, again{time.Now().Add(wait), m})
}

// repeat publishes again what is due, or with wait all of it.
func (s *source) repeat(life context.Context, conn *stream.Conn, wait bool) {
	var later []again
	for _, a := range s.repeats {
		if d := time.Until(a.at); d > 0 {
			if !wait {
				later = append(later, a)
				continue
			}
			pause(life, d)
		}
		s.publish(life, conn, a.message)
	}
	s.repeats = later
}

// settle waits until nothing is under way; false: the publisher was killed.
func (s *source) settle(life context.Context) bool {
	limit, cancel := context.WithTimeout(life, settleTime)
	defer cancel()
	for s.active.Load() > 0 && limit.Err() == nil {
		pause(limit, 20*time.Millisecond)
	}
	return life.Err() == nil
}
