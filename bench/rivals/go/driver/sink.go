package driver

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// Sink is where one goroutine of a Consumer puts what it reads: counted and touched, and some kept.
type Sink struct {
	// Published counters; the rest belongs to the goroutine alone.
	records, bytes atomic.Int64
	_              [112]byte // No other goroutine's counters on this cache line.

	seen          struct{ records, bytes int64 }
	touched       byte
	apart         int32 // A partition whose records do not count, or -1.
	retain        int   // One record in this many is kept; 0 for none.
	untilRetained int
	retained      []any
	arrivals      *arrivals // In the modes latency and follow.
	resumed       *resumed  // In the mode resume.
}

// Take takes one record, and says whether the caller should Keep it.
func (s *Sink) Take(partition int32, value []byte) (keep bool) {
	if s.resumed != nil {
		s.resumed.take(value)
	} else if s.arrivals != nil {
		if !s.arrivals.take(value) {
			s.seen.bytes += int64(len(value))
			return false
		}
	} else if len(value) > 0 {
		s.touched ^= value[0] ^ value[len(value)-1]
	}
	if partition == s.apart {
		return false
	}
	s.seen.records++
	s.seen.bytes += int64(len(value))
	if s.retain == 0 {
		return false
	}
	if s.untilRetained--; s.untilRetained > 0 {
		return false
	}
	s.untilRetained = s.retain
	return true
}

// Keep holds on to what the client's documentation advises to hold on to a record by.
func (s *Sink) Keep(record any) { s.retained = append(s.retained, record) }

// Publish is called now and then, and always before waiting: only what is published counts.
func (s *Sink) Publish() {
	s.records.Store(s.seen.records)
	s.bytes.Store(s.seen.bytes)
}

// The sinks of all goroutines of one consumer.
type sinks struct {
	prototype func() *Sink
	lock      sync.Mutex
	all       []*Sink
}

func (s *sinks) add() *Sink {
	sink := s.prototype()
	s.lock.Lock()
	defer s.lock.Unlock()
	s.all = append(s.all, sink)
	return sink
}

func (s *sinks) sum() (records, bytes int64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, sink := range s.all {
		records += sink.records.Load()
		bytes += sink.bytes.Load()
	}
	return records, bytes
}

// Arrivals takes the latencies of records that come back, each with its intended time in front. What was in the topic
// before is passed over, and so is the first record, which only shows that everything is connected.
type arrivals struct {
	latencies latencies
	began     atomic.Int64
	isWarm    atomic.Bool
	isAny     atomic.Bool // Whether anything has come.
}

func newArrivals(began int64) *arrivals {
	a := new(arrivals)
	a.began.Store(began)
	return a
}

func (a *arrivals) take(value []byte) bool {
	if len(value) < 8 {
		return false
	}
	intended, now := int64(binary.LittleEndian.Uint64(value)), time.Now().UnixNano()
	if intended == 0 {
		a.isWarm.Store(true)
	}
	if !a.isAny.Load() {
		a.isAny.Store(true)
	}
	if intended < a.began.Load() || intended > now {
		return false
	}
	a.latencies.record(time.Duration(now - intended))
	return true
}

// The value with the time it was meant to be sent in its first eight bytes.
func stamped(value []byte, nanos int64) []byte {
	stamped := binary.LittleEndian.AppendUint64(make([]byte, 0, max(len(value), 8)), uint64(nanos))
	return append(stamped, value[min(len(value), 8):]...)
}
